//! The configured master keys: one that wraps, every one that may still be read.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    context::KmsContext,
    data_key::{DataKey, FreshDataKey},
    kms::{Kms, KmsFault},
};
use crate::model::sealed::{MasterKeyId, WrappedKey};

/// Several holders as one. New data keys are wrapped by the primary; a recorded key is unwrapped by
/// the holder that was configured with it, and by nobody when there is none.
///
/// A future primary is among the others too: a rotation makes the new key readable everywhere before
/// any replica wraps with it.
pub struct MasterKeys {
    primary: Arc<dyn Kms>,
    others: Vec<Arc<dyn Kms>>,
}

impl MasterKeys {
    /// Wraps with the primary, reads with all.
    #[must_use]
    pub fn new(primary: Arc<dyn Kms>, others: Vec<Arc<dyn Kms>>) -> Self {
        Self { primary, others }
    }

    /// The identity of the primary, which may be asked for.
    ///
    /// # Errors
    ///
    /// When it cannot be used.
    pub async fn primary(&self) -> Result<MasterKeyId, KmsFault> {
        self.primary.check().await
    }

    /// Who holds a recorded key. That is settled before any call is made with it: whoever can write
    /// the table must not choose a key.
    async fn holder(&self, id: &MasterKeyId) -> Result<&dyn Kms, KmsFault> {
        // A holder that cannot say what its name means must not hide one that holds the key.
        let mut unsure = None;
        for holder in std::iter::once(&self.primary).chain(&self.others) {
            match holder.holds(id).await {
                Ok(true) => return Ok(&**holder),
                Ok(false) => {}
                Err(fault) => unsure = Some(fault),
            }
        }
        Err(unsure.unwrap_or_else(|| KmsFault::NotConfigured(id.clone())))
    }
}

#[async_trait]
impl Kms for MasterKeys {
    async fn generate(&self, context: &KmsContext) -> Result<FreshDataKey, KmsFault> {
        self.primary.generate(context).await
    }

    async fn wrap(&self, key: &DataKey, context: &KmsContext) -> Result<WrappedKey, KmsFault> {
        self.primary.wrap(key, context).await
    }

    async fn unwrap(&self, key: &WrappedKey, context: &KmsContext) -> Result<DataKey, KmsFault> {
        self.holder(&key.master_key)
            .await?
            .unwrap(key, context)
            .await
    }

    async fn rewrap(&self, key: &WrappedKey, context: &KmsContext) -> Result<WrappedKey, KmsFault> {
        let holder = self.holder(&key.master_key).await?;
        if self.primary.rewraps_from(&key.master_key) {
            return self.primary.rewrap(key, context).await;
        }
        // Between providers or regions the data key passes through here, and is wiped when dropped.
        let key = holder.unwrap(key, context).await?;
        self.primary.wrap(&key, context).await
    }

    async fn holds(&self, id: &MasterKeyId) -> Result<bool, KmsFault> {
        match self.holder(id).await {
            Ok(_) => Ok(true),
            Err(KmsFault::NotConfigured(_)) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    fn rewraps_from(&self, _: &MasterKeyId) -> bool {
        true
    }

    async fn check(&self) -> Result<MasterKeyId, KmsFault> {
        for other in &self.others {
            other.check().await?;
        }
        self.primary.check().await
    }
}
