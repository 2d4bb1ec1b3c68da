-- name: find_files
-- A file that is used is kept. Its use is recorded once an hour and not each time. An unsorted
-- update may lock in any order: a row that another sender is updating now is left to it.
with noted as (
    select document_key from delivery.files
    where document_key = any(%(document_keys)s::bytea[])
        and used_at < now() - interval '1 hour'
    for update skip locked
), touched as (
    update delivery.files set used_at = greatest(used_at, now())
    from noted where files.document_key = noted.document_key
)
select document_key, sha256 from delivery.files
where document_key = any(%(document_keys)s::bytea[]);

-- name: index_files
-- Before the contents are written, so that no ticket file is in the blob store without a row. The
-- first to index a document decides its file; only the row of a lost file is given to the one that
-- was rendered in its place. In key order, so that two senders of one order cannot deadlock.
insert into delivery.files (document_key, sha256, bytes, pages, order_id)
select document_key, batch.sha256, batch.bytes, batch.pages, %(order_id)s::text
from unnest(%(document_keys)s::bytea[], %(sha256s)s::bytea[], %(sizes)s::int[], %(pages)s::int[])
    as batch (document_key, sha256, bytes, pages)
order by document_key
on conflict (document_key) do update
set used_at = greatest(files.used_at, now()),
    sha256 = case
        when files.sha256 = any(%(lost)s::bytea[]) then excluded.sha256 else files.sha256
    end,
    bytes = case
        when files.sha256 = any(%(lost)s::bytea[]) then excluded.bytes else files.bytes
    end
returning document_key, sha256;

-- name: lock_removal
-- One sender removes files at a time. Unlocked by unlock_removal, or with the session.
select pg_try_advisory_lock(hashtextextended('stubline.delivery.files', 0)) as is_ours;

-- name: find_unused
-- The longest unused first. A content that another document used lately stays in the blob store;
-- only the row is deleted.
select document_key, sha256, used_at, not exists (
    select from delivery.files as other
    where other.sha256 = files.sha256
        and other.used_at >= now() - make_interval(days => %(keep_days)s::int)
) as is_last
from delivery.files
where used_at < now() - make_interval(days => %(keep_days)s::int)
order by used_at limit %(files_max)s::int;

-- name: delete_files
-- After their contents: a sender that dies between the two leaves rows, and the next one goes on
-- with them. A file that was used meanwhile keeps its row, and its content is rendered again.
delete from delivery.files
using unnest(%(document_keys)s::bytea[], %(used)s::timestamptz[]) as batch (document_key, used_at)
where files.document_key = batch.document_key and files.used_at = batch.used_at;

-- name: unlock_removal
select pg_advisory_unlock(hashtextextended('stubline.delivery.files', 0));
