-- A campaign can take a variation of a product: a product may have no SKUs of its own for them.
alter table issuer.campaign_products drop constraint campaign_products_kind_check;
alter table issuer.campaign_products add constraint campaign_products_kind_check
    check (kind in ('sku', 'product_id', 'variation_id'));

-- Which variation a waiting line is of; empty: none. Lines of the last release have none.
alter table issuer.waiting_lines add column variation_id text not null default '';
create index waiting_lines_variation on issuer.waiting_lines (source, variation_id) where variation_id <> '';
