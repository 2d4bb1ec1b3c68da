-- The runtime's own tables: lanes, dead letters, controls, audit, the generation of the data.
create schema runtime;

create table runtime.lanes (
    consumer_group text not null,
    topic          text not null,
    partition      int not null check (partition >= 0),
    -- compared at every batch, not part of the key: a re-created topic must be noticed
    topic_id       text not null,
    epoch          bigint not null default 0 check (epoch >= 0),
    next_offset    bigint not null check (next_offset >= 0),
    -- outputs committed with next_offset, perhaps not yet in Kafka: services/runtime/loop/outbox.py
    unpublished    bytea,
    first_offset   bigint not null,
    gaps           bigint not null default 0 check (gaps >= 0),
    rewound        bigint not null default 0 check (rewound >= 0),
    effects        bigint not null default 0 check (effects >= 0),
    duplicates     bigint not null default 0 check (duplicates >= 0),
    superseded     bigint not null default 0 check (superseded >= 0),
    dead           bigint not null default 0 check (dead >= 0),
    owner          text,
    stopped_code   text,
    stopped_text   text,
    stopped_at     timestamptz,
    updated_at     timestamptz not null default now(),
    -- Conservation: each record between first_offset and next_offset ended in exactly one outcome.
    -- Reads zero, always.
    conservation_gap bigint generated always as
        (next_offset - first_offset - gaps + rewound - (effects + duplicates + superseded + dead)) stored,
    primary key (consumer_group, topic, partition),
    check ((stopped_code is null) = (stopped_at is null))
-- every batch rewrites the row: room for it on the same page, so that no index is touched
) with (fillfactor = 50);
-- zlib has been there already
alter table runtime.lanes alter column unpublished set storage external;

create table runtime.dead_letters (
    id             uuid primary key default uuidv7(),
    consumer_group text not null,
    topic          text not null,
    topic_id       text not null,
    partition      int not null,
    "offset"       bigint not null,
    record_time    timestamptz,
    key            bytea,
    value          bytea,
    value_sha256   bytea not null check (length(value_sha256) = 32),
    -- as services/runtime/loop/dead_letters.py packs them: names and bytes, repeats and sequence
    -- kept
    headers        bytea not null,
    stage          text not null check (stage in ('parse', 'handle', 'job')),
    code           text not null,
    text           text not null,
    attempts       int not null default 1 check (attempts >= 1),
    code_version   text not null,
    trace_id       text,
    subject_key    text,
    state          text not null default 'open' check (state in ('open', 'requested', 'replayed', 'resolved', 'discarded')),
    reason         text check (state <> 'discarded' or reason is not null),
    actor          text,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    -- A record that is read again after a rewind is the same letter.
    unique (consumer_group, topic, topic_id, partition, "offset")
);
create index dead_letters_waiting on runtime.dead_letters (consumer_group, id) where state = 'requested';
create index dead_letters_open on runtime.dead_letters (consumer_group, code, id) where state in ('open', 'replayed');
create index dead_letters_subject on runtime.dead_letters (subject_key) where subject_key is not null;

create table runtime.controls (
    consumer_group   text primary key,
    paused           boolean not null default false,
    rate_limit_per_s double precision check (rate_limit_per_s > 0),
    code             text,  -- why the service paused itself; null when an operator did
    reason           text,
    actor            text not null,
    updated_at       timestamptz not null default now()
);

create table runtime.audit (
    id         uuid primary key default uuidv7(),
    actor      text not null,
    command_id uuid not null unique,  -- the same command sent twice acts once
    what       text not null,
    details    jsonb not null default '{}',
    at         timestamptz not null default now()
);

-- Counts restores from a backup. It outranks every sequence, for a restored database repeats
-- sequences already published.
create table runtime.generation (
    one        boolean primary key default true check (one),
    generation bigint not null default 1 check (generation >= 1)
);
insert into runtime.generation default values;
