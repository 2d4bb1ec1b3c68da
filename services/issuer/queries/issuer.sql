-- name: begin_batch
-- The shared lock keeps campaigns from being applied until the transaction ends. Without it a line
-- could find no campaign, and the campaign not find the line. The statements after this one see
-- what was applied before it.
select
    pg_advisory_xact_lock_shared(hashtextextended('stubline.issuer.campaigns', 0)),
    generation,
    now()
from runtime.generation;

-- name: lock_orders
-- Returns the orders that have a row; an order that was never worked has none. Locked in id order,
-- so that two lanes cannot deadlock.
select order_id, sequence, digest, decided_generation, decided_sequence, is_waiting
from issuer.orders where order_id = any(%(order_ids)s::text[]) order by order_id for update;

-- name: find_tickets
select ticket_id::text, order_id, line_id, ordinal, campaign_id, place, number, code, status,
    reason, holder_name, holder_email, recipient_email, product_id, issued_at
from issuer.tickets where order_id = any(%(order_ids)s::text[]);

-- name: lock_campaigns
-- Returns the campaigns that take one of the products, and those of the orders' tickets. Locked in
-- id order, after the orders. Their products cannot change under the shared lock of begin_batch.
with matched as (
    select campaign_id, jsonb_agg(jsonb_build_array(source, kind, content)) as products
    from issuer.campaign_products
    where (source, kind, content) in (
        select * from unnest(%(sources)s::text[], %(kinds)s::text[], %(contents)s::text[])
    )
    group by campaign_id
)
select campaigns.campaign_id, version, definition, key, next_place, matched.products
from issuer.campaigns left join matched using (campaign_id)
where matched.campaign_id is not null or campaigns.campaign_id = any(%(campaign_ids)s::text[])
order by campaigns.campaign_id
for update of campaigns;

-- name: issue_tickets
-- Inserts ordinals and the audit rows of those that are tickets. An ordinal without a place carries
-- the reason that the plan gave and has no audit row, because no ticket was created.
with batch as materialized (
    select * from unnest(
        %(ticket_ids)s::uuid[], %(order_ids)s::text[], %(line_ids)s::text[], %(ordinals)s::int[],
        %(campaign_ids)s::text[], %(places)s::bigint[], %(numbers)s::text[], %(codes)s::text[],
        %(statuses)s::text[], %(reasons)s::text[], %(holder_names)s::text[],
        %(holder_emails)s::text[], %(recipient_emails)s::text[], %(product_ids)s::text[],
        %(causes)s::uuid[]
    ) as batch (
        ticket_id, order_id, line_id, ordinal,
        campaign_id, place, number, code,
        status, reason, holder_name,
        holder_email, recipient_email, product_id,
        cause
    )
), issued as (
    insert into issuer.tickets (
        ticket_id, order_id, line_id, ordinal, campaign_id, place, number, code, status, reason,
        holder_name, holder_email, recipient_email, product_id, issued_at
    )
    select ticket_id, order_id, line_id, ordinal, campaign_id, place, number, code, status, reason,
        holder_name, holder_email, recipient_email, product_id, now()
    from batch
)
insert into issuer.audit (order_id, ticket_id, to_status, cause, actor)
select order_id, ticket_id, status, cause, %(actor)s::text
from batch where place is not null;

-- name: change_tickets
-- The orders' rows are locked, so no other transaction changes their tickets. A null `before`: only
-- the holder changes, which is not audited.
with batch as materialized (
    select * from unnest(
        %(ticket_ids)s::uuid[], %(order_ids)s::text[], %(befores)s::text[], %(statuses)s::text[],
        %(holder_names)s::text[], %(holder_emails)s::text[], %(recipient_emails)s::text[],
        %(causes)s::uuid[]
    ) as batch (
        ticket_id, order_id, before, status,
        holder_name, holder_email, recipient_email,
        cause
    )
), changed as (
    update issuer.tickets
    set status = batch.status, holder_name = batch.holder_name,
        holder_email = batch.holder_email, recipient_email = batch.recipient_email
    from batch where tickets.ticket_id = batch.ticket_id
)
insert into issuer.audit (order_id, ticket_id, from_status, to_status, cause, actor)
select order_id, ticket_id, before, status, cause, %(actor)s::text
from batch where before is not null;

