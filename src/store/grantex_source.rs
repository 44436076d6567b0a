//! The database of the TypeScript vault, which is only read: a page at a time, in bounded memory.

use std::collections::HashSet;

use thiserror::Error;
use tokio::time::timeout;
use tokio_postgres::{Client, Row, Transaction, types::ToSql};

use super::{
    Query, SCAN_TIMEOUT,
    database_url::DatabaseUrl,
    page,
    plain_tables::{self, Column, NOT_THERE, TableFault},
    schema::{self, SchemaFault},
};

pub use super::columns::Microseconds;

/// How many keys a page has.
const KEYS_PAGE: i64 = 500;
/// How many rows are asked for at once with all that they hold.
const ROWS: usize = 50;
/// How many developers a page has.
const DEVELOPERS_PAGE: i64 = 500;

/// Which column is longer than what we keep is found by whoever reads the row: it comes cut off, one
/// character longer than it may be.
const MAX_CHARS: i32 = 513;
/// Quotes, escapes and spaces make JSON text longer than it is when it is compact.
const MAX_METADATA_BYTES: i64 = 1024 * 1024;

/// What is read of `public.vault_credentials`.
const CREDENTIALS: [Column; 11] = [
    column("public.vault_credentials", "id"),
    column("public.vault_credentials", "developer_id"),
    column("public.vault_credentials", "principal_id"),
    column("public.vault_credentials", "service"),
    column("public.vault_credentials", "credential_type"),
    column("public.vault_credentials", "access_token"),
    column("public.vault_credentials", "refresh_token"),
    column("public.vault_credentials", "metadata"),
    column("public.vault_credentials", "token_expires_at"),
    column("public.vault_credentials", "created_at"),
    column("public.vault_credentials", "updated_at"),
];
/// What is read of `public.developers`.
const DEVELOPERS: [Column; 4] = [
    column("public.developers", "id"),
    column("public.developers", "api_key_hash"),
    column("public.developers", "name"),
    column("public.developers", "mode"),
];

const fn column(table: &'static str, name: &'static str) -> Column {
    Column {
        table,
        name,
        kind: None,
    }
}

/// A connection that reads `public.vault_credentials` and `public.developers`.
pub struct GrantexSource {
    client: Client,
    max_token_chars: i64,
}

/// The source cannot be read.
#[derive(Debug, Error)]
pub enum SourceFault {
    /// It cannot be reached.
    #[error("the source cannot be reached")]
    Unreachable(#[source] SchemaFault),
    /// It answers with an error: the table is not there, or may not be read.
    #[error("the source cannot be read: {0}")]
    Refused(String),
    /// It would run code of its owner.
    #[error(
        "the source is not read: {table} {what}, which can run code of its owner; copy it into a plain table \
         of built-in types, or import from the table that is behind it"
    )]
    MoreThanATable {
        /// Which table.
        table: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It does not answer any more.
    #[error("the source does not answer any more")]
    Lost,
}

/// Which row, and whether it is the one to take.
#[derive(Debug)]
pub struct SourceKey {
    /// Its id, whatever that is.
    pub id: String,
    /// The tenant.
    pub developer: String,
    /// The end user.
    pub principal: String,
    /// The service as it is spelled.
    pub service: String,
    /// When it was changed.
    pub updated_at: Microseconds,
    /// No other spelling of its service was changed later.
    pub newest: bool,
}

/// All of a row.
#[derive(Debug)]
pub struct SourceRow {
    /// Its id, whatever that is.
    pub id: String,
    /// The tenant.
    pub developer: String,
    /// The end user.
    pub principal: String,
    /// The service as it is spelled.
    pub service: String,
    /// What kind it is.
    pub credential_type: String,
    /// Base64.
    pub access_token: Bounded,
    /// Base64.
    pub refresh_token: Bounded,
    /// The upstream expiry, if it has one.
    pub token_expires_at: Option<Microseconds>,
    /// JSON text.
    pub metadata: Bounded,
    /// The first store.
    pub created_at: Microseconds,
    /// The last store.
    pub updated_at: Microseconds,
}

/// A text that was left where it is when it is longer than anything that we keep.
#[derive(Debug)]
pub enum Bounded {
    /// There is none.
    Null,
    /// It is longer.
    TooLong,
    /// It is not.
    Text(String),
}

/// A row that holds something else than its table should.
#[derive(Debug)]
pub struct Unreadable {
    /// Its id.
    pub id: String,
}

/// A developer with the hash of its API key.
#[derive(Debug)]
pub struct SourceDeveloper {
    /// Its id.
    pub id: String,
    /// SHA-256 of the key, in hexadecimal digits.
    pub api_key_hash: String,
    /// What people call it.
    pub name: String,
    /// `live` or `test`.
    pub mode: Option<String>,
}

