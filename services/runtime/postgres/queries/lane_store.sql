-- name: known_lanes
-- Without a lock: which lanes have a row, and which of them are stopped.
select lanes.topic, lanes.partition, lanes.stopped_code, lanes.owner
from runtime.lanes
join unnest(%(topics)s::text[], %(partitions)s::int[])
    as wanted (topic, partition) using (topic, partition)
where consumer_group = %(group)s::text;

-- name: add_lanes
insert into runtime.lanes (consumer_group, topic, partition, topic_id, next_offset, first_offset)
select %(group)s::text, topic, partition, topic_id, first_offset, first_offset
from unnest(
    %(topics)s::text[], %(partitions)s::int[], %(topic_ids)s::text[], %(first_offsets)s::bigint[]
) as batch (topic, partition, topic_id, first_offset)
order by topic, partition
on conflict do nothing;

-- name: acquire_lanes
-- Skips rows that another transaction is committing now: waiting for them would delay the lanes
-- that do not move.
with free as (
    select topic, partition from runtime.lanes
    join unnest(%(topics)s::text[], %(partitions)s::int[])
        as wanted (topic, partition) using (topic, partition)
    where consumer_group = %(group)s::text
    order by topic, partition
    for update of lanes skip locked
)
update runtime.lanes
set epoch = epoch + 1, owner = %(owner)s::text, updated_at = now(),
    stopped_code = null, stopped_text = null, stopped_at = null
from free
where lanes.consumer_group = %(group)s::text and lanes.topic = free.topic
    and lanes.partition = free.partition
returning lanes.topic, lanes.partition, lanes.epoch, lanes.next_offset, lanes.topic_id,
    lanes.outbox;

-- name: lock_lanes
-- Joint transactions lock lanes in one order, so that two processes cannot deadlock.
select topic, partition, epoch, next_offset, now() as at
from runtime.lanes
where consumer_group = %(group)s::text
    and (topic, partition) in (select * from unnest(%(topics)s::text[], %(partitions)s::int[]))
order by consumer_group, topic, partition
for update;

-- name: advance_lanes
-- Compares again what lock_lanes compared: the statement that writes decides.
update runtime.lanes
set next_offset = batch.next_offset, outbox = batch.outbox, gaps = lanes.gaps + batch.gaps,
    effects = lanes.effects + batch.effects, duplicates = lanes.duplicates + batch.duplicates,
    superseded = lanes.superseded + batch.superseded, dead = lanes.dead + batch.dead,
    updated_at = now()
from unnest(
    %(topics)s::text[], %(partitions)s::int[], %(epochs)s::bigint[],
    %(expected)s::bigint[], %(next_offsets)s::bigint[], %(outbox)b::bytea[],
    %(gaps)s::bigint[], %(effects)s::bigint[], %(duplicates)s::bigint[],
    %(superseded)s::bigint[], %(dead)s::bigint[]
) as batch (
    topic, partition, epoch,
    expected, next_offset, outbox,
    gaps, effects, duplicates,
    superseded, dead
)
where lanes.consumer_group = %(group)s::text and lanes.topic = batch.topic
    and lanes.partition = batch.partition and lanes.epoch = batch.epoch
    and lanes.next_offset = batch.expected;

-- name: compare_lanes
select wanted.topic, wanted.partition
from unnest(
    %(topics)s::text[], %(partitions)s::int[], %(epochs)s::bigint[], %(expected)s::bigint[]
) as wanted (topic, partition, epoch, expected)
left join runtime.lanes on lanes.consumer_group = %(group)s::text
    and lanes.topic = wanted.topic and lanes.partition = wanted.partition
where lanes.epoch is distinct from wanted.epoch
    or lanes.next_offset is distinct from wanted.expected;

-- name: conservation
select lanes.topic, lanes.partition, lanes.conservation_gap
from runtime.lanes
join unnest(%(topics)s::text[], %(partitions)s::int[])
    as wanted (topic, partition) using (topic, partition)
where consumer_group = %(group)s::text;

-- name: clear_outbox
-- The comparison with next_offset guards against a lost answer, the one with the epoch against a
-- rewind (model/: mut-clear-no-next, mut-clear-no-epoch).
update runtime.lanes set outbox = null, updated_at = now()
from unnest(
    %(topics)s::text[], %(partitions)s::int[], %(epochs)s::bigint[], %(expected)s::bigint[]
) as mine (topic, partition, epoch, expected)
where lanes.consumer_group = %(group)s::text and lanes.topic = mine.topic
    and lanes.partition = mine.partition and lanes.epoch = mine.epoch
    and lanes.next_offset = mine.expected;

