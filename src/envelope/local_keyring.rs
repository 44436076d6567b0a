//! Master keys in a file: for development, tests and on-premises.

mod file;
mod keyring;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use async_trait::async_trait;

use super::{
    context::KmsContext,
    data_key::{DataKey, FreshDataKey},
    kms::{Kms, KmsFault},
};
use crate::model::{
    sealed::{MasterKeyId, WrappedKey},
    timestamp::Timestamp,
};
use file::Stamp;
use keyring::Keyring;

pub use file::KeyringFault;
pub use keyring::KeyDescription;

/// How long a changed file may go unnoticed. A key that is not known is looked for at once.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A keyring: versioned AES-256 keys, one of them primary, in a file that may be replaced while the
/// vault serves.
///
/// There is no task that watches the file: whoever uses a key looks first, at most every two
/// seconds, whether it is still the file that was read. A file that cannot be used is logged and
/// changes nothing.
///
/// A master key wraps with random 96-bit nonces, so one version should not wrap more than 2³² data
/// keys (NIST SP 800-38D, section 8.3).
#[derive(Debug)]
pub struct LocalKeyring {
    path: PathBuf,
    current: ArcSwap<Keyring>,
    looked: Mutex<Looked>,
}

/// What the last look at the file saw.
#[derive(Debug)]
struct Looked {
    at: Instant,
    /// Of the content that was read or refused; `None` makes the next look read it.
    stamp: Option<Stamp>,
}

impl LocalKeyring {
    /// Makes a keyring of one key and writes it to a file that only its owner can read.
    ///
    /// # Errors
    ///
    /// When the file exists already or cannot be written.
    pub fn create(path: &Path, now: Timestamp) -> Result<Self, KeyringFault> {
        file::create(path, &Keyring::make(now))?;
        Self::load(path)
    }

    /// Reads a keyring file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, others can read it, or it is not a keyring.
    pub fn load(path: &Path) -> Result<Self, KeyringFault> {
        let (keyring, stamp) = file::read(path)?;
        Ok(Self {
            path: path.to_owned(),
            current: ArcSwap::from_pointee(keyring),
            looked: Mutex::new(Looked {
                at: Instant::now(),
                stamp: Some(stamp),
            }),
        })
    }

    /// Adds a key, which can be read with at once and becomes primary only later: every replica must
    /// know it before one wraps with it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written.
    pub fn add_key(&self, now: Timestamp) -> Result<KeyDescription, KeyringFault> {
        self.change(|keyring| Ok(keyring.add(now)))
    }

    /// Makes a key the one that wraps from now on.
    ///
    /// # Errors
    ///
    /// When there is no such key; when the file cannot be read or written.
    pub fn set_primary(&self, version: u32) -> Result<KeyDescription, KeyringFault> {
        self.change(|keyring| {
            if keyring.describe(version).is_none() {
                return Err(self.no_such_version(version));
            }
            keyring.primary = version;
            Ok(version)
        })
    }

    /// One of its keys.
    ///
    /// # Errors
    ///
    /// When there is no such key.
    pub fn describe(&self, version: u32) -> Result<KeyDescription, KeyringFault> {
        let described = self.current.load().describe(version);
        described.ok_or_else(|| self.no_such_version(version))
    }

    /// The identity of the key that wraps new data keys.
    #[must_use]
    pub fn primary_id(&self) -> MasterKeyId {
        let keyring = self.current.load();
        let primary = keyring.describe(keyring.primary);
        primary.expect("a keyring has its primary").id
    }

    /// A key that may be removed as far as the keyring is concerned: one of its own, and not the
    /// primary.
    ///
    /// # Errors
    ///
    /// When there is no such key, or it is the primary.
    pub fn removable(&self, version: u32) -> Result<KeyDescription, KeyringFault> {
        let description = self.describe(version)?;
        if description.primary {
            return Err(self.primary(version));
        }
        Ok(description)
    }

