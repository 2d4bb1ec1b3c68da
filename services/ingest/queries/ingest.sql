-- name: lock_orders
-- The generation, and beside it each order that has a row: one without comes with add_orders. Sorted: two lanes never wait
-- for each other in a ring.
with locked as materialized (
    select order_id, sequence, digest, facts::text, incidents::text
    from ingest.orders where order_id = any(%(order_ids)s::text[]) order by order_id for update
)
select generation, locked.* from runtime.generation left join locked on true;

-- name: add_callbacks
-- Answers what was known before: the select shares the insert's snapshot, so it does not see this batch. A key names its
-- order: of a locked one nobody else brings the same key right now, and of a new one add_orders finds out if somebody did.
with added as (
    insert into ingest.callbacks (key, meaning)
    select key, meaning from unnest(%(keys)s::text[], %(meanings)s::bytea[]) as batch (key, meaning) order by key, meaning
    on conflict do nothing
)
select key, meaning from ingest.callbacks where key = any(%(keys)s::text[]);

-- name: add_orders
-- Orders without a row, whole, so that no row is written twice. Sorted; fewer than asked: another lane was first with one.
insert into ingest.orders (order_id, generation, sequence, digest, facts, incidents)
select order_id, generation, sequence, digest, facts::json, incidents::json
from unnest(
    %(order_ids)s::text[], %(generations)s::bigint[], %(sequences)s::bigint[], %(digests)s::bytea[], %(facts)s::text[],
    %(incidents)s::text[]
) as batch (order_id, generation, sequence, digest, facts, incidents)
order by order_id
on conflict do nothing;

-- name: save_orders
-- Unsorted may lock in any order: these rows are locked already.
update ingest.orders
set generation = batch.generation, sequence = batch.sequence, digest = batch.digest, facts = batch.facts::json,
    incidents = batch.incidents::json
from unnest(
    %(order_ids)s::text[], %(generations)s::bigint[], %(sequences)s::bigint[], %(digests)s::bytea[], %(facts)s::text[],
    %(incidents)s::text[]
) as batch (order_id, generation, sequence, digest, facts, incidents)
where orders.order_id = batch.order_id;
