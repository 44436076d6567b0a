//! Master keys in AWS KMS. Nothing outside of this folder knows its SDK.

mod faults;
mod http;
mod key_arn;

use std::{
    ops::RangeInclusive,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_kms::{Client, primitives::Blob, types::DataKeySpec};
use tokio::{sync::Mutex, time::Instant};
use zeroize::Zeroizing;

use super::{
    context::KmsContext,
    data_key::{DataKey, FreshDataKey},
    format,
    kms::{Kms, KmsFault},
};
use crate::model::sealed::{MasterKeyId, WrappedKey};
pub use http::{AwsHttp, CaBundleFault};

use faults::{Subject, classify, fit_for_use};
use key_arn::{KeyArn, region_of};

/// Tries of one call, the first included, with exponential backoff and jitter (the SDK's standard
/// mode). Its adaptive mode held calls to a throttling endpoint back until they timed out, and so made
/// them look unreachable, which the breaker counts; `ARCHITECTURE.md` has the measurement.
const MAX_ATTEMPTS: u32 = 3;
/// A ciphertext blob (AWS KMS API reference, Decrypt).
const BLOB_BYTES: RangeInclusive<usize> = 1..=6144;
/// Rows of keys that are not ours make no more calls than one in this time.
const ASK_AGAIN: Duration = Duration::from_mins(1);

/// A master key of AWS KMS, by key id, ARN or alias.
pub struct AwsKms {
    client: Client,
    /// What the operator configured: sent with every generating and wrapping call.
    key: String,
    /// The ARNs that the configured key resolved to. An alias that is pointed elsewhere while we run
    /// adds one, so that what was stored since, here or by another replica, is still ours.
    resolved: RwLock<Vec<MasterKeyId>>,
    last_asked: Mutex<Option<Instant>>,
    /// Where the client's calls go: KMS takes keys of one Region only.
    region: Option<String>,
}

impl AwsKms {
    /// Uses the usual chain of aws-config for credentials, region and endpoint (`AWS_ENDPOINT_URL`), all
    /// asked by this client. An ARN's own region goes before the environment's. No call is made yet.
    ///
    /// Returns `None` when no region is known.
    pub async fn connect(key: &str, timeout: Duration, http: &AwsHttp) -> Option<Self> {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http.shared())
            .timeout_config(timeouts(timeout));
        if let Some(region) = region_of(key) {
            loader = loader.region(Region::new(region.to_owned()));
        }
        let config = loader.load().await;
        config.region()?;
        Some(Self::new(key, &config, timeout))
    }

    /// Uses credentials, region and endpoint of this configuration. No call is made yet; none will
    /// take longer than `timeout`, retries included.
    #[must_use]
    pub fn new(key: &str, config: &SdkConfig, timeout: Duration) -> Self {
        let region = config.region().map(ToString::to_string);
        let config = aws_sdk_kms::config::Builder::from(config)
            .timeout_config(timeouts(timeout))
            .retry_config(RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS))
            .build();
        let resolved = KeyArn::parse(key).map(|_| MasterKeyId::new(key));
        Self {
            client: Client::from_conf(config),
            key: key.to_owned(),
            resolved: RwLock::new(Vec::from_iter(resolved)),
            last_asked: Mutex::default(),
            region,
        }
    }

    /// The recorded key as KMS knows it, if the configured name means it by now. One caller asks, others
    /// wait for it.
    async fn asks_for(&self, recorded: &MasterKeyId) -> Result<Option<MasterKeyId>, KmsFault> {
        if self.is_named_by_arn() {
            return Ok(None);
        }
        let mut last_asked = self.last_asked.lock().await;
        let known_by_now = self.known_as(recorded);
        if known_by_now.is_some() || last_asked.is_some_and(|at| at.elapsed() < ASK_AGAIN) {
            return Ok(known_by_now);
        }
        let call = self.client.describe_key().key_id(&self.key).send().await;
        let answer = call.map_err(|error| classify(error, Subject::MasterKey))?;
        let arn = answer.key_metadata().and_then(|key| key.arn());
        self.learn(arn.ok_or_else(nonsense)?);
        *last_asked = Some(Instant::now());
        Ok(self.known_as(recorded))
    }

    fn is_named_by_arn(&self) -> bool {
        KeyArn::parse(&self.key).is_some()
    }

    /// The key that opens what this one wrapped: itself, or its replica here when it is a multi-Region key
    /// and was recorded elsewhere.
    fn known_as(&self, id: &MasterKeyId) -> Option<MasterKeyId> {
        let resolved = self.resolved.read().unwrap_or_else(PoisonError::into_inner);
        if resolved.contains(id) {
            return Some(id.clone());
        }
        let recorded = KeyArn::of(id)?;
        let mut arns = resolved.iter();
        let is_replica = |known: &&MasterKeyId| {
            KeyArn::of(known).is_some_and(|known| known.is_related_to(recorded))
        };
        arns.find(is_replica).cloned()
    }

    async fn opens_as(&self, id: &MasterKeyId) -> Result<Option<MasterKeyId>, KmsFault> {
        match self.known_as(id) {
            Some(known) => Ok(Some(known)),
            None => self.asks_for(id).await,
        }
    }

    /// The key as ReEncrypt takes it: one of this holder, or any other of the client's Region.
    fn rewraps_as(&self, id: &MasterKeyId) -> Option<MasterKeyId> {
        let region = KeyArn::of(id).map(|arn| arn.region);
        let is_here = region.is_some() && region == self.region.as_deref();
        self.known_as(id).or_else(|| is_here.then(|| id.clone()))
    }

    fn learn(&self, arn: &str) -> MasterKeyId {
        let id = MasterKeyId::new(arn);
        let mut resolved = self
            .resolved
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if !resolved.contains(&id) {
            resolved.push(id.clone());
        }
        id
    }

    fn wrapped(&self, arn: Option<&str>, blob: Option<&Blob>) -> Result<WrappedKey, KmsFault> {
        let (arn, blob) = arn.zip(blob).ok_or_else(nonsense)?;
        Ok(WrappedKey {
            master_key: self.learn(arn),
            bytes: format::versioned(blob.as_ref()),
        })
    }
}

