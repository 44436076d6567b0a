//! Exchange: a grant for the access token that it names.

use std::sync::Arc;

use super::{
    KnownAgent, Released, Vault,
    error::{NotFound, Unauthenticated, VaultError},
};
use crate::{
    audit::event::AuditEvent,
    auth::grant::{ExchangePermit, Restricted, VerifiedGrant},
    envelope::context::{Attributes, Place},
    metrics::{CacheUse, ExchangeOutcome},
    model::{
        credential::parse_service, metadata::Metadata, restrictions::Restrictions,
        sealed::WrappedKey, secret::AccessToken, service_name::ServiceName, text::CredentialType,
        timestamp::Timestamp,
    },
    store::{
        StoreFault,
        exchanges::{ExchangeQuery, ExchangeRow},
        precondition::{Precondition, RowVersion},
    },
};

/// How often a credential is read that is another one by the time its exchange is recorded.
const READ_ATTEMPTS: u32 = 3;

/// What an agent receives.
#[derive(Debug)]
pub struct ExchangedCredential {
    /// The secret.
    pub access_token: AccessToken,
    /// The service in the spelling of its last store.
    pub service: ServiceName,
    /// What kind of credential it is.
    pub credential_type: CredentialType,
    /// The upstream expiry.
    pub token_expires_at: Option<Timestamp>,
    /// The developer's data.
    pub metadata: Metadata,
}

impl Vault {
    /// Trades a grant for the access token it names.
    ///
    /// In this order: the service's name (400), revocation (401), scope (403), the credential (404),
    /// its restrictions (403), the envelope. Nothing is opened before the grant is known to be live, in
    /// scope and within the restrictions, and nothing leaves before its audit event is durable.
    ///
    /// # Errors
    ///
    /// The first of them that fails; unavailable when the event cannot be recorded.
    pub async fn exchange(
        &self,
        agent: &KnownAgent,
        service: &str,
    ) -> Result<Released<ExchangedCredential>, VaultError> {
        let _permit = self.permit(agent.grant.developer()).await?;
        let service = parse_service(service)?;
        let (released, from) = match self.exchange_recent(agent, &service).await {
            Some(released) => (released, CacheUse::RowAndKey),
            None => self.exchange_read(agent, &service).await,
        };
        self.metrics.exchanged(outcome(&released), from);
        released
    }

    /// The exchange of a credential whose row and data key are in memory, if the grant lives and the row
    /// is still the same: both are asked with the event, which is recorded only then. `None` in any other
    /// case; what the caller is told is found out from the row of now.
    async fn exchange_recent(
        &self,
        agent: &KnownAgent,
        service: &ServiceName,
    ) -> Option<Result<Released<ExchangedCredential>, VaultError>> {
        let grant = &agent.grant;
        let place = place(grant, service);
        let row = self.recent.get(&place)?;
        let scoped = grant.presumed_live().scoped_for(service).ok()?;
        let permit = scoped.within(&row.restrictions).ok()?;
        let key = self.envelope.key_at_hand(&place, &row.data_key).await?;
        let precondition = self.precondition(grant, row.version, &row.data_key);
        let mut event = agent.exchange_event(service);
        event.credential = Some(row.id);
        let receipt = match self.journal.record_if(precondition, &event).await {
            Ok(receipt) => receipt?,
            Err(unrecorded) => return Some(Err(unrecorded.into())),
        };
        let attributes = attributes(&row, permit.restrictions());
        let opened = key.open_access_token(&place, &attributes, row.access_token.clone());
        Some(match opened {
            Ok(access_token) => {
                let credential = ExchangedCredential::of(&row, access_token);
                Ok(Released::new(credential, receipt))
            }
            Err(error) => {
                let error = VaultError::from_envelope(error, Some(row.id));
                Err(self.refused(event, error).await)
            }
        })
    }

    /// The exchange of whatever stands in the database. Its data key may take seconds to come, so the grant
    /// and the row are asked once more with the event; when they have changed it begins again.
    async fn exchange_read(
        &self,
        agent: &KnownAgent,
        service: &ServiceName,
    ) -> (Result<Released<ExchangedCredential>, VaultError>, CacheUse) {
        for _ in 0..READ_ATTEMPTS {
            let mut event = agent.exchange_event(service);
            let (credential, precondition, from) = match self.open(agent, service, &mut event).await
            {
                Ok(opened) => opened,
                Err(error) => return (Err(self.refused(event, error).await), CacheUse::None),
            };
            match self.journal.record_if(precondition, &event).await {
                Ok(Some(receipt)) => return (Ok(Released::new(credential, receipt)), from),
                Ok(None) => {}
                Err(unrecorded) => return (Err(unrecorded.into()), from),
            }
        }
        // Others store it anew all the time.
        (Err(StoreFault::Overloaded.into()), CacheUse::None)
    }

