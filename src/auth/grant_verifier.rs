//! Verifies grant tokens: raw text becomes a [`VerifiedGrant`] or a reason why not.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    claims::Claims,
    grant::VerifiedGrant,
    grant_rules::{self, GrantPolicy},
    jwks::{NoKey, VerificationKeys},
    rejection::Rejection,
    token_header::TokenHeader,
    verified_tokens::{VerifiedToken, VerifiedTokens},
};
use crate::{
    clock::Clock,
    model::{bearer::GrantToken, grant_check::GrantCheck, text::Issuer},
};

/// The largest token that is looked at.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Verifies the grant tokens of one issuer.
pub struct GrantVerifier {
    keys: Arc<VerificationKeys>,
    clock: Arc<dyn Clock>,
    issuer: Issuer,
    policy: GrantPolicy,
    verified: VerifiedTokens,
}

/// Why a token does not verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantError {
    /// Forged, expired, malformed, or of somebody else: the caller must get another.
    Rejected(Box<Rejection>),
    /// The issuer's keys cannot be had: time, or the operator, must act.
    KeysUnavailable,
}

impl GrantVerifier {
    /// Accepts tokens of `issuer` that `keys` verify.
    #[must_use]
    pub fn new(
        keys: Arc<VerificationKeys>,
        clock: Arc<dyn Clock>,
        issuer: Issuer,
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

    /// Verifies a token: its signature by the issuer's key of its `kid` (RFC 7515, section 5.2), then its
    /// claims, then issuer, audience, times and delegation. URLs that a token names are never followed.
    ///
    /// A signature that was verified is not verified again as long as the issuer has its key; all else
    /// is checked each time.
    ///
    /// # Errors
    ///
    /// [`GrantError`].
    pub async fn verify(&self, token: &GrantToken<'_>) -> Result<Arc<VerifiedGrant>, GrantError> {
        let token = token.expose();
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Rejection::new(GrantCheck::Form, "token", "16 KiB at most").into());
        }
        let hash = VerifiedTokens::hash(token);
        if let Some(verified) = self.verified.get(&hash) {
            let key = self.keys.find(&verified.kid, verified.algorithm).await;
            let key = key.map_err(|fault| no_key(fault, &verified.kid))?;
            if key.thumbprint == verified.thumbprint {
                self.check(&verified.grant)?;
                return Ok(Arc::clone(&verified.grant));
            }
            self.verified.forget(&hash);
        }
        let verified = Arc::new(self.verify_signature(token).await?);
        self.check(&verified.grant)?;
        self.verified.insert(hash, Arc::clone(&verified));
        Ok(Arc::clone(&verified.grant))
    }

    /// The longest life of a token that is taken, if there is a bound.
    #[must_use]
    pub fn max_token_lifetime(&self) -> Option<Duration> {
        self.policy.max_token_lifetime
    }

    fn check(&self, grant: &VerifiedGrant) -> Result<(), Rejection> {
        grant_rules::hold(grant.claims(), &self.issuer, &self.policy, self.clock.now())
    }

    async fn verify_signature(&self, token: &str) -> Result<VerifiedToken, GrantError> {
        let parts = Parts::split(token)?;
        let header = TokenHeader::parse(&parts.header)?;
        let (kid, algorithm) = (header.kid, header.algorithm);
        let key = self.keys.find(&kid, algorithm).await;
        let key = key.map_err(|fault| no_key(fault, &kid))?;
        // Only the signature is the library's affair: it reads the system's clock, accepts members that
        // stand twice, and knows nothing of our claims.
        if !key.verifies(parts.message.as_bytes(), parts.signature) {
            let expected = format!("{algorithm} by the key of its kid");
            let rejection = Rejection::new(GrantCheck::Signature, "signature", expected);
            return Err(rejection.presented(&kid).into());
        }
        let claims = Claims::parse(&parts.payload)?;
        grant_rules::form_fits_type(&claims, header.token_type)?;
        Ok(VerifiedToken {
            kid,
            algorithm,
            thumbprint: key.thumbprint,
            grant: Arc::new(VerifiedGrant::new(claims, self.policy.scope_mode)),
            bytes: u32::try_from(token.len()).expect("16 KiB at most"),
        })
    }
}

/// The parts of a token in the compact form (RFC 7515, section 7.1).
struct Parts<'a> {
    /// What is signed: header and payload as they are spelled.
    message: &'a str,
    header: Vec<u8>,
    payload: Vec<u8>,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, Rejection> {
        let refused = || {
            let expected = "three parts in base64url without padding";
            Rejection::new(GrantCheck::Form, "token", expected)
        };
        let (message, signature) = token.rsplit_once('.').ok_or_else(refused)?;
        let (header, payload) = message.split_once('.').ok_or_else(refused)?;
        // Canonical, so that a token has one spelling. A further dot is in neither alphabet.
        let decode = |part| URL_SAFE_NO_PAD.decode(part).map_err(|_| refused());
        decode(signature)?;
        Ok(Self {
            message,
            header: decode(header)?,
            payload: decode(payload)?,
            signature,
        })
    }
}

fn no_key(fault: NoKey, kid: &str) -> GrantError {
    let (check, expected) = match fault {
        NoKey::Unavailable => return GrantError::KeysUnavailable,
        NoKey::Unknown => (GrantCheck::Key, "a key of the issuer's key set".to_owned()),
        NoKey::OtherAlgorithm(algorithm) => {
            let expected = format!("{algorithm}, which the key is for");
            (GrantCheck::Algorithm, expected)
        }
    };
    Rejection::new(check, "kid", expected).presented(kid).into()
}

// === impl GrantError ===

impl From<Rejection> for GrantError {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(Box::new(rejection))
    }
}