    /// Removes a key, for ever: whoever calls has made sure that it wraps nothing any more.
    ///
    /// # Errors
    ///
    /// When there is no such key, or it is the primary; when the file cannot be read or written.
    pub fn remove_key(&self, version: u32) -> Result<(), KeyringFault> {
        self.change(|keyring| match version {
            primary if primary == keyring.primary => Err(self.primary(version)),
            _ if keyring.remove(version) => Ok(keyring.primary),
            _ => Err(self.no_such_version(version)),
        })
        .map(|_| ())
    }

    /// What keys there are, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<KeyDescription> {
        self.current.load().list()
    }

    /// Changes what the file holds now and replaces it in one step; no other command changes it meanwhile.
    fn change(
        &self,
        change: impl FnOnce(&mut Keyring) -> Result<u32, KeyringFault>,
    ) -> Result<KeyDescription, KeyringFault> {
        let locked = file::lock(&self.path)?;
        let (mut keyring, _) = file::read(&self.path)?;
        let version = change(&mut keyring)?;
        let described = keyring.describe(version).expect("it is in the keyring");
        file::replace(&locked, &self.path, &keyring)?;
        drop(locked);
        self.look_at_once();
        Ok(described)
    }

    fn no_such_version(&self, version: u32) -> KeyringFault {
        let path = self.path.display().to_string();
        KeyringFault::NoSuchVersion { path, version }
    }

    fn primary(&self, version: u32) -> KeyringFault {
        let path = self.path.display().to_string();
        KeyringFault::Primary { path, version }
    }

    /// The keys, of a file that was looked at a moment ago.
    fn current(&self) -> Arc<Keyring> {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.at.elapsed() >= LOOK_EVERY {
            self.look(&mut looked);
        }
        drop(looked);
        self.current.load_full()
    }

    /// The keys, after another look at the file when they lack the one that is asked for.
    fn current_with(&self, id: &MasterKeyId) -> Arc<Keyring> {
        let keyring = self.current();
        if keyring.holds(id) {
            return keyring;
        }
        self.look_at_once();
        self.current.load_full()
    }

    fn look_at_once(&self) {
        self.look(&mut self.looked.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn look(&self, looked: &mut Looked) {
        looked.at = Instant::now();
        let stamp = Stamp::of(&self.path).ok();
        if stamp.is_some() && stamp == looked.stamp {
            return;
        }
        match file::read(&self.path).and_then(|read| self.same_keyring(read)) {
            Ok((keyring, stamp)) => {
                looked.stamp = Some(stamp);
                let primary = keyring.identity(keyring.primary);
                self.current.store(Arc::new(keyring));
                tracing::info!(path = %self.path.display(), %primary, "the keyring was read again");
            }
            // Until it changes again; what cannot be read at all is tried at the next look.
            Err(fault) => {
                looked.stamp = stamp;
                tracing::warn!(%fault, "the keyring cannot be read again: the keys stay as they are");
            }
        }
    }

    /// Another keyring in the place of this one would make everything unreadable.
    fn same_keyring(&self, read: (Keyring, Stamp)) -> Result<(Keyring, Stamp), KeyringFault> {
        if read.0.id == self.current.load().id {
            return Ok(read);
        }
        let reason = "it is another keyring than the one that was loaded";
        Err(KeyringFault::malformed(&self.path, reason))
    }
}

#[async_trait]
impl Kms for LocalKeyring {
    async fn generate(&self, context: &KmsContext) -> Result<FreshDataKey, KmsFault> {
        let key = DataKey::make();
        let wrapped = self.current().wrap(&key, context);
        Ok(FreshDataKey::new(key, wrapped))
    }

    async fn wrap(&self, key: &DataKey, context: &KmsContext) -> Result<WrappedKey, KmsFault> {
        Ok(self.current().wrap(key, context))
    }

    async fn unwrap(&self, key: &WrappedKey, context: &KmsContext) -> Result<DataKey, KmsFault> {
        self.current_with(&key.master_key).unwrap(key, context)
    }

    async fn rewrap(&self, key: &WrappedKey, context: &KmsContext) -> Result<WrappedKey, KmsFault> {
        let keyring = self.current_with(&key.master_key);
        let key = keyring.unwrap(key, context)?;
        Ok(keyring.wrap(&key, context))
    }

    async fn holds(&self, id: &MasterKeyId) -> Result<bool, KmsFault> {
        Ok(self.current_with(id).holds(id))
    }

    fn rewraps_from(&self, _: &MasterKeyId) -> bool {
        false
    }

    async fn check(&self) -> Result<MasterKeyId, KmsFault> {
        self.look_at_once();
        let keyring = self.current.load();
        Ok(keyring.identity(keyring.primary))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt,
    };

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
        let keyring = LocalKeyring::create(&path, now()).unwrap();
        assert_eq!(keyring.add_key(now()).unwrap().version, 2);
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
        fs::set_permissions(&path, Permissions::from_mode(0o604)).unwrap();
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
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            let fault = LocalKeyring::load(&path).unwrap_err();
            assert!(matches!(fault, KeyringFault::Malformed { .. }), "{text}");
            assert!(!format!("{fault:?} {fault}").contains("canary"));
        }
    }

    #[tokio::test]
    async fn a_running_vault_reads_with_a_key_that_was_added_elsewhere_and_wraps_with_it_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keyring.json");
        let serving = LocalKeyring::create(&path, now()).unwrap();
        let operator = LocalKeyring::load(&path).unwrap();
        operator.add_key(now()).unwrap();
        assert!(operator.set_primary(2).unwrap().primary);
        let fresh = operator.generate(&context("p")).await.unwrap();
        assert!(fresh.wrapped().master_key.as_str().ends_with("/2"));
        let key = serving.unwrap(fresh.wrapped(), &context("p")).await;
        assert_eq!(key.unwrap().expose(), fresh.key().expose());
        let fresh = serving.generate(&context("p")).await.unwrap();
        assert!(fresh.wrapped().master_key.as_str().ends_with("/2"));
    }

    #[tokio::test]
    async fn a_removed_key_is_gone_from_a_running_vault_too_and_the_primary_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keyring.json");
        let serving = LocalKeyring::create(&path, now()).unwrap();
        let first = serving.generate(&context("p")).await.unwrap();
        let operator = LocalKeyring::load(&path).unwrap();
        let primary = operator.remove_key(1);
        assert!(matches!(primary, Err(KeyringFault::Primary { .. })));
        operator.add_key(now()).unwrap();
        operator.set_primary(2).unwrap();
        assert_eq!(operator.removable(1).unwrap().version, 1);
        assert!(operator.removable(2).is_err() && operator.removable(3).is_err());
        operator.remove_key(1).unwrap();
        let missing = operator.remove_key(1);
        assert!(matches!(missing, Err(KeyringFault::NoSuchVersion { .. })));
        serving.check().await.unwrap();
        let opened = serving.unwrap(first.wrapped(), &context("p")).await;
        assert!(matches!(opened, Err(KmsFault::NotConfigured(_))));
    }

    #[tokio::test]
    async fn a_version_is_never_used_twice() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keyring.json");
        let keyring = LocalKeyring::create(&path, now()).unwrap();
        assert_eq!(keyring.add_key(now()).unwrap().version, 2);
        keyring.remove_key(2).unwrap();
        assert_eq!(keyring.add_key(now()).unwrap().version, 3);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_changes_nothing_until_it_can() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keyring.json");
        let serving = LocalKeyring::create(&path, now()).unwrap();
        let good = fs::read(&path).unwrap();
        let fresh = serving.generate(&context("p")).await.unwrap();
        let other = directory.path().join("other.json");
        LocalKeyring::create(&other, now()).unwrap();
        let broken: [&dyn Fn(); 4] = [
            &|| fs::write(&path, "{").unwrap(),
            &|| fs::set_permissions(&path, Permissions::from_mode(0o606)).unwrap(),
            &|| fs::rename(&other, &path).unwrap(),
            &|| fs::remove_file(&path).unwrap(),
        ];
        for breaks in broken {
            breaks();
            serving.check().await.unwrap();
            assert!(serving.unwrap(fresh.wrapped(), &context("p")).await.is_ok());
        }
        fs::write(&path, good).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        LocalKeyring::load(&path).unwrap().add_key(now()).unwrap();
        serving.check().await.unwrap();
        assert_eq!(serving.list().len(), 2);
    }
}