    /// That the grant lives now and the row is still the one that was read.
    fn precondition(
        &self,
        grant: &VerifiedGrant,
        version: RowVersion,
        data_key: &WrappedKey,
    ) -> Precondition {
        Precondition {
            version,
            wrapped_key: data_key.bytes.clone(),
            token: grant.token().clone(),
            parent_grant: grant.parent_grant().cloned(),
            at: self.clock.now(),
        }
    }

    async fn open(
        &self,
        agent: &KnownAgent,
        service: &ServiceName,
        event: &mut AuditEvent,
    ) -> Result<(ExchangedCredential, Precondition, CacheUse), VaultError> {
        let grant = &agent.grant;
        let query = ExchangeQuery {
            developer: grant.developer().clone(),
            principal: grant.principal().clone(),
            service: service.key().clone(),
            token: grant.token().clone(),
            grant: grant.grant().clone(),
            parent_grant: grant.parent_grant().cloned(),
            at: self.clock.now(),
        };
        let (row, state) = self.store.credential_for_exchange(query).await?;
        if row.is_none() {
            self.recent.forget(&place(grant, service));
        }
        let live = grant
            .live(state)
            .map_err(|_| VaultError::Unauthenticated(Unauthenticated::RevokedGrant))?;
        let name = || service.as_str().to_owned();
        let scoped = live
            .scoped_for(service)
            .map_err(|_| VaultError::OutOfScope { service: name() })?;
        let row = row.ok_or(VaultError::NotFound(NotFound::ForPrincipalAndService))?;
        event.credential = Some(row.id);
        let permit = scoped
            .within(&row.restrictions)
            .map_err(|restricted| match restricted {
                Restricted::MissingScope => VaultError::OutOfScope { service: name() },
                Restricted::OtherAgent => VaultError::AgentNotAllowed { service: name() },
            })?;
        let (version, data_key) = (row.version, row.data_key.clone());
        let (credential, from) = self.open_row(&permit, row).await?;
        let precondition = self.precondition(grant, version, &data_key);
        Ok((credential, precondition, from))
    }

    async fn open_row(
        &self,
        permit: &ExchangePermit,
        row: ExchangeRow,
    ) -> Result<(ExchangedCredential, CacheUse), VaultError> {
        // Who and what it is for, and within what, comes from the permit: a row that was re-labelled
        // or relaxed in the database stays shut.
        let place = Place {
            developer: permit.developer().clone(),
            principal: permit.principal().clone(),
            service: permit.service().key().clone(),
        };
        let attributes = attributes(&row, permit.restrictions());
        let opened = self
            .envelope
            .open_access_token(&place, &attributes, row.access_token.clone(), &row.data_key)
            .await
            .map_err(|error| VaultError::from_envelope(error, Some(row.id)))?;
        let credential = ExchangedCredential::of(&row, opened.access_token);
        if self.envelope.keeps_data_keys() {
            self.recent.keep(place, Arc::new(row));
        }
        Ok((credential, opened.data_key))
    }
}

impl ExchangedCredential {
    fn of(row: &ExchangeRow, access_token: AccessToken) -> Self {
        Self {
            access_token,
            service: row.service.clone(),
            credential_type: row.credential_type.clone(),
            token_expires_at: row.token_expires_at,
            metadata: row.metadata.clone(),
        }
    }
}

/// Where the credential is that a grant asks for.
fn place(grant: &VerifiedGrant, service: &ServiceName) -> Place {
    Place {
        developer: grant.developer().clone(),
        principal: grant.principal().clone(),
        service: service.key().clone(),
    }
}

/// What is sealed beside the token, within these restrictions rather than those of the row.
fn attributes<'a>(row: &'a ExchangeRow, restrictions: &'a Restrictions) -> Attributes<'a> {
    Attributes {
        service: &row.service,
        credential_type: &row.credential_type,
        token_expires_at: row.token_expires_at,
        metadata: &row.metadata,
        restrictions,
    }
}

/// What the metrics say of an exchange.
fn outcome(released: &Result<Released<ExchangedCredential>, VaultError>) -> ExchangeOutcome {
    match released {
        Ok(_) => ExchangeOutcome::Released,
        Err(VaultError::NotFound(_)) => ExchangeOutcome::NotFound,
        Err(
            VaultError::Unauthenticated(_)
            | VaultError::OutOfScope { .. }
            | VaultError::AgentNotAllowed { .. },
        ) => ExchangeOutcome::Denied,
        Err(
            VaultError::InvalidInput(_)
            | VaultError::RateLimited(_)
            | VaultError::Interrupted(_)
            | VaultError::Unavailable(_)
            | VaultError::Internal(_),
        ) => ExchangeOutcome::Failed,
    }
}
