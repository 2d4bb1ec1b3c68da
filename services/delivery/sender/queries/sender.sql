-- name: take_jobs
-- Never waits: a transaction that holds a job now is done with it soon. Orders are locked after
-- jobs here and before them in the lane; a sender waits for neither, so it cannot deadlock.
select job_id, order_id, attempts, failures, retry_since, lease_owner,
    array(
        select ticket_id from delivery.job_tickets where job_tickets.job_id = jobs.job_id
    ) as ticket_ids
from delivery.jobs
where destination = %(destination)s::text and state = 'due' and not is_held
    and next_attempt_at <= now()
order by next_attempt_at limit %(jobs_max)s::int
for update skip locked;

-- name: lock_free_orders
-- The latest snapshots of both writers, at the moment of acting. The jobs of an order that is being
-- changed now are left for a moment.
select order_id, decision, tickets::text as tickets
from delivery.orders where order_id = any(%(order_ids)s::text[])
order by order_id for update skip locked;

-- name: write_intents
-- Before anything is sent. A lease that ran out under another owner is an attempt with an unknown
-- end.
update delivery.jobs
set attempts = attempts + 1, lease_owner = %(owner)s::text, recipient = batch.recipient,
    envelope_recipient = batch.envelope_recipient,
    next_attempt_at = now() + make_interval(secs => %(lease_s)s::double precision),
    unknown_attempts = unknown_attempts + (lease_owner is not null)::int
from unnest(%(job_ids)s::uuid[], %(recipients)s::text[], %(envelope_recipients)s::text[])
    as batch (job_id, recipient, envelope_recipient)
where jobs.job_id = batch.job_id;

-- name: drop_inactive_tickets
-- Tickets that are not active are not sent. Without a job they are filed again if they become
-- active again.
delete from delivery.job_tickets
using unnest(%(job_ids)s::uuid[], %(ticket_ids)s::uuid[]) as batch (job_id, ticket_id)
where job_tickets.job_id = batch.job_id and job_tickets.ticket_id = batch.ticket_id;

-- name: skip_jobs
-- Jobs that are due by their own row, but not by their order's: the lane would come to the same
-- state.
with skipped as (
    update delivery.jobs
    set state = batch.state, is_held = batch.is_held, lease_owner = null,
        unknown_attempts = unknown_attempts + (lease_owner is not null)::int
    from unnest(%(job_ids)s::uuid[], %(states)s::text[], %(are_held)s::boolean[])
        as batch (job_id, state, is_held)
    where jobs.job_id = batch.job_id
    returning jobs.order_id
)
update delivery.orders set dirty_since = coalesce(dirty_since, now())
from skipped where orders.order_id = skipped.order_id;

-- name: renew_leases
-- By the sender's lease renewer, on a connection of its own. Waits for no lock.
with mine as (
    select jobs.job_id from delivery.jobs
    join unnest(%(job_ids)s::uuid[], %(attempts)s::int[]) as batch (job_id, attempt)
        on jobs.job_id = batch.job_id and jobs.attempts = batch.attempt
    where lease_owner = %(owner)s::text
    for update of jobs skip locked
)
update delivery.jobs
set next_attempt_at = now() + make_interval(secs => %(lease_s)s::double precision)
from mine where jobs.job_id = mine.job_id;

-- name: confirm_lease
-- The last check before the mail is sent: the job is still ours, still due, and leased for the
-- whole time. No row: another sender has it, or its order was cancelled or held back while it was
-- rendered. Then it is not sent.
update delivery.jobs
set next_attempt_at = now() + make_interval(secs => %(lease_s)s::double precision)
where job_id = %(job_id)s::uuid and attempts = %(attempt)s::int
    and lease_owner = %(owner)s::text and state = 'due' and not is_held
returning job_id;

-- name: mark_order_dirty
-- Locks the order before its job, as the lane does, and has the timer publish it.
update delivery.orders set dirty_since = coalesce(dirty_since, now())
where order_id = %(order_id)s::text
returning now() as at;

