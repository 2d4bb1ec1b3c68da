-- A record beyond what can be published again keeps its first part only, with the length and hash
-- of the whole value.
alter table runtime.dead_letters add column value_bytes bigint;
comment on column runtime.dead_letters.value_bytes is 'length of the record''s value, where `value` is only its first part';

-- Letters that an earlier release kept whole and no topic takes: their replay would stop the
-- timer's lane.
update runtime.dead_letters set state = 'open', updated_at = now()
where state in ('requested', 'replayed')
    and coalesce(length(value), 0) + coalesce(length(key), 0) + length(headers) > 8257536;

alter table runtime.dead_letters add constraint dead_letters_replayed_whole
    check (value_bytes is null or state not in ('requested', 'replayed'));
