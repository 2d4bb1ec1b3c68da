-- The tables of the runtime: what every service shares.
--
--   lanes         one row per partition of a consumer group: position, fence, outbox and counters
--   dead_letters  records and jobs that were put aside, each with its bytes and its cause
--   controls      what operators set while a service runs: paused, slowed
--   audit         every command that changed something
--   generation    the count of restores from a backup
--
-- runtime.migrations, the list of applied files, is created by the migration itself.
create schema runtime;


-- A lane is one partition of one consumer group, with one writer at a time. Every transaction of a
-- service compares and advances this row together with its work: docs/explanation/lanes.md.
create table runtime.lanes (
    consumer_group text not null,
    topic          text not null,
    partition      int not null check (partition >= 0),
    -- The broker's id of the topic. It is compared with every batch and is not part of the key, so
    -- a topic that was deleted and created again under the same name is noticed.
    topic_id       text not null,
    -- The fence: the count of the lane's owners and of its changes by operators.
    epoch          bigint not null default 0 check (epoch >= 0),
    next_offset    bigint not null check (next_offset >= 0),
    -- The outputs that were committed together with next_offset and may not be in Kafka yet, in the
    -- format of services/runtime/loop/outbox.py. Null: there is nothing to publish.
    outbox         bytea,
    -- Where the lane began to read.
    first_offset   bigint not null,
    -- Offsets without a record: those that compaction or transactions left, and those that an
    -- operator skipped.
    gaps           bigint not null default 0 check (gaps >= 0),
    -- Offsets that an operator had read again.
    rewound        bigint not null default 0 check (rewound >= 0),
    -- The four outcomes of a record, counted.
    effects        bigint not null default 0 check (effects >= 0),
    duplicates     bigint not null default 0 check (duplicates >= 0),
    superseded     bigint not null default 0 check (superseded >= 0),
    dead           bigint not null default 0 check (dead >= 0),
    -- The process that acquired the lane last, as people recognise it. Nothing is decided by it.
    owner          text,
    -- Why the lane does not move: the code of an error and its text. Null: it moves.
    stopped_code   text,
    stopped_text   text,
    stopped_at     timestamptz,
    updated_at     timestamptz not null default now(),
    -- Conservation: each offset from first_offset to next_offset is a gap or ended in exactly one
    -- outcome. The value is always zero.
    conservation_gap bigint generated always as (
        next_offset - first_offset - gaps + rewound - (effects + duplicates + superseded + dead)
    ) stored,
    primary key (consumer_group, topic, partition),
    -- A lane that is stopped has a time at which it was stopped.
    check ((stopped_code is null) = (stopped_at is null))
-- Every batch rewrites its row. Free space on the page lets the update stay there and leave the
-- index alone.
) with (fillfactor = 50);
-- The outbox is compressed before it is stored, so PostgreSQL does not try to compress it again.
alter table runtime.lanes alter column outbox set storage external;


-- The source that a record names: its header ce_source, or else what stands before the first colon
-- of its key, or else nothing. It is not authenticated, so dead letters are only grouped by it. In
-- `headers`, as services/runtime/loop/dead_letters.py packs them, a value stands right behind its
-- name.
create function runtime.source_of(headers bytea, key bytea) returns text
language sql immutable parallel safe as $$
    select coalesce(
        substring(
            encode(
                substring($1 from nullif(position('ce_source'::bytea in $1), 0) + 9 for 100),
                'escape'
            )
            from '^[!-\[\]-~]+'
        ),
        substring(
            encode(substring($2 from 1 for 200), 'escape') from '^([!-9;-\[\]-~]{1,100}):'
        ),
        ''
    )
$$;

-- The text of an error without what varies, so that ten thousand dead letters of one cause are one
-- incident: every number becomes #, and each part between semicolons stands once and in one order,
-- so that an error at the third line and an error at every line have the same cause.
-- services/ingest/rules/incidents.py groups drift notices by the same rule.
create function runtime.cause_of(text text) returns text
language sql immutable strict parallel safe as $$
    select coalesce(left(string_agg(part, '; ' order by part), 300), '')
    from (
        select distinct part collate "C" as part
        from unnest(
            string_to_array(
                regexp_replace(regexp_replace($1, '[0-9]+', '#', 'g'), '; and # more$', ''),
                '; '
            )
        ) as part
    ) as parts
