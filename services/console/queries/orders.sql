-- name: order
select decided.order_id, decided.state, decided.decision ->> 'number' as number, decided.decision -> 'reasons' as reasons,
    decided.decision -> 'buyer' as buyer, decided.decided_at, coalesce(observed.incidents, '[]') as incidents
from approval.orders as decided
left join ingest.orders as observed using (order_id)
where order_id = %(order_id)s::text;

-- name: observed
-- Known, and not decided yet.
select order_id, incidents from ingest.orders where order_id = %(order_id)s::text;

-- name: facts
select fact.key as fact, fact.value ->> 'version' as version
from ingest.orders, json_each(facts) as fact
where order_id = %(order_id)s::text
order by fact.key;

-- name: decisions
select at, sequence, outcome ->> 'state' as state, outcome -> 'reasons' as reasons, policy_version
from approval.receipts
where order_id = %(order_id)s::text
order by observed_generation, observed_sequence;

-- name: tickets
select line_id, ordinal, campaign_id, number, status, reason, issued_at
from issuer.tickets
where order_id = %(order_id)s::text
order by line_id, ordinal;

-- name: waiting
select line_id, quantity, reason, sku, product_id from issuer.waiting_lines where order_id = %(order_id)s::text order by line_id;

-- name: deliveries
select job_id, kind, state, is_held, recipient, attempts, mails, answer, next_attempt_at, sent_at
from delivery.jobs
where order_id = %(order_id)s::text
order by filed_at, job_id;

-- name: letters
select id, code, state, attempts, created_at
from runtime.dead_letters
where subject_key = %(order_id)s::text or key = convert_to(%(order_id)s::text, 'UTF8')
order by id;
