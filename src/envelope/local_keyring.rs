//! Master keys in a file: for development, tests and on-premises.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{
    context::{KmsContext, push},
    data_key::{DataKey, FreshDataKey},
    kms::{Kms, KmsFault},
};
use crate::model::{
    sealed::{MasterKeyId, WrappedKey},
    timestamp::Timestamp,
};

/// The largest keyring file that is read.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A keyring: versioned AES-256 keys, one of them primary.
///
/// A master key wraps with random 96-bit nonces, so one version should not wrap more than 2³² data
/// keys (NIST SP 800-38D, section 8.3).
#[derive(Debug)]
pub struct LocalKeyring {
    id: String,
    primary: u32,
    keys: BTreeMap<u32, Version>,
}

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

/// Why a keyring file cannot be used. The messages name the path, never a key.
#[derive(Debug, Error)]
pub enum KeyringFault {
    /// Reading or writing failed.
    #[error("keyring {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Everybody on the machine can read the master keys.
    #[error("keyring {path} is accessible to others (mode {mode:o}): chmod 600 it")]
    Exposed {
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// The content is not a keyring.
    #[error("keyring {path}: {reason}")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong, without any value.
        reason: &'static str,
    },
}

#[derive(Debug)]
struct Version {
    key: DataKey,
    created_at: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeyringFile {
    id: String,
    primary: u32,
    keys: Vec<KeyFile>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeyFile {
    version: u32,
    created_at: String,
    key: Zeroizing<String>,
}

impl LocalKeyring {
    /// Makes a keyring of one key and writes it to a file that only its owner can read.
    ///
    /// # Errors
    ///
    /// When the file exists already or cannot be written.
    pub fn create(path: &Path, now: Timestamp) -> Result<Self, KeyringFault> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let keys = BTreeMap::from([(1, Version::make(now))]);
        let keyring = Self {
            id,
            primary: 1,
            keys,
        };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options
            .open(path)
            .and_then(|file| keyring.write_to(file))
            .map_err(|source| KeyringFault::file(path, source))?;
        Ok(keyring)
    }

    /// Reads a keyring file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, others can read it, or it is not a keyring.
    pub fn load(path: &Path) -> Result<Self, KeyringFault> {
        let metadata = fs::metadata(path).map_err(|source| KeyringFault::file(path, source))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o007 != 0 {
            return Err(KeyringFault::Exposed {
                path: path.display().to_string(),
                mode,
            });
        }
        let malformed = |reason| KeyringFault::Malformed {
            path: path.display().to_string(),
            reason,
        };
        if metadata.len() > MAX_FILE_BYTES {
            return Err(malformed("it is larger than 1 MiB"));
        }
        let text = fs::read(path).map_err(|source| KeyringFault::file(path, source))?;
        let file: KeyringFile = serde_json::from_slice(&Zeroizing::new(text))
            .map_err(|_| malformed("it is not the JSON of a keyring"))?;
        Self::from_file(file).map_err(malformed)
    }

    /// Adds a key, which can be read with at once and becomes primary only later: every replica must
    /// know it before one wraps with it. The file is replaced in one step.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn add_key(&mut self, path: &Path, now: Timestamp) -> Result<KeyDescription, KeyringFault> {
        let version = self.keys.last_key_value().map_or(1, |(last, _)| last + 1);
        self.keys.insert(version, Version::make(now));
        self.replace(path)
            .map_err(|source| KeyringFault::file(path, source))?;
        Ok(self.describe(version, &self.keys[&version]))
    }

