-- The tables of approval: what was decided about each order, and why.
--
--   orders    the last decision on each order
--   receipts  every decision, with its inputs and the version of its policy
create schema approval;


-- The last decision on an order, and the last snapshot that was published of it.
create table approval.orders (
    order_id            text primary key,
    -- The position and the content hash of the last snapshot.
    sequence            bigint not null default 0 check (sequence >= 0),
    generation          bigint not null default 0 check (generation >= 0),
    digest              bytea check (length(digest) = 32),
    state               text
        check (state in ('observed', 'gated', 'released', 'refused', 'cancelled')),
    -- The position of the observation that was decided last.
    observed_generation bigint not null default 0,
    observed_sequence   bigint not null default 0,
    -- The decision as it was published, without its position. It is always read whole, so it is
    -- json: jsonb costs twice as much.
    decision            json,
    decided_at          timestamptz,
    -- What suspected duplicates are found by: SHA-256 of the buyer, the total and the lines; when
    -- the order was placed; and how far apart two orders with one fingerprint may be placed. Null:
    -- the order is not compared.
    fingerprint         bytea check (length(fingerprint) = 32),
    placed_at           timestamptz,
    duplicate_window_s  int check (duplicate_window_s > 0),
    -- A decision is published in the transaction that takes it: an order has all of these or none.
    check ((sequence = 0) = (digest is null)),
    check ((sequence = 0) = (state is null)),
    check ((sequence = 0) = (decision is null)),
    check ((sequence = 0) = (decided_at is null)),
    -- The same for what duplicates are found by.
    constraint orders_fingerprint_complete check (
        (fingerprint is null) = (placed_at is null)
        and (fingerprint is null) = (duplicate_window_s is null)
    )
-- A decision that changes rewrites the row: its next row fits on the same page.
) with (fillfactor = 70);
-- Operators list what needs a person.
create index orders_gated_or_refused
    on approval.orders (state, decided_at)
    where state in ('gated', 'refused');
-- Suspected duplicates of an order.
create index orders_by_fingerprint
    on approval.orders (fingerprint, placed_at)
    where fingerprint is not null;


-- One row per decision, kept for ever. A receipt holds no personal data: decisions depend on
-- statuses, times and quantities.
create table approval.receipts (
    order_id            text not null,
    observed_generation bigint not null,
    observed_sequence   bigint not null,
    -- The order's sequence after the decision.
    sequence            bigint not null check (sequence >= 1),
    inputs              json not null,
    policy_version      text not null,
    outcome             json not null,
    at                  timestamptz not null default now(),
    -- An observation is decided once.
    primary key (order_id, observed_generation, observed_sequence)
);

create function approval.refuse_change() returns trigger language plpgsql as $refuse$
begin
    raise exception 'approval.% is append only', tg_table_name
        using errcode = 'restrict_violation';
end
$refuse$;
create trigger append_only before update or delete or truncate on approval.receipts
    for each statement execute function approval.refuse_change();
