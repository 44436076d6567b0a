//! Delete: a credential is gone for good.

use super::{
    KnownDeveloper, Vault,
    error::{NotFound, VaultError},
};
use crate::{
    audit::event::{AuditEvent, Outcome},
    model::{id::CredentialId, request::Verb},
};

impl Vault {
    /// Deletes a credential. Any text may be asked for; what is not the id of a credential of this
    /// developer is not found. The change and its audit event are one transaction.
    ///
    /// # Errors
    ///
    /// Not found, or unavailable.
    pub async fn delete(&self, developer: &KnownDeveloper, id: &str) -> Result<(), VaultError> {
        let _permit = self.permit(&developer.developer.id).await?;
        let mut event = developer.event(Verb::Delete, Outcome::Deleted);
        event.credential = CredentialId::parse(id);
        match self.remove(developer, &mut event).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.refused(event, error).await),
        }
    }

    async fn remove(
        &self,
        KnownDeveloper { developer, .. }: &KnownDeveloper,
        event: &mut AuditEvent,
    ) -> Result<(), VaultError> {
        let missing = VaultError::NotFound(NotFound::Credential);
        let Some(id) = event.credential else {
            return Err(missing);
        };
        let mut connection = self.store.connection().await?;
        let transaction = connection.transaction().await?;
        let deleted = transaction
            .delete_credential(developer, id, self.clock.now())
            .await?;
        let Some((principal, service)) = deleted else {
            return Err(missing);
        };
        event.principal = Some(principal);
        event.service = Some(service);
        self.journal.commit(transaction, event).await?;
        Ok(())
    }
}
