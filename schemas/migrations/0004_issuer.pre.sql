-- The tables of the issuer: campaigns, and the numbers that orders get of them.
--
--   campaigns          what numbers belong to
--   campaign_products  which products a campaign takes
--   orders             the last decision that was applied to each order
--   tickets            every paid ordinal of a line: its place, number and code, or why it has none
--   waiting_lines      paid lines that no campaign takes yet
--   due_orders         orders whose waiting lines a campaign takes now
--   audit              every change of a ticket
create schema issuer;


-- What numbers belong to. The row of a campaign is locked while a batch takes numbers of it.
create table issuer.campaigns (
    campaign_id text primary key check (campaign_id ~ '^[a-z0-9][a-z0-9-]{0,63}$'),
    -- Counts the definitions that were applied.
    version     bigint not null default 1 check (version >= 1),
    -- As the operator wrote it. The columns below repeat what constraints need of it.
    definition  jsonb not null,
    status      text not null check (status in ('open', 'closed')),
    mode        text not null check (mode in ('sequential', 'shuffled')),
    -- The number at place 0.
    start       bigint not null check (start >= 0),
    -- How many numbers there are. Null: no end.
    capacity    bigint check (capacity between 1 and 1000000000),
    -- The secret key of the permutation: with it, all numbers can be computed.
    key         bytea not null check (length(key) = 32),
    -- The next free place, and so the count of numbers ever issued.
    next_place  bigint not null default 0 check (next_place >= 0),
    applied_at  timestamptz not null default now(),
    -- A campaign never issues more numbers than it has.
    check (next_place <= capacity),
    -- A shuffled campaign has an end, because its numbers are a permutation of a range.
    check (mode = 'sequential' or capacity is not null)
-- Every batch with tickets rewrites the row: its next row fits on the same page.
) with (fillfactor = 50);


-- Which products of which source a campaign takes.
create table issuer.campaign_products (
    source      text not null,
    kind        text not null check (kind in ('sku', 'product_id', 'variation_id')),
    -- The SKU or the id.
    content     text not null check (content <> ''),
    campaign_id text not null references issuer.campaigns,
    -- A product belongs to one campaign: otherwise it would be undefined which number a buyer gets.
    primary key (source, kind, content)
);
create index campaign_products_campaign on issuer.campaign_products (campaign_id);


-- The last decision that was applied to an order, and the last snapshot that was published of it.
create table issuer.orders (
    order_id           text primary key,
    -- The position and the content hash of the last snapshot.
    sequence           bigint not null default 0 check (sequence >= 0),
    generation         bigint not null default 0,
    digest             bytea check (length(digest) = 32),
    -- The position of the decision that was applied last.
    decided_generation bigint not null default 0,
    decided_sequence   bigint not null default 0,
    buyer_email        text not null default '',
    -- The order has rows in waiting_lines.
    is_waiting         boolean not null default false,
    -- The decision as it was received, so that it can be planned again when a campaign is applied.
    decision           json,
    -- Every decision that is applied publishes a snapshot: an order has all of these or none.
    check ((sequence = 0) = (digest is null)),
    check ((sequence = 0) = (decision is null))
-- A decision that changes rewrites the row: its next row fits on the same page.
) with (fillfactor = 70);
-- Operators look tickets up by the buyer's address.
create index orders_buyer on issuer.orders (lower(buyer_email)) where buyer_email <> '';


-- Every paid ordinal of a line that belongs to a campaign. With a place it is a ticket; without one
-- a refund is due, and `reason` says why. There are no foreign keys: a row is only added beside its
-- order and under its campaign's lock, and foreign keys cost a fifth of the insert.
create table issuer.tickets (
    -- The UUIDv5 of order, line and ordinal.
    ticket_id       uuid primary key,
    order_id        text not null,
    line_id         text not null,
    -- The n-th ticket of the line, from 1.
    ordinal         int not null check (ordinal between 1 and 2000),
    campaign_id     text not null,
    -- The 0-based position in the campaign, and the number that is printed for it.
    place           bigint check (place >= 0),
    number          text check (number <> ''),
    -- What the QR code contains.
    code            text check (code ~ '^[A-Z2-7]{26}$'),
    status          text check (status in ('Active', 'Won', 'Cancelled')),
    -- Why the ordinal has no number. A subset of the reasons in schemas.orders.UnissuedReason: the
    -- others are reasons of waiting_lines.
    reason          text check (reason in ('sold_out')),
    holder_name     text not null,
    holder_email    text not null,
    -- Of a gift: the address of its recipient, empty where only a name is known. Null: the ticket
    -- is no gift.
    recipient_email text,
    product_id      text not null,
    issued_at       timestamptz not null default now(),
    -- An ordinal is issued once, whatever happens to its order.
    unique (order_id, line_id, ordinal),
    -- A place in a campaign is given once.
    unique (campaign_id, place),
    -- So is a number, also when the campaign's start or prefix was wrong for a while.
    unique (campaign_id, number),
    -- A code stands for one ticket.
    unique (code),
    -- A ticket has all four; an ordinal without a number has none of them, and its reason.
    check (
        num_nulls(place, number, code, status) = case when reason is null then 0 else 4 end
    )
) with (fillfactor = 90);


-- Paid lines that no campaign takes yet.
create table issuer.waiting_lines (
    order_id     text not null references issuer.orders,
    line_id      text not null,
    -- The order in which lines began to wait: it decides which is served first.
    since        bigint generated always as identity,
    source       text not null,
    sku          text not null,
    product_id   text not null,
    -- Empty: the line is of no variation.
    variation_id text not null default '',
    quantity     int not null check (quantity >= 1),
    -- A subset of the reasons in schemas.orders.UnissuedReason: the other is a reason of tickets.
    reason       text not null check (reason in ('no_campaign', 'campaign_closed')),
    primary key (order_id, line_id)
);
-- A campaign that is applied finds the lines that it takes.
create index waiting_lines_sku on issuer.waiting_lines (source, sku);
create index waiting_lines_product on issuer.waiting_lines (source, product_id);
create index waiting_lines_variation
    on issuer.waiting_lines (source, variation_id)
    where variation_id <> '';


-- Orders with lines that a campaign takes since it was applied. The timer works them, oldest first.
create table issuer.due_orders (
    order_id text primary key references issuer.orders,
    since    bigint not null,
    actor    text not null,
    -- The command that applied the campaign.
    cause    uuid not null
);
create index due_orders_since on issuer.due_orders (since);


-- Who created and changed each ticket, and why. It holds no personal data of buyers.
create table issuer.audit (
    id          bigint generated always as identity primary key,
    order_id    text not null,
    ticket_id   uuid not null,
    -- Null: the ticket was created.
    from_status text,
    to_status   text not null,
    -- The event or the command that caused it.
    cause       uuid not null,
    actor       text not null,
    at          timestamptz not null default now(),
    -- A row is a change.
    check (from_status is distinct from to_status)
);
create index audit_order on issuer.audit (order_id);

create function issuer.refuse_change() returns trigger language plpgsql as $refuse$
begin
    raise exception 'issuer.% is append only', tg_table_name
        using errcode = 'restrict_violation';
end
$refuse$;
create trigger append_only before update or delete or truncate on issuer.audit
    for each statement execute function issuer.refuse_change();
