//! The header of a grant token: which key is to verify it, and which form its claims may have.

use super::{key_set::SignatureAlgorithm, rejection::Rejection};
use crate::model::{
    grant_check::GrantCheck,
    json::{Json, Members, check_depth},
};

/// What is read of a header (RFC 7515, section 4). Everything else in it is ignored, keys and URLs of
/// keys above all.
pub(super) struct TokenHeader {
    pub(super) kid: String,
    pub(super) algorithm: SignatureAlgorithm,
    pub(super) token_type: TokenType,
}

/// What a token says that it is (`typ`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenType {
    /// Nothing, or `JWT`: a token from before the standard form.
    Jwt,
    /// An access token (RFC 9068, section 2.1).
    AccessToken,
}

impl TokenHeader {
    pub(super) fn parse(header: &[u8]) -> Result<Self, Rejection> {
        let malformed = |_| Rejection::new(GrantCheck::Header, "header", "one JSON object");
        let members = Members::split(header).map_err(malformed)?;
        for (_, raw) in members.iter() {
            check_depth(raw).map_err(malformed)?;
        }
        if members.has("crit") {
            let expected = "no critical extension";
            return Err(Rejection::new(GrantCheck::Header, "crit", expected));
        }
        Ok(Self {
            algorithm: algorithm(&members)?,
            token_type: token_type(&members)?,
            kid: kid(&members)?,
        })
    }
}

fn algorithm(members: &Members<'_>) -> Result<SignatureAlgorithm, Rejection> {
    let refused = Rejection::new(GrantCheck::Algorithm, "alg", "RS256 or ES256");
    match members.get("alg") {
        Ok(Some(Json::String(text))) => {
            SignatureAlgorithm::parse(&text).ok_or_else(|| refused.presented(&text))
        }
        _ => Err(refused),
    }
}

fn token_type(members: &Members<'_>) -> Result<TokenType, Rejection> {
    let refused = Rejection::new(GrantCheck::Type, "typ", "JWT or at+jwt");
    match members.get("typ") {
        Ok(None) => Ok(TokenType::Jwt),
        Ok(Some(Json::String(text))) => match text.to_ascii_lowercase().as_str() {
            "jwt" => Ok(TokenType::Jwt),
            "at+jwt" | "application/at+jwt" => Ok(TokenType::AccessToken),
            _ => Err(refused.presented(&text)),
        },
        _ => Err(refused),
    }
}

fn kid(members: &Members<'_>) -> Result<String, Rejection> {
    match members.get("kid") {
        Ok(Some(Json::String(kid))) => Ok(kid),
        _ => Err(Rejection::new(GrantCheck::Key, "kid", "the id of a key")),
    }
}
