-- name: begin_batch
-- The shared lock keeps campaigns from being applied until the transaction ends: without it a line
-- could find no campaign, and the campaign not find the line. The statements behind this one see
-- what was applied before.
select pg_advisory_xact_lock_shared(hashtextextended('stubline.issuer.campaigns', 0)), generation, now()
from runtime.generation;

-- name: lock_orders
-- Sorted: two lanes never wait for each other in a ring. An order that was never worked has no row
-- yet.
select order_id, sequence, digest, decided_generation, decided_sequence, is_waiting
from issuer.orders where order_id = any(%(order_ids)s::text[]) order by order_id for update;

-- name: tickets_of
select ticket_id::text, order_id, line_id, ordinal, campaign_id, "index", number, code, status, reason,
    holder_name, holder_email, recipient_email, product_id, issued_at
from issuer.tickets where order_id = any(%(order_ids)s::text[]);

-- name: lock_campaigns
-- In id order, after the orders. Those that take one of the products, and those that the orders'
-- tickets belong to. Their products cannot change under the shared lock of begin_batch.
with matched as (
    select campaign_id, jsonb_agg(jsonb_build_array(source, kind, content)) as products
    from issuer.campaign_products
    where (source, kind, content) in (
        select * from unnest(%(sources)s::text[], %(kinds)s::text[], %(contents)s::text[])
    )
    group by campaign_id
)
select campaigns.campaign_id, version, definition, key, next_index, matched.products
from issuer.campaigns left join matched using (campaign_id)
where matched.campaign_id is not null or campaigns.campaign_id = any(%(campaign_ids)s::text[])
order by campaigns.campaign_id
for update of campaigns;

-- name: issue_tickets
-- Tickets and their audit rows. A row without an index is no ticket, so nothing was created.
with batch as materialized (
    select * from unnest(
        %(ticket_ids)s::uuid[], %(order_ids)s::text[], %(line_ids)s::text[], %(ordinals)s::int[], %(campaign_ids)s::text[],
        %(indexes)s::bigint[], %(numbers)s::text[], %(codes)s::text[], %(holder_names)s::text[], %(holder_emails)s::text[],
        %(recipient_emails)s::text[], %(product_ids)s::text[], %(causes)s::uuid[]
    ) as batch (
        ticket_id, order_id, line_id, ordinal, campaign_id, "index", number, code, holder_name, holder_email,
        recipient_email, product_id, cause
    )
), issued as (
    insert into issuer.tickets (
        ticket_id, order_id, line_id, ordinal, campaign_id, "index", number, code, status, reason,
        holder_name, holder_email, recipient_email, product_id, issued_at
    )
    select ticket_id, order_id, line_id, ordinal, campaign_id, "index", number, code,
        case when "index" is not null then 'Active' end, case when "index" is null then 'sold_out' end,
        holder_name, holder_email, recipient_email, product_id, now()
    from batch
)
insert into issuer.audit (order_id, ticket_id, to_status, cause, actor)
select order_id, ticket_id, 'Active', cause, %(actor)s::text from batch where "index" is not null;

-- name: change_tickets
-- The orders' rows are locked, so nobody else changes their tickets. A null `before`: only the
-- holder changes.
with batch as materialized (
    select * from unnest(
        %(ticket_ids)s::uuid[], %(order_ids)s::text[], %(befores)s::text[], %(statuses)s::text[],
        %(holder_names)s::text[], %(holder_emails)s::text[], %(recipient_emails)s::text[], %(causes)s::uuid[]
    ) as batch (ticket_id, order_id, before, status, holder_name, holder_email, recipient_email, cause)
), changed as (
    update issuer.tickets
    set status = batch.status, holder_name = batch.holder_name, holder_email = batch.holder_email,
        recipient_email = batch.recipient_email
    from batch where tickets.ticket_id = batch.ticket_id
)
insert into issuer.audit (order_id, ticket_id, from_status, to_status, cause, actor)
select order_id, ticket_id, before, status, cause, %(actor)s::text from batch where before is not null;

