-- What is delivered: per order the last that its two writers said, and the jobs that follow from
-- it.
create schema delivery;

create table delivery.orders (
    order_id            text primary key,
    -- The last snapshot read of each writer. Their positions are never compared with each other.
    tickets_generation  bigint not null default 0,
    tickets_sequence    bigint not null default 0,
    tickets             jsonb,  -- the issuer's last snapshot, whole: what a mail is made of
    decision_generation bigint not null default 0,
    decision_sequence   bigint not null default 0,
    decision            text check (decision in ('observed', 'gated', 'released', 'refused', 'cancelled')),
    -- What was last said of the order's deliveries.
    generation          bigint not null default 0,
    sequence            bigint not null default 0,
    digest              bytea,
    dirty_since         timestamptz,  -- its deliveries changed, and the timer has not yet looked
    check ((sequence = 0) = (digest is null)),
    check ((tickets_sequence = 0) = (tickets is null)),
    check ((decision_sequence = 0) = (decision is null))
);
create index orders_dirty on delivery.orders (dirty_since) where dirty_since is not null;

create table delivery.jobs (
    -- made from the order and the tickets it was filed with: the same facts, the same job
    job_id           uuid primary key,
    order_id         text not null references delivery.orders,
    kind             text not null check (kind in ('initial', 'resend')),
    state            text not null check (state in ('due', 'sent', 'cancelled', 'dead')),
    -- due, but the order is not released: looked at when that changes
    is_held          boolean not null default false,
    recipient        text not null default '',  -- of the last attempt
    -- When a sender may take it. While one has it: when its lease ends.
    next_attempt_at  timestamptz not null default now(),
    lease_owner      text,
    -- counted before the attempt; names the lease
    attempts         int not null default 0 check (attempts >= 0),
    -- of these: nobody knows whether the mail was accepted
    unknown_attempts int not null default 0,
    -- of these: failed for a reason of this mail. What the ceiling counts
    failures         int not null default 0,
    -- accepted; above one, the buyer got it twice
    mails            int not null default 0 check (mails >= 0),
    answer           text,  -- the mail server's last word
    -- of the PDF that was last handed over
    document_sha256  bytea check (length(document_sha256) = 32),
    filed_at         timestamptz not null default now(),
    -- filed, or brought back by an operator: what the ceiling of age counts from
    retry_since      timestamptz not null default now(),
    sent_at          timestamptz,
    deaths           int not null default 0,
    letter_id        uuid references runtime.dead_letters,
    is_letter_said   boolean not null default true,  -- its copy for the dead topic is on its way
    unique (job_id, kind),
    check ((state = 'sent') = (sent_at is not null)),
    check ((state = 'sent') = (mails > 0)),
    check (state <> 'dead' or letter_id is not null),  -- nothing is given up without a letter
    check (not is_held or state = 'due'),
    check (unknown_attempts between 0 and attempts)
) with (fillfactor = 80);
create index jobs_of_order on delivery.jobs (order_id);
create index jobs_due on delivery.jobs (next_attempt_at) where state = 'due' and not is_held;
create index jobs_open on delivery.jobs (state, is_held, next_attempt_at) where state in ('due', 'dead');

create table delivery.job_tickets (
    job_id    uuid not null,
    kind      text not null,
    ticket_id uuid not null,
    primary key (job_id, ticket_id),
    foreign key (job_id, kind) references delivery.jobs (job_id, kind)
);
-- The law: a ticket is in one initial job at most. A deliberate second sending is another kind of
-- job.
create unique index job_tickets_initial on delivery.job_tickets (ticket_id) where kind = 'initial';
