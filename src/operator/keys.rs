//! Data keys in memory, master keys, and what is sealed under them from elsewhere.

use std::sync::Arc;

use super::{KnownOperator, Operations, OperatorError};
use crate::{
    envelope::Envelope,
    model::request::Operation,
    rotation::{self, KeyUse, Rotation},
};

/// The keys of a replica.
pub struct Keys {
    /// What keeps data keys in memory.
    pub envelope: Arc<Envelope>,
    /// What knows the master keys.
    pub rotation: Rotation,
}

impl Operations {
    /// Forgets every data key that this replica keeps in memory.
    ///
    /// # Errors
    ///
    /// See [`OperatorError`].
    pub async fn purge_data_keys(
        &self,
        by: &KnownOperator,
        keys: &Keys,
    ) -> Result<(), OperatorError> {
        // Before it is done, which cannot fail.
        let event = by.event(Operation::PurgeDataKeys, None, None);
        self.journal.record(&event).await?;
        keys.envelope.purge().await;
        Ok(())
    }

    /// Every master key, what it is for, and how many keys it wraps.
    ///
    /// # Errors
    ///
    /// See [`OperatorError`].
    pub async fn master_keys(
        &self,
        by: &KnownOperator,
        keys: &Keys,
    ) -> Result<Vec<KeyUse>, OperatorError> {
        let event = by.event(Operation::ShowMasterKeys, None, None);
        let found = async {
            let primary = keys.rotation.primary().await?;
            Ok(rotation::status(&self.store, &primary).await?)
        };
        self.looked(event, found.await).await
    }

    /// Records that credentials are about to be taken over from another vault.
    ///
    /// # Errors
    ///
    /// See [`OperatorError`].
    pub async fn importing(&self, by: &KnownOperator) -> Result<(), OperatorError> {
        let event = by.event(Operation::Import, None, None);
        self.journal.record(&event).await?;
        Ok(())
    }
}
