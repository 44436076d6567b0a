//! Envelope encryption: credentials at rest, each under a data key of its own that a master key wraps.

pub mod aws_kms;
pub mod context;
pub mod data_key;
pub mod format;
pub mod kms;
pub mod local_keyring;
pub mod master_keys;

use std::{sync::Arc, time::Duration};

use thiserror::Error;
use tokio::sync::Semaphore;

use crate::model::{
    sealed::{Sealed, SealedCredential, WrappedKey},
    secret::{AccessToken, RefreshToken},
};
use context::{Attributes, Place};
use data_key::DoesNotOpen;
use kms::{Kms, KmsFault};

/// How many KMS calls one replica has under way; more wait, no longer than a call may take.
const MAX_KMS_CALLS: usize = 64;
/// How many wait or are under way; one more is refused at once.
const MAX_KMS_WAITING: usize = 1024;

/// Seals credentials for their place and opens them in no other.
pub struct Envelope {
    kms: Arc<dyn Kms>,
    timeout: Duration,
    calls: Semaphore,
    places: Semaphore,
}

/// Why a credential could not be sealed or opened.
#[derive(Debug, Error)]
pub enum EnvelopeError {
    /// The master key cannot be used now: an operator, or time, must act.
    #[error("the master key cannot be used")]
    MasterKey(#[source] KmsFault),
    /// What is stored is not what was sealed for this place: somebody must find out why.
    #[error("the stored credential does not open")]
    DoesNotOpen(#[source] DoesNotOpen),
}

impl Envelope {
    /// Seals with the primary master key of `kms`; no call to it takes longer than `timeout`,
    /// waiting for a free place included.
    #[must_use]
    pub fn new(kms: Arc<dyn Kms>, timeout: Duration) -> Self {
        Self {
            kms,
            timeout,
            calls: Semaphore::new(MAX_KMS_CALLS),
            places: Semaphore::new(MAX_KMS_WAITING),
        }
    }

    /// Seals a credential's secrets under a new data key.
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
        let context = place.kms_context();
        let data_key = self.bounded(self.kms.generate(&context)).await?;
        Ok(data_key.seal(place, attributes, access_token, refresh_token))
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
    ) -> Result<AccessToken, EnvelopeError> {
        let context = place.kms_context();
        let data_key = self.bounded(self.kms.unwrap(data_key, &context)).await?;
        data_key
            .open_access_token(place, attributes, sealed)
            .map_err(EnvelopeError::DoesNotOpen)
    }

    async fn bounded<T>(
        &self,
        call: impl Future<Output = Result<T, KmsFault>>,
    ) -> Result<T, EnvelopeError> {
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
        let answer = tokio::time::timeout(self.timeout, call).await;
        answer
            .unwrap_or(Err(KmsFault::TimedOut))
            .map_err(|fault| match fault {
                KmsFault::Tampered(_) => EnvelopeError::DoesNotOpen(DoesNotOpen::DataKey),
                other => EnvelopeError::MasterKey(other),
            })
    }
}
