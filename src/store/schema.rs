//! The schema: migrating it, and refusing one that this server cannot serve.

use thiserror::Error;
use tokio::time::timeout;
use tokio_postgres::{Client, error::SqlState};

use super::{
    STATEMENT_TIMEOUT, connect,
    database_url::DatabaseUrl,
    durable::durably,
    serving_role::{self, RoleName},
    session, tls,
};

mod embedded {
    refinery::embed_migrations!("src/store/migrations");
}

/// The schema version that this server was written for.
pub const SCHEMA_VERSION: i32 = 7;

/// What a server has that does not flush what it commits.
pub const FSYNC_OFF: &str = "fsync=off";

/// Any number that is the same for every runner.
const MIGRATION_LOCK: i64 = 0x6772_616e_7465_7800;

/// Why a database's schema or settings are refused.
#[derive(Debug, Error)]
pub enum SchemaFault {
    /// There is none.
    #[error("the database has no vault schema: run `grantex-vault migrate`")]
    Missing,
    /// An older one.
    #[error(
        "the database's vault schema is version {0}, older than this server needs ({SCHEMA_VERSION}): run `grantex-vault migrate`"
    )]
    Older(i32),
    /// A newer one that no longer serves this version.
    #[error(
        "the database's vault schema is version {0} and no longer serves this server ({SCHEMA_VERSION}): update the server"
    )]
    Newer(i32),
    /// Acknowledged writes could be lost.
    #[error("the database has {0}: it would lose acknowledged writes in a crash")]
    LosesWrites(&'static str),
    /// Not every name can be written in it.
    #[error(
        "the database's encoding is {0}, and must be UTF8: names may have any letters; make another \
         database with `encoding 'UTF8'`"
    )]
    Encoding(String),
    /// Time, or the operator: nothing can be written.
    #[error("the database {}", .0.says())]
    TakesNoWrites(NoWrites),
    /// The role was not granted what serving needs, or it was taken from it.
    #[error(
        "the role that serves may not {0}: run `grantex-vault migrate` as the owner with \
         GRANTEX_VAULT_DB_ROLE"
    )]
    MissingPrivileges(String),
    /// What `GRANTEX_VAULT_AUTHORITY` names cannot be asked.
    #[error(
        "GRANTEX_VAULT_AUTHORITY=grantex needs the tables of a Grantex auth service: {table} {what}"
    )]
    Authority {
        /// Which table.
        table: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The role may not, or what was applied is not what this server knows.
    #[error("the database's vault schema cannot be migrated")]
    Migration(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer.
    #[error("the database cannot be reached")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a database takes no writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoWrites {
    /// It is a standby: somebody must connect us to the primary, or promote it.
    Standby,
    /// Transactions of this role are read-only, by a setting of role, database or server.
    ReadOnly,
}

impl NoWrites {
    /// What is wrong with the database.
    #[must_use]
    pub fn says(self) -> &'static str {
        match self {
            Self::Standby => "is a standby, which takes no writes: connect to the primary",
            Self::ReadOnly => {
                "is read-only for this role: look at default_transaction_read_only of role, database and \
                 server"
            }
        }
    }

    /// What stands in the way, if anything does.
    pub(super) fn of(in_recovery: bool, read_only: bool) -> Option<Self> {
        match (in_recovery, read_only) {
            (true, _) => Some(Self::Standby),
            (false, true) => Some(Self::ReadOnly),
            (false, false) => None,
        }
    }
}

/// Who sees to it that what a database has acknowledged survives a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Postgres: one that does not flush is refused.
    Required,
    /// The storage, by its operator's word: it keeps what was written, in order and whole, whether it is
    /// flushed or not.
    OfStorage,
}

/// What migrating did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// How many migrations were applied now.
    pub applied: usize,
    /// The version that the schema has now.
    pub version: i32,
}

/// Brings the schema to this server's version; a newer one is left as it is. Several runners at once
/// are safe: a session lock lets one through at a time, so the URL must lead to Postgres itself, not
/// to a transaction pooler. Then grants `role`, if there is one, what serving needs.
///
/// # Errors
///
/// When the database cannot be reached or refuses a migration.
pub async fn migrate(url: &DatabaseUrl, role: Option<&RoleName>) -> Result<Migrated, SchemaFault> {
    let mut client = connect(url).await?;
    serves(&client).await?;
    let lock = "select pg_catalog.pg_advisory_lock($1)";
    client
        .execute(lock, &[&MIGRATION_LOCK])
        .await
        .map_err(unavailable)?;
    if let Some((version, _)) = version(&client).await?
        && version > SCHEMA_VERSION
    {
        return Ok(Migrated {
            applied: 0,
            version,
        });
    }
    make_schema(&client).await?;
    let mut runner = embedded::migrations::runner();
    runner.set_migration_table_name("vault.schema_history");
    let report = runner.run_async(&mut client).await.map_err(not_migrated)?;
    if let Some(role) = role {
        serving_role::grant(&client, role).await?;
    }
    // The lock ends with the session.
    Ok(Migrated {
        applied: report.applied_migrations().len(),
        version: SCHEMA_VERSION,
    })
}

/// Makes the schema, unless a DBA has made it for us: who may not create schemas may not ask for one that
/// is there either.
async fn make_schema(client: &Client) -> Result<(), SchemaFault> {
    // schema::make_schema
    const THERE: &str = "select from pg_catalog.pg_namespace where nspname = 'vault'";
    let there = client.query_opt(THERE, &[]).await.map_err(unavailable)?;
    if there.is_some() {
        return Ok(());
    }
    // Another runner cannot have made it meanwhile: one is let through at a time.
    let made = client.batch_execute("create schema vault").await;
    made.map_err(not_migrated)
}

