-- name: add_orders
-- Sorted; when another lane was first, it waits and goes on. A unique violation would undo the whole batch.
insert into ingest.orders (order_id)
select order_id from unnest(%(order_ids)b::text[]) as batch (order_id) order by order_id
on conflict do nothing;

-- name: lock_orders
-- Always behind add_orders, which sees to it that no row is missing. Sorted: two lanes never wait for each other in a ring.
select order_id, (select generation from runtime.generation) as generation, sequence, digest, facts::text, incidents::text
from ingest.orders where order_id = any(%(order_ids)b::text[]) order by order_id for update;

-- name: add_callbacks
-- Answers what was known before: the select shares the insert's snapshot, so it does not see this batch. Always behind
-- lock_orders: a key names its order, so nobody else is bringing the same one right now.
with added as (
    insert into ingest.callbacks (key, meaning)
    select key, meaning from unnest(%(keys)b::text[], %(meanings)b::bytea[]) as batch (key, meaning) order by key, meaning
    on conflict do nothing
)
select key, meaning from ingest.callbacks where key = any(%(keys)b::text[]);

-- name: save_orders
-- Unsorted may lock in any order: these rows are locked already.
update ingest.orders
set generation = batch.generation, sequence = batch.sequence, digest = batch.digest, facts = batch.facts::jsonb,
    incidents = batch.incidents::jsonb
from unnest(
    %(order_ids)b::text[], %(generations)b::bigint[], %(sequences)b::bigint[], %(digests)b::bytea[], %(facts)b::text[],
    %(incidents)b::text[]
) as batch (order_id, generation, sequence, digest, facts, incidents)
where orders.order_id = batch.order_id;
