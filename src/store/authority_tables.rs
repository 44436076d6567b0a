//! Whether the tables of a Grantex auth service are only tables.

use tokio_postgres::Client;

use super::{
    Query,
    plain_tables::{self, Column, Look, TableFault},
    schema::SchemaFault,
};

/// What is read, and the types that our statements were written for.
const COLUMNS: [Column; 11] = [
    column("public.developers", "id", "text"),
    column("public.developers", "api_key_hash", "text"),
    column("public.grants", "id", "text"),
    column("public.grants", "principal_id", "text"),
    column("public.grants", "developer_id", "text"),
    column("public.grants", "status", "text"),
    column("public.grants", "expires_at", "timestamptz"),
    column("public.grant_tokens", "jti", "text"),
    column("public.grant_tokens", "grant_id", "text"),
    column("public.grant_tokens", "is_revoked", "bool"),
    column("public.grant_tokens", "expires_at", "timestamptz"),
];

const fn column(table: &'static str, name: &'static str, kind: &'static str) -> Column {
    Column {
        table,
        name,
        kind: Some(kind),
    }
}

/// Looks at the tables. Nothing of them is read for it.
pub(super) async fn look(client: &Client) -> Query<Look> {
    plain_tables::look(client, &COLUMNS).await
}

impl From<TableFault> for SchemaFault {
    fn from(TableFault { table, what }: TableFault) -> Self {
        Self::Authority { table, what }
    }
}
