-- name: add_polls
insert into ingest.polls (source, what)
select source, what from unnest(%(sources)s::text[], %(whats)s::text[]) as batch (source, what) order by source, what
on conflict do nothing;

-- name: wake_polls
-- At a start: credentials that were refused may have been replaced.
update ingest.polls set state = 'ok', failures = 0, next_at = now(), updated_at = now()
where state = 'resting' and source = any(%(sources)s::text[]);

-- name: add_sources
insert into ingest.polled_sources (source)
select source from unnest(%(sources)s::text[]) as batch (source) order by source
on conflict do nothing;

-- name: find_failures
select source, failures from ingest.polled_sources where source = any(%(sources)s::text[]) order by source;

-- name: find_due
-- Whose turn it is, longest first.
select polls.source, polls.what, polls.cursor, polls.tags::text
from ingest.polls
join unnest(%(sources)s::text[], %(whats)s::text[]) as asked (source, what) using (source, what)
join ingest.polled_sources using (source)
where polls.next_at <= now() and polled_sources.rests_until <= now()
order by polls.next_at, polls.source, polls.what;

-- name: find_reads
-- Of each source the first few that are due. A source that rests is not asked for orders either.
select asked.source, due.order_id, due.asked, due.failures
from unnest(%(sources)s::text[]) as asked (source)
join ingest.polled_sources using (source)
cross join lateral (
    select order_id, reads.asked, failures, next_at from ingest.reads
    where reads.asked > reads.done and next_at <= now() and split_part(order_id, ':', 1) = asked.source
    order by next_at, order_id limit %(reads_max)s::int
) as due
where polled_sources.rests_until <= now()
order by asked.source, due.next_at, due.order_id;

-- name: lock_poll
select cursor, answer, said, failures, warning from ingest.polls
where source = %(source)s::text and what = %(what)s::text for update;

-- name: save_part
-- A part of a page was said; the cursor waits for the rest.
update ingest.polls set answer = %(answer)s::uuid, said = %(said)s::int, updated_at = now()
where source = %(source)s::text and what = %(what)s::text;

-- name: save_page
update ingest.polls
set cursor = %(cursor)s::text, tags = %(tags)s::text::json, answer = null, said = 0, failures = 0, state = 'ok', trouble = '',
    warning = %(warning)s::text, next_at = now() + make_interval(secs => %(wait_s)s::float8), answered_at = now(),
    updated_at = now()
where source = %(source)s::text and what = %(what)s::text;

-- name: save_failure
update ingest.polls
set failures = %(failures)s::int, state = %(state)s::text, trouble = %(trouble)s::text, answer = null, said = 0,
    next_at = now() + make_interval(secs => %(wait_s)s::float8), updated_at = now()
where source = %(source)s::text and what = %(what)s::text;

-- name: save_source
-- It rests from now on, or answers again.
update ingest.polled_sources
set failures = %(failures)s::int, rests_until = now() + make_interval(secs => %(wait_s)s::float8), updated_at = now()
where source = %(source)s::text;

-- name: answer_reads
-- What was asked for before its reading began is answered. Asked since: it stays due. Locked as
-- add_reads locks: sorted.
with locked as materialized (
    select order_id from ingest.reads where order_id = any(%(order_ids)s::text[]) order by order_id for update
)
update ingest.reads set done = greatest(done, batch.asked), failures = 0, next_at = now()
from unnest(%(order_ids)s::text[], %(asked)s::bigint[]) as batch (order_id, asked) join locked using (order_id)
where reads.order_id = batch.order_id;

-- name: put_off_reads
with locked as materialized (
    select order_id from ingest.reads where order_id = any(%(order_ids)s::text[]) order by order_id for update
)
update ingest.reads set failures = batch.failures, next_at = now() + make_interval(secs => batch.wait_s)
from unnest(%(order_ids)s::text[], %(failures)s::int[], %(waits_s)s::float8[]) as batch (order_id, failures, wait_s)
join locked using (order_id)
where reads.order_id = batch.order_id;

-- name: tell_polls
-- For the metrics: what rests, what is warned of, and since when the oldest was not answered.
select polls.source, count(*) filter (where polls.state = 'resting' or polled_sources.rests_until > now()),
    count(*) filter (where warning <> ''), max(extract(epoch from now() - answered_at))::float8
from ingest.polls
join unnest(%(sources)s::text[], %(whats)s::text[]) as asked (source, what) using (source, what)
join ingest.polled_sources using (source)
group by polls.source order by polls.source;

-- name: count_reads
select case when split_part(order_id, ':', 1) = any(%(sources)s::text[]) then split_part(order_id, ':', 1) else '?' end,
    count(*)
from ingest.reads where asked > done group by 1 order by 1;