#[async_trait]
impl Kms for AwsKms {
    async fn generate(&self, context: &KmsContext) -> Result<FreshDataKey, KmsFault> {
        let call = self
            .client
            .generate_data_key()
            .key_id(&self.key)
            .key_spec(DataKeySpec::Aes256);
        let call = call
            .set_encryption_context(Some(context.to_map()))
            .send()
            .await;
        let answer = call.map_err(|error| classify(error, Subject::MasterKey))?;
        let wrapped = self.wrapped(answer.key_id(), answer.ciphertext_blob())?;
        Ok(FreshDataKey::new(plaintext_key(answer.plaintext)?, wrapped))
    }

    async fn wrap(&self, key: &DataKey, context: &KmsContext) -> Result<WrappedKey, KmsFault> {
        let call = self
            .client
            .encrypt()
            .key_id(&self.key)
            .plaintext(Blob::new(key.expose()));
        let call = call
            .set_encryption_context(Some(context.to_map()))
            .send()
            .await;
        let answer = call.map_err(|error| classify(error, Subject::MasterKey))?;
        self.wrapped(answer.key_id(), answer.ciphertext_blob())
    }

    async fn unwrap(&self, key: &WrappedKey, context: &KmsContext) -> Result<DataKey, KmsFault> {
        let Some(opens) = self.opens_as(&key.master_key).await? else {
            return Err(KmsFault::NotConfigured(key.master_key.clone()));
        };
        let call = self
            .client
            .decrypt()
            .key_id(opens.as_str())
            .ciphertext_blob(blob(key)?);
        let call = call
            .set_encryption_context(Some(context.to_map()))
            .send()
            .await;
        let answer = call.map_err(|error| classify(error, Subject::WrappedKey))?;
        plaintext_key(answer.plaintext)
    }

    async fn rewrap(&self, key: &WrappedKey, context: &KmsContext) -> Result<WrappedKey, KmsFault> {
        let Some(source) = self.rewraps_as(&key.master_key) else {
            return Err(KmsFault::NotConfigured(key.master_key.clone()));
        };
        let call = self
            .client
            .re_encrypt()
            .source_key_id(source.as_str())
            .destination_key_id(&self.key)
            .ciphertext_blob(blob(key)?)
            .set_source_encryption_context(Some(context.to_map()))
            .set_destination_encryption_context(Some(context.to_map()));
        let answer = call
            .send()
            .await
            .map_err(|error| classify(error, Subject::WrappedKey))?;
        self.wrapped(answer.key_id(), answer.ciphertext_blob())
    }

    async fn holds(&self, id: &MasterKeyId) -> Result<bool, KmsFault> {
        Ok(self.opens_as(id).await?.is_some())
    }

    fn holds_unasked(&self, id: &MasterKeyId) -> Option<bool> {
        let known = self.known_as(id).is_some();
        (known || self.is_named_by_arn()).then_some(known)
    }

    fn rewraps_from(&self, id: &MasterKeyId) -> bool {
        self.rewraps_as(id).is_some()
    }

    async fn check(&self) -> Result<MasterKeyId, KmsFault> {
        let call = self.client.describe_key().key_id(&self.key).send().await;
        let answer = call.map_err(|error| classify(error, Subject::MasterKey))?;
        let key = answer.key_metadata().ok_or_else(nonsense)?;
        fit_for_use(key)?;
        Ok(self.learn(key.arn().ok_or_else(nonsense)?))
    }
}

fn timeouts(timeout: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(timeout / 3)
        // A lost packet must leave time for a second try.
        .operation_attempt_timeout(timeout / 2)
        .operation_timeout(timeout)
        .build()
}

/// What KMS may be asked to open. Other lengths it calls invalid requests, not invalid ciphertexts.
fn blob(key: &WrappedKey) -> Result<Blob, KmsFault> {
    let body = format::unversioned(&key.bytes).filter(|body| BLOB_BYTES.contains(&body.len()));
    body.map(Blob::new)
        .ok_or_else(|| KmsFault::Tampered("not the form of a wrapped key".into()))
}

fn plaintext_key(plaintext: Option<Blob>) -> Result<DataKey, KmsFault> {
    let bytes = Zeroizing::new(plaintext.map(Blob::into_inner).unwrap_or_default());
    DataKey::from_bytes(&bytes).ok_or_else(nonsense)
}

fn nonsense() -> KmsFault {
    KmsFault::Unreachable("an answer without the parts that the API promises".into())
}
