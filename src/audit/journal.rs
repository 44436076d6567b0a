//! The way into the audit table, and the proof of having taken it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::time::timeout;
use tracing::Instrument;

use super::{event::AuditEvent, group_commit::GroupCommit};
use crate::{
    clock::Clock,
    health::Probe,
    metrics::Metrics,
    store::{
        Connection, Store, StoreFault, Transaction,
        audit_events::AuditEventRow,
        conditional_events::ConditionalEvent,
        credential_writes::{CredentialWrite, Outcome as Write, WriteEvent, Written},
        precondition::Precondition,
        reading::Reading,
    },
    underway,
};

/// How long what nobody waits for any more may take to become durable when the journal is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a write is tried whose credential is another one each time.
const WRITE_ATTEMPTS: u32 = 5;

/// Records events.
///
/// Those that are recorded in any case and those whose exchange Postgres confirms are written apart,
/// each on a connection of its own: a confirmation reads the tables of others, and who locks those must
/// hold up nobody else's event.
pub struct Journal {
    recorded: GroupCommit<AuditEventRow>,
    confirmed: GroupCommit<ConditionalEvent>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    probe: Arc<Probe>,
}

/// Proof that an audit event is durable. Only the journal makes one, after the commit.
#[derive(Debug)]
pub struct Receipt(());

/// The event could not be recorded: nothing may leave.
#[derive(Debug, Error)]
#[error("the audit event could not be recorded")]
pub struct Unrecorded(#[source] pub Arc<StoreFault>);

impl Journal {
    /// Begins to record in this database, by this clock; what comes of it is measured, and said by the
    /// probe.
    #[must_use]
    pub fn start(store: Store, clock: Arc<dyn Clock>, metrics: Metrics, probe: Probe) -> Self {
        // Who is read for records next, and in any case: what is confirmed was read before.
        let read_for = store.reading().clone();
        Self {
            recorded: GroupCommit::start(store.clone(), read_for, metrics.clone()),
            confirmed: GroupCommit::start(store, Reading::default(), metrics.clone()),
            clock,
            metrics,
            probe: Arc::new(probe),
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
        let row = event.to_row(self.clock.now());
        let recorded = self.measured(self.recorded.written(row)).await?;
        assert!(recorded, "nothing had to hold");
        Ok(Receipt(()))
    }

    /// Records an event on its own, if that holds which its exchange took for granted: in the snapshot
    /// that the event is recorded from. Otherwise there is no event.
    ///
    /// # Errors
    ///
    /// [`Unrecorded`].
    pub async fn record_if(
        &self,
        only_if: Precondition,
        event: &AuditEvent,
    ) -> Result<Option<Receipt>, Unrecorded> {
        let row = event.to_row(self.clock.now());
        let event = ConditionalEvent { row, only_if };
        let recorded = self.measured(self.confirmed.written(event)).await?;
        Ok(recorded.then_some(Receipt(())))
    }

    async fn measured(
        &self,
        written: impl Future<Output = Result<bool, Arc<StoreFault>>>,
    ) -> Result<bool, Unrecorded> {
        let since = Instant::now();
        let waits = self.metrics.audit_event_waits();
        let written = written.instrument(tracing::info_span!("audit commit"));
        let written = underway::on_database(written).await;
        drop(waits);
        let is_there = self.learn(written)?;
        self.metrics.audit_committed(since.elapsed());
        Ok(is_there)
    }

    /// The row of an event, for a change whose transactions the store makes itself.
    #[must_use]
    pub fn row(&self, event: &AuditEvent) -> AuditEventRow {
        event.to_row(self.clock.now())
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

    /// Writes a credential together with its event: both are durable when this has answered, or neither.
    /// Whether the event says that it was stored or replaced, and of which id, is found out by the write.
    ///
    /// # Errors
    ///
    /// [`Unrecorded`]; whether they are durable is then unknown when the database did not answer. The
    /// inner error is about the credential and leaves no event.
    pub async fn write(
        &self,
        connection: &Connection,
        credential: &CredentialWrite<'_>,
        event: &AuditEvent,
    ) -> Result<Result<Written, StoreFault>, Unrecorded> {
        match self.write_naming(connection, credential, event).await {
            Ok(written) => self.learn(Ok(Ok(written))),
            Err(
                fault @ (StoreFault::RetiredMasterKey(_)
                | StoreFault::InvalidApiKey
                | StoreFault::Inconsistent { .. }),
            ) => Ok(Err(fault)),
            Err(fault) => self.learn(Err(Arc::new(fault))),
        }
    }

    /// The event of a credential that takes the place of another names that one. Mostly it is known, or
    /// there is none: then this is one statement.
    async fn write_naming(
        &self,
        connection: &Connection,
        credential: &CredentialWrite<'_>,
        event: &AuditEvent,
    ) -> Result<Written, StoreFault> {
        let now = self.clock.now();
        let mut kept = connection.id_written_last(credential);
        for _ in 0..WRITE_ATTEMPTS {
            let (stored, replaced) = event.to_rows_of_write(credential.id_if_new, kept, now);
            let event = WriteEvent { stored, replaced };
            match connection.write_credential(credential, &event).await? {
                Write::Written(written) => return Ok(written),
                Write::Stands(there) => kept = there,
            }
        }
        // Others delete it and store it anew all the time.
        Err(StoreFault::Overloaded)
    }

    /// Writes what waits still, and takes no more.
    pub async fn close(&self) {
        let closed = async { tokio::join!(self.recorded.close(), self.confirmed.close()) };
        if timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            tracing::error!("audit events that nobody waits for could not be written in time");
        }
    }

    fn learn<T>(&self, recorded: Result<T, Arc<StoreFault>>) -> Result<T, Unrecorded> {
        match &recorded {
            Ok(_) => self.probe.succeeded(),
            Err(fault) => {
                self.metrics.audit_failed();
                self.probe.failed(fault.reason());
            }
        }
        recorded.map_err(Unrecorded)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        audit::{event::Outcome, group_commit::MAX_WAITING},
        clock::FakeClock,
        health::{Health, Need},
        model::{
            bearer::ApiKeyHash,
            caller::Developer,
            id::ApiKeyId,
            request::{RequestContext, Transport, Verb},
            text::DeveloperId,
        },
        store::schema::Durability,
    };

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
            api_key_hash: ApiKeyHash::from_bytes([0; 32]),
        };
        AuditEvent::by_developer(request, &developer, Verb::List, Outcome::Listed)
    }

    #[tokio::test]
    async fn one_more_than_may_wait_is_refused_at_once() {
        // It takes connections and never answers.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let url = format!("postgres://vault@127.0.0.1:{port}/vault?sslmode=disable");
        let store = Store::open(&url.parse().unwrap(), 1, Durability::Required).unwrap();
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
