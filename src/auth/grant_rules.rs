//! What must hold of a token at each use: rules over its claims, our settings and the time.

use std::time::Duration;

use super::{
    claims::{Claims, Form},
    rejection::Rejection,
    token_header::TokenType,
};
use crate::model::{grant_check::GrantCheck, scope::ScopeMode, text::Issuer, timestamp::Timestamp};

/// Clocks differ. Without leeway tokens fail in their first moments; with more, expired ones live on.
const LEEWAY_SECONDS: i64 = 30;

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

/// What `aud` must say. A token that names an audience was made for that one: taking those of others
/// would let whoever receives such a token spend it here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudiencePolicy {
    /// It is not looked at.
    Unchecked,
    /// A token names none, or this one among others; with `None` a token must name none.
    Optional(Option<String>),
    /// The token must name the audience.
    Required(String),
}

impl AudiencePolicy {
    /// The audience that a token may name.
    #[must_use]
    pub fn ours(&self) -> Option<&str> {
        match self {
            Self::Unchecked | Self::Optional(None) => None,
            Self::Optional(Some(audience)) | Self::Required(audience) => Some(audience),
        }
    }
}

/// The form of the claims fits the type in the header: what has the standard claims is an access token
/// (RFC 9068, section 2.1), so that no other JWT of the issuer passes for one.
pub(super) fn form_fits_type(claims: &Claims, token_type: TokenType) -> Result<(), Rejection> {
    match (claims.form, token_type) {
        (Form::Standard, TokenType::Jwt) => {
            let expected = "at+jwt, which tokens with urn:grantex:grant have";
            Err(Rejection::new(GrantCheck::Type, "typ", expected))
        }
        (Form::Standard, TokenType::AccessToken) | (Form::Short, _) => Ok(()),
    }
}

/// Everything that must hold at each use of a token whose signature was verified.
pub(super) fn hold(
    claims: &Claims,
    issuer: &Issuer,
    policy: &GrantPolicy,
    now: Timestamp,
) -> Result<(), Rejection> {
    of_issuer(claims, issuer)?;
    for_audience(claims, &policy.audience)?;
    not_key_bound(claims)?;
    in_time(claims, now.as_second())?;
    short_lived(claims, policy.max_token_lifetime, now.as_second())?;
    not_delegated_deeper(claims, policy.max_delegation_depth)
}

fn of_issuer(claims: &Claims, issuer: &Issuer) -> Result<(), Rejection> {
    let presented = &claims.grant.issuer;
    if presented == issuer {
        return Ok(());
    }
    Err(Rejection::new(GrantCheck::Issuer, "iss", issuer).presented(presented.as_str()))
}

fn for_audience(claims: &Claims, policy: &AudiencePolicy) -> Result<(), Rejection> {
    let presented = claims.audience.as_deref();
    let names = |wanted: &String| presented.is_some_and(|all| all.contains(wanted));
    let (holds, expected) = match policy {
        AudiencePolicy::Unchecked => return Ok(()),
        AudiencePolicy::Optional(None) => (
            presented.is_none(),
            "absent: GRANTEX_VAULT_AUDIENCE is not set",
        ),
        AudiencePolicy::Optional(Some(ours)) => (presented.is_none() || names(ours), ours.as_str()),
        AudiencePolicy::Required(ours) => (names(ours), ours.as_str()),
    };
    if holds {
        return Ok(());
    }
    let rejection = Rejection::new(GrantCheck::Audience, "aud", expected);
    Err(match presented {
        Some(all) => rejection.presented(&all.join(", ")),
        None => rejection,
    })
}

/// A bound token is worth nothing to a thief only as long as nobody takes it without the proof.
fn not_key_bound(claims: &Claims) -> Result<(), Rejection> {
    if !claims.key_bound {
        return Ok(());
    }
    let expected = "absent: tokens that are bound to a key are not taken yet";
    Err(Rejection::new(GrantCheck::KeyBinding, "cnf", expected))
}

fn in_time(claims: &Claims, now: i64) -> Result<(), Rejection> {
    let refused = |check, name, expected: String, presented: i64| {
        Err(Rejection::new(check, name, expected).presented(&presented.to_string()))
    };
    let (issued_at, expires_at) = (claims.issued_at, claims.expires_at);
    if now >= expires_at.saturating_add(LEEWAY_SECONDS) {
        let expected = format!("later than {}", now - LEEWAY_SECONDS);
        return refused(GrantCheck::Expiry, "exp", expected, expires_at);
    }
    let latest = now.saturating_add(LEEWAY_SECONDS);
    if let Some(not_before) = claims.not_before.filter(|begins| *begins > latest) {
        let expected = format!("{latest} or earlier");
        return refused(GrantCheck::NotBefore, "nbf", expected, not_before);
    }
    if issued_at > latest {
        let expected = format!("{latest} or earlier");
        return refused(GrantCheck::IssuedAt, "iat", expected, issued_at);
    }
    if issued_at > expires_at {
        let expected = format!("not after exp, which is {expires_at}");
        return refused(GrantCheck::IssuedAt, "iat", expected, issued_at);
    }
    Ok(())
}

/// Neither as its issuer says, nor from now on: `iat` is what the issuer says, `now` is what we know.
fn short_lived(claims: &Claims, longest: Option<Duration>, now: i64) -> Result<(), Rejection> {
    let Some(longest) = longest else {
        return Ok(());
    };
    let longest = i64::try_from(longest.as_secs()).unwrap_or(i64::MAX);
    let lifetime = claims.expires_at.saturating_sub(claims.issued_at);
    let left = claims.expires_at.saturating_sub(now);
    if lifetime <= longest && left <= longest.saturating_add(LEEWAY_SECONDS) {
        return Ok(());
    }
    let expected = format!("{longest} s after iat, and after now, at most");
    let presented = format!("{lifetime} s after iat, {left} s after now");
    Err(Rejection::new(GrantCheck::Lifetime, "exp", expected).presented(&presented))
}

fn not_delegated_deeper(claims: &Claims, deepest: Option<u32>) -> Result<(), Rejection> {
    let depth = claims.grant.depth();
    match deepest {
        Some(deepest) if depth > i64::from(deepest) => {
            let expected = format!("{deepest} delegations at most");
            let rejection = Rejection::new(GrantCheck::Delegation, "delegation", expected);
            Err(rejection.presented(&depth.to_string()))
        }
        Some(_) | None => Ok(()),
    }
}
