//! Data keys in memory, master keys, and what is sealed under them from elsewhere.

use std::sync::Arc;

use super::{KnownOperator, Operations, OperatorError};
use crate::{
    audit::event::{AuditEvent, Failure, Outcome, Subject},
    envelope::Envelope,
    model::{request::Operation, sealed::MasterKeyId},
    rotation::{self, KeyUse, Rotation},
    store::master_keys::{Retired, Retirement},
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

    /// Retires a master key: from now on no replica stores under it, whatever its configuration says.
    /// The event is committed with the mark that does it.
    ///
    /// # Errors
    ///
    /// When it is the primary, or something needs it, and see [`OperatorError`].
    pub async fn retire_master_key(
        &self,
        by: &KnownOperator,
        primary: &MasterKeyId,
        id: &MasterKeyId,
    ) -> Result<(), OperatorError> {
        if id == primary {
            return Err(OperatorError::PrimaryKey(id.clone()));
        }
        let subject = Subject::MasterKey(id.clone());
        let done = by.event(Operation::RetireMasterKey, None, Some(subject));
        let needed = AuditEvent {
            outcome: Outcome::Failed(Failure::MasterKeyNeeded),
            ..done.clone()
        };
        let event = |step| match step {
            Retirement::Begun => self.journal.row(&done),
            Retirement::TakenBack => self.journal.row(&needed),
        };
        match self.store.retire_master_key(id, &event).await? {
            Retired::Done => Ok(()),
            Retired::Needed => Err(OperatorError::NeededKey(id.clone())),
        }
    }
}
