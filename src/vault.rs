//! The verbs: in which order things are checked, and what may leave. Both transports are thin over
//! this room; delete either and nothing is less enforced.

mod audit_events;
mod callers;
mod delete;
pub mod error;
mod exchange;
mod get;
mod list;
mod recent;
mod rejected_tokens;
mod released;
mod store;
mod webhook;

use std::sync::Arc;

use crate::{
    audit::{event::AuditEvent, journal::Journal},
    auth::{grant_verifier::GrantVerifier, webhook::Accepted},
    clock::Clock,
    envelope::Envelope,
    limits::Limits,
    metrics::Metrics,
    model::text::DeveloperId,
    permits::Permit,
    store::Store,
};
use recent::Recent;
use rejected_tokens::RejectedTokens;

pub use crate::audit::canonical::{RecordedCaller, RecordedEvent};
pub use audit_events::{EventListing, ListedEvent};
pub use callers::{KnownAgent, KnownDeveloper};
pub use error::VaultError;
pub use exchange::ExchangedCredential;
pub use list::{CredentialListing, Paging, WholeList};
pub use released::Released;
pub use store::StoredCredential;
pub use webhook::UnverifiedWebhook;

pub use crate::{
    auth::webhook::SignatureHeaders,
    limits::{BodyError, BodyLimits, ReadBody},
};

/// The vault.
pub struct Vault {
    store: Store,
    envelope: Arc<Envelope>,
    grants: GrantVerifier,
    rejected_tokens: RejectedTokens,
    journal: Arc<Journal>,
    limits: Limits,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    webhook_signatures: Accepted,
    recent: Recent,
}

impl Vault {
    /// Puts the rooms together.
    #[must_use]
    pub fn new(
        store: Store,
        envelope: Arc<Envelope>,
        grants: GrantVerifier,
        journal: Arc<Journal>,
        limits: Limits,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        Self {
            store,
            envelope,
            grants,
            rejected_tokens: RejectedTokens::new(metrics.clone(), Arc::clone(&clock)),
            journal,
            limits,
            clock,
            metrics,
            webhook_signatures: Accepted::default(),
            recent: Recent::new(),
        }
    }

    /// Takes webhooks with these signatures, instead of those that cover their time.
    #[must_use]
    pub fn taking(self, webhook_signatures: Accepted) -> Self {
        Self {
            webhook_signatures,
            ..self
        }
    }

    /// The permit that each verb begins with: its caller is known by then, and what it asks for is
    /// read, so that nobody holds one who is unknown or slow.
    async fn permit(&self, developer: &DeveloperId) -> Result<Permit, VaultError> {
        let permit = self.limits.in_flight.verb(developer).await;
        permit.map_err(VaultError::Interrupted)
    }

    /// Records what became of a verb that did not succeed and answers what the caller is told: the
    /// failure, or that the record could not be written.
    async fn refused(&self, mut event: AuditEvent, error: VaultError) -> VaultError {
        if let VaultError::Internal(_) = error {
            self.metrics.tampered();
        }
        let Some(outcome) = error.outcome() else {
            return error;
        };
        event.outcome = outcome;
        match self.journal.record(&event).await {
            Ok(_) => error,
            Err(unrecorded) => {
                // The caller hears of the record; the log must hear of both.
                error.log(event.request);
                unrecorded.into()
            }
        }
    }
}
