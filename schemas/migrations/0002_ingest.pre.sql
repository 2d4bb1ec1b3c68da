-- What sources have told: the inbox, and per order every fact that is known of it.
create schema ingest;

-- A callback is judged against its order, not swallowed for having come before: this only tells
-- what is a repeat.
create table ingest.callbacks (
    -- the same whenever its source sends it again
    key      text not null check (length(key) between 1 and 1000),
    -- two meanings of one key: an incident of the order
    meaning  bytea not null check (length(meaning) = 32),
    added_at timestamptz not null default now(),
    primary key (key, meaning)
);

create table ingest.orders (
    order_id   text primary key check (length(order_id) between 3 and 512),
    generation bigint not null check (generation >= 0),  -- in which it last spoke
    sequence   bigint not null check (sequence >= 1),  -- what is known of it was said
    digest     bytea not null check (length(digest) = 32),  -- of what it last said
    -- Kept and read whole: json, for jsonb costs a hot insert twice as much.
    facts      json not null check (json_typeof(facts) = 'object'),
    incidents  json not null check (json_typeof(incidents) = 'array')
) with (fillfactor = 60);  -- an order is told several times: room for its next row on the same page
