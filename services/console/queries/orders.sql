-- name: order
select decided.order_id, decided.state, coalesce(decided.decision ->> 'number', '') as number,
    coalesce(decided.decision -> 'reasons', '[]') as reasons, decided.decision -> 'buyer' as buyer,
    decided.decided_at, coalesce(observed.incidents, '[]') as incidents
from approval.orders as decided
left join ingest.orders as observed using (order_id)
where order_id = %(order_id)s::text;

-- name: observed
-- An order that ingest knows and approval has not decided yet.
select order_id, incidents from ingest.orders where order_id = %(order_id)s::text;

-- name: facts
-- Each fact of gateways and fraud checkers in a line; amounts are in minor units.
select fact.key as fact, fact.value ->> 'version' as version,
    case split_part(fact.key, ':', 1)
        when 'moved' then concat_ws(
            ' ', fact.value -> 'content' ->> 'state', fact.value -> 'content' ->> 'amount_minor',
            fact.value -> 'content' ->> 'currency', fact.value -> 'content' ->> 'detail'
        )
        when 'verdict' then concat_ws(
            ' ', fact.value -> 'content' ->> 'verdict', fact.value -> 'content' ->> 'detail'
        )
    end as summary
from ingest.orders, json_each(facts) as fact
where order_id = %(order_id)s::text
order by fact.key;

-- name: decisions
select at, sequence, outcome ->> 'state' as state, outcome -> 'reasons' as reasons, policy_version
from approval.receipts
where order_id = %(order_id)s::text
order by observed_generation, observed_sequence;

-- name: tickets
select line_id, ordinal, campaign_id, number, status, reason, recipient_email, issued_at
from issuer.tickets
where order_id = %(order_id)s::text
order by line_id, ordinal;

-- name: refund_due
-- Paid tickets that are not issued: those beyond the limit of an order, by the receipt of the last
-- decision; and the ordinals that were refused a number, with the reason. An amount is the
-- tickets' share of their line's total, where the line that ingest knows is the one that was
-- decided; else it is null.
with receipt as (
    select inputs, outcome from approval.receipts
    where order_id = %(order_id)s::text
    order by observed_generation desc, observed_sequence desc limit 1
), decided as (
    select input.line ->> 0 as line_id, input.at,
        (input.line ->> 1)::bigint as quantity, (output.line ->> 1)::bigint as allowed
    from receipt,
        json_array_elements(nullif(inputs ->> 'lines', '')::json)
            with ordinality as input (line, at),
        json_array_elements(nullif(outcome ->> 'lines', '')::json)
            with ordinality as output (line, at)
    where input.at = output.at and outcome ->> 'state' = 'released'
), lacking as (
    select line_id, at, quantity, quantity - allowed as tickets,
        %(over_order_limit)s::text as reason
    from decided where quantity > allowed
    union all
    select line_id, at, quantity, count(*), tickets.reason
    from decided join issuer.tickets using (line_id)
    where order_id = %(order_id)s::text and tickets.reason is not null and ordinal <= allowed
    group by line_id, at, quantity, tickets.reason
), known as (
    select line ->> 'line_id' as line_id, (line ->> 'quantity')::bigint as quantity,
        coalesce((line ->> 'total_minor')::bigint, 0) as total_minor,
        facts -> 'storefront' -> 'content' ->> 'currency' as currency
    from ingest.orders,
        json_array_elements(nullif(facts -> 'storefront' -> 'content' ->> 'lines', '')::json)
            as line
    where order_id = %(order_id)s::text
)
select line_id, reason, tickets,
    total_minor - div(total_minor::numeric * (quantity - tickets), quantity)::bigint
        as amount_minor,
    currency
from lacking left join known using (line_id, quantity)
order by at, reason;

-- name: waiting
select line_id, quantity, reason, sku, product_id, variation_id
from issuer.waiting_lines where order_id = %(order_id)s::text order by line_id;

-- name: deliveries
select job_id, kind, state, is_held, recipient, envelope_recipient, attempts, mails, answer,
    next_attempt_at, sent_at
from delivery.jobs
where order_id = %(order_id)s::text
order by filed_at, job_id;

-- name: dead_letters
select id, code, state, attempts, created_at
from runtime.dead_letters
where subject_key = %(order_id)s::text or key = convert_to(%(order_id)s::text, 'UTF8')
order by id;

-- name: lookalikes
-- Suspected duplicates: orders with the same fingerprint, placed within the window of either. The
-- order in which they came does not matter. A cancelled or refused order is listed as nobody's
-- duplicate, and its own list still has the orders that are valid.
select other.order_id, coalesce(other.decision ->> 'number', '') as number, other.state,
    other.placed_at
from approval.orders as mine
join approval.orders as other
    on other.fingerprint = mine.fingerprint and other.order_id <> mine.order_id
    and abs(extract(epoch from other.placed_at - mine.placed_at))
        <= greatest(mine.duplicate_window_s, other.duplicate_window_s)
where mine.order_id = %(order_id)s::text and other.state not in ('cancelled', 'refused')
order by other.placed_at, other.order_id
limit 20;

-- name: listed
-- The last decided first. Suspected duplicates are only searched for the orders that are shown.
with shown as (
    select mine.*
    from approval.orders as mine
    where (%(state)s::text is null or mine.state = %(state)s::text)
        and (
            not %(refund_due)s::bool
            or mine.state = 'released' and (
                (mine.decision ->> 'refund_due_tickets')::bigint > 0
                or exists (
                    select from issuer.tickets
                    where tickets.order_id = mine.order_id and reason is not null
                )
            )
        )
        and (
            not %(alike)s::bool
            or mine.state not in ('cancelled', 'refused') and exists (
                select from approval.orders as other
                where other.fingerprint = mine.fingerprint and other.order_id <> mine.order_id
                    and abs(extract(epoch from other.placed_at - mine.placed_at))
                        <= greatest(mine.duplicate_window_s, other.duplicate_window_s)
                    and other.state not in ('cancelled', 'refused')
            )
        )
    order by mine.decided_at desc, mine.order_id
    limit %(orders_max)s::int
)
select shown.order_id, coalesce(shown.decision ->> 'number', '') as number, shown.state,
    coalesce(shown.decision -> 'reasons', '[]') as reasons, shown.decided_at,
    alike.ids as suspected_duplicates,
    case when shown.state = 'released' then
        coalesce((shown.decision ->> 'refund_due_tickets')::bigint, 0) + (
            select count(*)
            from json_array_elements(shown.decision -> 'lines') as line
            join issuer.tickets
                on tickets.order_id = shown.order_id and tickets.line_id = line ->> 'line_id'
            where tickets.reason is not null and ordinal <= (line ->> 'quantity')::bigint
        )
    else 0 end as refund_due_tickets
from shown
cross join lateral (
    select coalesce(array_agg(other.order_id order by other.order_id), '{}') as ids
    from (
        select other.order_id
        from approval.orders as other
        where other.fingerprint = shown.fingerprint and other.order_id <> shown.order_id
            and abs(extract(epoch from other.placed_at - shown.placed_at))
                <= greatest(shown.duplicate_window_s, other.duplicate_window_s)
            and other.state not in ('cancelled', 'refused')
        limit 20
    ) as other
) as alike
order by shown.decided_at desc, shown.order_id;
