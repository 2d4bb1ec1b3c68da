-- Campaigns, and the tickets that orders get of them. The constraints are the specification.
create schema issuer;

create table issuer.campaigns (
    campaign_id text primary key check (campaign_id ~ '^[a-z0-9][a-z0-9-]{0,63}$'),
    version     bigint not null default 1 check (version >= 1),
    definition  jsonb not null,
    status      text not null check (status in ('open', 'closed')),
    mode        text not null check (mode in ('sequential', 'shuffled')),
    start       bigint not null check (start >= 0),
    capacity    bigint check (capacity between 1 and 1000000000),
    -- of the permutation: whoever knows it knows all numbers
    key         bytea not null check (length(key) = 32),
    -- and so the count of numbers ever issued
    next_index  bigint not null default 0 check (next_index >= 0),
    applied_at  timestamptz not null default now(),
    -- No more numbers than there are. A shuffled campaign has an end, for its numbers are a
    -- permutation of a range.
    check (next_index <= capacity),
    check (mode = 'sequential' or capacity is not null)
-- every batch with tickets rewrites the row: room for it on the same page
) with (fillfactor = 50);

-- A product of a shop belongs to one campaign, or nobody could say which number a buyer gets.
create table issuer.campaign_products (
    source      text not null,
    kind        text not null check (kind in ('sku', 'product_id')),
    content     text not null check (content <> ''),
    campaign_id text not null references issuer.campaigns,
    primary key (source, kind, content)
);
create index campaign_products_campaign on issuer.campaign_products (campaign_id);

create table issuer.orders (
    order_id           text primary key,
    sequence           bigint not null default 0 check (sequence >= 0),
    generation         bigint not null default 0,
    digest             bytea check (length(digest) = 32),  -- of the last snapshot that was said
    decided_generation bigint not null default 0,  -- of the decision that was last applied
    decided_sequence   bigint not null default 0,
    buyer_email        text not null default '',
    is_waiting         boolean not null default false,  -- has rows in waiting_lines
    decision           json,  -- as it came, to be decided again
    check ((sequence = 0) = (digest is null)),
    check ((sequence = 0) = (decision is null))
) with (fillfactor = 70);
create index orders_buyer on issuer.orders (lower(buyer_email)) where buyer_email <> '';

-- Every paid ordinal of a line that belongs to a campaign. With an index it is a ticket, without
-- one a refund is due. No foreign keys: a row is only added beside its order and under its
-- campaign's lock, and they cost a fifth of the insert.
create table issuer.tickets (
    ticket_id    uuid primary key,  -- uuid5 of order, line and ordinal
    order_id     text not null,
    line_id      text not null,
    ordinal      int not null check (ordinal between 1 and 2000),
    campaign_id  text not null,
    "index"      bigint check ("index" >= 0),
    number       text check (number <> ''),
    code         text check (code ~ '^[A-Z2-7]{26}$'),
    status       text check (status in ('Active', 'Won', 'Cancelled')),
    reason       text check (reason in ('sold_out')),
    holder_name  text not null,
    holder_email text not null,
    product_id   text not null,
    issued_at    timestamptz not null default now(),
    -- An ordinal is issued once, whatever happens to its order.
    unique (order_id, line_id, ordinal),
    -- A place in a campaign is given once, and so is a number, also when the campaign's start or
    -- prefix was wrong for a while.
    unique (campaign_id, "index"),
    unique (campaign_id, number),
    -- Whoever shows a code shows one ticket.
    unique (code),
    -- A ticket has all four; what is sold out has none of them, and its reason.
    check (num_nulls("index", number, code, status) = case when reason is null then 0 else 4 end)
) with (fillfactor = 90);

-- Paid lines that no campaign takes yet, in the order in which they came: `since` decides who is
-- served first.
create table issuer.waiting_lines (
    order_id   text not null references issuer.orders,
    line_id    text not null,
    since      bigint generated always as identity,
    source     text not null,
    sku        text not null,
    product_id text not null,
    quantity   int not null check (quantity >= 1),
    reason     text not null check (reason in ('no_campaign', 'campaign_closed')),
    primary key (order_id, line_id)
);
create index waiting_lines_sku on issuer.waiting_lines (source, sku);
create index waiting_lines_product on issuer.waiting_lines (source, product_id);

-- Orders with lines that a campaign takes since it was applied. The timer works them, oldest first.
create table issuer.due_orders (
    order_id text primary key references issuer.orders,
    since    bigint not null,
    actor    text not null,
    cause    uuid not null  -- the command that applied the campaign
);
create index due_orders_since on issuer.due_orders (since);

-- Who made and changed each ticket, and why. It holds no person.
create table issuer.audit (
    id          bigint generated always as identity primary key,
    order_id    text not null,
    ticket_id   uuid not null,
    from_status text,
    to_status   text not null,
    cause       uuid not null,  -- the event or command that caused it
    actor       text not null,
    at          timestamptz not null default now(),
    check (from_status is distinct from to_status)
);
create index audit_order on issuer.audit (order_id);

create function issuer.refuse_change() returns trigger language plpgsql as $refuse$
begin
    raise exception 'issuer.% is append only', tg_table_name using errcode = 'restrict_violation';
end
$refuse$;
create trigger append_only before update or delete or truncate on issuer.audit
    for each statement execute function issuer.refuse_change();