-- name: stop_lane
update runtime.lanes
set epoch = epoch + 1, stopped_code = %(code)s::text, stopped_text = %(text)s::text,
    stopped_at = now(), owner = %(owner)s::text, updated_at = now()
where consumer_group = %(group)s::text and topic = %(topic)s::text
    and partition = %(partition)s::int and epoch = %(epoch)s::bigint
    and next_offset = %(expected)s::bigint;

-- name: lock_dead_letters
select id from runtime.dead_letters
where id = any(%(ids)s::uuid[]) and state = 'replayed' order by id for update;

-- name: resolve_dead_letters
update runtime.dead_letters set state = 'resolved', updated_at = now()
where id = any(%(ids)s::uuid[]) and state = 'replayed';

-- name: reopen_dead_letters
update runtime.dead_letters
set state = 'open', attempts = attempts + 1, code = batch.code, text = batch.text,
    updated_at = now()
from unnest(%(ids)s::uuid[], %(codes)s::text[], %(texts)s::text[]) as batch (id, code, text)
where dead_letters.id = batch.id and dead_letters.state = 'replayed';

-- name: add_dead_letters
-- A record that a rewind brings again is the same dead letter. One that an operator closed stays
-- closed.
insert into runtime.dead_letters (
    consumer_group, topic, topic_id, partition, "offset", record_time, key, value, value_bytes,
    value_sha256, headers, stage, code, text, code_version, trace_id, subject_key
)
select %(group)s::text, topic, topic_id, partition, "offset",
    to_timestamp(timestamp_ms / 1000.0), key, value, value_bytes,
    coalesce(value_sha256, sha256(coalesce(value, ''))), headers,
    stage, code, text, %(code_version)s::text, trace_id, subject_key
from unnest(
    %(topics)s::text[], %(topic_ids)s::text[], %(partitions)s::int[], %(offsets)s::bigint[],
    %(timestamps_ms)s::bigint[], %(keys)b::bytea[], %(values)b::bytea[], %(value_bytes)s::bigint[],
    %(sha256s)b::bytea[], %(headers)b::bytea[], %(stages)s::text[], %(codes)s::text[],
    %(texts)s::text[], %(trace_ids)s::text[], %(subject_keys)s::text[]
) as batch (
    topic, topic_id, partition, "offset",
    timestamp_ms, key, value, value_bytes,
    value_sha256, headers, stage, code,
    text, trace_id, subject_key
)
order by topic, partition, "offset"
on conflict (consumer_group, topic, topic_id, partition, "offset") do update
set attempts = dead_letters.attempts + 1, code = excluded.code, text = excluded.text,
    updated_at = now(), code_version = excluded.code_version,
    state = case
        when dead_letters.state in ('resolved', 'discarded') then dead_letters.state
        else 'open'
    end
returning topic, partition, "offset", id, attempts;

-- name: take_replay_requests
-- Bounded in dead letters and bytes, but always at least one. One whose replay no topic would take
-- is never taken.
with waiting as (
    select id, sum(bytes) over (order by id) - bytes as bytes_before
    from (
        select id,
            coalesce(length(value), 0) + coalesce(length(key), 0) + length(headers) as bytes
        from runtime.dead_letters
        where consumer_group = %(group)s::text and state = 'requested' and value_bytes is null
            and coalesce(length(value), 0) + coalesce(length(key), 0) + length(headers)
                <= %(largest)s::bigint
        order by id limit %(dead_letters_max)s::int
        for update skip locked
    ) as requested
)
update runtime.dead_letters set state = 'replayed', updated_at = now()
from waiting
where dead_letters.id = waiting.id
    and (waiting.bytes_before = 0 or waiting.bytes_before < %(bytes_max)s::bigint)
returning dead_letters.id, topic, partition, "offset",
    coalesce((extract(epoch from record_time) * 1000)::bigint, -1) as timestamp_ms,
    key, value, headers;

-- name: has_replay_requests
select exists (
    select from runtime.dead_letters
    where consumer_group = %(group)s::text and state = 'requested'
);

-- name: controls
select paused, rate_limit_per_s from runtime.controls where consumer_group = %(group)s::text;

-- name: pause_service
-- Of the failure rate breaker. An operator's own pause keeps its reason.
insert into runtime.controls (consumer_group, paused, code, reason, actor)
values (%(group)s::text, true, %(code)s::text, %(text)s::text, %(owner)s::text)
on conflict (consumer_group) do update
set paused = true, code = excluded.code, reason = excluded.reason, actor = excluded.actor,
    updated_at = now()
where not controls.paused;
