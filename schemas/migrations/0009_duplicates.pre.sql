-- Orders that look alike: the same buyer, total and lines in one shop. They are only told to
-- people; nothing goes by it.
alter table approval.orders
    -- SHA-256 of what makes two orders look alike
    add column fingerprint bytea check (length(fingerprint) = 32),
    add column placed_at timestamptz,  -- the earliest time that its shop told
    add column alike_s int check (alike_s > 0),  -- how far apart two that look alike may be placed
    add constraint orders_look_like_something check (
        (fingerprint is null) = (placed_at is null) and (fingerprint is null) = (alike_s is null)
    );
create index orders_by_look on approval.orders (fingerprint, placed_at) where fingerprint is not null;
