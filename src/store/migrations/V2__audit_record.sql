-- The audit record: events as canonical bytes, in partitions, sealed in the order of their commits.
-- `docs/audit.md` describes the scheme.

-- It no longer serves version 1, whose events have no canonical bytes and could not be sealed.
update vault.schema_version set version = 2, serves_from = 2;

-- What was recorded before stays readable, and is covered by no seal.
do $$
begin
    if exists (select from vault.audit_events) then
        alter table vault.audit_events rename to audit_events_v1;
        alter index vault.audit_events_pkey rename to audit_events_v1_pkey;
    else
        drop table vault.audit_events;
    end if;
end
$$;

create table vault.audit_events (
    developer_id text collate "C" not null,
    -- A ULID, whose first ten characters are its time.
    id text collate "C" not null,
    -- What a reader may ask for. Readers are answered from `canonical`, and `audit verify` compares.
    principal_id text collate "C",
    service_key text collate "C",
    credential_id text collate "C",
    grant_id text collate "C",
    outcome text collate "C" not null,
    -- Where the event stands in the order of seals: which numbering of transactions, and which
    -- transaction. `vault.begin_audit_era` changes the default. Who serves may not set them.
    era integer not null default 1 check (era > 0),
    xid xid8 not null default pg_current_xact_id(),
    -- The event itself, as it is hashed: src/audit/canonical.rs.
    canonical bytea not null,
    primary key (developer_id, id)
) partition by range (id);

-- A developer and a principal of 512 four-byte characters each do not fit one entry of a B-tree.
create index audit_events_of_principal
    on vault.audit_events (developer_id, left(principal_id, 64), id);
-- What is to be sealed, and in which order. Right-growing and deduplicated: about 8 bytes an event.
create index audit_events_in_order on vault.audit_events (era, xid);

create table vault.audit_events_default partition of vault.audit_events default;

-- The partitions that were made. Without a name: the time is left to the default partition.
create table vault.audit_partitions (
    from_time timestamptz primary key,
    to_time timestamptz not null,
    name text collate "C" unique
);

-- The first ten characters of the ULIDs of a moment: milliseconds since 1970 in Crockford's base 32.
create function vault.ulid_of(moment timestamptz) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select string_agg(
        substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((millis >> (45 - 5 * place)) & 31)::int + 1, 1),
        '' order by place)
    from (select floor(extract(epoch from moment) * 1000)::bigint as millis) as counted,
        generate_series(0, 9) as place
$$;

-- Makes partitions of a 'day' or a 'month' (UTC) each, some time ahead, and answers how many it made.
--
-- The role that serves owns no table: it may call this instead. A lock that cannot be had within a
-- second is given up: requests would wait behind it.
create function vault.make_audit_partitions(unit text) returns integer
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

-- Which cluster's transaction numbers the events carry. A dump that is restored brings the numbers of
-- another one.
create table vault.audit_eras (
    era integer primary key,
    system_identifier text collate "C" not null,
    began_at timestamptz not null default now()
);
insert into vault.audit_eras (era, system_identifier)
    select 1, system_identifier::text from pg_control_system();

-- Begins an era when the cluster is not the one of the last; answers the era of now. The server calls
-- it on a new connection, before that records anything.
create function vault.begin_audit_era() returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
declare
    here constant text := (select system_identifier::text from pg_control_system());
    latest vault.audit_eras;
begin
    lock table vault.audit_eras in exclusive mode;
    select * into latest from vault.audit_eras order by era desc limit 1;
    if latest.system_identifier = here then
        return latest.era;
    end if;
    insert into vault.audit_eras (era, system_identifier) values (latest.era + 1, here);
    execute format('alter table only vault.audit_events alter column era set default %s', latest.era + 1);
    return latest.era + 1;
end
$$;

revoke all on function vault.make_audit_partitions(text), vault.begin_audit_era() from public;

create table vault.audit_seals (
    number bigint primary key check (number > 0),
    -- What is hashed and signed: src/audit/seal.rs.
    header bytea not null,
    signature bytea not null,
    -- The events in their order: id, transaction, hash of the canonical bytes. Null when all of them
    -- were pruned.
    entries bytea
);

-- Who seals: one at a time.
create table vault.audit_sealer (
    only_row boolean primary key default true check (only_row),
    holder text collate "C",
    until timestamptz not null default '-infinity'
);
insert into vault.audit_sealer default values;

-- The key that signs seals; its private half is wrapped by the master key.
create table vault.audit_signing_key (
    only_row boolean primary key default true check (only_row),
    public_key bytea not null,
    wrapped_key bytea not null,
    master_key text collate "C" not null,
    created_at timestamptz not null default now()
);

select vault.make_audit_partitions('month');
