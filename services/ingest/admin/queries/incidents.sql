-- name: letters_by_cause
-- By the index dead_letters_causes alone. The newest that waits is the example.
select source, code, cause, count(*) as count, count(*) filter (where state = 'open') as waiting,
    count(*) filter (where state in ('requested', 'replayed')) as replaying,
    min(created_at) as first_at, max(created_at) as last_at,
    coalesce(max(id::text collate "C") filter (where state = 'open'), max(id::text collate "C")) as example
from runtime.dead_letters
where consumer_group = %(group)s::text
group by code, cause, source;

-- name: notices_by_words
select source, kind, what, sum(count)::bigint as count, bool_or(resolved_at is null or last_at > resolved_at) as is_open,
    min(first_at) as first_at, max(last_at) as last_at, (array_agg(example_key order by last_at desc, slot))[1] as example
from ingest.notices
group by source, kind, what;

-- name: orders_with_two_meanings
-- By the index orders_with_incidents. A key is told when its other meaning came; it may be of
-- several orders.
select split_part(order_id, ':', 1) as source, count(distinct key) as count, min(at) as first_at, max(at) as last_at,
    max(order_id collate "C") as example
from ingest.orders, json_array_elements_text(incidents) as noted (key),
    lateral (select max(added_at) as at from ingest.callbacks where callbacks.key = noted.key) as inbox
where json_array_length(incidents) > 0 and at is not null
group by split_part(order_id, ':', 1);

-- name: incidents_seen
select incident_id, seen_at from ingest.incidents_seen;

-- name: causes_as_they_came
select text as words, count(*) as count
from runtime.dead_letters
where consumer_group = %(group)s::text and code = %(kind)s::text and cause = %(what)s::text
    and source = any(%(origins)s::text[])
group by text order by count(*) desc, text collate "C" limit %(limit)s::int;

-- name: words_as_they_came
select what as words, sum(count)::bigint as count
from ingest.notices
where source = %(source)s::text and kind = %(kind)s::text and what = any(%(origins)s::text[])
group by what order by sum(count) desc, what collate "C" limit %(limit)s::int;

-- name: example_of_notice
select example from ingest.notices
where source = %(source)s::text and kind = %(kind)s::text and what = any(%(origins)s::text[])
    and example_key = %(example)s::text
order by last_at desc limit 1;

-- name: count_kept
select count(*) from ingest.kept
where source = %(source)s::text and kind = %(kind)s::text and what = any(%(origins)s::text[]);

-- name: moment
select now();

-- name: waiting_letters
-- Those that were open when the command began: one that is given back and fails is not given back
-- by the same command.
select id from runtime.dead_letters
where consumer_group = %(group)s::text and code = %(kind)s::text and cause = %(what)s::text
    and source = any(%(origins)s::text[]) and state = 'open' and updated_at <= %(until)s::timestamptz
order by id limit %(limit)s::int
for update;

-- name: take_kept
-- With their rows in the inbox, which know them as callbacks that have nothing to say. Those that
-- are kept once more by the running release while the command goes on are left.
with chosen as (
    select key from ingest.kept
    where source = %(source)s::text and kind = %(kind)s::text and what = any(%(origins)s::text[])
        and kept_at <= %(until)s::timestamptz and topic <> ''
    order by key limit %(limit)s::int
    for update
), forgotten as (
    delete from ingest.callbacks using chosen where callbacks.key = chosen.key
)
delete from ingest.kept using chosen
where kept.key = chosen.key
returning kept.key, topic, partition, "offset", timestamp_ms, record_key, body, headers;

-- name: close_notices
update ingest.notices set resolved_at = now()
where source = %(source)s::text and kind = %(kind)s::text and what = any(%(origins)s::text[]);

-- name: see_incident
insert into ingest.incidents_seen (incident_id, seen_at) values (%(id)s::text, now())
on conflict (incident_id) do update set seen_at = excluded.seen_at;
