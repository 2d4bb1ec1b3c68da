-- name: add_orders
-- Sorted; when another lane was first, it waits and goes on. A unique violation would undo the whole batch.
insert into approval.orders (order_id)
select order_id from unnest(%(order_ids)s::text[]) as batch (order_id) order by order_id
on conflict do nothing;

-- name: lock_orders
-- Always behind add_orders, so no row is missing. Sorted: two lanes never wait for each other in a ring.
select order_id, (select generation from runtime.generation) as generation, sequence, digest,
    observed_generation, observed_sequence
from approval.orders where order_id = any(%(order_ids)s::text[]) order by order_id for update;

-- name: save_orders
-- Unsorted may lock in any order: these rows are locked already. A decision that says nothing new keeps when it was taken.
update approval.orders
set sequence = batch.sequence, generation = batch.generation, digest = batch.digest, state = batch.state,
    observed_generation = batch.observed_generation, observed_sequence = batch.observed_sequence, decision = batch.decision,
    decided_at = case when orders.digest = batch.digest then orders.decided_at else now() end
from unnest(
    %(order_ids)s::text[], %(sequences)s::bigint[], %(generations)s::bigint[], %(digests)b::bytea[], %(states)s::text[],
    %(observed_generations)s::bigint[], %(observed_sequences)s::bigint[], %(decisions)s::jsonb[]
) as batch (order_id, sequence, generation, digest, state, observed_generation, observed_sequence, decision)
where orders.order_id = batch.order_id;

-- name: add_receipts
insert into approval.receipts (
    order_id, observed_generation, observed_sequence, sequence, inputs, policy_version, outcome
)
select order_id, observed_generation, observed_sequence, sequence, inputs, policy_version, outcome
from unnest(
    %(order_ids)s::text[], %(observed_generations)s::bigint[], %(observed_sequences)s::bigint[], %(sequences)s::bigint[],
    %(inputs)s::jsonb[], %(policy_versions)s::text[], %(outcomes)s::jsonb[]
) as batch (order_id, observed_generation, observed_sequence, sequence, inputs, policy_version, outcome);
