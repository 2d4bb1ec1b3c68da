-- name: show_bounds
-- In the units of `pg_settings`: milliseconds. A pooler that dropped our startup options shows the
-- server's defaults here.
select name, setting from pg_settings where name = any(%(names)s::text[]);

-- name: sees_group
-- Whether the login has the role of the group, or row security does not apply to it. True before
-- the first migration. Read from the catalog, because a login without any role may not even resolve
-- the table's name.
select lanes.oid is null or not row_security_active(lanes.oid) or exists (
        select from pg_roles
        where rolname = %(role)s::text and pg_has_role(current_user, pg_roles.oid, 'usage')
    ) as sees_group, current_user::text as login
from (
    select (
        select pg_class.oid from pg_class join pg_namespace on pg_namespace.oid = relnamespace
        where nspname = 'runtime' and relname = 'lanes'
    ) as oid
) as lanes;
