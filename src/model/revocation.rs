//! What was revoked, and for how long that must be remembered.

use super::{
    text::{DeveloperId, GrantId, TokenId},
    timestamp::Timestamp,
};

/// What is refused from a moment on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// A developer with all its keys and grants: it is suspended.
    Developer,
    /// A grant with its tokens, and those of grants that were delegated from it.
    Grant(GrantId),
    /// One token.
    Token(TokenId),
}

/// A revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// What of the developer.
    pub what: Revoked,
    /// Since when.
    pub revoked_at: Timestamp,
    /// When nothing of it could be used any more anyway, so that it may be forgotten; `None` when that
    /// is not known, and then never.
    pub expires_at: Option<Timestamp>,
}

impl Revoked {
    /// What kind of thing it is, as it is stored.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Developer => "developer",
            Self::Grant(_) => "grant",
            Self::Token(_) => "token",
        }
    }

    /// Which one of this developer.
    #[must_use]
    pub fn subject<'a>(&'a self, developer: &'a DeveloperId) -> &'a str {
        match self {
            Self::Developer => developer.as_str(),
            Self::Grant(grant) => grant.as_str(),
            Self::Token(token) => token.as_str(),
        }
    }

    /// Reads kind and subject; `None` when the vault never writes them.
    #[must_use]
    pub fn parse(kind: &str, subject: &str) -> Option<Self> {
        match kind {
            "developer" => DeveloperId::parse(subject).ok().map(|_| Self::Developer),
            "grant" => GrantId::parse(subject).ok().map(Self::Grant),
            "token" => TokenId::parse(subject).ok().map(Self::Token),
            _ => None,
        }
    }
}
