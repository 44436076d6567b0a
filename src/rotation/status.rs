//! Status: which master keys there are, and what needs them.

use crate::{
    model::sealed::MasterKeyId,
    store::{Store, StoreFault},
};

/// A master key and how much it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUse {
    /// Which.
    pub id: MasterKeyId,
    /// What it is for.
    pub role: Role,
    /// How many keys it wraps: those of credentials, and the one that signs the audit record.
    pub wrapped: i64,
}

/// What a master key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// New credentials are wrapped by it.
    Primary,
    /// It is read.
    Active,
    /// Nothing is stored under it any more.
    Retired,
    /// It is configured to wrap new credentials, and was retired: stores are refused.
    RetiredPrimary,
}

/// Every master key that is the primary, wraps something, or was retired.
///
/// # Errors
///
/// When the database does not answer.
pub async fn status(store: &Store, primary: &MasterKeyId) -> Result<Vec<KeyUse>, StoreFault> {
    let used = store.master_key_uses().await?;
    let mut keys: Vec<KeyUse> = used
        .into_iter()
        .map(|key| KeyUse {
            role: match (key.id == *primary, key.retired) {
                (true, false) => Role::Primary,
                (true, true) => Role::RetiredPrimary,
                (false, false) => Role::Active,
                (false, true) => Role::Retired,
            },
            id: key.id,
            wrapped: key.wrapped,
        })
        .collect();
    if keys.iter().all(|key| key.id != *primary) {
        keys.push(KeyUse {
            id: primary.clone(),
            role: Role::Primary,
            wrapped: 0,
        });
    }
    Ok(keys)
}

// === impl Role ===

impl Role {
    /// For a person.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::RetiredPrimary => "retired, and still primary here",
        }
    }
}
