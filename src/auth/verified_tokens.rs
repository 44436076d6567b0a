//! Tokens whose signature was verified, so that an agent that comes again costs no signature.
//!
//! Only that is remembered: whether the token is still in time, and whether its issuer still has the
//! key, is asked at each use. Tokens that do not verify are not kept, so that nobody fills this with
//! made up ones.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::{Weighter, sync::Cache};

use super::{
    grant::VerifiedGrant,
    key_set::{SignatureAlgorithm, Thumbprint},
};

/// How much the tokens that are remembered may weigh.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// How many of them that is: of a kilobyte each.
const TOKENS: usize = 16_000;

/// Verified tokens, by their hash.
pub(super) struct VerifiedTokens(Cache<TokenHash, Arc<VerifiedToken>, Weight>);

/// What a token weighs: its size.
#[derive(Clone)]
struct Weight;

/// SHA-256 of a whole token, its signature included: two tokens are never one.
pub(super) type TokenHash = [u8; 32];

/// A token and the key that verified it.
pub(super) struct VerifiedToken {
    /// Which key of the issuer.
    pub(super) kid: String,
    /// The algorithm of that key.
    pub(super) algorithm: SignatureAlgorithm,
    /// The key that this was then.
    pub(super) thumbprint: Thumbprint,
    /// What it says, some of which must hold at each use.
    pub(super) grant: Arc<VerifiedGrant>,
    /// Its size.
    pub(super) bytes: u32,
}

impl VerifiedTokens {
    pub(super) fn new() -> Self {
        Self(Cache::with_weighter(TOKENS, MAX_BYTES, Weight))
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
        self.0.remove(hash);
    }
}

impl Weighter<TokenHash, Arc<VerifiedToken>> for Weight {
    fn weight(&self, _: &TokenHash, token: &Arc<VerifiedToken>) -> u64 {
        token.bytes.into()
    }
}
