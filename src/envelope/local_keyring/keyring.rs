//! The keys of a local keyring, in memory.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{
    super::{
        context::{KmsContext, push},
        data_key::DataKey,
        kms::KmsFault,
    },
    file::{KeyFile, KeyringFile},
};
use crate::model::{
    sealed::{MasterKeyId, WrappedKey},
    timestamp::Timestamp,
};

/// A keyring's key, without the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDescription {
    /// Its number in the keyring, from 1.
    pub version: u32,
    /// The identity that is stored with what it wraps.
    pub id: MasterKeyId,
    /// When it was made.
    pub created_at: String,
    /// Whether new data keys are wrapped by it.
    pub primary: bool,
}

/// Versioned keys, one of them primary.
#[derive(Debug)]
pub(super) struct Keyring {
    pub(super) id: String,
    pub(super) primary: u32,
    /// The newest version that was removed.
    removed: Option<u32>,
    keys: BTreeMap<u32, Version>,
}

#[derive(Debug)]
struct Version {
    key: DataKey,
    created_at: String,
}

impl Keyring {
    /// A keyring of one key.
    pub(super) fn make(now: Timestamp) -> Self {
        Self {
            id: uuid::Uuid::new_v4().simple().to_string(),
            primary: 1,
            removed: None,
            keys: BTreeMap::from([(1, Version::make(now))]),
        }
    }

    /// Adds a key and answers its version: one that no key has or had, because what a removed key
    /// wrapped names its version for ever.
    pub(super) fn add(&mut self, now: Timestamp) -> u32 {
        let last = self.keys.last_key_value().map(|(last, _)| *last);
        let version = last.max(self.removed).map_or(1, |last| last + 1);
        self.keys.insert(version, Version::make(now));
        version
    }

    /// Takes a key out; `false` when there is none of this version.
    pub(super) fn remove(&mut self, version: u32) -> bool {
        let removed = self.keys.remove(&version).is_some();
        if removed {
            self.removed = self.removed.max(Some(version));
        }
        removed
    }

    /// What keys there are, oldest first.
    pub(super) fn list(&self) -> Vec<KeyDescription> {
        self.keys
            .keys()
            .filter_map(|version| self.describe(*version))
            .collect()
    }

    /// The key of a version, without the key.
    pub(super) fn describe(&self, version: u32) -> Option<KeyDescription> {
        let key = self.keys.get(&version)?;
        Some(KeyDescription {
            version,
            id: self.identity(version),
            created_at: key.created_at.clone(),
            primary: version == self.primary,
        })
    }

    pub(super) fn from_file(file: KeyringFile) -> Result<Self, &'static str> {
        let mut keys = BTreeMap::new();
        for entry in file.keys {
            let bytes = STANDARD.decode(entry.key.as_bytes()).map(Zeroizing::new);
            let bytes = bytes.map_err(|_| "a key is not base64")?;
            let key = DataKey::from_bytes(&bytes).ok_or("a key is not 32 bytes")?;
            let version = Version {
                key,
                created_at: entry.created_at,
            };
            if keys.insert(entry.version, version).is_some() {
                return Err("a version stands twice");
            }
        }
        if !keys.contains_key(&file.primary) {
            return Err("the primary version is not among the keys");
        }
        let id_is_plain = !file.id.is_empty() && file.id.bytes().all(|b| b.is_ascii_alphanumeric());
        if !id_is_plain {
            return Err("the id must be letters and digits");
        }
        Ok(Self {
            id: file.id,
            primary: file.primary,
            removed: file.removed,
            keys,
        })
    }

    pub(super) fn to_file(&self) -> KeyringFile {
        let keys = self.keys.iter().map(|(version, key)| KeyFile {
            version: *version,
            created_at: key.created_at.clone(),
            key: Zeroizing::new(STANDARD.encode(key.key.expose())),
        });
        KeyringFile {
            id: self.id.clone(),
            primary: self.primary,
            removed: self.removed,
            keys: keys.collect(),
        }
    }

    /// What is stored beside a data key that this version wraps.
    pub(super) fn identity(&self, version: u32) -> MasterKeyId {
        MasterKeyId::new(&format!("local:{}/{version}", self.id))
    }

    pub(super) fn holds(&self, id: &MasterKeyId) -> bool {
        self.find(id).is_ok()
    }

    fn find(&self, id: &MasterKeyId) -> Result<&Version, KmsFault> {
        self.keys
            .iter()
            .find(|(version, _)| self.identity(**version) == *id)
            .map(|(_, key)| key)
            .ok_or_else(|| KmsFault::NotConfigured(id.clone()))
    }

    pub(super) fn wrap(&self, key: &DataKey, context: &KmsContext) -> WrappedKey {
        let master_key = self.identity(self.primary);
        let primary = self
            .keys
            .get(&self.primary)
            .expect("a keyring has its primary");
        let additional_data = additional_data(&master_key, context);
        let bytes = primary.key.encrypt(&additional_data, key.expose());
        WrappedKey { master_key, bytes }
    }

    pub(super) fn unwrap(
        &self,
        key: &WrappedKey,
        context: &KmsContext,
    ) -> Result<DataKey, KmsFault> {
        let master_key = self.find(&key.master_key)?;
        let additional_data = additional_data(&key.master_key, context);
        let tampered =
            |cause| KmsFault::Tampered(Box::<dyn std::error::Error + Send + Sync>::from(cause));
        let plain = master_key.key.decrypt(&additional_data, &key.bytes);
        let plain = plain.map_err(|fault| tampered(fault.to_string()))?;
        DataKey::from_bytes(&plain).ok_or_else(|| tampered("not a data key".to_owned()))
    }
}

/// Binds a wrapped key to its master key's identity and its context.
fn additional_data(master_key: &MasterKeyId, context: &KmsContext) -> Vec<u8> {
    let mut bytes = Vec::new();
    push(&mut bytes, master_key.as_str().as_bytes());
    bytes.extend_from_slice(&context.to_bytes());
    bytes
}

// === impl Version ===

impl Version {
    fn make(now: Timestamp) -> Self {
        Self {
            key: DataKey::make(),
            created_at: now.to_string(),
        }
    }
}
