-- name: lock_orders
-- The generation, and beside it each order that has a row: one without comes with add_orders.
-- Sorted: two lanes never wait for each other in a ring.
with locked as materialized (
    select order_id, sequence, digest, facts::text, incidents::text
    from ingest.orders where order_id = any(%(order_ids)s::text[]) order by order_id for update
)
select generation, locked.* from runtime.generation left join locked on true;

-- name: lock_proofs
-- Until the end of the transaction, behind all rows and sorted: of two bodies under one proof, in
-- two lanes, the second sees the first. By 256 of them at most, whatever a batch holds: the
-- server's table of locks is shared and bounded.
select pg_advisory_xact_lock(hashtextextended('stubline.ingest.proof', place))
from (
    select distinct hashtext(proof) & 255 as place from unnest(%(proofs)s::text[]) as batch (proof) order by place
) as places;

-- name: add_callbacks
-- Answers what was known before: the select shares the insert's snapshot, so it does not see this
-- batch. A key names its order: of a locked one nobody else brings the same key right now, and of a
-- new one add_orders finds out if somebody did. What comes with a proof that proves another body
-- already is forged, and leaves nothing here: else its genuine repeat would seem forged.
with added as (
    insert into ingest.callbacks (key, meaning)
    select key, meaning
    from unnest(%(keys)s::text[], %(meanings)s::bytea[], %(proofs)s::text[], %(bodies)s::bytea[])
        as batch (key, meaning, proof, body)
    where body is null or not exists (
        select from ingest.callbacks as known where known.key = batch.proof and known.meaning <> batch.body
    )
    order by key, meaning
    on conflict do nothing
)
select key, meaning from ingest.callbacks where key = any(%(asked)s::text[]);

-- name: add_orders
-- Orders without a row, whole, so that no row is written twice. Sorted; fewer than asked: another
-- lane was first with one.
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

-- name: lock_payments
-- Those that have a row, before any order is locked, and sorted: two lanes never wait for each
-- other in a ring.
select payment, orders::text, facts::text
from ingest.payments where payment = any(%(payments)s::text[]) order by payment for update;

-- name: add_payments
-- Sorted; fewer than asked: another lane was first with one.
insert into ingest.payments (payment, orders, facts)
select payment, orders::json, facts::json
from unnest(%(payments)s::text[], %(orders)s::text[], %(facts)s::text[]) as batch (payment, orders, facts)
order by payment
on conflict do nothing;

-- name: save_payments
update ingest.payments
set orders = batch.orders::json, facts = batch.facts::json
from unnest(%(payments)s::text[], %(orders)s::text[], %(facts)s::text[]) as batch (payment, orders, facts)
where payments.payment = batch.payment;

-- name: add_reads
-- Asked again while it is being read: the reading that is under way does not answer it, so it stays
-- due.
insert into ingest.reads (order_id)
select order_id from unnest(%(order_ids)s::text[]) as batch (order_id) order by order_id
on conflict (order_id) do update
set asked = reads.asked + 1, asked_at = excluded.asked_at, next_at = least(reads.next_at, excluded.next_at);

-- name: add_notices
-- Connections count in different rows, most of them.
insert into ingest.notices (source, kind, what, slot, count, example_key, example)
select source, kind, what, pg_backend_pid() %% 16, count, example_key, example
from unnest(
    %(sources)s::text[], %(kinds)s::text[], %(whats)s::text[], %(counts)s::bigint[], %(keys)s::text[], %(examples)s::bytea[]
) as batch (source, kind, what, count, example_key, example)
order by source, kind, what
on conflict (source, kind, what, slot) do update
set count = notices.count + excluded.count, last_at = excluded.last_at;

-- name: keep
insert into ingest.kept (
    key, source, kind, what, body, topic, partition, "offset", timestamp_ms, record_key, headers
)
select key, source, kind, what, body, topic, partition, "offset", timestamp_ms, record_key, headers
from unnest(
    %(keys)s::text[], %(sources)s::text[], %(kinds)s::text[], %(whats)s::text[], %(bodies)s::bytea[], %(topics)s::text[],
    %(partitions)s::int[], %(offsets)s::bigint[], %(timestamps_ms)s::bigint[], %(record_keys)s::bytea[],
    %(headers)s::bytea[]
) as batch (key, source, kind, what, body, topic, partition, "offset", timestamp_ms, record_key, headers)
order by key
on conflict do nothing;

-- name: purge_kept
-- Bounded; rows that somebody gives back just now are left to him.
delete from ingest.kept
where key in (
    select key from ingest.kept
    where kept_at < now() - make_interval(days => %(days)s::int)
    order by kept_at limit %(rows_max)s::int
    for update skip locked
);
