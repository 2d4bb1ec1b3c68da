-- Runs at the end of every migration: one role a service, which owns nothing and may do what its service does.
-- Nobody logs in as these. An installation gives them to its own users: grant stubline_issuer to my_login.
-- Roles belong to the cluster, so two databases may be creating them at the same instant.
do $roles$
declare
    services constant text[] := array['ingest', 'approval', 'issuer', 'delivery'];
    service text;
    role_name text;
begin
    foreach service in array services || 'console'::text loop
        role_name := 'stubline_' || service;
        if not exists (select from pg_roles where rolname = role_name) then
            begin
                execute format('create role %I nologin', role_name);
            exception when duplicate_object or unique_violation then
                null;  -- another database's migration was faster
            end;
        end if;
        execute format('grant usage on schema runtime to %I', role_name);
        execute format('grant select on all tables in schema runtime to %I', role_name);
    end loop;

    -- The console only reads: what it wants changed it says in commands.
    foreach service in array services loop
        role_name := 'stubline_' || service;
        execute format('grant insert, update on runtime.lanes, runtime.dead_letters, runtime.controls to %I', role_name);
        execute format('grant insert on runtime.audit to %I', role_name);
        if exists (select from pg_namespace where nspname = service) then
            execute format('grant usage on schema %I to %I, stubline_console', service, role_name);
            execute format('grant select on all tables in schema %I to stubline_console', service);
            execute format('grant select, insert, update, delete on all tables in schema %I to %I', service, role_name);
            execute format('grant usage, select on all sequences in schema %I to %I', service, role_name);
        end if;
    end loop;
end
$roles$;