    /// What keys there are, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<KeyDescription> {
        self.keys
            .iter()
            .map(|(version, key)| self.describe(*version, key))
            .collect()
    }

    fn describe(&self, version: u32, key: &Version) -> KeyDescription {
        KeyDescription {
            version,
            id: self.identity(version),
            created_at: key.created_at.clone(),
            primary: version == self.primary,
        }
    }

    fn from_file(file: KeyringFile) -> Result<Self, &'static str> {
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
            keys,
        })
    }

    fn write_to(&self, mut file: File) -> io::Result<()> {
        let keys = self.keys.iter().map(|(version, key)| KeyFile {
            version: *version,
            created_at: key.created_at.clone(),
            key: Zeroizing::new(STANDARD.encode(key.key.expose())),
        });
        let content = KeyringFile {
            id: self.id.clone(),
            primary: self.primary,
            keys: keys.collect(),
        };
        let mut text = Zeroizing::new(serde_json::to_vec_pretty(&content)?);
        text.push(b'\n');
        file.write_all(&text)?;
        file.sync_all()
    }

    /// Writes beside the file and renames over it: a reader sees the old keyring or the new one.
    fn replace(&self, path: &Path) -> io::Result<()> {
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let beside = path.with_extension(format!("new-{}", std::process::id()));
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        self.write_to(file)
            .and_then(|()| fs::rename(&beside, path))
            .inspect_err(|_| {
                let _ = fs::remove_file(&beside);
            })?;
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn identity(&self, version: u32) -> MasterKeyId {
        MasterKeyId::new(&format!("local:{}/{version}", self.id))
    }

    fn find(&self, id: &MasterKeyId) -> Result<&Version, KmsFault> {
        self.keys
            .iter()
            .find(|(version, _)| self.identity(**version) == *id)
            .map(|(_, key)| key)
            .ok_or_else(|| KmsFault::NotConfigured(id.clone()))
    }

    fn wrap_with_primary(&self, key: &DataKey, context: &KmsContext) -> WrappedKey {
        let master_key = self.identity(self.primary);
        let primary = self
            .keys
            .get(&self.primary)
            .expect("a keyring has its primary");
        let additional_data = additional_data(&master_key, context);
        let bytes = primary.key.encrypt(&additional_data, key.expose());
        WrappedKey { master_key, bytes }
    }

    fn unwrap_recorded(&self, key: &WrappedKey, context: &KmsContext) -> Result<DataKey, KmsFault> {
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

#[async_trait]
impl Kms for LocalKeyring {
    async fn generate(&self, context: &KmsContext) -> Result<FreshDataKey, KmsFault> {
        let key = DataKey::make();
        let wrapped = self.wrap_with_primary(&key, context);
        Ok(FreshDataKey::new(key, wrapped))
    }

    async fn wrap(&self, key: &DataKey, context: &KmsContext) -> Result<WrappedKey, KmsFault> {
        Ok(self.wrap_with_primary(key, context))
    }

    async fn unwrap(&self, key: &WrappedKey, context: &KmsContext) -> Result<DataKey, KmsFault> {
        self.unwrap_recorded(key, context)
    }

    async fn rewrap(&self, key: &WrappedKey, context: &KmsContext) -> Result<WrappedKey, KmsFault> {
        let key = self.unwrap_recorded(key, context)?;
        Ok(self.wrap_with_primary(&key, context))
    }

    async fn holds(&self, id: &MasterKeyId) -> Result<bool, KmsFault> {
        Ok(self.find(id).is_ok())
    }

    fn rewraps_from(&self, _: &MasterKeyId) -> bool {
        false
    }

    async fn check(&self) -> Result<MasterKeyId, KmsFault> {
        Ok(self.identity(self.primary))
    }
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

// === impl KeyringFault ===

impl KeyringFault {
    fn file(path: &Path, source: io::Error) -> Self {
        Self::File {
            path: path.display().to_string(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        envelope::context::Place,
        model::{
            service_name::ServiceName,
            text::{DeveloperId, PrincipalId},
        },
    };

    fn now() -> Timestamp {
        Timestamp::from_millisecond(1_775_390_400_000).unwrap()
    }

    fn context(principal: &str) -> KmsContext {
        let place = Place {
            developer: DeveloperId::parse("dev").unwrap(),
            principal: PrincipalId::parse(principal).unwrap(),
            service: ServiceName::parse("github").unwrap().key().clone(),
        };
        place.kms_context()
    }

    #[tokio::test]
    async fn a_key_made_by_one_load_opens_in_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keyring.json");
        let keyring = LocalKeyring::create(&path, now()).unwrap();
        let fresh = keyring.generate(&context("p")).await.unwrap();
        let again = LocalKeyring::load(&path).unwrap();
        let key = again.unwrap(fresh.wrapped(), &context("p")).await.unwrap();
        assert_eq!(key.expose(), fresh.key().expose());
    }

    #[tokio::test]
    async fn another_context_or_a_flipped_bit_is_tampering() {
        let directory = tempfile::tempdir().unwrap();
        let keyring = LocalKeyring::create(&directory.path().join("k"), now()).unwrap();
        let fresh = keyring.generate(&context("p")).await.unwrap();
        let elsewhere = keyring.unwrap(fresh.wrapped(), &context("q")).await;
        assert!(matches!(elsewhere, Err(KmsFault::Tampered(_))));
        for at in 0..fresh.wrapped().bytes.len() {
            let mut wrapped = fresh.wrapped().clone();
            wrapped.bytes[at] ^= 1;
            let opened = keyring.unwrap(&wrapped, &context("p")).await;
            assert!(matches!(opened, Err(KmsFault::Tampered(_))), "byte {at}");
        }
    }

    #[tokio::test]
    async fn a_key_that_is_not_in_the_keyring_is_not_configured() {
        let directory = tempfile::tempdir().unwrap();
        let one = LocalKeyring::create(&directory.path().join("one"), now()).unwrap();
        let two = LocalKeyring::create(&directory.path().join("two"), now()).unwrap();
        let fresh = one.generate(&context("p")).await.unwrap();
        let opened = two.unwrap(fresh.wrapped(), &context("p")).await;
        assert!(matches!(opened, Err(KmsFault::NotConfigured(_))));
    }

    #[tokio::test]
    async fn an_added_key_is_kept_and_does_not_wrap_yet() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keyring.json");
        let mut keyring = LocalKeyring::create(&path, now()).unwrap();
        assert_eq!(keyring.add_key(&path, now()).unwrap().version, 2);
        let again = LocalKeyring::load(&path).unwrap();
        let primaries: Vec<bool> = again.list().iter().map(|key| key.primary).collect();
        assert_eq!(primaries, [true, false]);
        let fresh = again.generate(&context("p")).await.unwrap();
        assert!(fresh.wrapped().master_key.as_str().ends_with("/1"));
        let rewrapped = again.rewrap(fresh.wrapped(), &context("p")).await.unwrap();
        let key = again.unwrap(&rewrapped, &context("p")).await.unwrap();
        assert_eq!(key.expose(), fresh.key().expose());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keyring.json");
        LocalKeyring::create(&path, now()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        assert!(matches!(
            LocalKeyring::load(&path),
            Err(KeyringFault::Exposed { .. })
        ));
    }

    #[test]
    fn an_existing_file_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keyring.json");
        LocalKeyring::create(&path, now()).unwrap();
        assert!(matches!(
            LocalKeyring::create(&path, now()),
            Err(KeyringFault::File { .. })
        ));
    }

    #[test]
    fn what_is_not_a_keyring_is_refused_without_showing_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keyring.json");
        for text in [
            "",
            "canary",
            r#"{"id":"a","primary":1,"keys":[]}"#,
            r#"{"id":"a","primary":1,"keys":[{"version":1,"createdAt":"","key":"canary"}]}"#,
            r#"{"id":"a","primary":1,"keys":[{"version":1,"createdAt":"","key":"Y2FuYXJ5"}]}"#,
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let fault = LocalKeyring::load(&path).unwrap_err();
            assert!(matches!(fault, KeyringFault::Malformed { .. }), "{text}");
            assert!(!format!("{fault:?} {fault}").contains("canary"));
        }
    }
}