-- name: advance_campaigns
update issuer.campaigns set next_place = batch.next_place
from unnest(%(campaign_ids)s::text[], %(next_places)s::bigint[])
    as batch (campaign_id, next_place)
where campaigns.campaign_id = batch.campaign_id;

-- name: drop_waiting
-- Deletes the lines of these orders that no longer wait.
delete from issuer.waiting_lines
where order_id = any(%(order_ids)s::text[])
    and (order_id, line_id) not in (
        select * from unnest(%(kept_order_ids)s::text[], %(kept_line_ids)s::text[])
    );

-- name: keep_waiting
-- A line that waits already keeps its place in the queue.
insert into issuer.waiting_lines (
    order_id, line_id, source, sku, product_id, variation_id, quantity, reason
)
select * from unnest(
    %(order_ids)s::text[], %(line_ids)s::text[], %(sources)s::text[], %(skus)s::text[],
    %(product_ids)s::text[], %(variation_ids)s::text[], %(quantities)s::int[], %(reasons)s::text[]
)
on conflict (order_id, line_id) do update
set source = excluded.source, sku = excluded.sku, product_id = excluded.product_id,
    variation_id = excluded.variation_id, quantity = excluded.quantity, reason = excluded.reason;

-- name: add_orders
-- Inserts orders that had no row, complete, so that no row is written twice. Fewer rows than
-- arguments: another lane was first with one of them. In id order, so that two lanes cannot
-- deadlock; a lane that waits here holds campaigns, and the one it waits for needs none any more.
insert into issuer.orders (
    order_id, sequence, generation, digest, decided_generation, decided_sequence, buyer_email,
    is_waiting, decision
)
select order_id, sequence, generation, digest, decided_generation, decided_sequence, buyer_email,
    is_waiting, decision::json
from unnest(
    %(order_ids)s::text[], %(sequences)s::bigint[], %(generations)s::bigint[],
    %(digests)b::bytea[], %(decided_generations)s::bigint[], %(decided_sequences)s::bigint[],
    %(buyer_emails)s::text[], %(is_waitings)s::boolean[], %(decisions)s::text[]
) as batch (
    order_id, sequence, generation,
    digest, decided_generation, decided_sequence,
    buyer_email, is_waiting, decision
)
order by order_id
on conflict do nothing;

-- name: save_orders
-- An unsorted update may lock in any order: these rows are locked already.
update issuer.orders
set sequence = batch.sequence, generation = batch.generation, digest = batch.digest,
    decided_generation = batch.decided_generation, decided_sequence = batch.decided_sequence,
    buyer_email = batch.buyer_email, is_waiting = batch.is_waiting,
    decision = batch.decision::json
from unnest(
    %(order_ids)s::text[], %(sequences)s::bigint[], %(generations)s::bigint[],
    %(digests)b::bytea[], %(decided_generations)s::bigint[], %(decided_sequences)s::bigint[],
    %(buyer_emails)s::text[], %(is_waitings)s::boolean[], %(decisions)s::text[]
) as batch (
    order_id, sequence, generation,
    digest, decided_generation, decided_sequence,
    buyer_email, is_waiting, decision
)
where orders.order_id = batch.order_id;

-- name: find_due
-- Returns the oldest due orders, without a lock: only the timer takes them, and applying a
-- campaign, which adds them, leaves known ones alone. They have no more tickets than a transaction
-- has time for, but there is always at least one order.
with due as (
    select due.*, (
        select coalesce(sum(quantity), 0) from issuer.waiting_lines as line
        where line.order_id = due.order_id
    ) as tickets
    from issuer.due_orders as due order by since limit %(orders_max)s::int
)
select order_id, actor, cause
from (
    select due.*, sum(tickets) over (order by since, order_id) - tickets as before from due
) as counted
where before = 0 or before + tickets <= %(tickets_max)s::int
order by since, order_id;

-- name: has_due
select exists (select from issuer.due_orders);

-- name: find_decisions
-- After lock_orders: otherwise a newer decision could be applied in between.
select order_id, decision::text from issuer.orders
where order_id = any(%(order_ids)s::text[]) and decision is not null;

-- name: drop_due
delete from issuer.due_orders where order_id = any(%(order_ids)s::text[]);
