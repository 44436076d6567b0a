-- Text that is compared or ordered is collate "C": byte order, whatever the database's locale.
-- The schema itself is made by `migrate`, because the table of applied migrations lives in it.

-- One row. A server serves a schema of its own version, and a newer one that says it is still compatible.
create table vault.schema_version (
    only_row boolean primary key default true check (only_row),
    version integer not null,
    -- The oldest server version that this schema still serves.
    serves_from integer not null
);
insert into vault.schema_version (version, serves_from) values (1, 1);

-- No table references developers: who exists is the authority's answer, and it need not be this table.
create table vault.developers (
    id text collate "C" primary key,
    name text not null,
    created_at timestamptz not null
);

create table vault.api_keys (
    -- SHA-256 of the key; the key itself is stored nowhere.
    hash bytea primary key check (octet_length(hash) = 32),
    id text collate "C" not null unique,
    developer_id text collate "C" not null,
    label text not null,
    -- The first characters of the key, so that people can tell their keys apart.
    prefix text not null,
    created_at timestamptz not null,
    expires_at timestamptz,
    revoked_at timestamptz
);
create index api_keys_by_developer on vault.api_keys (developer_id, created_at);

create table vault.credentials (
    developer_id text collate "C" not null,
    id text collate "C" not null,
    principal_id text collate "C" not null,
    service text collate "C" not null,
    -- The service, ASCII-lower-cased by the vault: what it compares by.
    service_key text collate "C" not null,
    credential_type text collate "C" not null,
    access_token bytea not null,
    refresh_token bytea,
    wrapped_key bytea not null,
    master_key text collate "C" not null,
    token_expires_at timestamptz,
    -- As received, compacted; never queried. json keeps the text as it is, jsonb would not.
    metadata json not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (developer_id, id),
    unique (developer_id, principal_id, service_key)
);
create index credentials_newest_first on vault.credentials (developer_id, created_at desc, id desc);

create table vault.revocations (
    developer_id text collate "C" not null,
    kind text collate "C" not null check (kind in ('grant', 'token')),
    subject text collate "C" not null,
    revoked_at timestamptz not null,
    -- When the row may be pruned; never, when null.
    expires_at timestamptz,
    primary key (developer_id, kind, subject)
);

create table vault.audit_events (
    developer_id text collate "C" not null,
    id text collate "C" not null,
    occurred_at timestamptz not null,
    verb text collate "C" not null,
    outcome text collate "C" not null,
    reason text collate "C",
    principal_id text collate "C",
    service text collate "C",
    credential_id text collate "C",
    api_key_id text collate "C",
    agent_id text collate "C",
    grant_id text collate "C",
    token_id text collate "C",
    parent_agent_id text collate "C",
    parent_grant_id text collate "C",
    delegation_depth bigint,
    request_id text collate "C" not null,
    transport text collate "C" not null,
    peer text collate "C" not null,
    primary key (developer_id, id)
);

create table vault.master_keys (
    id text collate "C" primary key,
    state text collate "C" not null check (state in ('active', 'retired'))
);
