-- What many dead letters have in common, so that ten thousand of one cause are one thing to a
-- person.

-- A cause without what varies: a number is #, each of its parts stands once, and in one order, so
-- that an error at the third line, or at every line, is the same error.
-- services/ingest/rules/incidents.py says the same of notices.
create function runtime.cause_of(text text) returns text language sql immutable strict parallel safe as $$
    select coalesce(left(string_agg(part, '; ' order by part), 300), '')
    from (
        select distinct part collate "C" as part
        from unnest(string_to_array(regexp_replace(regexp_replace($1, '[0-9]+', '#', 'g'), '; and # more$', ''), '; ')) as part
    ) as parts
$$;

-- Who a record says it is from: its header ce_source, else what stands before the first colon of
-- its key. Only to group by: nobody has checked it. `headers` as
-- services/runtime/loop/dead_letters.py packs them: the name, and right behind it the value.
create function runtime.source_of(headers bytea, key bytea) returns text language sql immutable parallel safe as $$
    select coalesce(
        substring(
            encode(substring($1 from nullif(position('ce_source'::bytea in $1), 0) + 9 for 100), 'escape')
            from '^[!-\[\]-~]+'
        ),
        substring(encode(substring($2 from 1 for 200), 'escape') from '^([!-9;-\[\]-~]{1,100}):'),
        ''
    )
$$;

alter table runtime.dead_letters
    add column source text not null generated always as (runtime.source_of(headers, key)) stored,
    add column cause  text not null generated always as (runtime.cause_of(text)) stored;

-- Counted without reading one letter.
create index dead_letters_causes
    on runtime.dead_letters (consumer_group, code, cause, source, state, created_at, updated_at, id);

-- Orders of which a key came with two meanings. Few, so that asking for them reads few.
create index orders_with_incidents on ingest.orders (order_id) where json_array_length(incidents) > 0;

-- Incidents of orders that somebody has looked at. A later one opens them again.
create table ingest.incidents_seen (
    incident_id text primary key check (incident_id ~ '^[0-9a-f]{12}$'),
    seen_at     timestamptz not null
);
