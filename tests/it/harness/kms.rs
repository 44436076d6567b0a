//! A KMS that really wraps, checks context and key as AWS does, and can be in trouble.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use grantex_vault::{
    envelope::{
        context::KmsContext,
        data_key::{DataKey, FreshDataKey},
        format::{NONCE_BYTES, unversioned, versioned},
        kms::{Kms, KmsFault},
    },
    model::sealed::{MasterKeyId, WrappedKey},
};
use tokio::sync::watch;

/// What is wrong with the KMS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    NotConfigured,
    Denied,
    /// Every key is in this state.
    Keys(KeyState),
    Throttled,
    Unreachable,
    TimedOut,
    Tampered,
    /// It answers this late.
    Slow(Duration),
    /// It answers nothing until the trouble is over.
    Hangs,
    /// It has a bug.
    Panics,
}

/// What a master key can be, as AWS calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyState {
    Enabled,
    Disabled,
    PendingDeletion,
    /// It was deleted, or never there.
    Missing,
    /// It is there but signs, say.
    WrongUsage,
    PendingImport,
}

struct MasterKey {
    bytes: [u8; 32],
    state: KeyState,
}

impl KeyState {
    /// All in which an operator must act before the key can be used.
    pub(crate) const UNFIT: [Self; 4] = [
        Self::Disabled,
        Self::PendingDeletion,
        Self::Missing,
        Self::WrongUsage,
    ];

    fn permits_use(self) -> Result<(), KmsFault> {
        let cause = format!("the key is {self:?}").into();
        Err(match self {
            Self::Enabled => return Ok(()),
            Self::Disabled => KmsFault::Disabled(cause),
            Self::PendingDeletion => KmsFault::PendingDeletion(cause),
            Self::Missing => KmsFault::Missing(cause),
            Self::WrongUsage => KmsFault::WrongUsage(cause),
            Self::PendingImport => KmsFault::NotReady(cause),
        })
    }
}

impl Trouble {
    /// All that make the vault unavailable.
    pub(crate) const UNAVAILABLE: [Self; 11] = [
        Self::NotConfigured,
        Self::Denied,
        Self::Keys(KeyState::Disabled),
        Self::Keys(KeyState::PendingDeletion),
        Self::Keys(KeyState::Missing),
        Self::Keys(KeyState::WrongUsage),
        Self::Keys(KeyState::PendingImport),
        Self::Throttled,
        Self::Unreachable,
        Self::TimedOut,
        Self::Hangs,
    ];
}

pub(crate) struct FakeKms {
    keys: Mutex<BTreeMap<String, MasterKey>>,
    primary: Mutex<String>,
    trouble: watch::Sender<Option<Trouble>>,
    calls: AtomicUsize,
    checks: AtomicUsize,
    generated: AtomicUsize,
    unwrapped: AtomicUsize,
    hanging: AtomicUsize,
}

impl FakeKms {
    pub(crate) fn start() -> Self {
        let kms = Self {
            keys: Mutex::default(),
            primary: Mutex::default(),
            trouble: watch::Sender::new(None),
            calls: AtomicUsize::new(0),
            checks: AtomicUsize::new(0),
            generated: AtomicUsize::new(0),
            unwrapped: AtomicUsize::new(0),
            hanging: AtomicUsize::new(0),
        };
        kms.add_primary("arn:aws:kms:eu-central-1:111122223333:key/one");
        kms
    }

    /// Makes a master key, the primary from now on.
    pub(crate) fn add_primary(&self, id: &str) {
        let (mut bytes, state) = ([0; 32], KeyState::Enabled);
        aws_lc_rs::rand::fill(&mut bytes).unwrap();
        let key = MasterKey { bytes, state };
        self.keys.lock().unwrap().insert(id.to_owned(), key);
        id.clone_into(&mut self.primary.lock().unwrap());
    }

    /// Puts one master key into a state.
    pub(crate) fn set_key_state(&self, id: &str, state: KeyState) {
        let mut keys = self.keys.lock().unwrap();
        keys.get_mut(id).expect("the key was added").state = state;
    }

    /// Gets into trouble, or out of it.
    pub(crate) fn set_trouble(&self, trouble: Option<Trouble>) {
        self.trouble.send_replace(trouble);
    }

    /// How many calls arrived, of whatever kind, but for checks.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// How often it was asked whether its key is fit for use: at start, and now and then for health.
    pub(crate) fn checks(&self) -> usize {
        self.checks.load(Ordering::SeqCst)
    }

    /// How many data keys were asked for.
    pub(crate) fn generated(&self) -> usize {
        self.generated.load(Ordering::SeqCst)
    }

    /// How many data keys were asked to be unwrapped.
    pub(crate) fn unwrapped(&self) -> usize {
        self.unwrapped.load(Ordering::SeqCst)
    }

    /// How many calls wait for an answer now, but for checks.
    pub(crate) fn hanging(&self) -> usize {
        self.hanging.load(Ordering::SeqCst)
    }