-- name: advance_campaigns
update issuer.campaigns set next_index = batch.next_index
from unnest(%(campaign_ids)s::text[], %(next_indexes)s::bigint[]) as batch (campaign_id, next_index)
where campaigns.campaign_id = batch.campaign_id;

-- name: drop_waiting
-- Lines that wait no more: their orders wait for others, or for nothing.
delete from issuer.waiting_lines
where order_id = any(%(order_ids)s::text[])
    and (order_id, line_id) not in (select * from unnest(%(kept_order_ids)s::text[], %(kept_line_ids)s::text[]));

-- name: keep_waiting
-- A line that waits already keeps its place in the queue.
insert into issuer.waiting_lines (order_id, line_id, source, sku, product_id, variation_id, quantity, reason)
select * from unnest(
    %(order_ids)s::text[], %(line_ids)s::text[], %(sources)s::text[], %(skus)s::text[], %(product_ids)s::text[],
    %(variation_ids)s::text[], %(quantities)s::int[], %(reasons)s::text[]
)
on conflict (order_id, line_id) do update
set source = excluded.source, sku = excluded.sku, product_id = excluded.product_id,
    variation_id = excluded.variation_id, quantity = excluded.quantity, reason = excluded.reason;

-- name: add_orders
-- Orders without a row, whole, so that no row is written twice. Sorted; answers how many were
-- added: fewer, and another lane was first with one of them. Whoever waits here holds campaigns,
-- and whoever is waited for needs none any more.
insert into issuer.orders (
    order_id, sequence, generation, digest, decided_generation, decided_sequence, buyer_email, is_waiting, decision
)
select order_id, sequence, generation, digest, decided_generation, decided_sequence, buyer_email, is_waiting, decision::json
from unnest(
    %(order_ids)s::text[], %(sequences)s::bigint[], %(generations)s::bigint[], %(digests)b::bytea[],
    %(decided_generations)s::bigint[], %(decided_sequences)s::bigint[], %(buyer_emails)s::text[], %(is_waitings)s::boolean[],
    %(decisions)s::text[]
) as batch (
    order_id, sequence, generation, digest, decided_generation, decided_sequence, buyer_email, is_waiting, decision
)
order by order_id
on conflict do nothing;

-- name: save_orders
-- Unsorted may lock in any order: these rows are locked already.
update issuer.orders
set sequence = batch.sequence, generation = batch.generation, digest = batch.digest,
    decided_generation = batch.decided_generation, decided_sequence = batch.decided_sequence,
    buyer_email = batch.buyer_email, is_waiting = batch.is_waiting, decision = batch.decision::json
from unnest(
    %(order_ids)s::text[], %(sequences)s::bigint[], %(generations)s::bigint[], %(digests)b::bytea[],
    %(decided_generations)s::bigint[], %(decided_sequences)s::bigint[], %(buyer_emails)s::text[], %(is_waitings)s::boolean[],
    %(decisions)s::text[]
) as batch (
    order_id, sequence, generation, digest, decided_generation, decided_sequence, buyer_email, is_waiting, decision
)
where orders.order_id = batch.order_id;

-- name: take_due
-- Oldest first, without a lock: only the timer takes them, and applying, which adds them, leaves
-- known ones alone. No more tickets than a transaction has time for, but at least one order.
with due as (
    select due.*, (
        select coalesce(sum(quantity), 0) from issuer.waiting_lines as line where line.order_id = due.order_id
    ) as tickets
    from issuer.due_orders as due order by since limit %(orders_max)s::int
)
select order_id, actor, cause
from (select due.*, sum(tickets) over (order by since, order_id) - tickets as before from due) as counted
where before = 0 or before + tickets <= %(tickets_max)s::int
order by since, order_id;

-- name: decisions_of
-- Behind lock_orders, or a newer decision could come in between.
select order_id, decision::text from issuer.orders where order_id = any(%(order_ids)s::text[]) and decision is not null;

-- name: drop_due
delete from issuer.due_orders where order_id = any(%(order_ids)s::text[]);
