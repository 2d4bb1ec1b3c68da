-- name: add_polls
insert into ingest.polls (source, object_kind)
select source, object_kind
from unnest(%(sources)s::text[], %(object_kinds)s::text[]) as batch (source, object_kind)
order by source, object_kind
on conflict do nothing;

-- name: resume_polls
-- At the start of a process: credentials that were refused may have been replaced.
update ingest.polls set state = 'ok', failures = 0, next_at = now(), updated_at = now()
where state = 'suspended' and source = any(%(sources)s::text[]);

-- name: add_sources
insert into ingest.polled_sources (source)
select source from unnest(%(sources)s::text[]) as batch (source) order by source
on conflict do nothing;

-- name: find_failures
select source, failures from ingest.polled_sources
where source = any(%(sources)s::text[]) order by source;

-- name: find_due_polls
-- The longest due first.
select polls.source, polls.object_kind, polls.cursor, polls.tags::text
from ingest.polls
join unnest(%(sources)s::text[], %(object_kinds)s::text[])
    as configured (source, object_kind) using (source, object_kind)
join ingest.polled_sources using (source)
where polls.next_at <= now() and polled_sources.circuit_open_until <= now()
order by polls.next_at, polls.source, polls.object_kind;

-- name: find_due_order_fetches
-- The first few that are due, of each source. While a source's circuit breaker is open, no order is
-- fetched from it either.
select configured.source, due.order_id, due.requested, due.failures
from unnest(%(sources)s::text[]) as configured (source)
join ingest.polled_sources using (source)
cross join lateral (
    select order_id, order_fetches.requested, failures, next_at from ingest.order_fetches
    where order_fetches.requested > order_fetches.done and next_at <= now()
        and split_part(order_id, ':', 1) = configured.source
    order by next_at, order_id limit %(orders_max)s::int
) as due
where polled_sources.circuit_open_until <= now()
order by configured.source, due.next_at, due.order_id;

-- name: lock_poll
select cursor, answer, published, failures, warning from ingest.polls
where source = %(source)s::text and object_kind = %(object_kind)s::text for update;

-- name: save_partial_page
-- A part of a page was published. The cursor moves with the last part.
update ingest.polls
set answer = %(answer)s::uuid, published = %(published)s::int, updated_at = now()
where source = %(source)s::text and object_kind = %(object_kind)s::text;

-- name: save_page
update ingest.polls
set cursor = %(cursor)s::text, tags = %(tags)s::text::json, answer = null, published = 0,
    failures = 0, state = 'ok', last_error = '', warning = %(warning)s::text,
    next_at = now() + make_interval(secs => %(wait_s)s::float8), answered_at = now(),
    updated_at = now()
where source = %(source)s::text and object_kind = %(object_kind)s::text;

-- name: save_failure
update ingest.polls
set failures = %(failures)s::int, state = %(state)s::text, last_error = %(last_error)s::text,
    answer = null, published = 0,
    next_at = now() + make_interval(secs => %(wait_s)s::float8), updated_at = now()
where source = %(source)s::text and object_kind = %(object_kind)s::text;

-- name: save_source
-- The circuit breaker opens for so long, or closes with a wait of zero.
update ingest.polled_sources
set failures = %(failures)s::int,
    circuit_open_until = now() + make_interval(secs => %(wait_s)s::float8), updated_at = now()
where source = %(source)s::text;

-- name: complete_order_fetches
-- Completes the requests that were there when the fetch began. An order that was requested since
-- stays due. Locked in id order, as request_order_fetches locks.
with locked as materialized (
    select order_id from ingest.order_fetches
    where order_id = any(%(order_ids)s::text[]) order by order_id for update
)
update ingest.order_fetches
set done = greatest(done, batch.requested), failures = 0, next_at = now()
from unnest(%(order_ids)s::text[], %(requested)s::bigint[]) as batch (order_id, requested)
join locked using (order_id)
where order_fetches.order_id = batch.order_id;

-- name: postpone_order_fetches
with locked as materialized (
    select order_id from ingest.order_fetches
    where order_id = any(%(order_ids)s::text[]) order by order_id for update
)
update ingest.order_fetches
set failures = batch.failures, next_at = now() + make_interval(secs => batch.wait_s)
from unnest(%(order_ids)s::text[], %(failures)s::int[], %(waits_s)s::float8[])
    as batch (order_id, failures, wait_s)
join locked using (order_id)
where order_fetches.order_id = batch.order_id;

-- name: poll_states
-- For the metrics: how many polls of a source are suspended or stopped by its open circuit breaker,
-- how many have a warning, and how long ago the oldest was answered.
select polls.source,
    count(*) filter (
        where polls.state = 'suspended' or polled_sources.circuit_open_until > now()
    ),
    count(*) filter (where warning <> ''), max(extract(epoch from now() - answered_at))::float8
from ingest.polls
join unnest(%(sources)s::text[], %(object_kinds)s::text[])
    as configured (source, object_kind) using (source, object_kind)
join ingest.polled_sources using (source)
group by polls.source order by polls.source;

-- name: count_order_fetches
select
    case
        when split_part(order_id, ':', 1) = any(%(sources)s::text[])
        then split_part(order_id, ':', 1)
        else '?'
    end,
    count(*)
from ingest.order_fetches where requested > done group by 1 order by 1;
