-- Gateways, vendors without proof, and what nobody understands yet.

-- What gateways told of a payment, and which orders name it: whoever comes last joins both.
create table ingest.payments (
    payment text primary key check (length(payment) between 3 and 300),  -- shop/reference
    orders  json not null check (json_typeof(orders) = 'array'),
    facts   json not null check (json_typeof(facts) = 'object')
-- a payment is told several times: room for its next row on the same page
) with (fillfactor = 60);

-- Orders that a source without proof spoke of: to be read from the source itself before anything
-- acts on them.
create table ingest.reads (
    order_id text primary key check (length(order_id) between 3 and 512),
    -- how often; the reading that follows answers all before it
    asked    bigint not null default 1 check (asked >= 1),
    done     bigint not null default 0 check (done between 0 and asked),
    failures int not null default 0 check (failures >= 0),
    asked_at timestamptz not null default now(),
    next_at  timestamptz not null default now()
);
create index reads_due on ingest.reads (next_at) where asked > done;

-- Words of a source that this release does not know, counted. One row for each connection that
-- meets one, so that a flood of them makes no lane wait for another; whoever reads adds them up.
create table ingest.notices (
    source      text not null check (length(source) between 1 and 32),
    kind        text not null check (length(kind) between 1 and 64),
    what        text not null check (length(what) between 1 and 300),
    slot        int not null check (slot >= 0),
    count       bigint not null check (count >= 1),
    first_at    timestamptz not null default now(),
    last_at     timestamptz not null default now(),
    example_key text not null,  -- of the callback that brought the first of them
    example     bytea not null,
    resolved_at timestamptz,  -- when an operator last closed it; a later one opens it again
    primary key (source, kind, what, slot)
);

-- Callbacks that are acknowledged and not acted on, whole, with their records: a later release may
-- be given them.
create table ingest.kept (
    key          text primary key check (length(key) between 1 and 1000),
    source       text not null,
    kind         text not null,
    what         text not null,
    body         bytea not null,
    topic        text not null,
    partition    int not null,
    "offset"     bigint not null,
    timestamp_ms bigint not null,
    record_key   bytea,
    headers      bytea not null,  -- as services/runtime/loop/dead_letters.py packs them
    kept_at      timestamptz not null default now()
);
create index kept_by_age on ingest.kept (kept_at);
create index kept_by_words on ingest.kept (source, kind, what);
