-- name: add_orders
-- In id order, so that two lanes cannot deadlock. If another lane was first, this one waits for it
-- and goes on.
insert into delivery.orders (order_id)
select order_id from unnest(%(order_ids)s::text[]) as batch (order_id) order by order_id
on conflict do nothing;

-- name: lock_orders
-- Always after add_orders. In id order, so that two lanes cannot deadlock. The order's row guards
-- its jobs too.
select order_id, tickets_generation, tickets_sequence, decision_generation, decision_sequence,
    decision,
    array(
        select (ticket ->> 'ticket_id')::uuid
        from jsonb_array_elements(tickets -> 'tickets') as ticket
        where ticket ->> 'status' <> 'Cancelled'
    ) as active
from delivery.orders where order_id = any(%(order_ids)s::text[]) order by order_id for update;

-- name: find_jobs
-- After lock_orders: a transaction that changes what is read here holds the order's row.
select job_id, order_id, jobs.kind, state, is_held, array_agg(ticket_id) as ticket_ids
from delivery.jobs join delivery.job_tickets using (job_id)
where order_id = any(%(order_ids)s::text[])
group by job_id
order by order_id, filed_at, job_id;

-- name: save_orders
-- An unsorted update may lock in any order: these rows are locked already. A null snapshot leaves
-- the known one.
update delivery.orders
set tickets_generation = batch.tickets_generation, tickets_sequence = batch.tickets_sequence,
    tickets = coalesce(batch.snapshot::jsonb, orders.tickets),
    decision_generation = batch.decision_generation,
    decision_sequence = batch.decision_sequence, decision = batch.decision,
    dirty_since = case
        when batch.is_dirty then coalesce(orders.dirty_since, now()) else orders.dirty_since
    end
from unnest(
    %(order_ids)s::text[], %(tickets_generations)s::bigint[], %(tickets_sequences)s::bigint[],
    %(snapshots)s::text[], %(decision_generations)s::bigint[], %(decision_sequences)s::bigint[],
    %(decisions)s::text[], %(are_dirty)s::boolean[]
) as batch (
    order_id, tickets_generation, tickets_sequence,
    snapshot, decision_generation, decision_sequence,
    decision, is_dirty
)
where orders.order_id = batch.order_id;

-- name: save_jobs
-- A dead job that is due again starts from zero in all that a limit counts; its attempts stay. A
-- sender may hold a job's row at this moment, but it never waits for anything while it does.
insert into delivery.jobs (job_id, order_id, kind, state, is_held)
select job_id, order_id, kind, state, is_held
from unnest(
    %(job_ids)s::uuid[], %(order_ids)s::text[], %(kinds)s::text[], %(states)s::text[],
    %(are_held)s::boolean[]
) as batch (job_id, order_id, kind, state, is_held)
order by order_id, job_id
on conflict (job_id) do update
set state = excluded.state, is_held = excluded.is_held,
    failures = case when jobs.state = 'dead' then 0 else jobs.failures end,
    retry_since = case when jobs.state = 'dead' then now() else jobs.retry_since end,
    next_attempt_at = case when jobs.state = 'dead' then now() else jobs.next_attempt_at end;

-- name: add_job_tickets
-- In ticket order: if two transactions file one ticket, the unique index lets the first one win.
insert into delivery.job_tickets (job_id, kind, ticket_id)
select job_id, kind, ticket_id
from unnest(%(job_ids)s::uuid[], %(kinds)s::text[], %(ticket_ids)s::uuid[])
    as batch (job_id, kind, ticket_id)
order by ticket_id, job_id
on conflict (job_id, ticket_id) do nothing;

-- name: lock_dirty
-- The longest dirty first; a job that is filed and sent within the delay is one event. An order that another transaction holds waits for the next tick; this
-- tick does not wait for it.
select order_id, (select generation from runtime.generation) as generation, sequence, digest
from delivery.orders
where dirty_since <= now() - make_interval(secs => %(delay_s)s::double precision)
order by dirty_since limit %(orders_max)s::int
for update skip locked;

-- name: has_dirty
select exists (
    select from delivery.orders
    where dirty_since <= now() - make_interval(secs => %(delay_s)s::double precision)
);

-- name: find_job_snapshots
-- All that is published of jobs. After lock_dirty.
select order_id, job_id, kind, state, attempts, sent_at,
    array(
        select ticket_id from delivery.job_tickets
        where job_tickets.job_id = jobs.job_id order by ticket_id
    ) as ticket_ids
from delivery.jobs where order_id = any(%(order_ids)s::text[])
order by order_id, filed_at, job_id;

-- name: take_new_dead_letters
-- The jobs that senders dead-lettered, to be copied to the dead topic by the timer's lane.
with taken as (
    update delivery.jobs set is_dead_letter_published = true
    where order_id = any(%(order_ids)s::text[]) and not is_dead_letter_published
    returning dead_letter_id
)
select dead_letters.id, topic, topic_id, partition, "offset", key, value, code, text, attempts
from taken join runtime.dead_letters on dead_letters.id = taken.dead_letter_id
order by dead_letters.id;

-- name: save_published
update delivery.orders
set generation = batch.generation, sequence = batch.sequence, digest = batch.digest,
    dirty_since = null
from unnest(
    %(order_ids)s::text[], %(generations)s::bigint[], %(sequences)s::bigint[], %(digests)s::bytea[]
) as batch (order_id, generation, sequence, digest)
where orders.order_id = batch.order_id;

-- name: count_open_jobs
-- Stops counting at the limit, because it runs every second.
select count(*) from (
    select from delivery.jobs where state = 'due' and not is_held limit %(jobs_max)s::int
) as open;

-- name: list_jobs
select order_id, job_id, kind, state, is_held,
    case
        when state <> 'due' then state
        when is_held then 'held'
        when lease_owner is not null then 'leased'
        when next_attempt_at <= now() then 'due'
        else 'waiting'
    end as status,
    recipient, envelope_recipient, attempts, unknown_attempts, failures, mails, answer,
    dead_letter_id, filed_at, next_attempt_at, sent_at, lease_owner,
    cardinality(ticket_ids) as tickets, ticket_ids
from (
    select jobs.*, array(
        select ticket_id from delivery.job_tickets
        where job_tickets.job_id = jobs.job_id order by ticket_id
    ) as ticket_ids
    from delivery.jobs
    where (%(order_id)s::text is null or order_id = %(order_id)s::text)
        and (%(states)s::text[] is null or state = any(%(states)s::text[]))
    order by filed_at desc, job_id limit %(jobs_max)s::int
) as listed
order by filed_at desc, job_id;

-- name: find_order
select order_id, decision, dirty_since is not null as is_dirty, sequence,
    jsonb_array_length(coalesce(tickets -> 'tickets', '[]')) as tickets,
    tickets #>> '{buyer,email}' as buyer_email
from delivery.orders where order_id = %(order_id)s::text;
