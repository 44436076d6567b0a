-- What was taken over from another vault. Written by `grantex-vault import` only: the role that serves
-- needs nothing here, and version 2 is served as before.
update vault.schema_version set version = 3;

create table vault.imports (
    developer_id text collate "C" not null,
    -- The id of the credential, there and here.
    id text collate "C" not null,
    -- As it stands there, to the microsecond. Here `updated_at` is its milliseconds for as long as
    -- nobody stores into the row.
    source_updated_at timestamptz not null,
    primary key (developer_id, id)
);
