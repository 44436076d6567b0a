//! Grant tokens: from raw text, by checks, to the permit to exchange one credential.
//!
//! `GrantToken` → [`VerifiedGrant`] → [`LiveGrant`] → [`ScopedGrant`] → [`ExchangePermit`]: each is made
//! only by the check that earns it.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;

use super::{
    claims::{BadClaims, Claims},
    jwks::{NoKey, VerificationKey, VerificationKeys},
    verified_tokens::{VerifiedToken, VerifiedTokens},
};
use crate::{
    clock::Clock,
    model::{
        bearer::GrantToken,
        grant_state::GrantState,
        json::{Json, Members, check_depth},
        restrictions::Restrictions,
        scope::{Scope, ScopeMode},
        service_name::ServiceName,
        text::{AgentId, DeveloperId, GrantId, PrincipalId, TokenId},
        timestamp::Timestamp,
    },
};

/// The largest token that is looked at.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// Clocks differ. Without leeway tokens fail in their first moments; with more, expired ones live on.
const LEEWAY_SECONDS: i64 = 30;

/// Verifies the grant tokens of one issuer.
pub struct GrantVerifier {
    keys: Arc<VerificationKeys>,
    clock: Arc<dyn Clock>,
    issuer: String,
    policy: GrantPolicy,
    verified: VerifiedTokens,
}

/// Which of an issuer's tokens are taken, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantPolicy {
    /// What `aud` must say.
    pub audience: AudiencePolicy,
    /// How deep a grant may be delegated, at most; `None` when the authority knows of every ancestor.
    ///
    /// A token names its grant and the one that was delegated from. What was revoked further up cannot
    /// be told from it.
    pub max_delegation_depth: Option<u32>,
    /// The longest time from `iat` to `exp`; `None` for any.
    pub max_token_lifetime: Option<Duration>,
    /// Which scopes permit an exchange.
    pub scope_mode: ScopeMode,
}

/// What `aud` must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudiencePolicy {
    /// No audience is configured: any value passes.
    Any,
    /// The audience must be among those of the token, when the token names any.
    IfPresent(String),
    /// The token must name the audience.
    Required(String),
}

/// A token whose signature, times, issuer, audience and claims have been checked. Whether its grant
/// was revoked since is not known yet.
#[derive(Debug, Clone)]
pub struct VerifiedGrant {
    developer: DeveloperId,
    principal: PrincipalId,
    agent: AgentId,
    scopes: Vec<Scope>,
    scope_mode: ScopeMode,
    token: TokenId,
    grant: GrantId,
    parent_agent: Option<AgentId>,
    parent_grant: Option<GrantId>,
    delegation_depth: Option<i64>,
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

/// Why a token does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantRefusal {
    /// Forged, expired, malformed, or of somebody else: the caller must get another.
    Invalid,
    /// The issuer's keys cannot be had: time, or the operator, must act.
    KeysUnavailable,
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

impl GrantVerifier {
    /// Accepts tokens of `issuer` that `keys` verify.
    #[must_use]
    pub fn new(
        keys: Arc<VerificationKeys>,
        clock: Arc<dyn Clock>,
        issuer: String,
        policy: GrantPolicy,
    ) -> Self {
        Self {
            keys,
            clock,
            issuer,
            policy,
            verified: VerifiedTokens::new(),
        }
    }

    /// Verifies a token: RS256 by the issuer's key of its `kid` (RFC 7515, section 5.2), then its
    /// claims, then issuer, times and audience. URLs that a token names are never followed.
    ///
    /// A signature that was verified is not verified again as long as the issuer has its key; all else
    /// is checked each time.
    ///
    /// # Errors
    ///
    /// [`GrantRefusal`].
    pub async fn verify(&self, token: &GrantToken<'_>) -> Result<Arc<VerifiedGrant>, GrantRefusal> {
        let token = token.expose();
        if token.len() > MAX_TOKEN_BYTES {
            return Err(GrantRefusal::Invalid);
        }
        let hash = VerifiedTokens::hash(token);
        if let Some(verified) = self.verified.get(&hash) {
            let key = self.keys.find(&verified.kid).await?;
            if key.thumbprint == verified.thumbprint {
                self.check(&verified.claims)?;
                return Ok(Arc::clone(&verified.grant));
            }
            self.verified.forget(&hash);
        }
        let verified = Arc::new(self.verify_signature(token).await?);
        self.check(&verified.claims)?;
        self.verified.insert(hash, Arc::clone(&verified));
        Ok(Arc::clone(&verified.grant))
    }

