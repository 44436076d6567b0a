//! Postgres: the only room with SQL. Every statement that serves a request names its developer.

pub mod api_keys;
pub mod audit_events;
pub mod audit_look;
pub mod audit_order;
pub mod audit_partitions;
pub mod audit_reading;
pub mod audit_seals;
pub mod authority;
mod authority_tables;
mod authority_trust;
mod columns;
pub mod conditional_events;
mod connect;
pub mod credential_writes;
pub mod credentials;
pub mod database_url;
pub mod developers;
pub mod diagnosis;
mod durable;
pub mod exchanges;
pub mod grantex_source;
pub mod imports;
pub mod master_keys;
mod page;
mod plain_tables;
pub mod precondition;
mod readers;
pub mod reading;
mod reason;
pub mod revocations;
pub mod rotation;
pub mod schema;
pub mod serving_role;
mod session;
mod tls;
mod transaction;
pub mod webhook_secrets;
mod writers;
mod written_last;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool_postgres::{Object, Pool, PoolError};
use thiserror::Error;
use tokio_postgres::{
    CancelToken, Row,
    error::{DbError, Severity, SqlState},
    types::ToSql,
};
use tracing::Instrument;

use crate::{
    metrics::{Gauge, Metrics},
    model::{sealed::MasterKeyId, timestamp::Timestamp},
    underway,
};
use authority::Authority;
use authority_trust::AuthorityTrust;
use columns::BadColumn;
use connect::{CutShort, Plans, Sessions, pool};
use database_url::DatabaseUrl;
use exchanges::Lookups;
use readers::Readers;
use reading::Reading;
use reason::Said;
use schema::{Durability, NoWrites, SchemaFault};
use tls::Tls;
use written_last::WrittenLast;

pub use durable::DURABLY;
pub use transaction::Transaction;
pub use writers::Ended;

/// The span of a statement (OpenTelemetry semantic conventions for databases). It names the operation
/// and the table, never a value.
macro_rules! database_span {
    ($operation:literal, $table:literal) => {
        tracing::info_span!(
            concat!($operation, " vault.", $table),
            otel.kind = "client",
            db.system.name = "postgresql",
            db.operation.name = $operation,
            db.collection.name = concat!("vault.", $table),
        )
    };
    ($operation:literal) => {
        tracing::info_span!(
            $operation,
            otel.kind = "client",
            db.system.name = "postgresql",
            db.operation.name = $operation,
        )
    };
}
use database_span;

/// How many connections single statements are read on. Two keep two processors busy; more would have
/// shorter pipelines.
const READERS: usize = 2;
/// How long a request waits for a free connection.
const WAIT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a new connection may take; its checks may take as long as statements do.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one statement may take before its caller is told that the database is unavailable.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a statement of an operator may take that reads a whole table.
const SCAN_TIMEOUT: Duration = Duration::from_mins(10);
/// How many requests may wait for a connection before the next one is refused at once.
const MAX_WAITING: usize = 1024;

/// The vault's database.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    /// What single statements are read on.
    readers: Readers,
    /// How exchanges read, on the same connections.
    lookups: OnceLock<Lookups>,
    reading: Reading,
    /// One connection, on which nothing but audit events is written.
    recording: Pool,
    /// One connection, on which audit events are written whose exchange it confirms.
    confirming: Pool,
    /// One connection, on which it is looked how the database is; requests have none of it, and the tables
    /// of another authority are not read on it.
    looking: Pool,
    sessions: Sessions,
    authority: Authority,
    /// How a connection that asks to cancel is secured.
    tls: Tls,
    metrics: Metrics,
    /// How many statements were answered, so that a pool which is all in use is not taken for one
    /// that has no database.
    answered: Arc<AtomicU64>,
    written_last: Arc<WrittenLast>,
    durability: Durability,
    unfit: Arc<Unfit>,
    cut_short: CutShort,
}

/// A pooled connection. One that missed a deadline is closed, not given back: nobody knows what it
/// is still doing. Neither is one whose session the server ended: the next one would be given it as
/// long as its end has not arrived.
pub struct Connection {
    object: Option<Object>,
    progress: Progress,
    tls: Tls,
    written_last: Arc<WrittenLast>,
    authority: Authority,
}

/// What a server says that it does with what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writing {
    /// Why it takes none, if it does not.
    pub refused: Option<NoWrites>,
    /// Whether it waits until it is on disk.
    pub fsync: bool,
    /// Whether it can mend pages that a crash left half written.
    pub full_page_writes: bool,
    /// How long it lets a statement of ours take; zero is any time.
    pub statement_timeout: Duration,
    /// Its clock.
    pub now: Timestamp,
}

