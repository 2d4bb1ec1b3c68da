-- name: dead_letters_by_cause
-- Reads the index dead_letters_causes alone. The example is the newest one that is open.
select source, code, cause, count(*) as count, count(*) filter (where state = 'open') as waiting,
    count(*) filter (where state in ('requested', 'replayed')) as replaying,
    min(created_at) as first_at, max(created_at) as last_at,
    coalesce(
        max(id::text collate "C") filter (where state = 'open'), max(id::text collate "C")
    ) as example
from runtime.dead_letters
where consumer_group = %(group)s::text
group by code, cause, source;

-- name: drift_notices_by_kind
select source, kind, cause, sum(count)::bigint as count,
    bool_or(resolved_at is null or last_at > resolved_at) as is_open,
    min(first_at) as first_at, max(last_at) as last_at,
    (array_agg(example_key order by last_at desc, slot))[1] as example
from ingest.drift_notices
group by source, kind, cause;

-- name: orders_with_conflicting_keys
-- Reads the index orders_with_incidents. The time of a conflict is that of the key's latest
-- content. A key may be of several orders.
select split_part(order_id, ':', 1) as source, count(distinct key) as count,
    min(at) as first_at, max(at) as last_at, max(order_id collate "C") as example
from ingest.orders, json_array_elements_text(incidents) as noted (key),
    lateral (
        select max(added_at) as at from ingest.callbacks where callbacks.key = noted.key
    ) as inbox
where json_array_length(incidents) > 0 and at is not null
group by split_part(order_id, ':', 1);

-- name: incidents_seen
select incident_id, seen_at from ingest.incidents_seen;

-- name: original_causes
select text as words, count(*) as count
from runtime.dead_letters
where consumer_group = %(group)s::text and code = %(kind)s::text and cause = %(cause)s::text
    and source = any(%(origins)s::text[])
group by text order by count(*) desc, text collate "C" limit %(limit)s::int;

-- name: original_words
select cause as words, sum(count)::bigint as count
from ingest.drift_notices
where source = %(source)s::text and kind = %(kind)s::text and cause = any(%(origins)s::text[])
group by cause order by sum(count) desc, cause collate "C" limit %(limit)s::int;

-- name: example_of_drift_notice
select example from ingest.drift_notices
where source = %(source)s::text and kind = %(kind)s::text and cause = any(%(origins)s::text[])
    and example_key = %(example)s::text
order by last_at desc limit 1;

-- name: count_kept_callbacks
select count(*) from ingest.kept_callbacks
where source = %(source)s::text and kind = %(kind)s::text and cause = any(%(origins)s::text[]);

-- name: transaction_time
select now();

-- name: lock_open_dead_letters
-- Those that were open when the command began: one that is given back and fails again is not given
-- back by the same command.
select id from runtime.dead_letters
where consumer_group = %(group)s::text and code = %(kind)s::text and cause = %(cause)s::text
    and source = any(%(origins)s::text[]) and state = 'open'
    and updated_at <= %(until)s::timestamptz
order by id limit %(limit)s::int
for update;

-- name: take_kept_callbacks
-- Also deletes their idempotency keys, which were added when the callbacks were kept. A callback
-- that the running release keeps again while the command goes on is left.
with chosen as (
    select key from ingest.kept_callbacks
    where source = %(source)s::text and kind = %(kind)s::text and cause = any(%(origins)s::text[])
        and kept_at <= %(until)s::timestamptz and topic <> ''
    order by key limit %(limit)s::int
    for update
), forgotten as (
    delete from ingest.callbacks using chosen where callbacks.key = chosen.key
)
delete from ingest.kept_callbacks using chosen
where kept_callbacks.key = chosen.key
returning kept_callbacks.key, topic, partition, "offset", timestamp_ms, record_key, body, headers;

-- name: close_drift_notices
update ingest.drift_notices set resolved_at = now()
where source = %(source)s::text and kind = %(kind)s::text and cause = any(%(origins)s::text[]);

-- name: acknowledge_incident
insert into ingest.incidents_seen (incident_id, seen_at) values (%(id)s::text, now())
on conflict (incident_id) do update set seen_at = excluded.seen_at;