$$;

-- A record that can never succeed, put aside with its bytes, so that its lane goes on. A delivery
-- job whose retries are exhausted is a dead letter too, under the topic @jobs.
create table runtime.dead_letters (
    id             uuid primary key default uuidv7(),
    consumer_group text not null,
    topic          text not null,
    topic_id       text not null,
    partition      int not null,
    "offset"       bigint not null,
    record_time    timestamptz,
    key            bytea,
    -- The record's value, byte for byte, or its first part where value_bytes is not null.
    value          bytea,
    -- The length of the record's value where it is longer than what can be published again. Null:
    -- `value` is the whole value.
    value_bytes    bigint,
    -- The hash of the whole value.
    value_sha256   bytea not null check (length(value_sha256) = 32),
    -- Names and bytes, with repeats and in their sequence, as services/runtime/loop/dead_letters.py
    -- packs them.
    headers        bytea not null,
    -- Where it failed: before a transaction, in one, or outside of any lane.
    stage          text not null check (stage in ('parse', 'handle', 'job')),
    code           text not null,
    text           text not null,
    -- How often the record or the job has failed so far.
    attempts       int not null default 1 check (attempts >= 1),
    -- The release that wrote the row.
    code_version   text not null,
    trace_id       text,
    -- The business key of the record, if the service can read it.
    subject_key    text,
    -- open -> requested -> replayed -> resolved, or open again; discarded by an operator.
    state          text not null default 'open'
        check (state in ('open', 'requested', 'replayed', 'resolved', 'discarded')),
    -- Why an operator acted, and which operator.
    reason         text,
    actor          text,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    source         text not null generated always as (runtime.source_of(headers, key)) stored,
    cause          text not null generated always as (runtime.cause_of(text)) stored,
    -- A record that is read again after a rewind is the same dead letter.
    unique (consumer_group, topic, topic_id, partition, "offset"),
    -- Nothing is discarded without a reason.
    check (state <> 'discarded' or reason is not null),
    -- Only a dead letter with its whole value can be published again.
    constraint dead_letters_replayed_whole
        check (value_bytes is null or state not in ('requested', 'replayed'))
);
-- The timer of a group takes the dead letters that operators requested to replay, oldest first.
create index dead_letters_waiting
    on runtime.dead_letters (consumer_group, id)
    where state = 'requested';
-- Operators select open dead letters by their code.
create index dead_letters_open
    on runtime.dead_letters (consumer_group, code, id)
    where state in ('open', 'replayed');
-- The dead letters of one business key.
create index dead_letters_subject
    on runtime.dead_letters (subject_key)
    where subject_key is not null;
-- Incidents are counted from this index alone: no dead letter's row is read.
create index dead_letters_causes
    on runtime.dead_letters
        (consumer_group, code, cause, source, state, created_at, updated_at, id);


-- What an operator has set for a consumer group. Without a row it runs, as fast as it can.
create table runtime.controls (
    consumer_group   text primary key,
    paused           boolean not null default false,
    rate_limit_per_s double precision check (rate_limit_per_s > 0),
    -- Why the service paused itself. Null: an operator paused it.
    code             text,
    reason           text,
    actor            text not null,
    updated_at       timestamptz not null default now()
);


-- The commands that changed something, each written in the transaction of its change.
create table runtime.audit (
    id         uuid primary key default uuidv7(),
    actor      text not null,
    -- The same command sent twice acts once.
    command_id uuid not null unique,
    -- The name of the command, such as `campaigns apply`.
    what       text not null,
    -- The command's arguments, and what it did.
    details    jsonb not null default '{}',
    at         timestamptz not null default now()
);


-- One row: the count of restores from a backup. A snapshot's generation outranks its sequence,
-- because a restored database repeats sequences that were published already.
create table runtime.generation (
    one        boolean primary key default true check (one),
    generation bigint not null default 1 check (generation >= 1)
);
insert into runtime.generation default values;
