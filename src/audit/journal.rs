//! The way into the audit table, and the proof of having taken it.

use std::sync::Arc;

use thiserror::Error;

use super::event::AuditEvent;
use crate::{
    clock::Clock,
    store::{Store, StoreFault, Transaction},
};

/// Records events.
pub struct Journal {
    store: Store,
    clock: Arc<dyn Clock>,
}

/// Proof that an audit event is durable. Only the journal makes one, after the commit.
#[derive(Debug)]
pub struct Receipt(());

/// The event could not be recorded: nothing may leave.
#[derive(Debug, Error)]
#[error("the audit event could not be recorded")]
pub struct Unrecorded(#[source] pub StoreFault);

impl Journal {
    /// Records in this database, by this clock.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Records an event on its own; it is durable when this has answered.
    ///
    /// # Errors
    ///
    /// [`Unrecorded`].
    pub async fn record(&self, event: &AuditEvent) -> Result<Receipt, Unrecorded> {
        let row = event.to_row(self.clock.now());
        self.store
            .append_audit_event(&row)
            .await
            .map_err(Unrecorded)?;
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
        transaction
            .append_audit_event(&row)
            .await
            .map_err(Unrecorded)
    }
}
