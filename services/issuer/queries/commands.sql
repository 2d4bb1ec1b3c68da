-- name: lock_all_campaigns
-- Excludes batches, which hold the same lock shared. No new batch passes a transaction that waits
-- here, so the transaction is short.
select pg_advisory_xact_lock(hashtextextended('stubline.issuer.campaigns', 0));

-- name: lock_campaigns_by_id
select campaign_id, version, definition, next_place
from issuer.campaigns where campaign_id = any(%(campaign_ids)s::text[])
order by campaign_id for update;

-- name: find_products_of_others
-- Returns which of these products belong to other campaigns than these.
select campaign_id, source, kind, content
from issuer.campaign_products
where campaign_id <> all(%(campaign_ids)s::text[]) and (source, kind, content) in (
    select * from unnest(%(sources)s::text[], %(kinds)s::text[], %(contents)s::text[])
)
order by campaign_id, source, kind, content;

-- name: save_campaigns
-- A campaign's key is drawn once and never changes: its numbers were made with it.
insert into issuer.campaigns (
    campaign_id, version, definition, status, mode, start, capacity, key
)
select campaign_id, version, definition::jsonb,
    definition::jsonb ->> 'status',
    definition::jsonb ->> 'mode',
    (definition::jsonb ->> 'start')::bigint,
    (definition::jsonb ->> 'capacity')::bigint,
    key
from unnest(
    %(campaign_ids)s::text[], %(versions)s::bigint[], %(definitions)b::text[], %(keys)b::bytea[]
) as batch (campaign_id, version, definition, key)
order by campaign_id
on conflict (campaign_id) do update
set version = excluded.version, definition = excluded.definition, status = excluded.status,
    mode = excluded.mode, start = excluded.start, capacity = excluded.capacity,
    applied_at = now();

-- name: drop_products
delete from issuer.campaign_products where campaign_id = any(%(campaign_ids)s::text[]);

-- name: add_products
insert into issuer.campaign_products (source, kind, content, campaign_id)
select * from unnest(
    %(sources)s::text[], %(kinds)s::text[], %(contents)s::text[], %(campaign_ids)s::text[]
)
order by 1, 2, 3;

-- name: mark_due
-- Marks the orders with a line that one of these campaigns takes now, in the order in which the
-- lines began to wait.
insert into issuer.due_orders (order_id, since, actor, cause)
select waiting.order_id, min(waiting.since), %(actor)s::text, %(cause)s::uuid
from issuer.waiting_lines waiting
join issuer.campaign_products taken on taken.source = waiting.source
    and taken.content = case taken.kind
        when 'sku' then waiting.sku
        when 'variation_id' then waiting.variation_id
        else waiting.product_id
    end
join issuer.campaigns using (campaign_id)
where campaign_id = any(%(campaign_ids)s::text[]) and campaigns.status = 'open'
group by waiting.order_id
order by min(waiting.since)
on conflict (order_id) do nothing;

-- name: list_campaigns
select campaign_id, definition ->> 'name' as name, status, mode, version, next_place as issued,
    capacity, definition ->> 'date' as date, applied_at
from issuer.campaigns order by campaign_id;

-- name: find_campaign
select campaigns.campaign_id, version, status, definition, next_place as issued, capacity,
    applied_at, tickets.active, tickets.won, tickets.cancelled, tickets.refund_due,
    campaigns.definition ->> 'name' as name
from issuer.campaigns, lateral (
    select count(*) filter (where tickets.status = 'Active') as active,
        count(*) filter (where tickets.status = 'Won') as won,
        count(*) filter (where tickets.status = 'Cancelled') as cancelled,
        count(*) filter (where tickets.reason is not null) as refund_due
    from issuer.tickets where tickets.campaign_id = campaigns.campaign_id
) as tickets
where campaigns.campaign_id = %(campaign_id)s::text;

-- name: list_tickets
-- Without codes: a code is the ticket. At least one of order, campaign and email is given, and each
-- has its index.
select tickets.order_id, line_id, ordinal, campaign_id, number,
    coalesce(status, reason) as status, holder_name, holder_email, recipient_email,
    orders.buyer_email, issued_at, ticket_id::text
from issuer.tickets join issuer.orders using (order_id)
where (%(order_id)s::text is null or tickets.order_id = %(order_id)s::text)
    and (%(campaign_id)s::text is null or campaign_id = %(campaign_id)s::text)
    and (
        %(email)s::text is null
        or (buyer_email <> '' and lower(buyer_email) = lower(%(email)s::text))
    )
order by tickets.order_id, line_id, ordinal limit %(limit)s::int;
