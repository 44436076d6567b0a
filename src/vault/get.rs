//! Get: one credential's description.

use super::{
    KnownDeveloper, Vault,
    error::{NotFound, VaultError},
};
use crate::{
    audit::event::Outcome,
    model::{credential::Credential, id::CredentialId, request::Verb},
};

impl Vault {
    /// Describes a credential. Any text may be asked for; what is not the id of a credential of this
    /// developer is not found.
    ///
    /// # Errors
    ///
    /// Not found, or unavailable.
    pub async fn get(
        &self,
        developer: &KnownDeveloper,
        id: &str,
    ) -> Result<Credential, VaultError> {
        let _permit = self.permit(&developer.developer.id).await?;
        let mut event = developer.event(Verb::Get, Outcome::Read);
        event.credential = CredentialId::parse(id);
        match self.find(developer, event.credential).await {
            Ok(credential) => {
                event.principal = Some(credential.principal_id.clone());
                event.service = Some(credential.service.clone());
                self.journal.record(&event).await?;
                Ok(credential)
            }
            Err(error) => Err(self.refused(event, error).await),
        }
    }

    async fn find(
        &self,
        KnownDeveloper { developer, .. }: &KnownDeveloper,
        id: Option<CredentialId>,
    ) -> Result<Credential, VaultError> {
        let missing = VaultError::NotFound(NotFound::Credential);
        match id {
            Some(id) => self
                .store
                .credential(&developer.id, id)
                .await?
                .ok_or(missing),
            None => Err(missing),
        }
    }
}