    async fn called(&self) -> Result<(), KmsFault> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.trouble(&self.hanging).await
    }

    async fn trouble(&self, hanging: &AtomicUsize) -> Result<(), KmsFault> {
        let mut trouble = self.trouble.subscribe();
        let now = *trouble.borrow_and_update();
        let cause = || "the test said so".into();
        Err(match now {
            None => return Ok(()),
            Some(Trouble::Hangs) => {
                let _counted = Counted::one_more(hanging);
                let over = trouble.wait_for(|trouble| *trouble != Some(Trouble::Hangs));
                over.await.expect("the sender lives as long as we");
                return Ok(());
            }
            Some(Trouble::Slow(latency)) => {
                let _counted = Counted::one_more(hanging);
                tokio::time::sleep(latency).await;
                return Ok(());
            }
            Some(Trouble::Keys(state)) => return state.permits_use(),
            Some(Trouble::Panics) => panic!("the test said so"),
            Some(Trouble::NotConfigured) => KmsFault::NotConfigured(MasterKeyId::new("other")),
            Some(Trouble::Denied) => KmsFault::Denied(cause()),
            Some(Trouble::Throttled) => KmsFault::Throttled(cause()),
            Some(Trouble::Unreachable) => KmsFault::Unreachable(cause()),
            Some(Trouble::TimedOut) => KmsFault::TimedOut,
            Some(Trouble::Tampered) => KmsFault::Tampered(cause()),
        })
    }

    /// The cipher of a key, if there is one and its state permits its use.
    fn cipher(&self, id: &str) -> Result<RandomizedNonceKey, KmsFault> {
        let keys = self.keys.lock().unwrap();
        let not_configured = || KmsFault::NotConfigured(MasterKeyId::new(id));
        let key = keys.get(id).ok_or_else(not_configured)?;
        key.state.permits_use()?;
        Ok(RandomizedNonceKey::new(&AES_256_GCM, &key.bytes).expect("32 bytes"))
    }

    fn encrypt(&self, key: &DataKey, context: &KmsContext) -> Result<WrappedKey, KmsFault> {
        let primary = self.primary.lock().unwrap().clone();
        let cipher = self.cipher(&primary)?;
        let mut body = key.expose().to_vec();
        let nonce = cipher
            .seal_in_place_append_tag(Aad::from(context.to_bytes()), &mut body)
            .unwrap();
        Ok(WrappedKey {
            master_key: MasterKeyId::new(&primary),
            bytes: versioned(&[nonce.as_ref().as_slice(), &body].concat()),
        })
    }

    fn decrypt(&self, key: &WrappedKey, context: &KmsContext) -> Result<DataKey, KmsFault> {
        let cipher = self.cipher(key.master_key.as_str())?;
        let tampered = || KmsFault::Tampered("it does not open".into());
        let body = unversioned(&key.bytes).ok_or_else(tampered)?;
        let (nonce, body) = body.split_at_checked(NONCE_BYTES).ok_or_else(tampered)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).unwrap();
        let mut body = body.to_vec();
        let opened = cipher.open_in_place(nonce, Aad::from(context.to_bytes()), &mut body);
        opened
            .ok()
            .and_then(|bytes| DataKey::from_bytes(bytes))
            .ok_or_else(tampered)
    }
}

#[async_trait]
impl Kms for FakeKms {
    async fn generate(&self, context: &KmsContext) -> Result<FreshDataKey, KmsFault> {
        self.generated.fetch_add(1, Ordering::SeqCst);
        self.called().await?;
        let key = DataKey::make();
        let wrapped = self.encrypt(&key, context)?;
        Ok(FreshDataKey::new(key, wrapped))
    }

    async fn wrap(&self, key: &DataKey, context: &KmsContext) -> Result<WrappedKey, KmsFault> {
        self.called().await?;
        self.encrypt(key, context)
    }

    async fn unwrap(&self, key: &WrappedKey, context: &KmsContext) -> Result<DataKey, KmsFault> {
        self.unwrapped.fetch_add(1, Ordering::SeqCst);
        self.called().await?;
        self.decrypt(key, context)
    }

    async fn rewrap(&self, key: &WrappedKey, context: &KmsContext) -> Result<WrappedKey, KmsFault> {
        self.called().await?;
        self.encrypt(&self.decrypt(key, context)?, context)
    }

    async fn holds(&self, id: &MasterKeyId) -> Result<bool, KmsFault> {
        Ok(self.keys.lock().unwrap().contains_key(id.as_str()))
    }

    fn holds_unasked(&self, id: &MasterKeyId) -> Option<bool> {
        Some(self.keys.lock().unwrap().contains_key(id.as_str()))
    }

    fn rewraps_from(&self, id: &MasterKeyId) -> bool {
        self.keys.lock().unwrap().contains_key(id.as_str())
    }

    async fn check(&self) -> Result<MasterKeyId, KmsFault> {
        self.checks.fetch_add(1, Ordering::SeqCst);
        self.trouble(&AtomicUsize::new(0)).await?;
        let primary = self.primary.lock().unwrap().clone();
        self.cipher(&primary)?;
        Ok(MasterKeyId::new(&primary))
    }
}

/// Counts itself while it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn one_more(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