/// Connects once and checks what the server would refuse on every connection, and whether it can be
/// written to.
///
/// # Errors
///
/// See [`SchemaFault`].
pub async fn check_once(url: &DatabaseUrl, durability: Durability) -> Result<(), SchemaFault> {
    let client = connect(url).await?;
    check(&client, durability).await?;
    serves(&client).await
}

/// Refuses a database that takes no writes, or not of all letters.
pub(super) async fn serves(client: &Client) -> Result<(), SchemaFault> {
    // schema::serves
    const SQL: &str = "
        select pg_catalog.current_setting('server_encoding') as encoding,
            pg_catalog.pg_is_in_recovery() as in_recovery,
            pg_catalog.current_setting('transaction_read_only')::bool as read_only";
    let row = timed(client.query_one(SQL, &[])).await?;
    let encoding: String = row.get("encoding");
    if encoding != "UTF8" {
        return Err(SchemaFault::Encoding(encoding));
    }
    match NoWrites::of(row.get("in_recovery"), row.get("read_only")) {
        Some(why) => Err(SchemaFault::TakesNoWrites(why)),
        None => Ok(()),
    }
}

/// Refuses a database that lacks this server's schema or would lose acknowledged writes.
pub(super) async fn check(client: &Client, durability: Durability) -> Result<(), SchemaFault> {
    match version(client).await? {
        None => return Err(SchemaFault::Missing),
        Some((found, _)) if found < SCHEMA_VERSION => return Err(SchemaFault::Older(found)),
        Some((found, serves_from)) if serves_from > SCHEMA_VERSION => {
            return Err(SchemaFault::Newer(found));
        }
        Some(_) => {}
    }
    loses_no_writes(client, durability).await
}

/// `synchronous_commit` is not asked for: every transaction that writes sets it (`durable.rs`).
async fn loses_no_writes(client: &Client, durability: Durability) -> Result<(), SchemaFault> {
    // schema::loses_no_writes
    const SQL: &str = "
        select pg_catalog.current_setting('fsync') = 'off', exists (
                select from pg_catalog.pg_class
                where relnamespace = 'vault'::regnamespace::oid and relkind = 'r' and relpersistence = 'u')";
    let row = timed(client.query_one(SQL, &[])).await?;
    if row.get(0) && durability == Durability::Required {
        return Err(SchemaFault::LosesWrites(FSYNC_OFF));
    }
    // A crash empties it, whatever the storage keeps.
    if row.get(1) {
        return Err(SchemaFault::LosesWrites("an UNLOGGED table"));
    }
    Ok(())
}

/// Begins another numbering of audit events when this is not the cluster that numbered the last ones:
/// a dump was restored. Every connection that writes events comes through here before it does.
pub(super) async fn ensure_era(client: &Client) -> Result<(), SchemaFault> {
    // schema::ensure_era
    const SQL: &str = "
        select system_identifier = (select system_identifier::text from pg_catalog.pg_control_system())
            or not pg_catalog.has_function_privilege('vault.begin_audit_era()', 'execute')
        from vault.audit_eras order by era desc limit 1";
    // schema::ensure_era
    const BEGIN: &str = concat!("select vault.begin_audit_era() where ", durably!());
    // Who may not begin one may not write events either.
    let row = timed(client.query_opt(SQL, &[])).await?;
    if row.is_some_and(|row| row.get(0)) {
        return Ok(());
    }
    let begin = client.query_one(BEGIN, &[]);
    let era: i32 = timed(begin).await?.get(0);
    tracing::warn!(
        era,
        "the database is another cluster's: its audit events are numbered anew"
    );
    Ok(())
}

/// The schema's version, and the oldest server version that it serves; `None` when there is none.
async fn version(client: &Client) -> Result<Option<(i32, i32)>, SchemaFault> {
    // schema::version
    let version = "select version, serves_from from vault.schema_version";
    let answer = timeout(STATEMENT_TIMEOUT, client.query_opt(version, &[])).await;
    match answer.map_err(unavailable)? {
        Ok(row) => Ok(row.map(|row| (row.get(0), row.get(1)))),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(unavailable(error)),
    }
}

fn is_missing(error: &tokio_postgres::Error) -> bool {
    let missing = [&SqlState::UNDEFINED_TABLE, &SqlState::INVALID_SCHEMA_NAME];
    error.code().is_some_and(|code| missing.contains(&code))
}

pub(super) async fn connect(url: &DatabaseUrl) -> Result<Client, SchemaFault> {
    let unsecured = |fault: tls::TlsFault| SchemaFault::Unavailable(fault.into());
    tls::check(url).map_err(unsecured)?;
    let made = connect::connect(url).await;
    let made = made.ok_or_else(|| SchemaFault::Unavailable("no host answers in time".into()))?;
    let (client, connection) = made.map_err(unavailable)?;
    // Ends with the client; its error is the client's.
    tokio::spawn(connection);
    timed(client.batch_execute(session::BEGIN)).await?;
    Ok(client)
}

pub(super) async fn timed<T>(
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, SchemaFault> {
    let answer = timeout(STATEMENT_TIMEOUT, work).await;
    answer.map_err(unavailable)?.map_err(unavailable)
}

fn not_migrated(error: impl std::error::Error + Send + Sync + 'static) -> SchemaFault {
    SchemaFault::Migration(Box::new(error))
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> SchemaFault {
    SchemaFault::Unavailable(Box::new(error))
}