impl GrantexSource {
    /// Connects, and looks at the credentials' table before anything reads it. A token that is stored in
    /// more than so many characters is not read.
    ///
    /// # Errors
    ///
    /// When it cannot be reached, or is more than a plain table.
    pub async fn connect(url: &DatabaseUrl, max_token_chars: usize) -> Result<Self, SourceFault> {
        let client = schema::connect(url).await;
        let this = Self {
            client: client.map_err(SourceFault::Unreachable)?,
            max_token_chars: i64::try_from(max_token_chars).unwrap_or(i64::MAX),
        };
        this.is_only(&CREDENTIALS).await?;
        Ok(this)
    }

    /// How many credentials there are.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub async fn count(&mut self) -> Result<u64, SourceFault> {
        // GrantexSource::count
        const SQL: &str = "select pg_catalog.count(*) from public.vault_credentials";
        let row = self.read(async |source| source.query_one(SQL, &[]).await);
        Ok(row.await?.get::<_, i64>(0).unsigned_abs())
    }

    /// The keys of some rows after an id, in the order of the ids; none when there are no more.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub async fn keys(&mut self, after: Option<&str>) -> Result<Vec<SourceKey>, SourceFault> {
        // GrantexSource::keys
        // The id alone is not cut off: it is where the next page begins. Its order is the one of its
        // index. SQL's lower depends on the locale; translate does what our service keys do.
        const SQL: &str = "
            select id, pg_catalog.left(developer_id, $3) as developer_id, pg_catalog.left(principal_id, $3) as principal_id,
                pg_catalog.left(service, $3) as service, updated_at,
                not exists (
                    select from public.vault_credentials o
                    where o.developer_id = c.developer_id and o.principal_id = c.principal_id
                      and pg_catalog.translate(o.service, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')
                        = pg_catalog.translate(c.service, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')
                      and (o.updated_at, o.id collate \"C\") > (c.updated_at, c.id collate \"C\")
                ) as newest
            from public.vault_credentials c
            where $1::text is null or id > $1
            order by id limit $2";
        let read = async |source: &Transaction<'_>| {
            let parameters: [&(dyn ToSql + Sync); 3] = [&after, &KEYS_PAGE, &MAX_CHARS];
            let rows = source.query_raw(SQL, parameters).await?;
            let (rows, _) = page::collect(rows, usize::MAX).await?;
            rows.iter().map(source_key).collect()
        };
        self.read(read).await
    }

    /// Rows by their ids, each with its id: some of them, which are taken off `ids`. Those that are
    /// gone meanwhile are taken off too.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub async fn take_rows(
        &mut self,
        ids: &mut Vec<String>,
    ) -> Result<Vec<Result<SourceRow, Unreadable>>, SourceFault> {
        // GrantexSource::take_rows
        const SQL: &str = "
            select id, pg_catalog.left(developer_id, $2) as developer_id, pg_catalog.left(principal_id, $2) as principal_id,
                pg_catalog.left(service, $2) as service, pg_catalog.left(credential_type, $2) as credential_type,
                pg_catalog.octet_length(access_token)::bigint as access_token_bytes,
                case when pg_catalog.octet_length(access_token) <= $3::bigint then access_token end as access_token,
                pg_catalog.octet_length(refresh_token)::bigint as refresh_token_bytes,
                case when pg_catalog.octet_length(refresh_token) <= $3::bigint then refresh_token end as refresh_token,
                pg_catalog.octet_length(metadata::text)::bigint as metadata_bytes,
                case when pg_catalog.octet_length(metadata::text) <= $4::bigint then metadata::text end as metadata,
                token_expires_at, created_at, updated_at
            from public.vault_credentials
            where id = any ($1)";
        let chunk = ids.split_off(ids.len().saturating_sub(ROWS));
        let max_token_chars = self.max_token_chars;
        let read = async |source: &Transaction<'_>| {
            let parameters: [&(dyn ToSql + Sync); 4] =
                [&chunk, &MAX_CHARS, &max_token_chars, &MAX_METADATA_BYTES];
            let rows = source.query_raw(SQL, parameters).await?;
            page::collect(rows, usize::MAX).await
        };
        let (rows, more) = self.read(read).await?;
        let rows = rows.iter().map(|row| {
            let id = row.try_get("id").unwrap_or_default();
            source_row(row).map_err(|_| Unreadable { id })
        });
        let rows: Vec<_> = rows.collect();
        if more {
            let id_of = |row: &Result<SourceRow, Unreadable>| match row {
                Ok(row) => row.id.clone(),
                Err(row) => row.id.clone(),
            };
            let taken: HashSet<String> = rows.iter().map(id_of).collect();
            ids.extend(chunk.into_iter().filter(|id| !taken.contains(id)));
        }
        Ok(rows)
    }

    /// Some developers after an id, in the order of the ids; none when there are no more.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub async fn developers(
        &mut self,
        after: Option<&str>,
    ) -> Result<Vec<SourceDeveloper>, SourceFault> {
        // GrantexSource::developers
        const SQL: &str = "
            select id, pg_catalog.left(api_key_hash, $3) as api_key_hash, pg_catalog.left(name, $3) as name,
                pg_catalog.left(mode, $3) as mode
            from public.developers
            where $1::text is null or id > $1
            order by id limit $2";
        if after.is_none() {
            self.is_only(&DEVELOPERS).await?;
        }
        let read = async |source: &Transaction<'_>| {
            let parameters: [&(dyn ToSql + Sync); 3] = [&after, &DEVELOPERS_PAGE, &MAX_CHARS];
            let rows = source.query_raw(SQL, parameters).await?;
            let (rows, _) = page::collect(rows, usize::MAX).await?;
            rows.iter().map(source_developer).collect()
        };
        self.read(read).await
    }

    /// Refuses what is more than a plain table: its owner's code would run as whoever imports, and a
    /// transaction that only reads does not stop what a superuser may do.
    async fn is_only(&self, columns: &[Column]) -> Result<(), SourceFault> {
        let look = timeout(SCAN_TIMEOUT, plain_tables::look(&self.client, columns));
        let look = look.await.map_err(|_| SourceFault::Lost)?;
        match look.map_err(|error| fault_of(&error))?.fault {
            // The server says it better, with its code.
            None
            | Some(TableFault {
                what: NOT_THERE, ..
            }) => Ok(()),
            Some(TableFault { table, what }) => Err(SourceFault::MoreThanATable { table, what }),
        }
    }

    /// Reads in a transaction that cannot write, whatever the role may.
    async fn read<T>(
        &mut self,
        work: impl AsyncFnOnce(&Transaction<'_>) -> Query<T>,
    ) -> Result<T, SourceFault> {
        let transacted = async {
            let transaction = self.client.build_transaction().read_only(true);
            let transaction = transaction.start().await?;
            let answer = work(&transaction).await?;
            transaction.commit().await?;
            Ok(answer)
        };
        let answer: Query<T> = timeout(SCAN_TIMEOUT, transacted)
            .await
            .map_err(|_| SourceFault::Lost)?;
        answer.map_err(|error| fault_of(&error))
    }
}

