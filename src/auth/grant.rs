//! Grant tokens: from raw text, by checks, to the permit to exchange one credential.
//!
//! `GrantToken` → [`VerifiedGrant`] → [`LiveGrant`] → [`ScopedGrant`] → [`ExchangePermit`]: each is made
//! only by the check that earns it.

use super::claims::Claims;
use crate::model::{
    grant_state::GrantState,
    restrictions::Restrictions,
    scope::ScopeMode,
    service_name::ServiceName,
    text::{AgentId, ClientId, DeveloperId, GrantId, Issuer, PrincipalId, TokenId},
};

/// A token whose signature, times, issuer, audience and claims have been checked. Whether its grant
/// was revoked since is not known yet.
#[derive(Debug)]
pub struct VerifiedGrant {
    claims: Claims,
    scope_mode: ScopeMode,
}

/// A verified grant that the store did not know as revoked, or that is recorded only if it does not.
#[derive(Debug)]
pub struct LiveGrant<'a>(&'a VerifiedGrant);

/// A live grant with a scope for a service. What its credential asks for beside that is not known yet.
#[derive(Debug)]
pub struct ScopedGrant<'a> {
    grant: &'a VerifiedGrant,
    service: &'a ServiceName,
}

/// Permission to exchange one credential: that of this developer and principal for this service, if it
/// is under these restrictions.
#[derive(Debug)]
pub struct ExchangePermit {
    developer: DeveloperId,
    principal: PrincipalId,
    service: ServiceName,
    restrictions: Restrictions,
}

/// The grant was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked;

/// No scope of the grant permits the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfScope;

/// What a credential asks for that the grant does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restricted {
    /// A required scope is not among the grant's.
    MissingScope,
    /// The grant's agent is not among those that are allowed.
    OtherAgent,
}

// === impl VerifiedGrant ===

impl VerifiedGrant {
    pub(super) fn new(claims: Claims, scope_mode: ScopeMode) -> Self {
        Self { claims, scope_mode }
    }

    /// What was verified of the token.
    pub(super) fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Who signed it.
    #[must_use]
    pub fn issuer(&self) -> &Issuer {
        &self.claims.grant.issuer
    }

    /// The tenant whose principal consented.
    #[must_use]
    pub fn developer(&self) -> &DeveloperId {
        &self.claims.grant.developer
    }

    /// Who consented.
    #[must_use]
    pub fn principal(&self) -> &PrincipalId {
        &self.claims.grant.principal
    }

    /// Who was given the grant.
    #[must_use]
    pub fn agent(&self) -> &AgentId {
        &self.claims.grant.agent
    }

    /// The agent's client at the issuer; `None` of tokens in the short form.
    #[must_use]
    pub fn client(&self) -> Option<&ClientId> {
        self.claims.grant.client.as_ref()
    }

    /// The token.
    #[must_use]
    pub fn token(&self) -> &TokenId {
        &self.claims.grant.token
    }

    /// Its grant.
    #[must_use]
    pub fn grant(&self) -> &GrantId {
        &self.claims.grant.grant
    }

    /// The grant that was delegated from.
    #[must_use]
    pub fn parent_grant(&self) -> Option<&GrantId> {
        self.claims.grant.parent_grant.as_ref()
    }

    /// How many delegations lie between the principal and the agent, as the token claims.
    #[must_use]
    pub fn delegation_depth(&self) -> Option<i64> {
        self.claims.grant.delegation_depth
    }

    /// The agents that delegated, first to last, as far as the token names them.
    #[must_use]
    pub fn delegation(&self) -> &[AgentId] {
        &self.claims.grant.delegation
    }

    /// The grant as a live one, before the store was asked: for an exchange that is recorded only if
    /// it is, and opens nothing before that.
    #[must_use]
    pub fn presumed_live(&self) -> LiveGrant<'_> {
        LiveGrant(self)
    }

    /// With what the store knows of it, the grant is live or it is not.
    ///
    /// # Errors
    ///
    /// [`Revoked`].
    pub fn live(&self, state: GrantState) -> Result<LiveGrant<'_>, Revoked> {
        match state {
            GrantState::Live => Ok(LiveGrant(self)),
            GrantState::Revoked => Err(Revoked),
        }
    }
}

