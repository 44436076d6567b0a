//! Envelope encryption: credentials at rest, each under a data key of its own that a master key wraps.

#![deny(clippy::indexing_slicing)]

pub mod aws_kms;
pub mod breaker;
pub mod cache;
pub mod context;
pub mod data_key;
pub mod format;
pub mod kms;
pub mod legacy_grantex;
pub mod local_keyring;
pub mod master_keys;
pub mod signing_key;
pub mod webhook_secret;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::sync::Semaphore;
use tracing::{Instrument, field::Empty};

use crate::{
    metrics::{CacheUse, KmsOperation, Metrics},
    model::{
        id::WebhookSecretId,
        sealed::{Sealed, SealedCredential, SealedWebhookSecret, WrappedKey},
        secret::{AccessToken, RefreshToken, WebhookSecret},
        text::DeveloperId,
    },
    underway,
};
use cache::DataKeyCache;
use context::{Attributes, KmsContext, Place};
use data_key::{DataKey, DoesNotOpen};
use kms::{Kms, KmsFault};
use signing_key::SigningKey;

/// How many KMS calls one replica has under way; more wait, no longer than a call may take.
const MAX_KMS_CALLS: usize = 64;
/// How many wait or are under way; one more is refused at once.
const MAX_KMS_WAITING: usize = 1024;

/// Seals credentials for their place and opens them in no other.
pub struct Envelope {
    master_keys: Arc<Bounded>,
    cache: Arc<DataKeyCache>,
    metrics: Metrics,
}

/// An access token that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The token.
    pub access_token: AccessToken,
    /// Where its data key came from.
    pub data_key: CacheUse,
}

/// A data key that is in memory: to open with it needs no KMS.
#[derive(Debug)]
pub struct KeyAtHand(Arc<DataKey>);

