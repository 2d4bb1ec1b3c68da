-- name: lock_orders
-- Returns the generation, and beside it each order that has a row; an order that was never decided
-- has none. Locked in id order, so that two lanes cannot deadlock.
with locked as materialized (
    select order_id, sequence, digest, observed_generation, observed_sequence
    from approval.orders where order_id = any(%(order_ids)s::text[])
    order by order_id for update
)
select generation, locked.* from runtime.generation left join locked on true;

-- name: add_orders
-- Inserts orders that had no row, complete, so that no row is written twice. In id order, so that
-- two lanes cannot deadlock. Fewer rows than arguments: another lane was first with one of them.
insert into approval.orders (
    order_id, sequence, generation, digest, state, observed_generation, observed_sequence,
    decision, decided_at, fingerprint, placed_at, duplicate_window_s
)
select order_id, sequence, generation, digest, state, observed_generation, observed_sequence,
    decision::json, now(), fingerprint, placed_at, duplicate_window_s
from unnest(
    %(order_ids)s::text[], %(sequences)s::bigint[], %(generations)s::bigint[],
    %(digests)b::bytea[], %(states)s::text[], %(observed_generations)s::bigint[],
    %(observed_sequences)s::bigint[], %(decisions)s::text[], %(fingerprints)s::bytea[],
    %(placed)s::timestamptz[], %(duplicate_windows_s)s::int[]
) as batch (
    order_id, sequence, generation,
    digest, state, observed_generation,
    observed_sequence, decision, fingerprint,
    placed_at, duplicate_window_s
)
order by order_id
on conflict do nothing;

-- name: save_orders
-- An unsorted update may lock in any order: these rows are locked already. A decision that is the
-- same as the last keeps the time at which it was taken.
update approval.orders
set sequence = batch.sequence, generation = batch.generation, digest = batch.digest,
    state = batch.state, observed_generation = batch.observed_generation,
    observed_sequence = batch.observed_sequence, decision = batch.decision::json,
    fingerprint = batch.fingerprint, placed_at = batch.placed_at,
    duplicate_window_s = batch.duplicate_window_s,
    decided_at = case when orders.digest = batch.digest then orders.decided_at else now() end
from unnest(
    %(order_ids)s::text[], %(sequences)s::bigint[], %(generations)s::bigint[],
    %(digests)b::bytea[], %(states)s::text[], %(observed_generations)s::bigint[],
    %(observed_sequences)s::bigint[], %(decisions)s::text[], %(fingerprints)s::bytea[],
    %(placed)s::timestamptz[], %(duplicate_windows_s)s::int[]
) as batch (
    order_id, sequence, generation,
    digest, state, observed_generation,
    observed_sequence, decision, fingerprint,
    placed_at, duplicate_window_s
)
where orders.order_id = batch.order_id;

-- name: add_receipts
-- Documents are passed as text: psycopg dumps an array of documents many times slower than one of
-- texts.
insert into approval.receipts (
    order_id, observed_generation, observed_sequence, sequence, inputs, policy_version, outcome
)
select order_id, observed_generation, observed_sequence, sequence, inputs::json, policy_version,
    outcome::json
from unnest(
    %(order_ids)s::text[], %(observed_generations)s::bigint[], %(observed_sequences)s::bigint[],
    %(sequences)s::bigint[], %(inputs)s::text[], %(policy_versions)s::text[], %(outcomes)s::text[]
) as batch (
    order_id, observed_generation, observed_sequence,
    sequence, inputs, policy_version, outcome
);