    /// The longest life of a token that is taken, if there is a bound.
    #[must_use]
    pub fn max_token_lifetime(&self) -> Option<Duration> {
        self.policy.max_token_lifetime
    }

    async fn verify_signature(&self, token: &str) -> Result<VerifiedToken, GrantRefusal> {
        let (message, signature) = token.rsplit_once('.').ok_or(GrantRefusal::Invalid)?;
        let (header, payload) = message.split_once('.').ok_or(GrantRefusal::Invalid)?;
        if payload.contains('.') {
            return Err(GrantRefusal::Invalid);
        }
        let (header, payload) = (decode(header)?, decode(payload)?);
        decode(signature)?;
        let kid = kid(&header).ok_or(GrantRefusal::Invalid)?;
        let VerificationKey { key, thumbprint } = &*self.keys.find(&kid).await?;
        // The library checks the signature only: it reads the system's clock, accepts members that
        // stand twice, and knows nothing of our claims.
        let verified =
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, Algorithm::RS256);
        if !verified.unwrap_or(false) {
            return Err(GrantRefusal::Invalid);
        }
        let claims = Claims::parse(&payload)?;
        Ok(VerifiedToken {
            kid,
            thumbprint: *thumbprint,
            grant: Arc::new(VerifiedGrant::new(&claims, self.policy.scope_mode)),
            claims,
            bytes: u32::try_from(token.len()).expect("16 KiB at most"),
        })
    }

    fn check(&self, claims: &Claims) -> Result<(), GrantRefusal> {
        let now: Timestamp = self.clock.now();
        let now = now.as_second();
        let expired = now >= claims.expires_at.saturating_add(LEEWAY_SECONDS);
        let early = claims
            .not_before
            .is_some_and(|not_before| now < not_before.saturating_sub(LEEWAY_SECONDS));
        let audience = claims.audience.as_deref();
        let names = |wanted: &String| audience.is_some_and(|all| all.contains(wanted));
        let addressed = match &self.policy.audience {
            AudiencePolicy::Any => true,
            AudiencePolicy::IfPresent(wanted) => audience.is_none() || names(wanted),
            AudiencePolicy::Required(wanted) => names(wanted),
        };
        let depth = claims.delegation_depth.unwrap_or_default();
        let deep = self.policy.max_delegation_depth;
        let deep = deep.is_some_and(|deepest| depth > i64::from(deepest));
        let lifetime = claims.expires_at.saturating_sub(claims.issued_at);
        let long = self.policy.max_token_lifetime;
        let long = long.is_some_and(|longest| {
            u64::try_from(lifetime).is_ok_and(|lifetime| lifetime > longest.as_secs())
        });
        let refused = expired || early || deep || long;
        if claims.issuer != self.issuer || !addressed || refused {
            return Err(GrantRefusal::Invalid);
        }
        Ok(())
    }
}

// === impl VerifiedGrant ===

impl VerifiedGrant {
    /// The tenant whose principal consented.
    #[must_use]
    pub fn developer(&self) -> &DeveloperId {
        &self.developer
    }

    /// Who consented.
    #[must_use]
    pub fn principal(&self) -> &PrincipalId {
        &self.principal
    }

    /// Who was given the grant.
    #[must_use]
    pub fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// The token.
    #[must_use]
    pub fn token(&self) -> &TokenId {
        &self.token
    }

    /// Its grant.
    #[must_use]
    pub fn grant(&self) -> &GrantId {
        &self.grant
    }

    /// The agent that delegated.
    #[must_use]
    pub fn parent_agent(&self) -> Option<&AgentId> {
        self.parent_agent.as_ref()
    }

