//! Store: seal a credential and put it in the place of the one before.

use super::{KnownDeveloper, Vault, error::VaultError};
use crate::{
    audit::event::{AuditEvent, Outcome},
    envelope::context::{Attributes, Place},
    model::{
        credential::{CredentialDraft, NewCredential},
        id::CredentialId,
        request::Verb,
        service_name::ServiceName,
        text::{CredentialType, PrincipalId},
        timestamp::Timestamp,
    },
    store::credential_writes::{CredentialWrite, Written},
};

/// What was stored.
#[derive(Debug)]
pub struct StoredCredential {
    /// A new id, or the one of the credential that was replaced.
    pub id: CredentialId,
    /// Whose it is.
    pub principal_id: PrincipalId,
    /// What it is for, as the request spelled it.
    pub service: ServiceName,
    /// What kind it is.
    pub credential_type: CredentialType,
    /// The first store.
    pub created_at: Timestamp,
}

impl Vault {
    /// Stores a credential, or replaces the one of the same developer, principal and service.
    ///
    /// It is sealed under a new data key before a database connection is taken; the change and its
    /// audit event are one transaction, acknowledged after its commit.
    ///
    /// # Errors
    ///
    /// Invalid input, with nothing stored; unavailable, with nothing acknowledged.
    pub async fn store(
        &self,
        developer: &KnownDeveloper,
        draft: CredentialDraft,
    ) -> Result<StoredCredential, VaultError> {
        let _permit = self.permit(&developer.developer.id).await?;
        let new = NewCredential::parse(draft)?;
        let mut event = developer.event(Verb::Store, Outcome::Stored);
        event.principal = Some(new.principal_id.clone());
        event.service = Some(new.service.clone());
        match self.write(developer, &new, &event).await {
            Ok(written) => Ok(StoredCredential {
                id: written.id,
                principal_id: new.principal_id,
                service: new.service,
                credential_type: new.credential_type,
                created_at: written.created_at,
            }),
            Err(error) => Err(self.refused(event, error).await),
        }
    }

    async fn write(
        &self,
        KnownDeveloper { developer, .. }: &KnownDeveloper,
        new: &NewCredential,
        event: &AuditEvent,
    ) -> Result<Written, VaultError> {
        let place = Place {
            developer: developer.id.clone(),
            principal: new.principal_id.clone(),
            service: new.service.key().clone(),
        };
        let attributes = Attributes {
            service: &new.service,
            credential_type: &new.credential_type,
            token_expires_at: new.token_expires_at,
            metadata: &new.metadata,
            restrictions: &new.restrictions,
        };
        let sealed = self
            .envelope
            .seal(
                &place,
                &attributes,
                &new.access_token,
                new.refresh_token.as_ref(),
            )
            .await
            .map_err(|error| VaultError::from_envelope(error, None))?;

        let now = self.clock.now();
        let write = CredentialWrite {
            developer: &developer.id,
            api_key: &developer.api_key_hash,
            id_if_new: CredentialId::make(now),
            principal: &new.principal_id,
            service: &new.service,
            credential_type: &new.credential_type,
            sealed: &sealed,
            token_expires_at: new.token_expires_at,
            metadata: &new.metadata,
            restrictions: &new.restrictions,
            at: now,
        };
        let connection = self.store.connection().await?;
        Ok(self.journal.write(&connection, &write, event).await??)
    }
}
