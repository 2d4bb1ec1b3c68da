-- Runs at the end of every migration. There is one role per service, one that reads (console) and
-- one for the operators' command line. No login is one of these roles; an installation grants them
-- to its own logins: grant stubline_issuer to my_login. The roles' rights on these schemas are
-- exactly what this file grants: it revokes all others first, in the same transaction.
--
-- The tables of `runtime` that have a consumer group show a service only the rows of its own group.
-- Each policy is made for one role and compares with a constant, so the planner adds one comparison
-- and calls no function. The tables' owner and superusers see all rows: migrations run as the
-- owner. A login that may see no row of its group is refused when the service starts
-- (services/runtime/postgres/session.py), because PostgreSQL itself would only show it empty
-- tables.
--
-- Roles belong to the cluster, so two databases may be creating them at the same instant.
do $roles$
declare
    services constant text[] := array['ingest', 'approval', 'issuer', 'delivery'];
    grouped constant text[] := array['lanes', 'dead_letters', 'controls'];
    readers constant text[] := array['stubline_console', 'stubline_operator'];
    service text;
    table_name text;
    role_name text;
    visible_rows text;
begin
    foreach service in array services || array['console', 'operator'] loop
        role_name := 'stubline_' || service;
        if not exists (select from pg_roles where rolname = role_name) then
            begin
                execute format('create role %I nologin', role_name);
            exception when duplicate_object or unique_violation then
                null;  -- another database's migration was first
            end;
        end if;
        execute format('grant usage on schema runtime to %I', role_name);
        execute format('revoke all on all tables in schema runtime from %I', role_name);
    end loop;

    foreach service in array services loop
        role_name := 'stubline_' || service;
        execute format('grant select on runtime.generation, runtime.migrations to %I', role_name);
        execute format(
            'grant select, insert, update '
            'on runtime.lanes, runtime.dead_letters, runtime.controls to %I',
            role_name
        );
        if exists (select from pg_namespace where nspname = service) then
            execute format('grant usage on schema %I to %I', service, role_name);
            execute format(
                'grant select, insert, update, delete on all tables in schema %I to %I',
                service, role_name
            );
            execute format(
                'grant usage, select on all sequences in schema %I to %I', service, role_name
            );
        end if;
    end loop;

    -- Both read everything. The console writes nothing: it publishes commands.
    foreach role_name in array readers loop
        execute format('grant select on all tables in schema runtime to %I', role_name);
        foreach service in array services loop
            if exists (select from pg_namespace where nspname = service) then
                execute format('grant usage on schema %I to %I', service, role_name);
                execute format('revoke all on all tables in schema %I from %I', service, role_name);
                execute format('grant select on all tables in schema %I to %I', service, role_name);
            end if;
        end loop;
    end loop;

    -- The operator changes what the commands of `stubline` change, and nothing else. `for update`
    -- needs the right to update.
    grant update on runtime.lanes, runtime.generation to stubline_operator;
    grant insert, update on runtime.dead_letters, runtime.controls to stubline_operator;
    grant insert on runtime.audit to stubline_operator;
    if to_regclass('issuer.due_orders') is not null then
        grant insert, update on issuer.campaigns to stubline_operator;
        grant insert, delete on issuer.campaign_products to stubline_operator;
        grant insert on issuer.due_orders to stubline_operator;
    end if;
    if to_regclass('ingest.incidents_seen') is not null then
        grant update on ingest.drift_notices to stubline_operator;
        grant update, delete on ingest.kept_callbacks to stubline_operator;
        grant delete on ingest.callbacks to stubline_operator;
        grant insert, update on ingest.incidents_seen to stubline_operator;
    end if;

    foreach table_name in array grouped loop
        foreach service in array services || array['console', 'operator'] loop
            role_name := 'stubline_' || service;
            continue when exists (
                select from pg_policies
                where schemaname = 'runtime' and tablename = table_name and policyname = role_name
            );
            visible_rows := case
                when service = 'console' then 'for select to %I using (true)'
                when service = 'operator' then 'for all to %I using (true)'
                else 'for all to %I using (consumer_group = '
                    || quote_literal('stubline.' || service) || ')'
            end;
            execute format(
                'create policy %I on runtime.%I ' || visible_rows,
                role_name, table_name, role_name
            );
        end loop;
        if not (
            select relrowsecurity from pg_class
            where oid = format('runtime.%I', table_name)::regclass
        ) then
            execute format('alter table runtime.%I enable row level security', table_name);
        end if;
    end loop;
end
$roles$;
