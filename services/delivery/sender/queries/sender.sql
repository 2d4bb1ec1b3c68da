-- name: take_jobs
-- Never waits: who holds a job now will be done with it soon. Orders are locked behind jobs here
-- and before them in the lane; as a sender waits for neither, there is no ring.
select job_id, order_id, attempts, failures, retry_since, lease_owner,
    array(select ticket_id from delivery.job_tickets where job_tickets.job_id = jobs.job_id) as ticket_ids
from delivery.jobs
where state = 'due' and not is_held and next_attempt_at <= now()
order by next_attempt_at limit %(jobs_max)s::int
for update skip locked;

-- name: see_orders
-- The latest of both writers, at the moment of acting. Who changes an order right now makes its
-- jobs wait a moment.
select order_id, decision, tickets
from delivery.orders where order_id = any(%(order_ids)s::text[]) order by order_id for update skip locked;

-- name: write_intents
-- Before anything is sent. A lease that ran out under somebody else is an attempt whose end nobody
-- knows.
update delivery.jobs
set attempts = attempts + 1, lease_owner = %(owner)s::text, recipient = batch.recipient,
    envelope_recipient = batch.envelope_recipient,
    next_attempt_at = now() + make_interval(secs => %(lease_s)s::double precision),
    unknown_attempts = unknown_attempts + (lease_owner is not null)::int
from unnest(%(job_ids)s::uuid[], %(recipients)s::text[], %(envelope_recipients)s::text[])
    as batch (job_id, recipient, envelope_recipient)
where jobs.job_id = batch.job_id;

-- name: leave_behind
-- Tickets that are not active go with no mail. Outside any job they are filed anew, should they
-- come back.
delete from delivery.job_tickets
using unnest(%(job_ids)s::uuid[], %(ticket_ids)s::uuid[]) as batch (job_id, ticket_id)
where job_tickets.job_id = batch.job_id and job_tickets.ticket_id = batch.ticket_id;

-- name: refrain
-- Due by its own row, but not by its order's: the lane would say the same.
with refrained as (
    update delivery.jobs
    set state = batch.state, is_held = batch.is_held, lease_owner = null,
        unknown_attempts = unknown_attempts + (lease_owner is not null)::int
    from unnest(%(job_ids)s::uuid[], %(states)s::text[], %(are_held)s::boolean[]) as batch (job_id, state, is_held)
    where jobs.job_id = batch.job_id
    returning jobs.order_id
)
update delivery.orders set dirty_since = coalesce(dirty_since, now())
from refrained where orders.order_id = refrained.order_id;

-- name: renew_leases
-- By the sender's heart, on a connection of its own; waits for nobody.
with mine as (
    select jobs.job_id from delivery.jobs
    join unnest(%(job_ids)s::uuid[], %(attempts)s::int[]) as batch (job_id, attempt)
        on jobs.job_id = batch.job_id and jobs.attempts = batch.attempt
    where lease_owner = %(owner)s::text
    for update of jobs skip locked
)
update delivery.jobs set next_attempt_at = now() + make_interval(secs => %(lease_s)s::double precision)
from mine where jobs.job_id = mine.job_id;

-- name: hold_lease
-- The last look before the mail goes: still ours, still due, and for a whole lease. No row: another
-- sender has it, or its order was cancelled or held back while it rendered. Then it is not sent.
update delivery.jobs set next_attempt_at = now() + make_interval(secs => %(lease_s)s::double precision)
where job_id = %(job_id)s::uuid and attempts = %(attempt)s::int and lease_owner = %(owner)s::text and state = 'due'
    and not is_held
returning job_id;

-- name: touch_order
-- Locks the order before its job, as the lane does, and has the timer look at it.
update delivery.orders set dirty_since = coalesce(dirty_since, now()) where order_id = %(order_id)s::text
returning now() as at;

-- name: record_accepted
-- A fact, whoever holds the lease by now, and whatever became of the order meanwhile.
update delivery.jobs
set state = 'sent', is_held = false, mails = mails + 1, sent_at = coalesce(sent_at, now()), answer = %(answer)s::text,
    lease_owner = null, document_sha256 = %(document_sha256)s::bytea
where job_id = %(job_id)s::uuid
returning mails, extract(epoch from now() - filed_at)::double precision as waited_s;

-- name: record_failure
-- Only by the lease's holder: another's attempt has its own end. A job that the lane cancelled
-- meanwhile stays cancelled.
update delivery.jobs
set answer = %(answer)s::text, lease_owner = null, failures = failures + %(is_failure)s::boolean::int,
    unknown_attempts = unknown_attempts + %(is_unknown)s::boolean::int,
    next_attempt_at = now() + make_interval(secs => %(wait_s)s::double precision)
where job_id = %(job_id)s::uuid and attempts = %(attempt)s::int and lease_owner = %(owner)s::text
returning job_id;

-- name: add_letter
-- One letter a death: its offset counts them. Two senders that give one job up make one letter.
insert into runtime.dead_letters (
    consumer_group, topic, topic_id, partition, "offset", record_time, key, value, value_sha256, headers, stage, code, text,
    attempts, code_version, subject_key
)
select %(group)s::text, '@jobs', job_id::text, 0, deaths + 1, now(), convert_to(order_id, 'UTF8'), letter.value,
    sha256(letter.value), ''::bytea, 'job', %(code)s::text, %(text)s::text, attempts, %(code_version)s::text, order_id
from delivery.jobs, lateral (
    select convert_to(jsonb_build_object(
        'job_id', job_id, 'order_id', order_id, 'kind', kind, 'recipient', recipient,
        'envelope_recipient', envelope_recipient, 'attempts', attempts, 'unknown_attempts', unknown_attempts, 'failures', failures, 'answer', answer
    )::text, 'UTF8') as value
) as letter
where job_id = %(job_id)s::uuid and state = 'due' and lease_owner is null and attempts = %(attempt)s::int
returning id;

-- name: bury
update delivery.jobs
set state = 'dead', is_held = false, letter_id = %(letter_id)s::uuid, deaths = deaths + 1, is_letter_said = false
where job_id = %(job_id)s::uuid;

-- name: give_back
-- Nothing was tried: the intent is taken back. Sorted as the lane writes them, for both may wait
-- for each other here.
with mine as (
    select jobs.job_id from delivery.jobs
    join unnest(%(job_ids)s::uuid[], %(attempts)s::int[]) as batch (job_id, attempt)
        on jobs.job_id = batch.job_id and jobs.attempts = batch.attempt
    where lease_owner = %(owner)s::text
    order by jobs.order_id, jobs.job_id
    for update of jobs
)
update delivery.jobs set attempts = attempts - 1, lease_owner = null, next_attempt_at = now()
from mine where jobs.job_id = mine.job_id;

-- name: is_paused
select exists (select from runtime.controls where consumer_group = %(group)s::text and paused);

-- name: count_jobs
-- By the partial index of open jobs: what is sent is not counted here.
select case
        when state = 'dead' then 'dead' when is_held then 'held' when next_attempt_at <= now() then 'due' else 'waiting'
    end as standing,
    count(*) as jobs,
    coalesce(extract(epoch from now() - min(next_attempt_at)), 0)::double precision as oldest_s
from delivery.jobs where state in ('due', 'dead')
group by standing;
