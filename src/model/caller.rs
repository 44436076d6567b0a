//! A developer that is known by an API key.

use super::{bearer::ApiKeyHash, id::ApiKeyId, text::DeveloperId};

/// The caller of the verbs that take an API key.
#[derive(Debug, Clone)]
pub struct Developer {
    /// The tenant.
    pub id: DeveloperId,
    /// The key that was presented, where keys have names.
    pub api_key_id: Option<ApiKeyId>,
    /// Its hash: what the developer writes is written only while this key is valid.
    pub api_key_hash: ApiKeyHash,
}