/// Why nothing is asked of a server that answers, until somebody has mended it.
#[derive(Default)]
struct Unfit {
    /// It does not flush what it commits.
    unflushed: AtomicBool,
    /// Whether the tables of another authority are only tables.
    tables: AuthorityTrust,
}

/// What became of the statements of a connection.
#[derive(Default)]
struct Progress {
    /// One missed its deadline, or was answered with the end of the session.
    lost: AtomicBool,
    /// One is not answered yet. When the connection is dropped like this, its request was given up.
    pending: AtomicBool,
    answered: Arc<AtomicU64>,
    cut_short: CutShort,
}

/// Why the database did not answer, by who must act.
#[derive(Debug, Error)]
pub enum StoreFault {
    /// Time, or the operator: no connection, or it broke.
    #[error("the database is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Time: too slow, or too many wait.
    #[error("the database is overloaded")]
    Overloaded,
    /// What was to be written must change: a value does not fit, or breaks a constraint.
    #[error("the database refuses what was to be written")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The operator: this replica is configured to wrap with a key that was retired.
    #[error("master key {0} is retired: nothing may be stored under it")]
    RetiredMasterKey(MasterKeyId),
    /// The caller: the API key of a write was revoked or has expired since it was let in, or its developer
    /// was suspended or deleted.
    #[error("the API key is not valid any more")]
    InvalidApiKey,
    /// Somebody changed a row: a column holds what the vault never writes.
    #[error("row {row} of vault.{table} is inconsistent")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The row's id as it stands there.
        row: String,
        /// Which column, and how.
        #[source]
        column: BadColumn,
    },
}

impl Store {
    /// Opens a pool of at most `size` connections, `READERS` more for single reads, and two more for
    /// the audit, and one on which it is looked how the database is; none is made yet.
    ///
    /// # Errors
    ///
    /// When the root certificates of the URL cannot be read.
    pub fn open(
        url: &DatabaseUrl,
        size: usize,
        durability: Durability,
    ) -> Result<Self, tls::TlsFault> {
        let (answered, cut_short) = (Arc::default(), CutShort::default());
        let sessions = Sessions::default();
        let open =
            |size, durability, plans| pool(url, size, durability, plans, &cut_short, &sessions);
        let pool = |size, plans| open(size, durability, plans);
        let readers = Readers::new(
            pool(READERS, Plans::Once)?,
            Tls(url.clone()),
            Arc::clone(&answered),
        );
        Ok(Self {
            pool: pool(size, Plans::AsPostgresDoes)?,
            readers,
            lookups: OnceLock::new(),
            reading: Reading::default(),
            recording: pool(1, Plans::Once)?,
            confirming: pool(1, Plans::Once)?,
            // A server that does not flush is to be seen, not avoided.
            looking: open(1, Durability::OfStorage, Plans::AsPostgresDoes)?,
            sessions: sessions.clone(),
            authority: Authority::default(),
            tls: Tls(url.clone()),
            metrics: Metrics::unobserved(),
            answered,
            written_last: Arc::new(WrittenLast::new()),
            durability,
            unfit: Arc::default(),
            cut_short,
        })
    }

    /// Takes this authority's word for who the developers are and which grants live.
    #[must_use]
    pub fn under(self, authority: Authority) -> Self {
        Self {
            authority,
            lookups: OnceLock::new(),
            ..self
        }
    }

    /// Measures what waits for a connection, and how many are in use.
    #[must_use]
    pub fn measured_by(self, metrics: Metrics) -> Self {
        let pool = self.pool.clone();
        metrics.gauge(Gauge::DbPoolInUse, move || {
            let status = pool.status();
            // More may be free than there are in all, for a moment.
            u32::try_from(status.size.saturating_sub(status.available))
                .ok()
                .map(f64::from)
        });
        Self {
            metrics,
            lookups: OnceLock::new(),
            ..self
        }
    }

    /// Which requests wait for what they read.
    #[must_use]
    pub fn reading(&self) -> &Reading {
        &self.reading
    }

