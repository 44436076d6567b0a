//! Master keys in AWS KMS. The only file that knows its SDK.

use std::{
    ops::RangeInclusive,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_kms::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    primitives::Blob,
    types::{DataKeySpec, KeyMetadata, KeySpec, KeyState, KeyUsageType},
};
use tokio::{sync::Mutex, time::Instant};
use zeroize::Zeroizing;

use super::{
    context::KmsContext,
    data_key::{DataKey, FreshDataKey},
    format,
    kms::{Cause, Kms, KmsFault},
};
use crate::model::sealed::{MasterKeyId, WrappedKey};

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
    /// Where the client's calls go: ReEncrypt takes keys of one region only.
    region: Option<String>,
}

impl AwsKms {
    /// Uses the usual chain of aws-config for credentials, region and endpoint (`AWS_ENDPOINT_URL`).
    /// An ARN's own region goes before the environment's. No call is made yet.
    ///
    /// Returns `None` when no region is known.
    pub async fn connect(key: &str, timeout: Duration) -> Option<Self> {
        let mut loader =
            aws_config::defaults(BehaviorVersion::latest()).timeout_config(timeouts(timeout));
        if let Some(region) = region_of_arn(key) {
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
        let resolved = if is_key_arn(key) {
            vec![MasterKeyId::new(key)]
        } else {
            Vec::new()
        };
        Self {
            client: Client::from_conf(config),
            key: key.to_owned(),
            resolved: RwLock::new(resolved),
            last_asked: Mutex::default(),
            region,
        }
    }

    /// Whether what the configured name means now is this key. One caller asks, others wait for it.
    async fn asks_for(&self, recorded: &MasterKeyId) -> Result<bool, KmsFault> {
        if is_key_arn(&self.key) {
            return Ok(false);
        }
        let mut last_asked = self.last_asked.lock().await;
        let known_by_now = self.knows(recorded);
        if known_by_now || last_asked.is_some_and(|at| at.elapsed() < ASK_AGAIN) {
            return Ok(known_by_now);
        }
        let call = self.client.describe_key().key_id(&self.key).send().await;
        let answer = call.map_err(|error| classify(error, Subject::MasterKey))?;
        let arn = answer.key_metadata().and_then(|key| key.arn());
        let id = self.learn(arn.ok_or_else(nonsense)?);
        *last_asked = Some(Instant::now());
        Ok(id == *recorded)
    }

    fn knows(&self, id: &MasterKeyId) -> bool {
        self.resolved
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(id)
    }

    fn learn(&self, arn: &str) -> MasterKeyId {
        let id = MasterKeyId::new(arn);
        if !self.knows(&id) {
            self.resolved
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .push(id.clone());
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
        if !self.holds(&key.master_key).await? {
            return Err(KmsFault::NotConfigured(key.master_key.clone()));
        }
        let call = self
            .client
            .decrypt()
            .key_id(key.master_key.as_str())
            .ciphertext_blob(blob(key)?);
        let call = call
            .set_encryption_context(Some(context.to_map()))
            .send()
            .await;
        let answer = call.map_err(|error| classify(error, Subject::WrappedKey))?;
        plaintext_key(answer.plaintext)
    }

    async fn rewrap(&self, key: &WrappedKey, context: &KmsContext) -> Result<WrappedKey, KmsFault> {
        if !self.rewraps_from(&key.master_key) {
            return Err(KmsFault::NotConfigured(key.master_key.clone()));
        }
        let call = self
            .client
            .re_encrypt()
            .source_key_id(key.master_key.as_str())
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
        Ok(self.knows(id) || self.asks_for(id).await?)
    }

    fn holds_unasked(&self, id: &MasterKeyId) -> Option<bool> {
        let known = self.knows(id);
        (known || is_key_arn(&self.key)).then_some(known)
    }

    fn rewraps_from(&self, id: &MasterKeyId) -> bool {
        let region = region_of_arn(id.as_str());
        self.knows(id) || (region.is_some() && region == self.region.as_deref())
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

/// What a call was about: it decides what "invalid" means.
#[derive(Clone, Copy)]
enum Subject {
    /// Only the configured key was named.
    MasterKey,
    /// A stored wrapped key was sent.
    WrappedKey,
}

/// Sorts an SDK error by who must act (AWS KMS API reference, "Errors" of each operation).
fn classify<E>(error: SdkError<E>, subject: Subject) -> KmsFault
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let code = error.code().unwrap_or_default().to_owned();
    let pending_deletion = error
        .message()
        .is_some_and(|message| message.contains("pending deletion"));
    let cause: Cause = error.into();
    match (code.as_str(), subject) {
        ("InvalidCiphertextException" | "IncorrectKeyException", Subject::WrappedKey) => {
            KmsFault::Tampered(cause)
        }
        ("AccessDeniedException" | "UnrecognizedClientException" | "ExpiredTokenException", _) => {
            KmsFault::Denied(cause)
        }
        ("DisabledException", _) => KmsFault::Disabled(cause),
        ("NotFoundException" | "InvalidArnException", _) => KmsFault::Missing(cause),
        ("InvalidKeyUsageException", _) => KmsFault::WrongUsage(cause),
        // One code for several states; only its text tells them apart.
        ("KMSInvalidStateException", _) if pending_deletion => KmsFault::PendingDeletion(cause),
        ("KMSInvalidStateException", _) => KmsFault::NotReady(cause),
        ("ThrottlingException" | "LimitExceededException" | "RequestLimitExceeded", _) => {
            KmsFault::Throttled(cause)
        }
        _ => KmsFault::Unreachable(cause),
    }
}

/// Whether a key can wrap data keys, by what DescribeKey says of it. What it does not say is no fault.
fn fit_for_use(key: &KeyMetadata) -> Result<(), KmsFault> {
    let says = |what: &str| Cause::from(format!("DescribeKey says {what}"));
    if let Some(usage) = key.key_usage()
        && *usage != KeyUsageType::EncryptDecrypt
    {
        return Err(KmsFault::WrongUsage(says(usage.as_str())));
    }
    if let Some(spec) = key.key_spec()
        && *spec != KeySpec::SymmetricDefault
    {
        return Err(KmsFault::WrongUsage(says(spec.as_str())));
    }
    let Some(state) = key.key_state() else {
        return Ok(());
    };
    let cause = says(state.as_str());
    match state {
        KeyState::Disabled => Err(KmsFault::Disabled(cause)),
        KeyState::PendingDeletion | KeyState::PendingReplicaDeletion => {
            Err(KmsFault::PendingDeletion(cause))
        }
        KeyState::Creating | KeyState::PendingImport | KeyState::Unavailable => {
            Err(KmsFault::NotReady(cause))
        }
        // One that is updated can be used, and of states to come the calls themselves will tell.
        _ => Ok(()),
    }
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

/// `arn:aws:kms:eu-west-1:111122223333:key/…` is in `eu-west-1`.
fn region_of_arn(key: &str) -> Option<&str> {
    let mut parts = key.split(':');
    (parts.next() == Some("arn"))
        .then(|| parts.nth(2))
        .flatten()
        .filter(|region| !region.is_empty())
}

fn is_key_arn(key: &str) -> bool {
    key.starts_with("arn:") && key.contains(":key/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_names_its_region_and_other_names_do_not() {
        assert_eq!(
            region_of_arn("arn:aws:kms:eu-west-1:111122223333:key/x"),
            Some("eu-west-1")
        );
        assert_eq!(
            region_of_arn("arn:aws-cn:kms:cn-north-1:1:alias/x"),
            Some("cn-north-1")
        );
        assert_eq!(region_of_arn("alias/x"), None);
        assert_eq!(region_of_arn("1234abcd-12ab-34cd-56ef-1234567890ab"), None);
    }
}
