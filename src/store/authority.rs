//! Who says which developers there are and which grants live: the vault's own tables, or those of a
//! Grantex auth service in the same database. Theirs are read and never written. What the vault itself
//! has revoked counts under both.

use std::str::FromStr;

use tokio_postgres::{Client, Row, error::SqlState};
use tracing::Instrument;

use super::{
    Store, StoreFault, authority_tables,
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
    /// Whether the developer is suspended, by the vault itself.
    pub suspended: bool,
}

/// Whether what is `asked` with is revoked: its developer suspended, its token, grant or parent grant
/// revoked here, or the grant dead by the word of the authority.
macro_rules! revoked_sql {
    (Standalone) => {
        "exists (
            select from vault.revocations r
            where r.developer_id = asked.developer_id
              and (r.kind = 'developer'
                or (r.kind = 'token' and r.subject = asked.token)
                or (r.kind = 'grant' and r.subject in (asked.grant_id, asked.parent_grant_id))))"
    };
    (Grantex) => {
        concat!(
            "(",
            revoked_sql!(Standalone),
            " or not exists (
                select from public.grant_tokens t
                join public.grants g on g.id = t.grant_id
                where t.jti = asked.token and not t.is_revoked
                  and t.expires_at > asked.at
                  and g.status = 'active' and g.expires_at > asked.at
                  and g.developer_id = asked.developer_id
                  and g.principal_id = asked.principal_id))"
        )
    };
}
pub(super) use revoked_sql;

/// Whether a developer still has this API key, it is valid at this moment, and the developer is not
/// suspended. Every statement that writes for a developer asks it: the key may have been revoked since
/// the request was let in.
macro_rules! key_is_valid_sql {
    (Standalone, $developer:literal, $hash:literal, $at:literal) => {
        concat!(
            "(exists (
                select from vault.api_keys k
                where k.hash = ",
            $hash,
            " and k.developer_id = ",
            $developer,
            " and k.revoked_at is null and (k.expires_at is null or k.expires_at > ",
            $at,
            "::timestamptz))",
            key_is_valid_sql!(@not_suspended $developer)
        )
    };
    // Keys of Grantex have no end; a parameter that is not used would have no type.
    (Grantex, $developer:literal, $hash:literal, $at:literal) => {
        concat!(
            "(",
            $at,
            "::timestamptz is not null and exists (
                select from public.developers d
                where d.id = ",
            $developer,
            " and d.api_key_hash = pg_catalog.encode(",
            $hash,
            "::bytea, 'hex'))",
            key_is_valid_sql!(@not_suspended $developer)
        )
    };
    (@not_suspended $developer:literal) => {
        concat!(
            " and not exists (
                select from vault.revocations r
                where r.developer_id = ",
            $developer,
            " and r.kind = 'developer'))"
        )
    };
}
pub(super) use key_is_valid_sql;

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
        // Store::key_owner
        const STANDALONE: &str = "
            select k.developer_id, k.id, k.expires_at, k.revoked_at,
                exists (
                    select from vault.revocations r
                    where r.developer_id = k.developer_id and r.kind = 'developer') as suspended
            from vault.api_keys k where k.hash = $1";
        // Store::key_owner
        // Grantex keeps hashes in lower-case hexadecimal, and its keys have no names and no end.
        const GRANTEX: &str = r#"
            select d.id as developer_id, null as id, null::timestamptz as expires_at,
                null::timestamptz as revoked_at,
                exists (
                    select from vault.revocations r
                    where r.developer_id = d.id collate "C" and r.kind = 'developer') as suspended
            from public.developers d where d.api_key_hash = pg_catalog.encode($1::bytea, 'hex')"#;
        let (sql, span) = match self.authority {
            Authority::Standalone => (STANDALONE, database_span!("select", "api_keys")),
            Authority::Grantex => (GRANTEX, database_span!("select", "developers")),
        };
        let row = self.read(sql, &[&hash.as_bytes()]).instrument(span).await?;
        row.as_ref().map(key_owner).transpose()
    }
}

fn key_owner(row: &Row) -> Result<KeyOwner, StoreFault> {
    let columns = Columns {
        table: "api_keys",
        row,
    };
    let id: Option<&str> = columns.get("id")?;
    Ok(KeyOwner {
        developer: columns.parse("developer_id", DeveloperId::parse)?,
        key: match id {
            Some(_) => Some(columns.parse_option("id", ApiKeyId::parse)?),
            None => None,
        },
        expires_at: columns.get("expires_at")?,
        revoked_at: columns.get("revoked_at")?,
        suspended: columns.get("suspended")?,
    })
}

/// Connects once and checks that the tables of the authority are there, are only tables, and may be read.
///
/// # Errors
///
/// [`SchemaFault::Authority`], or when there is no answer.
pub async fn check_once(url: &DatabaseUrl, authority: Authority) -> Result<(), SchemaFault> {
    if authority == Authority::Standalone {
        return Ok(());
    }
    let client = schema::connect(url).await?;
    // Before anything of them is read.
    if let Some(fault) = schema::timed(authority_tables::look(&client)).await?.fault {
        return Err(fault.into());
    }
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
