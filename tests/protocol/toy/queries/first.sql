-- name: add_firsts
insert into toy.firsts (key)
select key from unnest(%(keys)s::text[]) as batch (key) order by key on conflict do nothing;

-- name: lock_firsts
select key, (select generation from runtime.generation) as generation, sequence, state, children,
    total, is_due, confirmed, answer_generation, answer_sequence, digest
from toy.firsts where key = any(%(keys)s::text[]) order by key for update;

-- name: lock_due
select key, (select generation from runtime.generation) as generation, sequence, state, children,
    total, is_due, confirmed, answer_generation, answer_sequence, digest
from toy.firsts where is_due order by key limit 100 for update;

-- name: add_inputs
-- Returns the new ones. After lock_firsts: an id always names the same key, so no other transaction
-- brings it now.
insert into toy.inputs (id, key, what, amount, note)
select * from unnest(
    %(ids)s::text[], %(keys)s::text[], %(whats)s::text[], %(amounts)s::bigint[], %(notes)s::text[]
) as batch (id, key, what, amount, note) order by id
on conflict do nothing
returning id;

-- name: save_firsts
update toy.firsts
set state = batch.state, children = batch.children, total = batch.total, is_due = batch.is_due,
    confirmed = batch.confirmed, answer_generation = batch.answer_generation,
    answer_sequence = batch.answer_sequence, sequence = batch.sequence, digest = batch.digest
from (
    select key, state, total, is_due, confirmed, answer_generation, answer_sequence, sequence,
        digest, array(select jsonb_array_elements_text(children)) as children
    from unnest(
        %(keys)s::text[], %(states)s::text[], %(children)s::jsonb[], %(totals)s::bigint[],
        %(dues)s::boolean[], %(confirmeds)s::int[], %(answer_generations)s::bigint[],
        %(answer_sequences)s::bigint[], %(sequences)s::bigint[], %(digests)s::bytea[]
    ) as raw (
        key, state, children, total,
        is_due, confirmed, answer_generation,
        answer_sequence, sequence, digest
    )
) as batch
where firsts.key = batch.key;

-- name: add_snapshots
insert into toy.snapshots (key, generation, sequence, state, children, total, confirmed)
select key, generation, sequence, state, array(select jsonb_array_elements_text(children)), total,
    confirmed
from unnest(
    %(keys)s::text[], %(generations)s::bigint[], %(sequences)s::bigint[], %(states)s::text[],
    %(children)s::jsonb[], %(totals)s::bigint[], %(confirmeds)s::int[]
) as batch (key, generation, sequence, state, children, total, confirmed);