-- name: record_accepted
-- The mail was accepted: that is recorded also if another sender holds the lease by now, or if the
-- order has changed. The order is locked before its job, as in the lane.
--
-- Then the last check of the connection's next job, if it has one, as in confirm_lease. It waits
-- for no lock: a sender that lost both jobs to another one could wait for it in a circle. A job
-- that is locked now is released, and is due again at once.
with marked as (
    update delivery.orders set dirty_since = coalesce(dirty_since, now())
    where order_id = %(order_id)s::text
    returning order_id
), recorded as (
    update delivery.jobs
    set state = 'sent', is_held = false, mails = mails + 1, sent_at = coalesce(sent_at, now()),
        answer = %(answer)s::text, lease_owner = null,
        document_sha256 = %(document_sha256)s::bytea,
        document_release = %(code_version)s::text
    from marked
    where jobs.job_id = %(job_id)s::uuid and jobs.order_id = marked.order_id
    returning mails, extract(epoch from now() - filed_at)::double precision as waited_s
), next_job as (
    select job_id from delivery.jobs
    where job_id = %(next_job_id)s::uuid and attempts = %(next_attempt)s::int
        and lease_owner = %(owner)s::text and state = 'due' and not is_held
        and exists (select from recorded)
    for update skip locked
), confirmed as (
    update delivery.jobs
    set next_attempt_at = now() + make_interval(secs => %(lease_s)s::double precision)
    from next_job where jobs.job_id = next_job.job_id
    returning jobs.job_id
)
select mails, waited_s, exists (select from confirmed) as is_next_confirmed from recorded;

-- name: record_failure
-- Only by the lease's holder: another sender's attempt has its own end. A job that the lane
-- cancelled meanwhile stays cancelled.
update delivery.jobs
set answer = %(answer)s::text, lease_owner = null,
    failures = failures + %(is_failure)s::boolean::int,
    unknown_attempts = unknown_attempts + %(is_unknown)s::boolean::int,
    next_attempt_at = now() + make_interval(secs => %(wait_s)s::double precision)
where job_id = %(job_id)s::uuid and attempts = %(attempt)s::int and lease_owner = %(owner)s::text
returning job_id;

-- name: add_dead_letter
-- One dead letter each time that a job dies: its offset counts them. Two senders that exhaust the
-- retries of one job add one dead letter.
insert into runtime.dead_letters (
    consumer_group, topic, topic_id, partition, "offset", record_time, key, value, value_sha256,
    headers, stage, code, text, attempts, code_version, subject_key
)
select %(group)s::text, '@jobs', job_id::text, 0, dead_letter_count + 1, now(),
    convert_to(order_id, 'UTF8'), job.value, sha256(job.value), ''::bytea, 'job',
    %(code)s::text, %(text)s::text, attempts, %(code_version)s::text, order_id
from delivery.jobs, lateral (
    select convert_to(jsonb_build_object(
        'job_id', job_id, 'order_id', order_id, 'kind', kind, 'recipient', recipient,
        'envelope_recipient', envelope_recipient, 'attempts', attempts,
        'unknown_attempts', unknown_attempts, 'failures', failures, 'answer', answer
    )::text, 'UTF8') as value
) as job
where job_id = %(job_id)s::uuid and state = 'due' and lease_owner is null
    and attempts = %(attempt)s::int
returning id;

-- name: dead_letter_job
update delivery.jobs
set state = 'dead', is_held = false, dead_letter_id = %(dead_letter_id)s::uuid,
    dead_letter_count = dead_letter_count + 1, is_dead_letter_published = false
where job_id = %(job_id)s::uuid;

-- name: release_leases
-- Nothing was tried: the intent is taken back. Locked in the order in which the lane writes jobs,
-- because both may wait for each other here.
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
-- Reads the partial index of open jobs: jobs that were sent are not counted here.
select case
        when state = 'dead' then 'dead'
        when is_held then 'held'
        when next_attempt_at <= now() then 'due'
        else 'waiting'
    end as status,
    count(*) as jobs,
    coalesce(extract(epoch from now() - min(next_attempt_at)), 0)::double precision as oldest_s
from delivery.jobs where state in ('due', 'dead')
group by status;
