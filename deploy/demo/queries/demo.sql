-- name: stages
-- What each group has done so far, from its lanes' rows.
select consumer_group, topic, partition, next_offset, effects, duplicates, superseded, dead, gaps,
    conservation_gap, stopped_code
from runtime.lanes;

-- name: orders_by_state
select state, count(*) from approval.orders group by state;

-- name: tickets_by_order
select order_id, count(*) filter (where status = 'Active') as active,
    count(*) filter (where number is not null) as numbered
from issuer.tickets group by order_id;

-- name: numbers
-- One row a campaign: the numbers given, the distinct ones among them, and the count of places.
select campaign_id, count(number), count(distinct number), max(place) + 1
from issuer.tickets where number is not null group by campaign_id order by campaign_id;

-- name: deliveries
select order_id, case when is_held then 'held' else state end as state,
    extract(epoch from sent_at)::double precision as sent_at
from delivery.jobs where kind = 'initial';

-- name: unsent_tickets
-- Active tickets that are not in exactly one initial job that was sent.
select count(*) from issuer.tickets
where status = 'Active' and number is not null
    and (
        select count(*) from delivery.job_tickets join delivery.jobs using (job_id)
        where job_tickets.ticket_id = tickets.ticket_id
            and jobs.kind = 'initial' and jobs.state = 'sent'
    ) <> 1;

-- name: dead_letters
select consumer_group, code, count(*)
from runtime.dead_letters group by consumer_group, code order by consumer_group, code;