    /// Asks the database whether it takes writes, and flushes what it commits. While it does not flush, and
    /// its storage is not said to be durable by itself, nothing else is asked of it: what would be
    /// acknowledged could be lost. It is asked on a connection that no request can keep busy.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn writing(&self) -> Result<Writing, StoreFault> {
        // Store::writing
        const SQL: &str = "
            select pg_catalog.pg_is_in_recovery() as in_recovery,
                pg_catalog.current_setting('transaction_read_only')::bool as read_only,
                pg_catalog.current_setting('fsync')::bool as fsync,
                pg_catalog.current_setting('full_page_writes')::bool as full_page_writes,
                (select setting::bigint from pg_catalog.pg_settings where name = 'statement_timeout')
                    as statement_timeout,
                pg_catalog.clock_timestamp() as now";
        // Outside of a trace: it would be one of its own every time.
        let connection = self.connection_of(&self.looking).await?;
        let work = async {
            let statement = connection.client().prepare_cached(SQL).await?;
            connection.client().query_one(&statement, &[]).await
        };
        let row = connection.deadline(work).await?;
        let writing = Writing {
            refused: NoWrites::of(row.get("in_recovery"), row.get("read_only")),
            fsync: row.get("fsync"),
            full_page_writes: row.get("full_page_writes"),
            statement_timeout: Duration::from_millis(
                row.get::<_, i64>("statement_timeout").unsigned_abs(),
            ),
            now: row.get("now"),
        };
        let unflushed = !writing.fsync && self.durability == Durability::Required;
        self.unfit.unflushed.store(unflushed, Ordering::Relaxed);
        Ok(writing)
    }

    /// Asks the database whether it answers on a connection that requests have. When all of those are in
    /// use, a statement of another that was answered meanwhile is answer enough.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn ping(&self) -> Result<(), StoreFault> {
        let before = self.answered.load(Ordering::Relaxed);
        let connection = match self.pooled().await {
            Ok(connection) => connection,
            Err(StoreFault::Overloaded) if self.answered.load(Ordering::Relaxed) != before => {
                return Ok(());
            }
            Err(fault) => return Err(fault),
        };
        let asked = connection.client().simple_query("");
        connection.deadline(asked).await.map(|_| ())
    }

    /// Looks whether the tables of the authority are only tables. Unless they were a moment ago, nothing else
    /// is asked of the database: what took their place would run as us. It is asked on a connection that
    /// reads nothing of them, which nothing else can keep busy.
    ///
    /// When something was done to them, no session goes on that may have read them meanwhile: what ran in
    /// it could have set it up for more.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn authority_fault(&self) -> Result<Option<SchemaFault>, StoreFault> {
        if self.authority == Authority::Standalone {
            return Ok(None);
        }
        let connection = self.connection_of(&self.looking).await?;
        let look = connection.deadline(authority_tables::look(connection.client()));
        let look = look.await?;
        if self.unfit.tables.learn(&look) {
            tracing::warn!("the tables of the authority were changed: every session is begun anew");
            self.sessions.end();
            self.readers.leave();
        }
        Ok(look.fault.map(SchemaFault::from))
    }

    /// What serving needs and the role that we connect as may not.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn missing_privileges(&self) -> Result<Vec<String>, StoreFault> {
        let connection = self.connection_of(&self.looking).await?;
        let missing = connection.deadline(serving_role::missing(connection.client()));
        missing.await
    }

    fn refuse_unfit(&self) -> Result<(), StoreFault> {
        let says = if self.unfit.unflushed.load(Ordering::Relaxed) {
            "the server has fsync=off"
        } else if self.authority == Authority::Grantex && !self.unfit.tables.holds() {
            "the tables of the authority are not known to be only tables"
        } else {
            return Ok(());
        };
        Err(StoreFault::Unavailable(says.into()))
    }

    /// A connection for a transaction or a few statements. Hold it while nothing else is awaited.
    ///
    /// # Errors
    ///
    /// When none can be had in time.
    pub async fn connection(&self) -> Result<Connection, StoreFault> {
        self.refuse_unfit()?;
        self.pooled().instrument(database_span!("connect")).await
    }

    /// Asks for at most one row in one statement, on a connection that others read on too.
    async fn read(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, StoreFault> {
        self.refuse_unfit()?;
        let _reading = self.reading.begin();
        let rows = self.readers.read(sql, parameters, &self.metrics).await;
        Ok(rows?.pop())
    }

    async fn pooled(&self) -> Result<Connection, StoreFault> {
        self.connection_of(&self.pool).await
    }

    async fn connection_of(&self, pool: &Pool) -> Result<Connection, StoreFault> {
        if pool.status().waiting >= MAX_WAITING {
            return Err(StoreFault::Overloaded);
        }
        let since = Instant::now();
        let got = underway::on_database(pool.get()).await;
        self.metrics.connection_waited_for(since.elapsed());
        let object = got.map_err(|error| match error {
            PoolError::Timeout(deadpool_postgres::TimeoutType::Wait) => StoreFault::Overloaded,
            other => StoreFault::Unavailable(other.into()),
        })?;
        Ok(Connection {
            object: Some(object),
            progress: Progress {
                answered: Arc::clone(&self.answered),
                cut_short: self.cut_short.clone(),
                ..Progress::default()
            },
            tls: self.tls.clone(),
            written_last: Arc::clone(&self.written_last),
            authority: self.authority,
        })
    }

    /// Closes the pool: waiting requests are refused, connections end when they are given back.
    pub fn close(&self) {
        self.pool.close();
        self.readers.close();
        self.recording.close();
        self.confirming.close();
        self.looking.close();
    }
}

