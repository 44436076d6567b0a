//! Who says which developers there are and which grants live: the vault's own tables, or those of a
//! Grantex auth service in the same database. Theirs are read and never written.

use std::str::FromStr;

use tokio_postgres::{Client, Row, error::SqlState, types::ToSql};
use tracing::Instrument;

use super::{
    Store, StoreFault,
    columns::Columns,
    database_span,
    database_url::DatabaseUrl,
    schema::{self, SchemaFault},
};
use crate::model::{bearer::ApiKeyHash, id::ApiKeyId, text::DeveloperId, timestamp::Timestamp};

/// Whose word counts. The vault's own revocations count under both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Authority {
    /// `vault.developers` and `vault.api_keys`; a grant lives unless it was revoked here.
    #[default]
    Standalone,
    /// `public.developers`, `public.grants` and `public.grant_tokens`; a grant lives when they say so.
    Grantex,
}

/// Whose an API key is.
#[derive(Debug, Clone)]
pub struct KeyOwner {
    /// The developer.
    pub developer: DeveloperId,
    /// The key, where keys have names.
    pub key: Option<ApiKeyId>,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl FromStr for Authority {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "standalone" => Ok(Self::Standalone),
            "grantex" => Ok(Self::Grantex),
            _ => Err("must be standalone or grantex"),
        }
    }
}

impl Store {
    /// Whose key this is, by its hash; expired and revoked ones included.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn key_owner(&self, hash: &ApiKeyHash) -> Result<Option<KeyOwner>, StoreFault> {
        match self.authority {
            Authority::Standalone => {
                let key = self.api_key(hash).await?;
                Ok(key.map(|key| KeyOwner {
                    developer: key.developer_id,
                    key: Some(key.id),
                    expires_at: key.expires_at,
                    revoked_at: key.revoked_at,
                }))
            }
            Authority::Grantex => self.grantex_key_owner(hash).await,
        }
    }

    async fn grantex_key_owner(&self, hash: &ApiKeyHash) -> Result<Option<KeyOwner>, StoreFault> {
        // Store::grantex_key_owner
        // Grantex keeps hashes in lower-case hexadecimal.
        const SQL: &str =
            "select id from public.developers where api_key_hash = encode($1::bytea, 'hex')";
        let connection = self.connection().await?;
        let work = async {
            let statement = connection.client().prepare_cached(SQL).await?;
            let parameters: [&(dyn ToSql + Sync); 1] = [&hash.as_bytes()];
            connection.client().query_opt(&statement, &parameters).await
        };
        let span = database_span!("select", "developers");
        let row = connection.deadline(work).instrument(span).await?;
        row.as_ref().map(grantex_owner).transpose()
    }
}

fn grantex_owner(row: &Row) -> Result<KeyOwner, StoreFault> {
    let columns = Columns {
        table: "developers",
        row,
    };
    Ok(KeyOwner {
        developer: columns.parse("id", DeveloperId::parse)?,
        key: None,
        expires_at: None,
        revoked_at: None,
    })
}

/// Connects once and checks that the tables of the authority are there and may be read.
///
/// # Errors
///
/// [`SchemaFault::Authority`], or when there is no answer.
pub async fn check_once(url: &DatabaseUrl, authority: Authority) -> Result<(), SchemaFault> {
    if authority == Authority::Standalone {
        return Ok(());
    }
    let client = schema::connect(url).await?;
    for (table, sql) in [
        (
            "public.developers",
            "select id, api_key_hash from public.developers limit 0",
        ),
        (
            "public.grants",
            "select id, principal_id, developer_id, status, expires_at from public.grants limit 0",
        ),
        (
            "public.grant_tokens",
            "select jti, grant_id, is_revoked, expires_at from public.grant_tokens limit 0",
        ),
    ] {
        may_read(&client, table, sql).await?;
    }
    Ok(())
}

async fn may_read(client: &Client, table: &'static str, sql: &str) -> Result<(), SchemaFault> {
    let answer = tokio::time::timeout(super::STATEMENT_TIMEOUT, client.execute(sql, &[])).await;
    let error = match answer {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error,
        Err(elapsed) => return Err(SchemaFault::Unavailable(elapsed.into())),
    };
    let about_the_table = [
        (&SqlState::UNDEFINED_TABLE, "is not there"),
        (&SqlState::UNDEFINED_COLUMN, "lacks a column"),
        (&SqlState::INSUFFICIENT_PRIVILEGE, "may not be read"),
    ];
    let code = error.code();
    let found = about_the_table
        .iter()
        .find(|(state, _)| Some(*state) == code);
    match found {
        Some((_, what)) => Err(SchemaFault::Authority { table, what }),
        None => Err(SchemaFault::Unavailable(error.into())),
    }
}
