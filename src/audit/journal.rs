//! The way into the audit table, and the proof of having taken it.

use std::{sync::Arc, time::Instant};

use thiserror::Error;
use tracing::Instrument;

use super::event::AuditEvent;
use crate::{
    clock::Clock,
    health::Probe,
    metrics::Metrics,
    store::{Store, StoreFault, Transaction},
};

/// Records events.
pub struct Journal {
    store: Store,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    probe: Probe,
}

/// Proof that an audit event is durable. Only the journal makes one, after the commit.
#[derive(Debug)]
pub struct Receipt(());

/// The event could not be recorded: nothing may leave.
#[derive(Debug, Error)]
#[error("the audit event could not be recorded")]
pub struct Unrecorded(#[source] pub StoreFault);

impl Journal {
    /// Records in this database, by this clock; what comes of it is measured, and said by the probe.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, metrics: Metrics, probe: Probe) -> Self {
        Self {
            store,
            clock,
            metrics,
            probe,
        }
    }

    /// Records an event on its own; it is durable when this has answered.
    ///
    /// # Errors
    ///
    /// [`Unrecorded`].
    pub async fn record(&self, event: &AuditEvent) -> Result<Receipt, Unrecorded> {
        let row = event.to_row(self.clock.now());
        let since = Instant::now();
        let waits = self.metrics.audit_event_waits();
        let append = self.store.append_audit_event(&row);
        let recorded = append.instrument(tracing::info_span!("audit commit")).await;
        drop(waits);
        self.learn(recorded)?;
        self.metrics.audit_committed(since.elapsed());
        Ok(Receipt(()))
    }

    /// Records an event together with the change that it is about; both are durable, or neither,
    /// when the transaction is committed.
    ///
    /// # Errors
    ///
    /// [`Unrecorded`].
    pub async fn record_in(
        &self,
        transaction: &Transaction<'_>,
        event: &AuditEvent,
    ) -> Result<(), Unrecorded> {
        let row = event.to_row(self.clock.now());
        self.learn(transaction.append_audit_event(&row).await)
    }

    fn learn(&self, recorded: Result<(), StoreFault>) -> Result<(), Unrecorded> {
        if recorded.is_ok() {
            self.probe.succeeded();
        } else {
            self.metrics.audit_failed();
            self.probe.failed("the last event could not be recorded");
        }
        recorded.map_err(Unrecorded)
    }
}
