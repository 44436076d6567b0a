//! What a developer's Grantex signs webhooks with.

use super::{KnownOperator, Operations, OperatorError};
use crate::{
    audit::event::Outcome,
    envelope::Envelope,
    model::{id::WebhookSecretId, request::Operation, secret::WebhookSecret, text::DeveloperId},
    store::webhook_secrets::WebhookSecretRow,
};

impl Operations {
    /// Seals a secret and adds it: it is valid from now on, and of those before it the last one too.
    ///
    /// # Errors
    ///
    /// See [`OperatorError`].
    pub async fn set_webhook_secret(
        &self,
        by: &KnownOperator,
        envelope: &Envelope,
        developer: &DeveloperId,
        secret: &WebhookSecret,
    ) -> Result<WebhookSecretId, OperatorError> {
        let now = self.clock.now();
        let id = WebhookSecretId::make(now);
        let sealed = envelope.seal_webhook_secret(developer, id, secret).await?;
        let event = by.event(Operation::SetWebhookSecret, Some(developer), None);
        self.change(event, async |transaction, _| {
            self.known(transaction, developer).await?;
            Ok(transaction
                .add_webhook_secret(developer, &sealed, now)
                .await?)
        })
        .await?;
        Ok(id)
    }

    /// The secrets of a developer that are valid, the newest first; never the secrets themselves.
    ///
    /// # Errors
    ///
    /// See [`OperatorError`].
    pub async fn webhook_secrets(
        &self,
        by: &KnownOperator,
        developer: &DeveloperId,
    ) -> Result<Vec<WebhookSecretRow>, OperatorError> {
        let event = by.event(Operation::ListWebhookSecrets, Some(developer), None);
        let found = self.store.described_webhook_secrets(developer).await;
        self.looked(event, found.map_err(OperatorError::from)).await
    }

    /// Forgets a secret: nothing that it signed is taken any more. Answers whether there was one.
    ///
    /// # Errors
    ///
    /// See [`OperatorError`].
    pub async fn remove_webhook_secret(
        &self,
        by: &KnownOperator,
        developer: &DeveloperId,
        id: WebhookSecretId,
    ) -> Result<bool, OperatorError> {
        let event = by.event(Operation::RemoveWebhookSecret, Some(developer), None);
        self.change(event, async |transaction, event| {
            let changed = transaction.remove_webhook_secret(developer, id).await?;
            if !changed {
                event.outcome = Outcome::Unchanged;
            }
            Ok(changed)
        })
        .await
    }
}
