//! Connections that many requests read on at once, pipelined: single statements that answer few rows.
//! What needs a connection for itself (a transaction, a list) has the pool.
//!
//! Statements are written and answered several at once, so that neither side makes a system call and
//! wakes up for each. Together with `auth/verified_tokens.rs` it bought 7,400 to 12,900 exchanges a second.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool_postgres::{ClientWrapper, Object, Pool};
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::timeout,
};
use tokio_postgres::{Row, Statement, types::ToSql};

use super::{
    MAX_WAITING, Query, STATEMENT_TIMEOUT, StoreFault, WAIT_TIMEOUT, ends_session, fault_of,
    give_up, tls::Tls,
};
use crate::{metrics::Metrics, underway};

/// How many statements are under way on one connection, at most; more wait for a place.
const MAX_PIPELINED: usize = 64;
/// A connection that answers nothing for this long is stuck behind a statement, one that waits for a
/// lock say.
const STUCK_AFTER: Duration = Duration::from_millis(500);
/// How many connections there may be for each that is needed, those that are stuck included.
const SPARE: usize = 4;

/// Shared connections; clones are the same.
#[derive(Clone)]
pub(super) struct Readers(Arc<Shared>);

struct Shared {
    /// It only makes connections, with their checks; those are ours then.
    connect: Pool,
    /// How a connection that asks to cancel is secured.
    tls: Tls,
    slots: Box<[Slot]>,
    next: AtomicUsize,
    places: Semaphore,
    waiting: AtomicUsize,
    connections: Arc<Semaphore>,
    answered: Arc<AtomicU64>,
}

/// Where one connection is, once it was needed.
#[derive(Default)]
struct Slot {
    current: Mutex<Option<Arc<Reader>>>,
    /// Who makes the next one; the others wait for that.
    making: AsyncMutex<()>,
}

/// A connection.
struct Reader {
    client: ClientWrapper,
    /// Prepared on it, by their texts, which are constants of ours.
    statements: Mutex<Vec<(&'static str, Statement)>>,
    tls: Tls,
    /// Statements that were not answered to whoever asked, given up or not.
    unanswered: AtomicUsize,
    answered: AtomicU64,
    _counted: OwnedSemaphorePermit,
}

/// What became of a statement on one connection.
enum Outcome {
    Answered(Query<Vec<Row>>),
    /// Nothing was answered on the connection for a while.
    Stuck,
    TimedOut,
}

impl Readers {
    /// As many connections as there are places in the pool that makes them; none is made yet. What is
    /// answered on them is counted.
    pub(super) fn new(connect: Pool, tls: Tls, answered: Arc<AtomicU64>) -> Self {
        let count = connect.status().max_size;
        Self(Arc::new(Shared {
            connect,
            tls,
            slots: (0..count).map(|_| Slot::default()).collect(),
            next: AtomicUsize::new(0),
            places: Semaphore::new(count * MAX_PIPELINED),
            waiting: AtomicUsize::new(0),
            connections: Arc::new(Semaphore::new(count * SPARE)),
            answered,
        }))
    }

    /// Asks for few rows, in one statement that changes nothing. When the connection breaks, or
    /// is stuck, it is asked again, once, on another one.
    ///
    /// A deadline that is missed ends the waiting. The connection is left to those who wait on it
    /// already, and when there are none left it is closed and what it still does is cancelled.
    pub(super) async fn read(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
        metrics: &Metrics,
    ) -> Result<Vec<Row>, StoreFault> {
        let since = Instant::now();
        let _place = self.place().await?;
        let end = since + STATEMENT_TIMEOUT;
        let mut again = true;
        loop {
            let slot = self.slot();
            let reader = self.reader(slot).await?;
            metrics.connection_waited_for(since.elapsed());
            let outcome = reader.ask(sql, parameters, end, again).await;
            match outcome {
                Outcome::Answered(Ok(rows)) => {
                    self.0.answered.fetch_add(1, Ordering::Relaxed);
                    return Ok(rows);
                }
                Outcome::Answered(Err(error)) if !ends_session(&error) => {
                    return Err(fault_of(error));
                }
                Outcome::Answered(Err(error)) if !again => {
                    slot.leave(&reader);
                    return Err(fault_of(error));
                }
                Outcome::TimedOut => {
                    slot.leave(&reader);
                    return Err(StoreFault::Overloaded);
                }
                Outcome::Answered(Err(_)) | Outcome::Stuck => {
                    slot.leave(&reader);
                    again = false;
                }
            }
        }
    }

    /// Refuses what comes, and closes each connection when what is under way on it has ended.
    pub(super) fn close(&self) {
        self.0.connect.close();
        self.leave();
    }

    /// Reads on other connections from now on. Those that there are close when what is under way on them has
    /// ended.
    pub(super) fn leave(&self) {
        for slot in &self.0.slots {
            slot.current().take();
        }
    }

