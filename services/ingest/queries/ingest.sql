-- name: lock_orders
-- Returns the generation, and beside it each order that has a row; the others are added by
-- add_orders. Locked in id order, so that two lanes cannot deadlock.
with locked as materialized (
    select order_id, sequence, digest, facts::text, incidents::text
    from ingest.orders where order_id = any(%(order_ids)s::text[]) order by order_id for update
)
select generation, locked.* from runtime.generation left join locked on true;

-- name: lock_proofs
-- Advisory locks until the end of the transaction, taken after all row locks and in order: if two
-- lanes have two bodies under one proof, the second sees the first. There are at most 256 of them,
-- whatever a batch holds, because the server's table of locks is shared and bounded.
select pg_advisory_xact_lock(hashtextextended('stubline.ingest.proof', place))
from (
    select distinct hashtext(proof) & 255 as place
    from unnest(%(proofs)s::text[]) as batch (proof) order by place
) as places;

-- name: add_callbacks
-- Returns what was known before: the select shares the snapshot of the insert, so it does not see
-- this batch. A key names its order: no other lane brings a key of a locked order now, and
-- add_orders detects whether one brought a key of a new order. A callback whose proof is known with
-- another body is forged and is not added: otherwise its genuine repeat would seem forged.
with added as (
    insert into ingest.callbacks (key, content_hash)
    select key, content_hash
    from unnest(
        %(keys)s::text[], %(content_hashes)s::bytea[], %(proofs)s::text[], %(bodies)s::bytea[]
    ) as batch (key, content_hash, proof, body)
    where body is null or not exists (
        select from ingest.callbacks as known
        where known.key = batch.proof and known.content_hash <> batch.body
    )
    order by key, content_hash
    on conflict do nothing
)
select key, content_hash from ingest.callbacks where key = any(%(known_keys)s::text[]);

-- name: add_orders
-- Inserts orders that had no row, complete, so that no row is written twice. In id order, so that
-- two lanes cannot deadlock. Fewer rows than arguments: another lane was first with one of them.
insert into ingest.orders (order_id, generation, sequence, digest, facts, incidents)
select order_id, generation, sequence, digest, facts::json, incidents::json
from unnest(
    %(order_ids)s::text[], %(generations)s::bigint[], %(sequences)s::bigint[],
    %(digests)s::bytea[], %(facts)s::text[], %(incidents)s::text[]
) as batch (order_id, generation, sequence, digest, facts, incidents)
order by order_id
on conflict do nothing;

-- name: save_orders
-- An unsorted update may lock in any order: these rows are locked already.
update ingest.orders
set generation = batch.generation, sequence = batch.sequence, digest = batch.digest,
    facts = batch.facts::json, incidents = batch.incidents::json
from unnest(
    %(order_ids)s::text[], %(generations)s::bigint[], %(sequences)s::bigint[],
    %(digests)s::bytea[], %(facts)s::text[], %(incidents)s::text[]
) as batch (order_id, generation, sequence, digest, facts, incidents)
where orders.order_id = batch.order_id;

-- name: lock_payments
-- Returns the payments that have a row. Locked before any order, in one order, so that two lanes
-- cannot deadlock.
select payment, orders::text, facts::text
from ingest.payments where payment = any(%(payments)s::text[]) order by payment for update;

-- name: add_payments
-- In one order, so that two lanes cannot deadlock. Fewer rows than arguments: another lane was
-- first with one of them.
insert into ingest.payments (payment, orders, facts)
select payment, orders::json, facts::json
from unnest(%(payments)s::text[], %(orders)s::text[], %(facts)s::text[])
    as batch (payment, orders, facts)
order by payment
on conflict do nothing;

-- name: save_payments
update ingest.payments
set orders = batch.orders::json, facts = batch.facts::json
from unnest(%(payments)s::text[], %(orders)s::text[], %(facts)s::text[])
    as batch (payment, orders, facts)
where payments.payment = batch.payment;

-- name: request_order_fetches
-- An order that is requested again while it is being fetched stays due: the fetch that is under way
-- does not answer the new request.
insert into ingest.order_fetches (order_id)
select order_id from unnest(%(order_ids)s::text[]) as batch (order_id) order by order_id
on conflict (order_id) do update
set requested = order_fetches.requested + 1, requested_at = excluded.requested_at,
    next_at = least(order_fetches.next_at, excluded.next_at);

-- name: add_drift_notices
-- Most connections count in different slots, and so in different rows.
insert into ingest.drift_notices (source, kind, cause, slot, count, example_key, example)
select source, kind, cause, pg_backend_pid() %% 16, count, example_key, example
from unnest(
    %(sources)s::text[], %(kinds)s::text[], %(causes)s::text[], %(counts)s::bigint[],
    %(keys)s::text[], %(examples)s::bytea[]
) as batch (source, kind, cause, count, example_key, example)
order by source, kind, cause
on conflict (source, kind, cause, slot) do update
set count = drift_notices.count + excluded.count, last_at = excluded.last_at;

-- name: keep_callbacks
insert into ingest.kept_callbacks (
    key, source, kind, cause, body, topic, partition, "offset", timestamp_ms, record_key, headers
)
select key, source, kind, cause, body, topic, partition, "offset", timestamp_ms, record_key, headers
from unnest(
    %(keys)s::text[], %(sources)s::text[], %(kinds)s::text[], %(causes)s::text[],
    %(bodies)s::bytea[], %(topics)s::text[], %(partitions)s::int[], %(offsets)s::bigint[],
    %(timestamps_ms)s::bigint[], %(record_keys)s::bytea[], %(headers)s::bytea[]
) as batch (
    key, source, kind, cause,
    body, topic, partition, "offset",
    timestamp_ms, record_key, headers
)
order by key
on conflict do nothing;

-- name: purge_kept_callbacks
-- Bounded. Rows that a command is giving back now are left to it.
delete from ingest.kept_callbacks
where key in (
    select key from ingest.kept_callbacks
    where kept_at < now() - make_interval(days => %(days)s::int)
    order by kept_at limit %(rows_max)s::int
    for update skip locked
);
