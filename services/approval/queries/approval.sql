-- name: lock_orders
-- The generation, and beside it each order that has a row: one that was never decided has none yet.
-- Sorted: two lanes never wait for each other in a ring.
with locked as materialized (
    select order_id, sequence, digest, observed_generation, observed_sequence
    from approval.orders where order_id = any(%(order_ids)s::text[]) order by order_id for update
)
select generation, locked.* from runtime.generation left join locked on true;

-- name: add_orders
-- Orders without a row, whole, so that no row is written twice. Sorted; answers how many were
-- added: fewer, and another lane was first with one of them.
insert into approval.orders (
    order_id, sequence, generation, digest, state, observed_generation, observed_sequence, decision, decided_at,
    fingerprint, placed_at, alike_s
)
select order_id, sequence, generation, digest, state, observed_generation, observed_sequence, decision::json, now(),
    fingerprint, placed_at, alike_s
from unnest(
    %(order_ids)s::text[], %(sequences)s::bigint[], %(generations)s::bigint[], %(digests)b::bytea[], %(states)s::text[],
    %(observed_generations)s::bigint[], %(observed_sequences)s::bigint[], %(decisions)s::text[],
    %(fingerprints)s::bytea[], %(placed)s::timestamptz[], %(alike)s::int[]
) as batch (
    order_id, sequence, generation, digest, state, observed_generation, observed_sequence, decision, fingerprint, placed_at,
    alike_s
)
order by order_id
on conflict do nothing;

-- name: save_orders
-- Unsorted may lock in any order: these rows are locked already. A decision that says nothing new
-- keeps when it was taken.
update approval.orders
set sequence = batch.sequence, generation = batch.generation, digest = batch.digest, state = batch.state,
    observed_generation = batch.observed_generation, observed_sequence = batch.observed_sequence,
    decision = batch.decision::json, fingerprint = batch.fingerprint, placed_at = batch.placed_at, alike_s = batch.alike_s,
    decided_at = case when orders.digest = batch.digest then orders.decided_at else now() end
from unnest(
    %(order_ids)s::text[], %(sequences)s::bigint[], %(generations)s::bigint[], %(digests)b::bytea[], %(states)s::text[],
    %(observed_generations)s::bigint[], %(observed_sequences)s::bigint[], %(decisions)s::text[],
    %(fingerprints)s::bytea[], %(placed)s::timestamptz[], %(alike)s::int[]
) as batch (
    order_id, sequence, generation, digest, state, observed_generation, observed_sequence, decision, fingerprint, placed_at,
    alike_s
)
where orders.order_id = batch.order_id;

-- name: add_receipts
-- Texts become documents here: an array of documents is dumped many times slower than one of texts.
insert into approval.receipts (
    order_id, observed_generation, observed_sequence, sequence, inputs, policy_version, outcome
)
select order_id, observed_generation, observed_sequence, sequence, inputs::json, policy_version, outcome::json
from unnest(
    %(order_ids)s::text[], %(observed_generations)s::bigint[], %(observed_sequences)s::bigint[], %(sequences)s::bigint[],
    %(inputs)s::text[], %(policy_versions)s::text[], %(outcomes)s::text[]
) as batch (order_id, observed_generation, observed_sequence, sequence, inputs, policy_version, outcome);
