//! The seam to whoever holds the master keys.

use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

use super::{
    context::KmsContext,
    data_key::{DataKey, FreshDataKey},
};
use crate::model::sealed::{MasterKeyId, WrappedKey};

/// How often a master key is tried that cannot be used now, and how long after the first time.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// An error of a library, for the log only.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A holder of master keys: it wraps data keys and never gives a master key out.
///
/// A trait because the outside world begins here; adding a provider is adding a file. Every verb
/// takes the encryption context and binds the data key to it. An implementation bounds its own
/// retries; the envelope bounds the time.
#[async_trait]
pub trait Kms: Send + Sync {
    /// Makes a data key under the primary master key.
    async fn generate(&self, context: &KmsContext) -> Result<FreshDataKey, KmsFault>;

    /// Wraps a data key under the primary master key.
    async fn wrap(&self, key: &DataKey, context: &KmsContext) -> Result<WrappedKey, KmsFault>;

    /// Unwraps a data key with the master key that is recorded with it.
    ///
    /// A recorded key that is not configured is refused before any call: whoever can write the
    /// table must not choose a key.
    async fn unwrap(&self, key: &WrappedKey, context: &KmsContext) -> Result<DataKey, KmsFault>;

    /// Wraps a wrapped data key anew under the primary master key. The old key is one that this
    /// holder holds, or one that [`Self::rewraps_from`] admits.
    async fn rewrap(&self, key: &WrappedKey, context: &KmsContext) -> Result<WrappedKey, KmsFault>;

    /// Whether this is an identity of a key that this holder was configured with. It may have to ask
    /// what its configured name means; it never asks about the identity.
    async fn holds(&self, id: &MasterKeyId) -> Result<bool, KmsFault>;

    /// What [`Self::holds`] answers, when nobody has to be asked for it.
    fn holds_unasked(&self, _: &MasterKeyId) -> Option<bool> {
        None
    }

    /// Whether it can rewrap from a key of another holder without the data key leaving the provider.
    fn rewraps_from(&self, id: &MasterKeyId) -> bool;

    /// Checks that the primary master key is there and fit for use, and answers its identity.
    async fn check(&self) -> Result<MasterKeyId, KmsFault>;
}

/// Calls a holder of keys for long work, where nobody waits for an answer: each call bounded in time,
/// and tried again unless it is the row that must change.
///
/// # Errors
///
/// What the last call failed with.
pub async fn persistently<T>(
    timeout: Duration,
    call: impl AsyncFn() -> Result<T, KmsFault>,
) -> Result<T, KmsFault> {
    let mut pause = FIRST_PAUSE;
    for attempt in 1.. {
        let answer = tokio::time::timeout(timeout, call()).await;
        match answer.unwrap_or(Err(KmsFault::TimedOut)) {
            Ok(answer) => return Ok(answer),
            Err(fault @ (KmsFault::Tampered(_) | KmsFault::NotConfigured(_))) => return Err(fault),
            Err(fault) if attempt == ATTEMPTS => return Err(fault),
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause *= 2;
    }
    unreachable!("the last attempt answers")
}

/// Why a master key could not be used, by who must act.
#[derive(Debug, Error)]
pub enum KmsFault {
    /// The operator: this key is recorded with a credential but not configured.
    #[error("master key {0} is recorded with a credential but is not configured")]
    NotConfigured(MasterKeyId),
    /// The operator: the vault's identity may not use the key.
    #[error("the KMS denied the use of the master key")]
    Denied(#[source] Cause),
    /// The operator: the key must be enabled.
    #[error("the master key is disabled")]
    Disabled(#[source] Cause),
    /// The operator, soon: what the key wraps is lost unless its deletion is cancelled.
    #[error("the master key is pending deletion")]
    PendingDeletion(#[source] Cause),
    /// The operator: the name is wrong, or the key was deleted.
    #[error("there is no such master key in this account and region")]
    Missing(#[source] Cause),
    /// The operator: another key must be configured.
    #[error("the master key is not a symmetric key for encryption")]
    WrongUsage(#[source] Cause),
    /// The operator, or time: the key awaits its material, or its key store is away.
    #[error("the master key is not ready")]
    NotReady(#[source] Cause),
    /// Time: too many calls.
    #[error("the KMS throttled the call")]
    Throttled(#[source] Cause),
    /// Time, or the operator: no answer, or one that makes no sense.
    #[error("the KMS did not answer")]
    Unreachable(#[source] Cause),
    /// Time: no answer within `GRANTEX_VAULT_KMS_TIMEOUT`.
    #[error("the KMS did not answer in time")]
    TimedOut,
    /// Time: it did not answer lately, and is not asked before it had time to recover.
    #[error("the KMS did not answer lately and is not asked")]
    BreakerOpen,
    /// Time: more calls wait already than could be answered in time.
    #[error("too many calls to the KMS are waiting")]
    Overloaded,
    /// Somebody changed the row: the key did not wrap this for this context.
    #[error("the wrapped data key is not one of this master key and context")]
    Tampered(#[source] Cause),
}

impl KmsFault {
    /// Its name in metrics and probes.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotConfigured(_) => "not_configured",
            Self::Denied(_) => "denied",
            Self::Disabled(_) => "disabled",
            Self::PendingDeletion(_) => "pending_deletion",
            Self::Missing(_) => "missing",
            Self::WrongUsage(_) => "wrong_usage",
            Self::NotReady(_) => "not_ready",
            Self::Throttled(_) => "throttled",
            Self::Unreachable(_) => "unreachable",
            Self::TimedOut => "timed_out",
            Self::BreakerOpen => "breaker_open",
            Self::Overloaded => "overloaded",
            Self::Tampered(_) => "tampered",
        }
    }
}
