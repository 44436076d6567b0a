//! A developer that is known by an API key.

use super::{id::ApiKeyId, text::DeveloperId};

/// The caller of the verbs that take an API key.
#[derive(Debug, Clone)]
pub struct Developer {
    /// The tenant.
    pub id: DeveloperId,
    /// The key that was presented, where keys have names.
    pub api_key_id: Option<ApiKeyId>,
}
