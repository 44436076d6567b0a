//! The way into the audit table, and the proof of having taken it.

use std::{
    iter,
    pin::pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::event::AuditEvent;
use crate::{
    clock::Clock,
    health::Probe,
    metrics::Metrics,
    store::{
        Store, StoreFault, Transaction,
        audit_events::{ConditionalEvent, Tried},
        precondition::Precondition,
    },
    underway,
};

/// How many events may wait; one more is refused at once.
const MAX_WAITING: usize = 4096;
/// How many are written by one statement.
const MAX_BATCH: usize = 512;
/// How long a batch waits, at most, for those that are about to come.
const PATIENCE: Duration = Duration::from_millis(1);
/// How long an event may take to become durable, waiting included.
const RECORD_TIMEOUT: Duration = Duration::from_secs(5);

/// Records events.
///
/// One writer takes the events of all requests of this process and writes on a connection of its own:
/// a batch is what arrived while the last one was committing, and some of what is on its way, so that
/// many share a commit. Who is alone waits for nobody.
pub struct Journal {
    queue: mpsc::Sender<Waiting>,
    /// Each request that records an event has a clone, from before it waits until it goes on.
    recording: Arc<()>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    probe: Arc<Probe>,
    closing: CancellationToken,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Proof that an audit event is durable. Only the journal makes one, after the commit.
#[derive(Debug)]
pub struct Receipt(());

/// The event could not be recorded: nothing may leave.
#[derive(Debug, Error)]
#[error("the audit event could not be recorded")]
pub struct Unrecorded(#[source] pub Arc<StoreFault>);

/// An event, and who waits for it.
struct Waiting {
    event: ConditionalEvent,
    written: oneshot::Sender<Written>,
}

/// Whether an event is there now.
type Written = Result<bool, Arc<StoreFault>>;

/// The only one who writes events that have no transaction.
struct Writer {
    queue: mpsc::Receiver<Waiting>,
    store: Store,
    recording: Weak<()>,
    metrics: Metrics,
    closing: CancellationToken,
}

impl Journal {
    /// Begins to record in this database, by this clock; what comes of it is measured, and said by the
    /// probe.
    #[must_use]
    pub fn start(store: Store, clock: Arc<dyn Clock>, metrics: Metrics, probe: Probe) -> Self {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        let closing = CancellationToken::new();
        let recording = Arc::new(());
        let writer = Writer {
            queue: waiting,
            store,
            recording: Arc::downgrade(&recording),
            metrics: metrics.clone(),
            closing: closing.clone(),
        };
        Self {
            queue,
            recording,
            clock,
            metrics,
            probe: Arc::new(probe),
            closing,
            writer: Mutex::new(Some(tokio::spawn(writer.run()))),
        }
    }

    /// Records an event on its own; it is durable when this has answered.
    ///
    /// An event whose request is given up meanwhile is recorded nevertheless: `released` says that a
    /// secret was allowed to leave, never that it arrived.
    ///
    /// # Errors
    ///
    /// [`Unrecorded`].
    pub async fn record(&self, event: &AuditEvent) -> Result<Receipt, Unrecorded> {
        let recorded = self.record_now(event, None).await?;
        Ok(recorded.expect("nothing had to hold"))
    }

    /// Records an event on its own, if that holds which its exchange took for granted: in the snapshot
    /// that the event is recorded from. Otherwise there is no event.
    ///
    /// # Errors
    ///
    /// [`Unrecorded`].
    pub async fn record_if(
        &self,
        precondition: Precondition,
        event: &AuditEvent,
    ) -> Result<Option<Receipt>, Unrecorded> {
        self.record_now(event, Some(precondition)).await
    }

    async fn record_now(
        &self,
        event: &AuditEvent,
        only_if: Option<Precondition>,
    ) -> Result<Option<Receipt>, Unrecorded> {
        let _recording = Arc::clone(&self.recording);
        let row = event.to_row(self.clock.now());
        let since = Instant::now();
        let waits = self.metrics.audit_event_waits();
        let recorded = self.written(ConditionalEvent { row, only_if });
        let recorded = recorded.instrument(tracing::info_span!("audit commit"));
        let recorded = underway::on_database(recorded).await;
        drop(waits);
        let is_there = self.learn(recorded)?;
        self.metrics.audit_committed(since.elapsed());
        Ok(is_there.then_some(Receipt(())))
    }

    /// Commits a change together with its event; both are durable when this has answered, or neither.
    ///
    /// # Errors
    ///
    /// [`Unrecorded`]; whether they are durable is then unknown when the database did not answer.
    pub async fn commit(
        &self,
        transaction: Transaction<'_>,
        event: &AuditEvent,
    ) -> Result<(), Unrecorded> {
        let row = event.to_row(self.clock.now());
        let committed = transaction.commit_with(&row).await;
        self.learn(committed.map_err(Arc::new))
    }

    /// Writes what waits still, and takes no more.
    pub async fn close(&self) {
        self.closing.cancel();
        let writer = self.writer.lock();
        let writer = writer.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && timeout(RECORD_TIMEOUT, writer).await.is_err()
        {
            tracing::error!("audit events that nobody waits for could not be written in time");
        }
    }

    async fn written(&self, event: ConditionalEvent) -> Written {
        let (written, answer) = oneshot::channel();
        let overloaded = || Arc::new(StoreFault::Overloaded);
        let waiting = self.queue.try_send(Waiting { event, written });
        waiting.map_err(|_| overloaded())?;
        match timeout(RECORD_TIMEOUT, answer).await {
            Ok(Ok(written)) => written,
            // Too slow, or the writer was stopped before its turn came.
            Ok(Err(_)) | Err(_) => Err(overloaded()),
        }
    }

    fn learn<T>(&self, recorded: Result<T, Arc<StoreFault>>) -> Result<T, Unrecorded> {
        if recorded.is_ok() {
            self.probe.succeeded();
        } else {
            self.metrics.audit_failed();
            self.probe.failed("the last event could not be recorded");
        }
        recorded.map_err(Unrecorded)
    }
}

// === impl Writer ===

impl Writer {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        let closing = self.closing.clone();
        let mut closed = pin!(closing.cancelled());
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                () = &mut closed, if open => {
                    open = false;
                    self.queue.close();
                }
                taken = self.queue.recv_many(&mut batch, MAX_BATCH) => {
                    if taken == 0 {
                        return;
                    }
                    self.gather(&mut batch).await;
                    self.write(&mut batch).await;
                }
            }
        }
    }

    /// Takes what comes still, as long as the batch is small beside what is about to come.
    async fn gather(&mut self, batch: &mut Vec<Waiting>) {
        let mut patience = pin!(sleep(PATIENCE));
        while self.is_small(batch.len()) {
            let room = MAX_BATCH - batch.len();
            tokio::select! {
                biased;
                taken = self.queue.recv_many(batch, room) => {
                    // None when there is no room, or nobody is left who could send one.
                    if taken == 0 {
                        return;
                    }
                }
                () = &mut patience => return,
            }
        }
    }

    /// Whether more than half as many requests as came wait for what they read: those record an event
    /// next, and one half of the requests commits while the other half is read for. At 64 clients that
    /// made 31 events of 17 in a commit, and a quarter less of Postgres' time for each.
    ///
    /// Or whether more of those that record were answered by the last batch, and have not gone on, than
    /// wait in this one. They would share the processors with its commit: at half load letting them go
    /// first spared a tenth of the vault's time and of Postgres'.
    fn is_small(&self, events: usize) -> bool {
        // The journal's own is not a request's.
        let recording = self.recording.strong_count().saturating_sub(1);
        events < 2 * self.store.reading().count() || 2 * events < recording
    }

    /// Writes a batch and tells everyone who waits for a part of it.
    async fn write(&self, batch: &mut Vec<Waiting>) {
        let (events, waiting): (Vec<_>, Vec<_>) = batch
            .drain(..)
            .map(|Waiting { event, written }| (event, written))
            .unzip();
        let mut parts = vec![(&events[..], waiting)];
        while let Some((events, mut waiting)) = parts.pop() {
            match self.append(events).await {
                // One of them does not fit: the others must not suffer for it.
                Err(StoreFault::Refused(_)) if events.len() > 1 => {
                    let (first, rest) = events.split_at(events.len() / 2);
                    let waiting_for_rest = waiting.split_off(first.len());
                    parts.extend([(rest, waiting_for_rest), (first, waiting)]);
                }
                Ok(there) => {
                    let recorded = there.iter().filter(|is_there| **is_there).count();
                    self.metrics.audit_batch_committed(recorded);
                    tell(waiting, there.into_iter().map(Ok));
                }
                Err(fault) => {
                    let fault = Arc::new(fault);
                    tell(waiting, iter::repeat_with(|| Err(Arc::clone(&fault))));
                }
            }
        }
    }

    /// Appends events. A connection that broke may have committed: then they are appended again,
    /// which is exact because each has its id.
    async fn append(&self, events: &[ConditionalEvent]) -> Result<Vec<bool>, StoreFault> {
        match self.store.append_audit_events(events, Tried::Never).await {
            Err(StoreFault::Unavailable(_)) => {
                let again = self
                    .store
                    .append_audit_events(events, Tried::OutcomeUnknown);
                again.await
            }
            answer => answer,
        }
    }
}