// === impl Connection ===

impl Connection {
    fn client(&self) -> &Object {
        self.object.as_ref().expect("taken only when dropped")
    }

    async fn deadline<T>(&self, work: impl Future<Output = Query<T>>) -> Result<T, StoreFault> {
        deadline(&self.progress, work).await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else {
            return;
        };
        let runtime = tokio::runtime::Handle::try_current().ok();
        let pending = self.progress.pending.load(Ordering::Relaxed);
        match runtime.filter(|_| pending) {
            Some(runtime) if self.progress.lost.load(Ordering::Relaxed) => {
                let cancel = object.cancel_token();
                drop(Object::take(object));
                runtime.spawn(give_up(cancel, self.tls.clone()));
            }
            Some(runtime) => {
                runtime.spawn(drain(object));
            }
            // Out of the pool and closed.
            None if self.progress.lost.load(Ordering::Relaxed) => drop(Object::take(object)),
            None => {}
        }
    }
}

/// Has the server end what nobody waits for. It would go on otherwise: wait for a lock with a session
/// of its own, and then do what its caller was told had failed.
async fn give_up(cancel: CancelToken, tls: Tls) {
    // A server that cannot be reached ends it by itself, or has ended.
    let _ = tokio::time::timeout(CONNECT_TIMEOUT, cancel.cancel_query(tls)).await;
}

/// Waits until a connection has answered what its request gave up, and only then gives it back: the
/// next one would wait for that. Its place in the pool stays taken meanwhile.
async fn drain(object: Object) {
    let answered = tokio::time::timeout(STATEMENT_TIMEOUT, object.simple_query("")).await;
    if !matches!(answered, Ok(Ok(_))) {
        drop(Object::take(object));
    }
}

/// What a statement answers.
type Query<T> = Result<T, tokio_postgres::Error>;

async fn deadline<T>(
    progress: &Progress,
    work: impl Future<Output = Query<T>>,
) -> Result<T, StoreFault> {
    within(STATEMENT_TIMEOUT, progress, work).await
}

async fn within<T>(
    limit: Duration,
    progress: &Progress,
    work: impl Future<Output = Query<T>>,
) -> Result<T, StoreFault> {
    progress.pending.store(true, Ordering::Relaxed);
    let cut_short = progress.cut_short.count();
    let Ok(answer) = tokio::time::timeout(limit, underway::on_database(work)).await else {
        progress.lost.store(true, Ordering::Relaxed);
        return Err(StoreFault::Overloaded);
    };
    progress.pending.store(false, Ordering::Relaxed);
    match &answer {
        Ok(_) if progress.cut_short.count() != cut_short => {
            let why = "a commit did not wait for what it should have waited for";
            return Err(StoreFault::Unavailable(why.into()));
        }
        Ok(_) => {
            progress.answered.fetch_add(1, Ordering::Relaxed);
        }
        Err(error) if ends_session(error) => progress.lost.store(true, Ordering::Relaxed),
        Err(_) => {}
    }
    answer.map_err(fault_of)
}

/// Whether nothing more is to be asked on this connection: it has ended, or the server says that it will
/// have in a moment, or it leads to a server that takes no writes, such as the one that was failed over
/// from.
fn ends_session(error: &tokio_postgres::Error) -> bool {
    let severity = error.as_db_error().and_then(DbError::parsed_severity);
    error.is_closed()
        || error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
        || matches!(severity, Some(Severity::Fatal | Severity::Panic))
}

/// Classes of SQLSTATE (appendix A of Postgres' manual) that are about the values: data exceptions,
/// integrity constraints, limits that a value exceeds.
const CLASSES_OF_VALUES: [&str; 3] = ["22", "23", "54"];

/// What the server says of an error, without its details: those repeat the row.
fn fault_of(error: tokio_postgres::Error) -> StoreFault {
    let Some(said) = error.as_db_error() else {
        return StoreFault::Unavailable(error.into());
    };
    let code = said.code().code();
    let is_of_values = CLASSES_OF_VALUES
        .iter()
        .any(|class| code.starts_with(class));
    let said = Said::of(said).into();
    if is_of_values {
        StoreFault::Refused(said)
    } else {
        StoreFault::Unavailable(said)
    }
}

/// The same for a statement of an operator that reads a whole table: it may take its time.
async fn patiently<T>(
    progress: &Progress,
    work: impl Future<Output = Query<T>>,
) -> Result<T, StoreFault> {
    within(SCAN_TIMEOUT, progress, work).await
}
