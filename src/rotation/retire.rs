//! Status and retire: which master keys are needed, and the end of one that is not.

use super::RotationFault;
use crate::{
    model::sealed::MasterKeyId,
    store::{Store, StoreFault, master_keys::Retired},
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

/// Retires a master key: from now on no replica stores under it, whatever its configuration says.
///
/// # Errors
///
/// When it is the primary, or a credential needs it; when the database does not answer.
pub async fn retire(
    store: &Store,
    primary: &MasterKeyId,
    id: &MasterKeyId,
) -> Result<(), RotationFault> {
    if id == primary {
        return Err(RotationFault::Primary(id.clone()));
    }
    match store.retire_master_key(id).await? {
        Retired::Done => Ok(()),
        Retired::Needed => Err(RotationFault::Needed(id.clone())),
    }
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