/// Whoever has given up is told nothing.
fn tell(waiting: Vec<oneshot::Sender<Written>>, written: impl Iterator<Item = Written>) {
    for (request, written) in waiting.into_iter().zip(written) {
        let _ = request.send(written);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        audit::event::Outcome,
        clock::FakeClock,
        health::{Health, Need},
        model::{
            caller::Developer,
            id::ApiKeyId,
            request::{RequestContext, Transport, Verb},
            text::DeveloperId,
        },
        store::schema::Durability,
    };

    #[tokio::test(start_paused = true)]
    async fn a_batch_waits_for_twice_as_many_as_are_read_for_and_no_longer_than_a_millisecond() {
        let mut journal = Unwritten::new();
        let alone = journal.batch_after(1).await;
        assert_eq!(alone, (1, Duration::ZERO), "nobody is read for");

        let store = journal.writer.store.clone();
        let reads = [(); 3].map(|()| store.reading().begin());
        let enough = journal.batch_after(6).await;
        assert_eq!(enough, (6, Duration::ZERO), "half as many are read for");

        let (too_few, waited) = journal.batch_after(5).await;
        assert_eq!(too_few, 5, "the others did not come");
        assert!((PATIENCE..PATIENCE * 3).contains(&waited), "{waited:?}");

        let mut batch = journal.first(1).await;
        {
            let mut gathered = pin!(journal.writer.gather(&mut batch));
            assert!(futures_util::poll!(gathered.as_mut()).is_pending());
            journal.sender.try_send(waiting()).unwrap();
            drop(reads);
            gathered.await;
        }
        assert_eq!(batch.len(), 2, "what came meanwhile");
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_waits_until_half_of_those_that_record_are_in_it_and_no_longer_than_a_millisecond()
     {
        let mut journal = Unwritten::new();
        let recording: Vec<_> = (0..4).map(|_| Arc::clone(&journal.recording)).collect();
        assert_eq!(journal.batch_after(2).await, (2, Duration::ZERO));
        let (too_few, waited) = journal.batch_after(1).await;
        assert_eq!(too_few, 1, "three were answered and did not go on");
        assert!((PATIENCE..PATIENCE * 3).contains(&waited), "{waited:?}");
        drop(recording);
        assert_eq!(journal.batch_after(1).await, (1, Duration::ZERO));
    }

    /// A writer whose events stay in memory.
    struct Unwritten {
        sender: mpsc::Sender<Waiting>,
        recording: Arc<()>,
        writer: Writer,
    }

    impl Unwritten {
        fn new() -> Self {
            let (sender, queue) = mpsc::channel(MAX_WAITING);
            let recording = Arc::new(());
            let writer = Writer {
                queue,
                store: store(1),
                recording: Arc::downgrade(&recording),
                metrics: Metrics::unobserved(),
                closing: CancellationToken::new(),
            };
            Self {
                sender,
                recording,
                writer,
            }
        }

        /// How large the batch is that begins with these, and how long it was gathered.
        async fn batch_after(&mut self, events: usize) -> (usize, Duration) {
            let mut batch = self.first(events).await;
            let since = tokio::time::Instant::now();
            self.writer.gather(&mut batch).await;
            (batch.len(), since.elapsed())
        }

        async fn first(&mut self, events: usize) -> Vec<Waiting> {
            for _ in 0..events {
                self.sender.try_send(waiting()).unwrap();
            }
            let mut batch = Vec::new();
            self.writer.queue.recv_many(&mut batch, MAX_BATCH).await;
            batch
        }
    }

    fn waiting() -> Waiting {
        Waiting {
            event: ConditionalEvent {
                row: event().to_row(FakeClock::default().now()),
                only_if: None,
            },
            written: oneshot::channel().0,
        }
    }

    fn store(port: u16) -> Store {
        let url = format!("postgres://vault@127.0.0.1:{port}/vault?sslmode=disable");
        Store::open(&url.parse().unwrap(), 1, Durability::Required).unwrap()
    }

    fn event() -> AuditEvent {
        let request = RequestContext {
            id: uuid::Uuid::nil(),
            trace: None,
            transport: Transport::Rest,
            peer: [127, 0, 0, 1].into(),
        };
        let developer = Developer {
            id: DeveloperId::parse("acme").unwrap(),
            api_key_id: Some(ApiKeyId::make(FakeClock::default().now())),
        };
        AuditEvent::by_developer(request, &developer, Verb::List, Outcome::Listed)
    }

    #[tokio::test]
    async fn one_more_than_may_wait_is_refused_at_once() {
        // It takes connections and never answers.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let store = store(silent.local_addr().unwrap().port());
        let clock = Arc::new(FakeClock::default());
        let probe = Arc::new(Health::new(clock.clone(), Duration::ZERO)).need(Need::Audit);
        let journal = Journal::start(store, clock.clone(), Metrics::unobserved(), probe);
        let event = event();

        let mut recorded: FuturesUnordered<_> =
            (0..MAX_WAITING).map(|_| journal.record(&event)).collect();
        assert!(
            futures_util::poll!(recorded.next()).is_pending(),
            "all may wait"
        );
        let since = Instant::now();
        for refused in join_all((0..3).map(|_| journal.record(&event))).await {
            let Unrecorded(fault) = refused.unwrap_err();
            assert!(matches!(*fault, StoreFault::Overloaded), "{fault:?}");
        }
        assert!(since.elapsed() < Duration::from_secs(1), "at once");
    }
}
