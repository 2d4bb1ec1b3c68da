-- name: lock_command
-- If the same command is sent twice at once, the second waits here and then finds in the audit that
-- it was done.
select pg_advisory_xact_lock(hashtextextended('stubline.command/' || %(command_id)s::text, 0));

-- name: find_command
select what, details -> 'arguments' as arguments, details -> 'result' as result, at
from runtime.audit where command_id = %(command_id)s::uuid;

-- name: add_audit
insert into runtime.audit (actor, command_id, what, details)
values (%(actor)s::text, %(command_id)s::uuid, %(what)s::text, %(details)s::jsonb);

-- name: list_audit
select at, actor, what, command_id, details
from runtime.audit order by id desc limit %(limit)s::int;

-- name: known_groups
select consumer_group from runtime.lanes
union
select consumer_group from runtime.controls;

-- name: list_lanes
select consumer_group, topic, partition, topic_id, epoch, next_offset, first_offset, gaps, rewound,
    effects, duplicates, superseded, dead, conservation_gap,
    coalesce(length(outbox), 0) as outbox_bytes,
    owner, stopped_code, stopped_text, stopped_at, updated_at
from runtime.lanes
where %(group)s::text is null or consumer_group = %(group)s::text
order by consumer_group, topic, partition;

-- name: lock_lanes_of_topic
-- In the order in which joint transactions lock lanes. A null partition means all.
select partition, topic_id, epoch, next_offset, stopped_code
from runtime.lanes
where consumer_group = %(group)s::text and topic = %(topic)s::text
    and (%(partition)s::int is null or partition = %(partition)s::int)
order by consumer_group, topic, partition
for update;

-- name: move_lanes
-- The epoch rises in the same statement, so the owner is fenced, whatever it is doing (model/:
-- mut-rewind-no-epoch). Skipped offsets are gaps and repeated ones are rewound, so the conservation
-- gap stays as it was. The outbox is not touched: the next owner publishes it.
update runtime.lanes
set epoch = epoch + 1, next_offset = batch.next_offset, topic_id = batch.topic_id,
    gaps = lanes.gaps + greatest(batch.next_offset - lanes.next_offset, 0),
    rewound = lanes.rewound + greatest(lanes.next_offset - batch.next_offset, 0),
    stopped_code = null, stopped_text = null, stopped_at = null, updated_at = now()
from unnest(%(partitions)s::int[], %(next_offsets)s::bigint[], %(topic_ids)s::text[])
    as batch (partition, next_offset, topic_id)
where lanes.consumer_group = %(group)s::text and lanes.topic = %(topic)s::text
    and lanes.partition = batch.partition;

-- name: lock_outbox
select outbox, stopped_code, stopped_text
from runtime.lanes
where consumer_group = %(group)s::text and topic = %(topic)s::text
    and partition = %(partition)s::int
for update;

-- name: find_outbox
select outbox, stopped_code
from runtime.lanes
where consumer_group = %(group)s::text and topic = %(topic)s::text
    and partition = %(partition)s::int;

-- name: replace_outbox
-- The epoch rises in the same statement, as for every change that is not a commit. The position
-- stays.
update runtime.lanes
set epoch = epoch + 1, outbox = %(outputs)b::bytea, stopped_code = null, stopped_text = null,
    stopped_at = null, updated_at = now()
where consumer_group = %(group)s::text and topic = %(topic)s::text
    and partition = %(partition)s::int;

-- name: raise_generation
update runtime.generation set generation = generation + 1 returning generation;

-- name: set_controls
-- A null rate leaves the limit as it is; zero removes it.
insert into runtime.controls (consumer_group, paused, rate_limit_per_s, code, reason, actor)
values (
    %(group)s::text, %(paused)s::boolean, nullif(%(rate)s::double precision, 0), null,
    %(reason)s::text, %(actor)s::text
)
on conflict (consumer_group) do update
set paused = excluded.paused, code = null, reason = excluded.reason, actor = excluded.actor,
    updated_at = now(),
    rate_limit_per_s = case
        when %(rate)s::double precision is null then controls.rate_limit_per_s
        else excluded.rate_limit_per_s
    end
returning paused, rate_limit_per_s;

-- name: list_controls
select consumer_group, paused, rate_limit_per_s, code, reason, actor, updated_at
from runtime.controls order by consumer_group;

-- name: list_dead_letters
select id, consumer_group, topic, partition, "offset", stage, code, state, attempts, key,
    coalesce(value_bytes, length(value), 0) as bytes, text, created_at, updated_at
from runtime.dead_letters
where (%(group)s::text is null or consumer_group = %(group)s::text)
    and (%(code)s::text is null or code = %(code)s::text)
    and state = any(%(states)s::text[])
order by id limit %(limit)s::int;

-- name: find_dead_letter
select id, consumer_group, topic, partition, "offset", topic_id, record_time, stage, code, text,
    state, attempts, reason, actor, code_version, trace_id, subject_key, created_at, updated_at,
    key, headers, value, value_bytes, value_sha256
from runtime.dead_letters where id = %(id)s::uuid;

-- name: lock_chosen_dead_letters
-- By their ids if there are any, else by what they have in common. Locked in id order, as every
-- transaction locks dead letters.
select id, state, value_bytes is null
    and coalesce(length(value), 0) + coalesce(length(key), 0) + length(headers)
        <= %(largest)s::bigint as is_replayable
from runtime.dead_letters
where (%(ids)s::uuid[] is null or id = any(%(ids)s::uuid[]))
    and (%(group)s::text is null or consumer_group = %(group)s::text)
    and (%(code)s::text is null or code = %(code)s::text)
    and (%(ids)s::uuid[] is not null or state = any(%(states)s::text[]))
order by id limit %(limit)s::int
for update;

-- name: set_dead_letter_states
update runtime.dead_letters
set state = %(state)s::text, reason = coalesce(%(reason)s::text, reason),
    actor = %(actor)s::text, updated_at = now()
where id = any(%(ids)s::uuid[]);

-- name: count_dead_letters
select consumer_group, code, state, count(*) as dead_letters, min(created_at) as oldest
from runtime.dead_letters
where state in ('open', 'requested', 'replayed')
group by consumer_group, code, state
order by consumer_group, code, state;
