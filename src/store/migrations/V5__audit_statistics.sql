-- Statistics of the audit record from a tenth of the sample.
--
-- Version 2 is still served.
update vault.schema_version set version = 5;

-- Whenever a partition has grown by a tenth, autovacuum analyses it: 30,000 events, sorted by every column,
-- kept a processor busy for 150 ms, and requests waited for it. What is asked of the record goes along its
-- indexes whatever the details are.
create function vault.sample_fewer_audit_events(partition regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    index regclass;
    place integer;
begin
    execute (
        select format('alter table %s %s', partition,
            string_agg(format('alter column %I set statistics 10', attname), ', '))
        from pg_attribute where attrelid = partition and attnum > 0 and not attisdropped);
    -- An expression of an index is a column to those who analyse.
    for index, place in
        select indexrelid, ordinality from pg_index, unnest(indkey::int[]) with ordinality as column_number
        where indrelid = partition and column_number = 0
    loop
        execute format('alter index %s alter column %s set statistics 10', index, place);
    end loop;
end
$$;
revoke all on function vault.sample_fewer_audit_events(regclass) from public;

select vault.sample_fewer_audit_events(inhrelid) from pg_inherits
where inhparent = 'vault.audit_events'::regclass;

-- Makes partitions of a 'day' or a 'month' (UTC) each, some time ahead, and answers how many it made.
--
-- The role that serves owns no table: it may call this instead. A lock that cannot be had within a
-- second is given up: requests would wait behind it.
create or replace function vault.make_audit_partitions(unit text) returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set lock_timeout = '1s'
as $$
declare
    ahead constant timestamptz := now() + case unit when 'day' then interval '7 days'
        when 'month' then interval '2 months' end;
    starts timestamptz;
    ends timestamptz;
    partition text;
    made integer := 0;
begin
    if ahead is null then
        raise exception 'audit partitions are of a day or a month, not of a %', unit;
    end if;
    -- One at a time, when somebody has something to do.
    select max(to_time) into starts from vault.audit_partitions;
    if starts > ahead then
        return 0;
    end if;
    lock table vault.audit_partitions in exclusive mode;
    select coalesce(max(to_time), date_trunc(unit, now())) into starts
        from vault.audit_partitions;
    while starts <= ahead loop
        ends := date_trunc(unit, starts) + ('1 ' || unit)::interval;
        partition := 'audit_events_' || to_char(starts, 'YYYY_MM_DD');
        begin
            execute format('create table vault.%I (like vault.audit_events including all)', partition);
            perform vault.sample_fewer_audit_events(format('vault.%I', partition)::regclass);
            -- Attached rather than created in place: requests are not locked out.
            execute format('alter table vault.audit_events attach partition vault.%I
                for values from (%L) to (%L)', partition, vault.ulid_of(starts), vault.ulid_of(ends));
            made := made + 1;
        exception when check_violation then
            -- Events of this time are in the default partition already; the rest joins them.
            partition := null;
        end;
        insert into vault.audit_partitions values (starts, ends, partition);
        starts := ends;
    end loop;
    return made;
end
$$;
