//! Who calls: the check that comes before everything else of a request.

use std::sync::Arc;

use bytes::Bytes;
use http_body::Body;

use super::{
    Vault,
    error::{Unauthenticated, Unavailable, VaultError},
};
use crate::{
    audit::event::{Asked, AuditEvent, Caller, Outcome},
    auth::{api_key, grant::VerifiedGrant, grant_verifier::GrantError},
    limits::{BodyError, BodyLimits, Exceeded, ReadBody},
    model::{
        bearer::{ApiKey, GrantToken, NoBearer},
        caller::Developer,
        request::{Allowance, RequestContext, Verb},
        service_name::ServiceName,
        text::DeveloperId,
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
    pub(super) grant: Arc<VerifiedGrant>,
}

impl Vault {
    /// Knows a developer by the API key in `Authorization`.
    ///
    /// # Errors
    ///
    /// Unauthenticated, or unavailable; rate limited, when the developer asks too often or the
    /// address has failed too often.
    pub async fn known_developer(
        &self,
        request: RequestContext,
        authorization: Result<&str, NoBearer>,
    ) -> Result<KnownDeveloper, VaultError> {
        let developer = self.developer_of(request, authorization).await;
        let developer = developer.map_err(|error| self.counted(request, error))?;
        underway::called_by(CallerKind::Developer);
        within_budget(self.limits.request(&developer.id))?;
        Ok(KnownDeveloper { request, developer })
    }

    /// Knows an agent by the grant token in `Authorization`. Nothing is read from the database yet.
    ///
    /// # Errors
    ///
    /// Unauthenticated, or unavailable; rate limited, when the grant token comes too often or the
    /// address has failed too often.
    pub async fn known_agent(
        &self,
        request: RequestContext,
        authorization: Result<&str, NoBearer>,
    ) -> Result<KnownAgent, VaultError> {
        let grant = self.grant_of(request, authorization).await;
        let grant = grant.map_err(|error| self.counted(request, error))?;
        underway::called_by(CallerKind::Agent);
        within_budget(self.limits.exchange(grant.developer(), grant.token()))?;
        Ok(KnownAgent { request, grant })
    }

    /// Reads what a caller that is known asks for, in memory that callers share fairly.
    ///
    /// # Errors
    ///
    /// [`BodyError`].
    pub async fn read_body<B>(
        &self,
        caller: &impl AsRef<DeveloperId>,
        body: B,
        limits: BodyLimits,
    ) -> Result<ReadBody, BodyError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let bodies = &self.limits.in_flight.bodies;
        bodies.read(caller.as_ref(), body, limits).await
    }

    /// Makes more of a body that was read, by decompressing it, in the same memory; [`Bodies::expand`].
    ///
    /// # Errors
    ///
    /// [`BodyError`], or what `expand` answers.
    ///
    /// [`Bodies::expand`]: crate::limits::bodies::Bodies::expand
    pub async fn expand_body<E: From<BodyError>>(
        &self,
        caller: &impl AsRef<DeveloperId>,
        read: ReadBody,
        max_bytes: usize,
        expand: impl Fn(&Bytes, usize) -> Result<Option<Bytes>, E>,
    ) -> Result<ReadBody, E> {
        let bodies = &self.limits.in_flight.bodies;
        bodies
            .expand(caller.as_ref(), read, max_bytes, expand)
            .await
    }

    async fn developer_of(
        &self,
        request: RequestContext,
        authorization: Result<&str, NoBearer>,
    ) -> Result<Developer, VaultError> {
        let refused = VaultError::Unauthenticated;
        let text = authorization.map_err(|_| refused(Unauthenticated::NoAuthorization))?;
        let key = ApiKey::parse(text).ok_or(refused(Unauthenticated::ApiKey))?;
        let permit = self.limits.in_flight.lookup(request.peer).await;
        let _permit = permit.map_err(VaultError::Interrupted)?;
        let hash = api_key::hash(&key);
        let found = self.store.key_owner(&hash).await?;
        let now = self.clock.now();
        let owner = found
            .filter(|owner| {
                !owner.suspended && api_key::admits(owner.expires_at, owner.revoked_at, now)
            })
            .ok_or(refused(Unauthenticated::ApiKey))?;
        Ok(Developer {
            id: owner.developer,
            api_key_id: owner.key,
            api_key_hash: hash,
        })
    }

    async fn grant_of(
        &self,
        request: RequestContext,
        authorization: Result<&str, NoBearer>,
    ) -> Result<Arc<VerifiedGrant>, VaultError> {
        let refused = VaultError::Unauthenticated;
        let text = authorization.map_err(|_| refused(Unauthenticated::NoGrantToken))?;
        let verified = self.grants.verify(&GrantToken::new(text)).await;
        verified.map_err(|error| match error {
            GrantError::Rejected(rejection) => {
                self.rejected_tokens.note(request, &rejection);
                refused(Unauthenticated::InvalidGrant)
            }
            GrantError::KeysUnavailable => VaultError::Unavailable(Unavailable::IssuerKeys),
        })
    }

    /// Counts a failed authentication against its address. Who is known is never refused for what
    /// others at the same address did: it is the failure that is answered otherwise.
    pub(super) fn counted(&self, request: RequestContext, error: VaultError) -> VaultError {
        if !matches!(error, VaultError::Unauthenticated(_)) {
            return error;
        }
        match self.limits.failed_authentication(request.peer) {
            Ok(()) => error,
            Err(exceeded) => {
                underway::failed_too_often();
                underway::may_still(exceeded.allowance);
                exceeded.into()
            }
        }
    }
}

/// Has the answer say what is left of a budget.
fn within_budget(taken: Result<Option<Allowance>, Exceeded>) -> Result<(), VaultError> {
    let left = match taken {
        Ok(left) => left,
        Err(exceeded) => Some(exceeded.allowance),
    };
    left.into_iter().for_each(underway::may_still);
    Ok(taken.map(|_| ())?)
}

/// Whose limits its requests count for.
impl AsRef<DeveloperId> for KnownDeveloper {
    fn as_ref(&self) -> &DeveloperId {
        &self.developer.id
    }
}

/// Whose limits its requests count for: its developer's.
impl AsRef<DeveloperId> for KnownAgent {
    fn as_ref(&self) -> &DeveloperId {
        self.grant.developer()
    }
}

impl KnownDeveloper {
    pub(super) fn event(&self, verb: Verb, outcome: Outcome) -> AuditEvent {
        AuditEvent::by_developer(self.request, &self.developer, verb, outcome)
    }
}

impl KnownAgent {
    /// The event of an exchange, released unless its outcome is set to something else.
    pub(super) fn exchange_event(&self, service: &ServiceName) -> AuditEvent {
        let grant = &self.grant;
        AuditEvent {
            request: self.request,
            developer: Some(grant.developer().clone()),
            caller: Caller::Agent {
                agent: grant.agent().clone(),
                issuer: grant.issuer().clone(),
                client: grant.client().cloned(),
                token: grant.token().clone(),
                grant: grant.grant().clone(),
                parent_grant: grant.parent_grant().cloned(),
                delegation_depth: grant.delegation_depth(),
                delegation: grant.delegation().to_vec(),
            },
            asked: Asked::Verb(Verb::Exchange),
            outcome: Outcome::Released,
            principal: Some(grant.principal().clone()),
            service: Some(service.clone()),
            credential: None,
            subject: None,
        }
    }
}
