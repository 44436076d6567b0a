//! Waiting for those who write with what they read before something was forbidden.
//!
//! A store, a delete and the event of an exchange ask in their own statement whether they may: whether the
//! API key is valid, the grant lives, the master key is in use. A statement of Postgres locks its tables
//! before it takes the snapshot that it reads with, at least in the isolation level READ COMMITTED, which
//! our transactions ask for and single statements make sure of (`read_committed!`). So there are two kinds of writers once it
//! is committed that something is forbidden. Those that read afterwards see it and are refused. Those that
//! read before hold their lock on the table already, until their transaction ends: they are waited for, and
//! after that nobody is left who could write. No table is locked for it, so nobody else waits.

use std::time::Duration;

use deadpool_postgres::GenericClient;
use tokio::time::{Instant, sleep};
use tokio_postgres::types::ToSql;

use super::{Progress, Store, StoreFault, deadline};

/// Whether a statement has its snapshot from after its locks, without which it may not write: behind a
/// transaction pooler a session may be another one than the one that was set.
macro_rules! read_committed {
    () => {
        "pg_catalog.current_setting('transaction_isolation') = 'read committed'"
    };
}
pub(super) use read_committed;

/// Why nothing was written in another isolation level.
pub(super) fn not_read_committed() -> StoreFault {
    StoreFault::Unavailable("the database's transactions are not READ COMMITTED".into())
}

/// How often it is looked whether they have ended.
const POLL: Duration = Duration::from_millis(20);
/// How long they may take after a revocation: longer than any of our own statements, and a request of an
/// operator still answers in time.
const AFTER_REVOCATION: Duration = Duration::from_secs(10);

/// A table whose writers are waited for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Written {
    Credentials,
    WebhookSecrets,
    AuditSigningKey,
    AuditEvents,
}

/// Whether those that were writing have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All of them.
    All,
    /// Not all in the time that they were given.
    NotYet,
}

impl Written {
    fn table(self) -> &'static str {
        match self {
            Self::Credentials => "vault.credentials",
            Self::WebhookSecrets => "vault.webhook_secrets",
            Self::AuditSigningKey => "vault.audit_signing_key",
            Self::AuditEvents => "vault.audit_events",
        }
    }
}

impl Store {
    /// Waits until nobody stores, deletes or releases a credential who has not seen what is committed now.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn earlier_requests_have_ended(&self) -> Result<Ended, StoreFault> {
        const TABLES: &[Written] = &[Written::Credentials, Written::AuditEvents];
        let connection = self.connection().await?;
        let (client, progress) = (connection.client(), &connection.progress);
        writers_have_ended(client, progress, TABLES, AFTER_REVOCATION).await
    }
}

/// Waits until every transaction has ended that is writing to one of these tables now.
pub(super) async fn writers_have_ended(
    client: &impl GenericClient,
    progress: &Progress,
    tables: &[Written],
    patience: Duration,
) -> Result<Ended, StoreFault> {
    // writers::writers_have_ended
    const SQL: &str = "
        select distinct virtualtransaction from pg_catalog.pg_locks
        where locktype = 'relation' and mode = 'RowExclusiveLock' and granted
          and database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
          and relation = any (array(
              select name::regclass::oid from pg_catalog.unnest($1::text[]) as name))
          and ($2::text[] is null or virtualtransaction = any ($2))";
    let tables: Vec<&str> = tables.iter().map(|table| table.table()).collect();
    let mut writers: Option<Vec<String>> = None;
    let end = Instant::now() + patience;
    loop {
        let parameters: [&(dyn ToSql + Sync); 2] = [&tables, &writers];
        let rows = deadline(progress, client.query(SQL, &parameters)).await?;
        if rows.is_empty() {
            return Ok(Ended::All);
        }
        if Instant::now() > end {
            return Ok(Ended::NotYet);
        }
        writers = Some(rows.iter().map(|row| row.get(0)).collect());
        sleep(POLL).await;
    }
}
