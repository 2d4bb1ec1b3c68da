-- What vendors are asked for, beside what they tell by themselves.

-- A row for each thing that a source of the sources file is asked. Its cursor moves in the commit
-- that says what was found.
create table ingest.polls (
    source      text not null check (length(source) between 1 and 32),
    what        text not null check (length(what) between 1 and 32),
    -- from where the next page is asked
    cursor      text not null default '' check (length(cursor) <= 100000),
    -- ETags of the last page, by address
    tags        json not null default '{}' check (json_typeof(tags) = 'object'),
    answer      uuid,  -- of a page that is too much for one commit
    said        int not null default 0 check (said >= 0),  -- how much of it has been said
    next_at     timestamptz not null default now(),
    failures    int not null default 0 check (failures >= 0),  -- in a row
    -- resting: credentials are refused
    state       text not null default 'ok' check (state in ('ok', 'resting')),
    -- why there was no answer the last time
    trouble     text not null default '' check (length(trouble) <= 300),
    -- what the last answer warned of
    warning     text not null default '' check (length(warning) <= 300),
    answered_at timestamptz not null default now(),  -- when it was last answered, or begun
    updated_at  timestamptz not null default now(),
    primary key (source, what),
    check ((answer is null) = (said = 0)),
    check (state = 'ok' or failures > 0)
);

-- The breaker: a source that fails, whatever is asked of it, is left alone until then.
create table ingest.polled_sources (
    source      text primary key check (length(source) between 1 and 32),
    failures    int not null default 0 check (failures >= 0),  -- in a row
    rests_until timestamptz not null default '-infinity',
    updated_at  timestamptz not null default now()
);
