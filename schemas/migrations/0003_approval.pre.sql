-- What was decided about each order, and a receipt for every decision.
create schema approval;

create table approval.orders (
    order_id            text primary key,
    sequence            bigint not null default 0 check (sequence >= 0),
    generation          bigint not null default 0 check (generation >= 0),
    digest              bytea check (length(digest) = 32),  -- of the last decision that was said
    state               text check (state in ('observed', 'gated', 'released', 'refused', 'cancelled')),
    observed_generation bigint not null default 0,  -- of the observation that was last decided
    observed_sequence   bigint not null default 0,
    -- as it was said, without its place in history; read whole, and jsonb costs twice as much
    decision            json,
    decided_at          timestamptz,
    -- What it has decided, it has said.
    check ((sequence = 0) = (digest is null)),
    check ((sequence = 0) = (state is null)),
    check ((sequence = 0) = (decision is null)),
    check ((sequence = 0) = (decided_at is null))
) with (fillfactor = 70);  -- a decision that changes rewrites the row: room for it on the same page
create index orders_to_look_at on approval.orders (state, decided_at) where state in ('gated', 'refused');

-- One row a decision, kept for ever. It holds no person: what a decision goes by is statuses, times
-- and quantities.
create table approval.receipts (
    order_id            text not null,
    observed_generation bigint not null,
    observed_sequence   bigint not null,
    sequence            bigint not null check (sequence >= 1),  -- the order's, as it stood after the decision
    inputs              json not null,
    policy_version      text not null,
    outcome             json not null,
    at                  timestamptz not null default now(),
    -- An observation is decided once.
    primary key (order_id, observed_generation, observed_sequence)
);

create function approval.refuse_change() returns trigger language plpgsql as $refuse$
begin
    raise exception 'approval.% is append only', tg_table_name using errcode = 'restrict_violation';
end
$refuse$;
create trigger append_only before update or delete or truncate on approval.receipts
    for each statement execute function approval.refuse_change();
