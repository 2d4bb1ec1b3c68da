-- The tables of ingest: what sources sent, and what is known of each order.
--
--   callbacks       the idempotency keys of all callbacks
--   orders          the facts of each order
--   payments        the facts of each payment, and the orders that name it
--   drift_notices   what this release does not know in what sources send, counted
--   kept_callbacks  callbacks that were acknowledged and not applied, with their bytes
--   incidents_seen  incidents that an operator has acknowledged
--   polls           what vendors are polled for, and how far
--   polled_sources  the circuit breaker of each polled source
--   order_fetches   orders to be fetched from their source
create schema ingest;


-- One row per idempotency key and content. A callback whose key is known is still applied to its
-- order: the row only shows that it is a repeat.
create table ingest.callbacks (
    -- The idempotency key: the same whenever the source sends the callback again.
    key          text not null check (length(key) between 1 and 1000),
    -- SHA-256 of the callback's content without versions. A key with two of them is an incident of
    -- its order.
    content_hash bytea not null check (length(content_hash) = 32),
    added_at     timestamptz not null default now(),
    primary key (key, content_hash)
);


-- All that is known of an order, and the last snapshot that was published of it.
create table ingest.orders (
    -- `source:external id`.
    order_id   text primary key check (length(order_id) between 3 and 512),
    -- The position and the content hash of the last snapshot.
    generation bigint not null check (generation >= 0),
    sequence   bigint not null check (sequence >= 1),
    digest     bytea not null check (length(digest) = 32),
    -- Fact -> version and content. The document is always read and written whole, so it is json:
    -- jsonb costs a hot insert twice as much.
    facts      json not null check (json_typeof(facts) = 'object'),
    -- Idempotency keys that came with two contents.
    incidents  json not null check (json_typeof(incidents) = 'array')
-- An order is updated several times: its next row fits on the same page.
) with (fillfactor = 60);
-- The few orders with incidents are listed without reading the others.
create index orders_with_incidents
    on ingest.orders (order_id)
    where json_array_length(incidents) > 0;


-- What gateways reported of a payment, and which orders name it. Either may come first; whichever
-- comes last joins both.
create table ingest.payments (
    -- `source/reference`.
    payment text primary key check (length(payment) between 3 and 300),
    orders  json not null check (json_typeof(orders) = 'array'),
    facts   json not null check (json_typeof(facts) = 'object')
-- A payment is updated several times: its next row fits on the same page.
) with (fillfactor = 60);


-- Schema drift: words and fields of a source that this release does not know, counted. A notice has
-- several rows, so that a flood of one makes no lane wait for another: connections count in
-- different slots, and readers add them up.
create table ingest.drift_notices (
    source      text not null check (length(source) between 1 and 32),
    kind        text not null check (length(kind) between 1 and 64),
    -- What is unknown, for example a word as the source wrote it. Notices of one cause are counted
    -- together.
    cause       text not null check (length(cause) between 1 and 300),
    slot        int not null check (slot >= 0),
    count       bigint not null check (count >= 1),
    first_at    timestamptz not null default now(),
    last_at     timestamptz not null default now(),
    -- The first callback with the notice: its idempotency key and its body.
    example_key text not null,
    example     bytea not null,
    -- When an operator last closed it. A later occurrence opens it again.
    resolved_at timestamptz,
    primary key (source, kind, cause, slot)
);


-- Callbacks that were acknowledged and not applied, with all that their records held, so that a
-- later release can be given them.
create table ingest.kept_callbacks (
    key          text primary key check (length(key) between 1 and 1000),
    source       text not null,
    -- As in drift_notices: why it was kept.
    kind         text not null,
    cause        text not null,
    body         bytea not null,
    topic        text not null,
    partition    int not null,
    "offset"     bigint not null,
    timestamp_ms bigint not null,
    record_key   bytea,
    -- Packed as in runtime.dead_letters.
    headers      bytea not null,
    kept_at      timestamptz not null default now()
);
-- The oldest are purged first.
create index kept_callbacks_by_age on ingest.kept_callbacks (kept_at);
-- An incident's callbacks are given back together.
create index kept_callbacks_by_kind on ingest.kept_callbacks (source, kind, cause);


-- Incidents of orders that an operator has acknowledged. A later occurrence opens them again.
create table ingest.incidents_seen (
    incident_id text primary key check (incident_id ~ '^[0-9a-f]{12}$'),
    seen_at     timestamptz not null
);


-- One row for each thing that a source of the sources file is polled for. The cursor moves in the
-- transaction that publishes what was found.
create table ingest.polls (
    source      text not null check (length(source) between 1 and 32),
    -- What is polled: orders, events, or the webhook itself.
    object_kind text not null check (length(object_kind) between 1 and 32),
    -- Where the next page begins, in the vendor's own terms.
    cursor      text not null default '' check (length(cursor) <= 100000),
    -- The ETags of the last page, by address.
    tags        json not null default '{}' check (json_typeof(tags) = 'object'),
    -- The page that is being published in parts because it is too much for one transaction, and how
    -- many of its objects were published.
    answer      uuid,
    published   int not null default 0 check (published >= 0),
    next_at     timestamptz not null default now(),
    -- In a row.
    failures    int not null default 0 check (failures >= 0),
    -- suspended: the vendor refuses the credentials.
    state       text not null default 'ok' check (state in ('ok', 'suspended')),
    -- Why the last request failed. Empty: it did not fail.
    last_error  text not null default '' check (length(last_error) <= 300),
    -- What the vendor's last answer warned of.
    warning     text not null default '' check (length(warning) <= 300),
    -- When the vendor last answered, or when polling began.
    answered_at timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    primary key (source, object_kind),
    -- Only a page that is under way has published parts.
    check ((answer is null) = (published = 0)),
    -- A poll is suspended by a failure.
    check (state = 'ok' or failures > 0)
);

-- The circuit breaker of a source: while it is open, nothing is requested from the source.
create table ingest.polled_sources (
    source             text primary key check (length(source) between 1 and 32),
    -- In a row, whatever was requested.
    failures           int not null default 0 check (failures >= 0),
    circuit_open_until timestamptz not null default '-infinity',
    updated_at         timestamptz not null default now()
);

-- Orders that an unauthenticated callback named. They are fetched from the source itself before
-- anything is done about them.
create table ingest.order_fetches (
    order_id     text primary key check (length(order_id) between 3 and 512),
    -- How often the order was requested, and how many of these requests are answered. One fetch
    -- answers all that were there when it began.
    requested    bigint not null default 1 check (requested >= 1),
    done         bigint not null default 0 check (done between 0 and requested),
    -- In a row.
    failures     int not null default 0 check (failures >= 0),
    requested_at timestamptz not null default now(),
    next_at      timestamptz not null default now()
);
-- The poller takes the longest due first.
create index order_fetches_due on ingest.order_fetches (next_at) where requested > done;
