//! Which ids credentials had when this replica wrote them last, so that the event of the next write can
//! name the id that it keeps. A guess: the statement that writes compares it.

use std::hash::{BuildHasher, RandomState};

use quick_cache::sync::Cache;

use super::credential_writes::CredentialWrite;
use crate::model::id::CredentialId;

/// How many are kept, a few dozen bytes each; those that are written least go first.
const MAX_IDS: usize = 50_000;

/// Ids by a hash of their places.
pub(super) struct WrittenLast {
    /// Of this process: nobody can choose places that share one.
    hasher: RandomState,
    ids: Cache<u64, CredentialId>,
}

impl WrittenLast {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            ids: Cache::new(MAX_IDS),
        }
    }

    pub(super) fn get(&self, write: &CredentialWrite<'_>) -> Option<CredentialId> {
        self.ids.get(&self.place(write))
    }

    pub(super) fn keep(&self, write: &CredentialWrite<'_>, id: CredentialId) {
        self.ids.insert(self.place(write), id);
    }

    fn place(&self, write: &CredentialWrite<'_>) -> u64 {
        let principal = write.principal.as_str();
        let service = write.service.key().as_str();
        self.hasher
            .hash_one((write.developer.as_str(), principal, service))
    }
}
