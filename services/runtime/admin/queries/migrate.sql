-- name: try_migration_lock
-- Held by the session, because each file has a transaction of its own. The number is an arbitrary
-- constant: "stubline" folded to 63 bits.
select pg_try_advisory_lock(8319390093018557029);

-- name: migrations_table
-- Null before the first migration, which creates the schema.
select to_regclass('runtime.migrations')::text;

-- name: applied_migrations
select name, sha256 from runtime.migrations order by applied_at, name;

-- name: create_migrations_table
create table if not exists runtime.migrations (
    name       text primary key,
    sha256     text not null check (length(sha256) = 64),
    applied_at timestamptz not null default now()
);

-- name: add_migration
insert into runtime.migrations (name, sha256) values (%(name)s::text, %(sha256)s::text);
