//! Who calls: the check that comes before everything else of a request.

use super::{
    Vault,
    error::{Unauthenticated, Unavailable, VaultError},
};
use crate::{
    audit::event::{AuditEvent, Caller, Outcome},
    auth::{
        api_key,
        grant::{GrantRefusal, VerifiedGrant},
    },
    model::{
        bearer::{ApiKey, GrantToken, NoBearer},
        caller::Developer,
        request::{RequestContext, Verb},
    },
    underway::{self, CallerKind},
};

/// A developer whose API key was found, and the request it came with.
#[derive(Debug, Clone)]
pub struct KnownDeveloper {
    pub(super) request: RequestContext,
    pub(super) developer: Developer,
}

/// An agent whose grant token was verified, and the request it came with.
#[derive(Debug, Clone)]
pub struct KnownAgent {
    pub(super) request: RequestContext,
    pub(super) grant: VerifiedGrant,
}

impl Vault {
    /// Knows a developer by the API key in `Authorization`.
    ///
    /// # Errors
    ///
    /// Unauthenticated, or unavailable.
    pub async fn known_developer(
        &self,
        request: RequestContext,
        authorization: Result<&str, NoBearer>,
    ) -> Result<KnownDeveloper, VaultError> {
        let refused = VaultError::Unauthenticated;
        let text = authorization.map_err(|_| refused(Unauthenticated::NoAuthorization))?;
        let key = ApiKey::parse(text).ok_or(refused(Unauthenticated::ApiKey))?;
        let found = self.store.api_key(&api_key::hash(&key)).await?;
        let now = self.clock.now();
        let row = found
            .filter(|row| api_key::admits(row.expires_at, row.revoked_at, now))
            .ok_or(refused(Unauthenticated::ApiKey))?;
        let developer = Developer {
            id: row.developer_id,
            api_key_id: row.id,
        };
        underway::called_by(CallerKind::Developer);
        Ok(KnownDeveloper { request, developer })
    }

    /// Knows an agent by the grant token in `Authorization`. Nothing is read from the database yet.
    ///
    /// # Errors
    ///
    /// Unauthenticated, or unavailable.
    pub async fn known_agent(
        &self,
        request: RequestContext,
        authorization: Result<&str, NoBearer>,
    ) -> Result<KnownAgent, VaultError> {
        let refused = VaultError::Unauthenticated;
        let text = authorization.map_err(|_| refused(Unauthenticated::NoGrantToken))?;
        let grant =
            self.grants
                .verify(&GrantToken::new(text))
                .await
                .map_err(|fault| match fault {
                    GrantRefusal::Invalid => refused(Unauthenticated::InvalidGrant),
                    GrantRefusal::KeysUnavailable => {
                        VaultError::Unavailable(Unavailable::IssuerKeys)
                    }
                })?;
        underway::called_by(CallerKind::Agent);
        Ok(KnownAgent { request, grant })
    }
}

impl KnownDeveloper {
    pub(super) fn event(&self, verb: Verb, outcome: Outcome) -> AuditEvent {
        AuditEvent::by_developer(self.request, &self.developer, verb, outcome)
    }
}

impl KnownAgent {
    /// The event of an exchange, released unless its outcome is set to something else.
    pub(super) fn exchange_event(&self, service: &str) -> AuditEvent {
        let grant = &self.grant;
        AuditEvent {
            request: self.request,
            developer: grant.developer().clone(),
            caller: Caller::Agent {
                agent: grant.agent().clone(),
                token: grant.token().clone(),
                grant: grant.grant().clone(),
                parent_agent: grant.parent_agent().cloned(),
                parent_grant: grant.parent_grant().cloned(),
                delegation_depth: grant.delegation_depth(),
            },
            verb: Verb::Exchange,
            outcome: Outcome::Released,
            principal: Some(grant.principal().clone()),
            service: Some(service.to_owned()),
            credential: None,
        }
    }
}