    async fn place(&self) -> Result<SemaphorePermit<'_>, StoreFault> {
        if let Ok(place) = self.0.places.try_acquire() {
            return Ok(place);
        }
        let _waiting = Waiting::count(&self.0.waiting).ok_or(StoreFault::Overloaded)?;
        let place = timeout(WAIT_TIMEOUT, self.0.places.acquire());
        match underway::on_database(place).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(StoreFault::Overloaded),
        }
    }

    fn slot(&self) -> &Slot {
        let next = self.0.next.fetch_add(1, Ordering::Relaxed);
        let slots = &self.0.slots;
        &slots[next % slots.len()]
    }

    async fn reader(&self, slot: &Slot) -> Result<Arc<Reader>, StoreFault> {
        match slot.usable() {
            Some(reader) => Ok(reader),
            // Boxed: every exchange would carry the room that a connect needs.
            None => Box::pin(underway::on_database(self.made(slot))).await,
        }
    }

    async fn made(&self, slot: &Slot) -> Result<Arc<Reader>, StoreFault> {
        let Ok(_making) = timeout(WAIT_TIMEOUT, slot.making.lock()).await else {
            return Err(StoreFault::Overloaded);
        };
        // Somebody else may have made it meanwhile.
        if let Some(reader) = slot.usable() {
            return Ok(reader);
        }
        let counted = Arc::clone(&self.0.connections).try_acquire_owned();
        let counted = counted.map_err(|_| StoreFault::Overloaded)?;
        let made = self.0.connect.get().await;
        let made = made.map_err(|error| StoreFault::Unavailable(error.into()))?;
        let reader = Arc::new(Reader {
            client: Object::take(made),
            statements: Mutex::default(),
            tls: self.0.tls.clone(),
            unanswered: AtomicUsize::new(0),
            answered: AtomicU64::new(0),
            _counted: counted,
        });
        *slot.current() = Some(Arc::clone(&reader));
        Ok(reader)
    }
}

// === impl Slot ===

impl Slot {
    fn current(&self) -> MutexGuard<'_, Option<Arc<Reader>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn usable(&self) -> Option<Arc<Reader>> {
        let current = self.current();
        let usable = current.as_ref().filter(|reader| !reader.client.is_closed());
        usable.cloned()
    }

    /// Leaves a connection to those who wait on it, unless that was done already.
    fn leave(&self, reader: &Arc<Reader>) {
        let mut current = self.current();
        if current
            .as_ref()
            .is_some_and(|other| Arc::ptr_eq(other, reader))
        {
            current.take();
        }
    }
}

// === impl Reader ===

impl Reader {
    /// Waits for an answer until `end`, or until the connection is found to be stuck, if that is of
    /// interest.
    async fn ask(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
        end: Instant,
        leave_when_stuck: bool,
    ) -> Outcome {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        let mut asked = pin!(underway::on_database(async {
            let statement = match self.prepared(sql) {
                Some(statement) => statement,
                None => Box::pin(self.prepare(sql)).await?,
            };
            self.client.query(&statement, parameters).await
        }));
        loop {
            let answered = self.answered.load(Ordering::Relaxed);
            if let Ok(answer) = timeout(STUCK_AFTER, asked.as_mut()).await {
                self.unanswered.fetch_sub(1, Ordering::Relaxed);
                self.answered.fetch_add(1, Ordering::Relaxed);
                return Outcome::Answered(answer);
            }
            if Instant::now() >= end {
                return Outcome::TimedOut;
            }
            if leave_when_stuck && self.answered.load(Ordering::Relaxed) == answered {
                return Outcome::Stuck;
            }
        }
    }

    fn statements(&self) -> MutexGuard<'_, Vec<(&'static str, Statement)>> {
        self.statements
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn prepared(&self, sql: &'static str) -> Option<Statement> {
        let statements = self.statements();
        let mut found = statements.iter();
        let found = found.find(|(text, _)| std::ptr::eq(*text, sql));
        found.map(|(_, statement)| statement.clone())
    }

    async fn prepare(&self, sql: &'static str) -> Query<Statement> {
        let statement = self.client.prepare(sql).await?;
        let mut statements = self.statements();
        statements.retain(|(text, _)| !std::ptr::eq(*text, sql));
        statements.push((sql, statement.clone()));
        Ok(statement)
    }
}

impl Drop for Reader {
    /// Nobody else can be hurt by it now: what was given up need not be done.
    fn drop(&mut self) {
        let runtime = tokio::runtime::Handle::try_current().ok();
        let given_up = self.unanswered.load(Ordering::Relaxed) > 0;
        if let Some(runtime) = runtime.filter(|_| given_up && !self.client.is_closed()) {
            runtime.spawn(give_up(self.client.cancel_token(), self.tls.clone()));
        }
    }
}

/// Counts one that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    /// `None` when too many wait already.
    fn count(waiting: &'a AtomicUsize) -> Option<Self> {
        let this = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(this)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
