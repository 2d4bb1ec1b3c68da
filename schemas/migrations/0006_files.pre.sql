-- What has been rendered: which document is which file. The files themselves stand in the content
-- store, by their hash.
create table delivery.files (
    -- All that the file depends on: design, compiled plate, texts. One document is one row, however
    -- many senders render it.
    document_key bytea primary key check (length(document_key) = 32),
    -- The file's name in the store. Two documents may be the same file.
    sha256       bytea not null check (length(sha256) = 32),
    bytes        int not null check (bytes > 0),
    pages        int not null check (pages > 0),
    -- Whose data the file holds: shredding an order finds its files by it. No reference to
    -- delivery.orders, for that would have senders wait for the lane, which holds orders for whole
    -- batches.
    order_id     text not null,
    made_at      timestamptz not null default now(),
    -- To within an hour: a mail that goes again, or a download, keeps its file.
    used_at      timestamptz not null default now(),
    check (used_at >= made_at)
);
create index files_of_order on delivery.files (order_id);
-- asked before a content goes: does another document still need it?
create index files_of_content on delivery.files (sha256);
create index files_unused on delivery.files (used_at);