// === impl LiveGrant ===

impl<'a> LiveGrant<'a> {
    /// Goes on when a scope of the grant permits the exchange for a service.
    ///
    /// # Errors
    ///
    /// [`OutOfScope`].
    pub fn scoped_for(self, service: &'a ServiceName) -> Result<ScopedGrant<'a>, OutOfScope> {
        let Self(grant) = self;
        let mut scopes = grant.claims.grant.scopes.iter();
        if !scopes.any(|scope| scope.permits_exchange(service.key(), grant.scope_mode)) {
            return Err(OutOfScope);
        }
        Ok(ScopedGrant { grant, service })
    }
}

// === impl ScopedGrant ===

impl ScopedGrant<'_> {
    /// Permits the exchange of a credential under these restrictions: every required scope is among the
    /// grant's, and the grant's agent is an allowed one, compared byte for byte.
    ///
    /// They are what a row says, and not yet known to be what was stored. Whoever opens the credential
    /// binds it to those of the permit: then a row that was relaxed in the database stays shut.
    ///
    /// # Errors
    ///
    /// [`Restricted`].
    pub fn within(self, restrictions: &Restrictions) -> Result<ExchangePermit, Restricted> {
        let Self { grant, service } = self;
        let held = &grant.claims.grant.scopes;
        let mut required = restrictions.required_scopes().iter();
        if !required.all(|required| held.iter().any(|scope| scope.is(required))) {
            return Err(Restricted::MissingScope);
        }
        let allowed = restrictions.allowed_agents();
        if !allowed.is_empty() && !allowed.contains(grant.agent()) {
            return Err(Restricted::OtherAgent);
        }
        Ok(ExchangePermit {
            developer: grant.developer().clone(),
            principal: grant.principal().clone(),
            service: service.clone(),
            restrictions: restrictions.clone(),
        })
    }
}

// === impl ExchangePermit ===

impl ExchangePermit {
    /// The tenant.
    #[must_use]
    pub fn developer(&self) -> &DeveloperId {
        &self.developer
    }

    /// Whose credential.
    #[must_use]
    pub fn principal(&self) -> &PrincipalId {
        &self.principal
    }

    /// For which service.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Which restrictions the grant meets.
    #[must_use]
    pub fn restrictions(&self) -> &Restrictions {
        &self.restrictions
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use serde_json::json;

    use super::*;

    fn grant(agent: &str, scopes: &[String]) -> VerifiedGrant {
        let claims = json!({
            "iss": "https://issuer.test", "sub": "alice", "agt": agent, "dev": "acme",
            "scp": scopes, "jti": "token", "iat": 0, "exp": 1,
        });
        let claims = Claims::parse(claims.to_string().as_bytes()).unwrap();
        VerifiedGrant::new(claims, ScopeMode::Exact)
    }

    proptest! {
        #[test]
        fn a_permit_is_for_grants_that_have_all_that_is_asked_and_says_what_was_asked(
            agent in "[aAb]", held in vec("[aAbB*]{1,2}", 0..6),
            required in vec("[aAbB*]{1,2}", 0..3), allowed in vec("[aAb]", 0..3),
        ) {
            let held = [held, vec!["vault:github:exchange".to_owned()]].concat();
            let restrictions = Restrictions::parse(&required, &allowed).unwrap();
            let (grant, service) = (grant(&agent, &held), ServiceName::parse("github").unwrap());
            let live = grant.live(GrantState::Live).unwrap();
            let permit = live.scoped_for(&service).unwrap().within(&restrictions);

            let lower: Vec<_> = held.iter().map(|scope| scope.to_ascii_lowercase()).collect();
            let scopes = required.iter().all(|scope| lower.contains(&scope.to_ascii_lowercase()));
            let agents = allowed.is_empty() || allowed.contains(&agent);
            match permit {
                Ok(permit) => {
                    prop_assert!(scopes && agents);
                    prop_assert_eq!(permit.restrictions(), &restrictions);
                }
                Err(Restricted::MissingScope) => prop_assert!(!scopes),
                Err(Restricted::OtherAgent) => prop_assert!(scopes && !agents),
            }
        }
    }
}
