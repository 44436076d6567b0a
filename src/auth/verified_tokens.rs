//! Tokens whose signature was verified, so that an agent that comes again costs no RSA.
//!
//! Only that is remembered: whether the token is still in time, and whether its issuer still has the
//! key, is asked at each use. Tokens that do not verify are not kept, so that nobody fills this with
//! made up ones.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use moka::sync::Cache;

use super::{claims::Claims, grant::VerifiedGrant, jwks::Thumbprint};

/// How much the tokens that are remembered may weigh: about 16,000 of a kilobyte.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Verified tokens, by their hash.
pub(super) struct VerifiedTokens(Cache<TokenHash, Arc<VerifiedToken>>);

/// SHA-256 of a whole token, its signature included: two tokens are never one.
pub(super) type TokenHash = [u8; 32];

/// A token and the key that verified it.
pub(super) struct VerifiedToken {
    /// Which key of the issuer.
    pub(super) kid: String,
    /// The key that this was then.
    pub(super) thumbprint: Thumbprint,
    /// What must hold at each use.
    pub(super) claims: Claims,
    /// What it grants.
    pub(super) grant: Arc<VerifiedGrant>,
    /// Its size.
    pub(super) bytes: u32,
}

impl VerifiedTokens {
    pub(super) fn new() -> Self {
        let cache = Cache::builder()
            .max_capacity(MAX_BYTES)
            .weigher(|_, token: &Arc<VerifiedToken>| token.bytes);
        Self(cache.build())
    }

    pub(super) fn hash(token: &str) -> TokenHash {
        let hash = digest(&SHA256, token.as_bytes());
        hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    pub(super) fn get(&self, hash: &TokenHash) -> Option<Arc<VerifiedToken>> {
        self.0.get(hash)
    }

    pub(super) fn insert(&self, hash: TokenHash, token: Arc<VerifiedToken>) {
        self.0.insert(hash, token);
    }

    pub(super) fn forget(&self, hash: &TokenHash) {
        self.0.invalidate(hash);
    }
}
