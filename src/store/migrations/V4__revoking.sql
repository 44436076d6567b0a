-- Revoking: developers as a whole, and by the webhook of a Grantex auth service. Restricted credentials.
--
-- Version 2 is still served. It does not know of suspended developers, and a restricted credential does
-- not open there: use these once every replica is of this version.
update vault.schema_version set version = 4;

-- Of kind 'developer' the subject is the developer: everything of it is refused.
alter table vault.revocations drop constraint revocations_kind_check;
alter table vault.revocations add constraint revocations_kind_check
    check (kind in ('developer', 'grant', 'token'));
create index revocations_to_prune on vault.revocations (expires_at) where expires_at is not null;

-- What an exchange needs beside a scope for the service; anything, when null. Sealed with the tokens.
alter table vault.credentials
    add column required_scopes text[] collate "C",
    add column allowed_agents text[] collate "C";

-- What a developer's Grantex signs webhooks with, sealed as tokens are. Two at most: one that comes, one
-- that goes.
create table vault.webhook_secrets (
    developer_id text collate "C" not null,
    -- A ULID: the older sorts first.
    id text collate "C" not null,
    secret bytea not null,
    wrapped_key bytea not null,
    master_key text collate "C" not null,
    created_at timestamptz not null,
    primary key (developer_id, id)
);

-- Hashes do not compress, and trying took 3 % of Postgres' time.
alter table vault.audit_seals alter column entries set storage external;