    /// The grant that was delegated from.
    #[must_use]
    pub fn parent_grant(&self) -> Option<&GrantId> {
        self.parent_grant.as_ref()
    }

    /// How many delegations lie between the principal and the agent.
    #[must_use]
    pub fn delegation_depth(&self) -> Option<i64> {
        self.delegation_depth
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

impl VerifiedGrant {
    fn new(claims: &Claims, scope_mode: ScopeMode) -> Self {
        Self {
            scope_mode,
            developer: claims.developer.clone(),
            principal: claims.principal.clone(),
            agent: claims.agent.clone(),
            scopes: claims.scopes.clone(),
            token: claims.token.clone(),
            grant: claims.grant.clone(),
            parent_agent: claims.parent_agent.clone(),
            parent_grant: claims.parent_grant.clone(),
            delegation_depth: claims.delegation_depth,
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
        if !grant
            .scopes
            .iter()
            .any(|scope| scope.permits_exchange(service.key(), grant.scope_mode))
        {
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
        let mut required = restrictions.required_scopes().iter();
        if !required.all(|required| grant.scopes.iter().any(|scope| scope.is(required))) {
            return Err(Restricted::MissingScope);
        }
        let allowed = restrictions.allowed_agents();
        if !allowed.is_empty() && !allowed.contains(&grant.agent) {
            return Err(Restricted::OtherAgent);
        }
        Ok(ExchangePermit {
            developer: grant.developer.clone(),
            principal: grant.principal.clone(),
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

/// Canonical base64url without padding (RFC 7515, section 2): a token has one spelling.
fn decode(part: &str) -> Result<Vec<u8>, GrantRefusal> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| GrantRefusal::Invalid)
}

/// The `kid` of a header that we accept: RS256, no critical extensions, of type JWT when it has one.
/// Everything else in a header is ignored, keys and URLs of keys above all.
fn kid(header: &[u8]) -> Option<String> {
    let members = Members::split(header).ok()?;
    let is_text = |name, wanted: &dyn Fn(&str) -> bool| match members.get(name) {
        Ok(Some(Json::String(text))) => Some(wanted(&text)),
        Ok(None) => None,
        _ => Some(false),
    };
    let shallow = members.iter().all(|(_, raw)| check_depth(raw).is_ok());
    let critical = members.iter().any(|(name, _)| name == "crit");
    let rs256 = is_text("alg", &|alg| alg == "RS256") == Some(true);
    let jwt = is_text("typ", &|typ| typ.eq_ignore_ascii_case("jwt")).unwrap_or(true);
    if !shallow || critical || !rs256 || !jwt {
        return None;
    }
    match members.get("kid") {
        Ok(Some(Json::String(kid))) => Some(kid),
        _ => None,
    }
}

impl From<NoKey> for GrantRefusal {
    fn from(fault: NoKey) -> Self {
        match fault {
            NoKey::Unknown => Self::Invalid,
            NoKey::Unavailable => Self::KeysUnavailable,
        }
    }
}

impl From<BadClaims> for GrantRefusal {
    fn from(BadClaims: BadClaims) -> Self {
        Self::Invalid
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn grant(agent: &str, scopes: &[String]) -> VerifiedGrant {
        let token = TokenId::parse("token").unwrap();
        VerifiedGrant {
            developer: DeveloperId::parse("acme").unwrap(),
            principal: PrincipalId::parse("alice").unwrap(),
            agent: AgentId::parse(agent).unwrap(),
            scopes: scopes.iter().map(|scope| Scope::new(scope)).collect(),
            scope_mode: ScopeMode::Compatible,
            grant: (&token).into(),
            token,
            parent_agent: None,
            parent_grant: None,
            delegation_depth: None,
        }
    }

    proptest! {
        #[test]
        fn a_permit_is_for_grants_that_have_all_that_is_asked_and_says_what_was_asked(
            agent in "[aAb]", held in vec("[aAbB*]{1,2}", 0..6),
            required in vec("[aAbB*]{1,2}", 0..3), allowed in vec("[aAb]", 0..3),
        ) {
            let held = [held, vec!["github:read".to_owned()]].concat();
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