/// Why a credential could not be sealed or opened.
#[derive(Debug, Error)]
pub enum EnvelopeError {
    /// The master key cannot be used now: an operator, or time, must act. Several callers may have
    /// waited for the one call that failed.
    #[error("the master key cannot be used")]
    MasterKey(#[source] Arc<KmsFault>),
    /// What is stored is not what was sealed for this place: somebody must find out why.
    #[error("the stored credential does not open")]
    DoesNotOpen(#[source] DoesNotOpen),
}

/// A KMS whose calls are bounded in time and number.
struct Bounded {
    kms: Arc<dyn Kms>,
    timeout: Duration,
    calls: Semaphore,
    places: Semaphore,
    metrics: Metrics,
}

impl Envelope {
    /// Seals with the primary master key of `kms`; no call to it takes longer than `timeout`,
    /// waiting for a free place included.
    #[must_use]
    pub fn new(
        kms: Arc<dyn Kms>,
        timeout: Duration,
        cache: DataKeyCache,
        metrics: Metrics,
    ) -> Self {
        let (calls, places) = (
            Semaphore::new(MAX_KMS_CALLS),
            Semaphore::new(MAX_KMS_WAITING),
        );
        let master_keys = Arc::new(Bounded {
            kms,
            timeout,
            calls,
            places,
            metrics: metrics.clone(),
        });
        Self {
            master_keys,
            cache: Arc::new(cache),
            metrics,
        }
    }

    /// Seals a credential's secrets under a new data key. It costs exactly one KMS call, and the key
    /// is kept for the exchanges that are likely to follow.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::MasterKey`] when no data key can be had.
    pub async fn seal(
        &self,
        place: &Place,
        attributes: &Attributes<'_>,
        access_token: &AccessToken,
        refresh_token: Option<&RefreshToken>,
    ) -> Result<SealedCredential, EnvelopeError> {
        let (context, asked) = (place.kms_context(), self.cache.ask());
        let generate = self.master_keys.kms.generate(&context);
        let made = self.master_keys.call(KmsOperation::Generate, generate);
        let made = underway::on_kms(made).await;
        let (sealed, key) = made?.seal(place, attributes, access_token, refresh_token);
        self.cache
            .insert(&sealed.data_key, &context, key, asked)
            .await;
        Ok(sealed)
    }

    /// Opens an access token that was sealed for this place beside these attributes.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::DoesNotOpen`] when place, attributes, ciphertext or data key are not those of
    /// the sealing; [`EnvelopeError::MasterKey`] when the data key cannot be unwrapped now.
    pub async fn open_access_token(
        &self,
        place: &Place,
        attributes: &Attributes<'_>,
        sealed: Sealed<AccessToken>,
        data_key: &WrappedKey,
    ) -> Result<Opened, EnvelopeError> {
        let (key, from) = self.data_key(data_key, &place.kms_context()).await?;
        let access_token = key.open_access_token(place, attributes, sealed);
        Ok(Opened {
            access_token: access_token.map_err(EnvelopeError::DoesNotOpen)?,
            data_key: from,
        })
    }

    /// The data key of a credential of this place, if it is in memory.
    pub async fn key_at_hand(&self, place: &Place, wrapped: &WrappedKey) -> Option<KeyAtHand> {
        let context = place.kms_context();
        let found = self.cache.at_hand(wrapped, &context).await?;
        if found.refresh {
            self.refresh(wrapped.clone(), context);
        }
        self.metrics.data_key_hit();
        Some(KeyAtHand(found.key))
    }

    /// Makes the key that signs the seals of the audit record; one KMS call.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::MasterKey`].
    pub async fn make_signing_key(&self) -> Result<(SigningKey, WrappedKey), EnvelopeError> {
        let generate = self.master_keys.kms.generate(&KmsContext::AuditSeals);
        let made = self.master_keys.call(KmsOperation::Generate, generate);
        Ok(SigningKey::from_fresh(made.await?))
    }

    /// Opens that key.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::DoesNotOpen`] when no master key wrapped it for this; else
    /// [`EnvelopeError::MasterKey`].
    pub async fn open_signing_key(&self, key: &WrappedKey) -> Result<SigningKey, EnvelopeError> {
        let unwrap = self.master_keys.kms.unwrap(key, &KmsContext::AuditSeals);
        let opened = self.master_keys.call(KmsOperation::Unwrap, unwrap).await?;
        Ok(SigningKey::from_data_key(&opened))
    }

    /// Seals a webhook secret under a new data key; one KMS call.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::MasterKey`].
    pub async fn seal_webhook_secret(
        &self,
        developer: &DeveloperId,
        id: WebhookSecretId,
        secret: &WebhookSecret,
    ) -> Result<SealedWebhookSecret, EnvelopeError> {
        let context = webhook_secret::kms_context(developer);
        let generate = self.master_keys.kms.generate(&context);
        let made = self.master_keys.call(KmsOperation::Generate, generate);
        Ok(made.await?.seal_webhook_secret(developer, id, secret))
    }

    /// Opens one.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::DoesNotOpen`] when it was not sealed for this developer and row; else
    /// [`EnvelopeError::MasterKey`].
    pub async fn open_webhook_secret(
        &self,
        developer: &DeveloperId,
        sealed: &SealedWebhookSecret,
    ) -> Result<WebhookSecret, EnvelopeError> {
        let context = webhook_secret::kms_context(developer);
        let (key, _) = self.data_key(&sealed.data_key, &context).await?;
        let opened = key.open_webhook_secret(developer, sealed);
        opened.map_err(EnvelopeError::DoesNotOpen)
    }

    /// Forgets every data key in memory: the next use of each asks the KMS.
    pub async fn purge(&self) {
        self.cache.purge().await;
    }

    /// Whether data keys are kept in memory at all.
    #[must_use]
    pub fn keeps_data_keys(&self) -> bool {
        self.cache.keeps_any()
    }

    /// How many data keys are in memory.
    #[must_use]
    pub fn cached_data_keys(&self) -> u64 {
        self.cache.entries()
    }

    /// Wipes the data keys whose time is over.
    pub async fn sweep(&self) {
        self.cache.sweep().await;
    }

    async fn data_key(
        &self,
        wrapped: &WrappedKey,
        context: &KmsContext,
    ) -> Result<(Arc<DataKey>, CacheUse), EnvelopeError> {
        let unwrap = async || {
            let unwrap = self.master_keys.kms.unwrap(wrapped, context);
            self.master_keys.call(KmsOperation::Unwrap, unwrap).await
        };
        let found = underway::on_kms(self.cache.find(wrapped, context, unwrap)).await;
        if !found.as_ref().is_ok_and(|found| found.hit) {
            self.metrics.data_key_missed();
        }
        let found = found?;
        if found.refresh {
            self.refresh(wrapped.clone(), context.clone());
        }
        if !found.hit {
            return Ok((found.key, CacheUse::Miss));
        }
        self.metrics.data_key_hit();
        Ok((found.key, CacheUse::Hit))
    }

    /// Asks again for a key that is in use and near its end. Nobody waits for it; when it fails, the
    /// key ends in its time.
    fn refresh(&self, wrapped: WrappedKey, context: KmsContext) {
        let (master_keys, cache) = (Arc::clone(&self.master_keys), Arc::clone(&self.cache));
        tokio::spawn(async move {
            let asked = cache.ask();
            let unwrap = master_keys.kms.unwrap(&wrapped, &context);
            if let Ok(key) = master_keys.call(KmsOperation::Unwrap, unwrap).await {
                cache.insert(&wrapped, &context, key, asked).await;
            }
        });
    }
}

// === impl KeyAtHand ===

impl KeyAtHand {
    /// Opens an access token that was sealed for this place beside these attributes.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::DoesNotOpen`] as [`Envelope::open_access_token`] does.
    pub fn open_access_token(
        &self,
        place: &Place,
        attributes: &Attributes<'_>,
        sealed: Sealed<AccessToken>,
    ) -> Result<AccessToken, EnvelopeError> {
        let opened = self.0.open_access_token(place, attributes, sealed);
        opened.map_err(EnvelopeError::DoesNotOpen)
    }
}

// === impl Bounded ===

impl Bounded {
    async fn call<T>(
        &self,
        operation: KmsOperation,
        call: impl Future<Output = Result<T, KmsFault>>,
    ) -> Result<T, KmsFault> {
        let call = async {
            let _place = self
                .places
                .try_acquire()
                .map_err(|_| KmsFault::Overloaded)?;
            let _call = self
                .calls
                .acquire()
                .await
                .map_err(|_| KmsFault::Overloaded)?;
            call.await
        };
        let since = Instant::now();
        let span = tracing::info_span!(
            "kms",
            otel.name = operation.span_name(),
            otel.kind = "client",
            grantex.kms.outcome = Empty,
        );
        let called = tokio::time::timeout(self.timeout, call.instrument(span.clone())).await;
        let called = called.unwrap_or(Err(KmsFault::TimedOut));
        let outcome = called.as_ref().err().map_or("ok", KmsFault::name);
        span.record("grantex.kms.outcome", outcome);
        self.metrics.kms_called(operation, outcome, since.elapsed());
        called
    }
}

// === impl EnvelopeError ===

impl From<Arc<KmsFault>> for EnvelopeError {
    fn from(fault: Arc<KmsFault>) -> Self {
        match *fault {
            KmsFault::Tampered(_) => Self::DoesNotOpen(DoesNotOpen::DataKey),
            _ => Self::MasterKey(fault),
        }
    }
}

impl From<KmsFault> for EnvelopeError {
    fn from(fault: KmsFault) -> Self {
        Arc::new(fault).into()
    }
}
