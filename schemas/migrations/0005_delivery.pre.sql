-- The tables of delivery: what is to be sent, and what was sent.
--
--   orders       the last snapshots of the issuer and of approval for each order
--   jobs         the mails that are due, sent, cancelled or dead
--   job_tickets  which tickets a job sends
--   files        which rendered document is which file
create schema delivery;


-- The last snapshots of an order's two writers, and the last snapshot that was published of its
-- deliveries.
create table delivery.orders (
    order_id            text primary key,
    -- The positions of the last snapshots of the issuer and of approval. They belong to different
    -- histories and are never compared with each other.
    tickets_generation  bigint not null default 0,
    tickets_sequence    bigint not null default 0,
    -- The issuer's last snapshot, whole: what a mail is made of.
    tickets             jsonb,
    decision_generation bigint not null default 0,
    decision_sequence   bigint not null default 0,
    -- The state that approval decided.
    decision            text
        check (decision in ('observed', 'gated', 'released', 'refused', 'cancelled')),
    -- The position and the content hash of the last snapshot of the order's deliveries.
    generation          bigint not null default 0,
    sequence            bigint not null default 0,
    digest              bytea,
    -- When the order's deliveries changed. Null: the timer has published the change.
    dirty_since         timestamptz,
    -- Each snapshot that was published or received has left its content.
    check ((sequence = 0) = (digest is null)),
    check ((tickets_sequence = 0) = (tickets is null)),
    check ((decision_sequence = 0) = (decision is null))
);
-- The timer publishes the longest dirty first.
create index orders_dirty on delivery.orders (dirty_since) where dirty_since is not null;


-- One mail of an order, and what became of it.
create table delivery.jobs (
    -- Made from the order and the tickets that the job was made for: the same facts make the same
    -- job.
    job_id                   uuid primary key,
    order_id                 text not null references delivery.orders,
    -- Which way the job goes out. Senders lease by destination, so one that fails holds up no
    -- other.
    destination              text not null default 'mail' check (destination in ('mail')),
    -- resend: an operator sends tickets once more.
    kind                     text not null check (kind in ('initial', 'resend')),
    state                    text not null
        check (state in ('due', 'sent', 'cancelled', 'dead')),
    -- The job is due, but its order is not released. The lane releases it with the order.
    is_held                  boolean not null default false,
    -- Of the last attempt: the address that the order names, and the one that was given to the mail
    -- server (the envelope recipient of SMTP). Their domains differ when the address has letters
    -- beyond ASCII. An envelope recipient that is empty: the address cannot be one; null: there was
    -- no attempt.
    recipient                text not null default '',
    envelope_recipient       text,
    -- When a sender may take the job. While a sender has it: when its lease ends.
    next_attempt_at          timestamptz not null default now(),
    lease_owner              text,
    -- Counted before the attempt. The number names the lease.
    attempts                 int not null default 0 check (attempts >= 0),
    -- Of these attempts: those with an unknown end, so the mail may have been accepted.
    unknown_attempts         int not null default 0,
    -- Of these attempts: those that failed for a reason of this mail. They are what the limit of
    -- retries counts.
    failures                 int not null default 0,
    -- How many mails were accepted. Above one, the buyer got the mail twice.
    mails                    int not null default 0 check (mails >= 0),
    -- The last reply of the mail server.
    answer                   text,
    -- The hash of the PDF that was handed over last.
    document_sha256          bytea check (length(document_sha256) = 32),
    -- The release that made that PDF: from the same order it makes the same bytes again.
    document_release         text,
    filed_at                 timestamptz not null default now(),
    -- When the job was created or an operator had it retried: what the limit of age counts from.
    retry_since              timestamptz not null default now(),
    sent_at                  timestamptz,
    -- How often the job was dead-lettered, its last dead letter, and whether the copy of that one
    -- for the dead topic is published or on its way.
    dead_letter_count        int not null default 0,
    dead_letter_id           uuid references runtime.dead_letters,
    is_dead_letter_published boolean not null default true,
    -- For the reference from job_tickets, which repeats the kind.
    unique (job_id, kind),
    -- A mail that was sent was accepted, at a time.
    check ((state = 'sent') = (sent_at is not null)),
    check ((state = 'sent') = (mails > 0)),
    -- What was handed over was made by some release.
    check ((document_sha256 is null) = (document_release is null)),
    -- No job is dead without a dead letter.
    check (state <> 'dead' or dead_letter_id is not null),
    -- Only what is due can be held.
    check (not is_held or state = 'due'),
    -- Unknown attempts are attempts.
    check (unknown_attempts between 0 and attempts)
) with (fillfactor = 80);
create index jobs_of_order on delivery.jobs (order_id);
-- Senders take the longest due first.
create index jobs_due
    on delivery.jobs (destination, next_attempt_at)
    where state = 'due' and not is_held;
-- Open jobs are counted from this index alone.
create index jobs_open
    on delivery.jobs (state, is_held, next_attempt_at)
    where state in ('due', 'dead');


-- Which tickets a job sends.
create table delivery.job_tickets (
    job_id    uuid not null,
    -- The job's own, repeated for the index below.
    kind      text not null,
    ticket_id uuid not null,
    primary key (job_id, ticket_id),
    foreign key (job_id, kind) references delivery.jobs (job_id, kind)
);
-- A ticket is in at most one initial job. To send it a second time on purpose is a job of another
-- kind.
create unique index job_tickets_initial
    on delivery.job_tickets (ticket_id)
    where kind = 'initial';


-- Which rendered document is which file. The files themselves stand in the blob store, under their
-- hash.
create table delivery.files (
    -- SHA-256 of all that the document depends on: design, compiled plate, texts. One document has
    -- one row, however many senders render it.
    document_key bytea primary key check (length(document_key) = 32),
    -- The file's name in the blob store. Two documents may be the same file.
    sha256       bytea not null check (length(sha256) = 32),
    bytes        int not null check (bytes > 0),
    pages        int not null check (pages > 0),
    -- The order whose data the file holds: shredding an order finds its files by it. It does not
    -- reference delivery.orders, because senders would then wait for the lane, which locks orders
    -- for whole batches.
    order_id     text not null,
    made_at      timestamptz not null default now(),
    -- To within an hour. A mail that is sent again, or a download, keeps its file.
    used_at      timestamptz not null default now(),
    -- A file is not used before it is made.
    check (used_at >= made_at)
);
create index files_of_order on delivery.files (order_id);
-- Before a file is removed, no other document may need it.
create index files_of_content on delivery.files (sha256);
-- The longest unused are removed first.
create index files_unused on delivery.files (used_at);
