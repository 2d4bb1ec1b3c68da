-- name: add_seconds
insert into toy.seconds (key)
select key from unnest(%(keys)s::text[]) as batch (key) order by key on conflict do nothing;

-- name: lock_seconds
select seconds.key, (select generation from runtime.generation) as generation, sequence, state,
    active, first_generation, first_sequence, digest, array(
        select child from toy.children
        where children.key = seconds.key and children.active order by child
    ) as children
from toy.seconds where key = any(%(keys)s::text[]) order by key for update;

-- name: save_seconds
update toy.seconds
set state = batch.state, active = batch.active, first_generation = batch.first_generation,
    first_sequence = batch.first_sequence, sequence = batch.sequence, digest = batch.digest
from unnest(
    %(keys)s::text[], %(states)s::text[], %(actives)s::int[], %(first_generations)s::bigint[],
    %(first_sequences)s::bigint[], %(sequences)s::bigint[], %(digests)s::bytea[]
) as batch (key, state, active, first_generation, first_sequence, sequence, digest)
where seconds.key = batch.key;

-- name: set_children
insert into toy.children (key, child, active)
select * from unnest(%(keys)s::text[], %(children)s::text[], %(actives)s::boolean[])
    as batch (key, child, active)
on conflict (key, child) do update set active = excluded.active;