/// What the server says, without its details: those repeat rows. It is not ours, and may say anything.
fn fault_of(error: &tokio_postgres::Error) -> SourceFault {
    match error.as_db_error() {
        Some(said) => {
            let (code, message) = (said.code().code(), said.message().escape_debug());
            SourceFault::Refused(format!("{code} {message}"))
        }
        None if error.is_closed() => SourceFault::Lost,
        None => SourceFault::Refused(error.to_string()),
    }
}

fn source_key(row: &Row) -> Query<SourceKey> {
    Ok(SourceKey {
        id: row.try_get("id")?,
        developer: row.try_get("developer_id")?,
        principal: row.try_get("principal_id")?,
        service: row.try_get("service")?,
        updated_at: row.try_get("updated_at")?,
        newest: row.try_get("newest")?,
    })
}

fn source_row(row: &Row) -> Query<SourceRow> {
    Ok(SourceRow {
        id: row.try_get("id")?,
        developer: row.try_get("developer_id")?,
        principal: row.try_get("principal_id")?,
        service: row.try_get("service")?,
        credential_type: row.try_get("credential_type")?,
        access_token: bounded(row, "access_token", "access_token_bytes")?,
        refresh_token: bounded(row, "refresh_token", "refresh_token_bytes")?,
        token_expires_at: row.try_get("token_expires_at")?,
        metadata: bounded(row, "metadata", "metadata_bytes")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

fn bounded(row: &Row, text: &str, bytes: &str) -> Query<Bounded> {
    let length: Option<i64> = row.try_get(bytes)?;
    Ok(match (length, row.try_get(text)?) {
        (None, _) => Bounded::Null,
        (Some(_), None) => Bounded::TooLong,
        (Some(_), Some(text)) => Bounded::Text(text),
    })
}

fn source_developer(row: &Row) -> Query<SourceDeveloper> {
    Ok(SourceDeveloper {
        id: row.try_get("id")?,
        api_key_hash: row.try_get("api_key_hash")?,
        name: row.try_get("name")?,
        mode: row.try_get("mode")?,
    })
}
