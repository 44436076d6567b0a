//! Rewrap: every data key under the primary. The credential itself is neither read nor opened.

use super::{Broken, KEYS_PAGE, Rotation, RotationFault, Trouble, Watch, place_of};
use crate::{
    envelope::{context::KmsContext, kms::Kms, webhook_secret},
    model::sealed::MasterKeyId,
    store::{
        audit_seals::SigningKeyRow,
        rotation::{DataKeyRow, Replaced, RowKey, Scanned},
        webhook_secrets::SecretKeyRow,
    },
};

impl Rotation {
    /// Wraps every data key that another master key wraps by the primary.
    ///
    /// A credential that is stored meanwhile is not overwritten. Under which key that happens is the
    /// business of the server that stores it, so look at what remains.
    ///
    /// # Errors
    ///
    /// When database or master key cannot be used; the primary is retired.
    pub async fn rewrap(&self, watch: &Watch<'_>) -> Result<(), RotationFault> {
        let primary = self.usable_primary().await?;
        let mut position = RowKey::default();
        loop {
            let page = self.store.data_keys(&position, KEYS_PAGE).await?;
            let Some(last) = page.last() else {
                self.rewrap_webhook_secrets(&primary, watch).await?;
                return self.rewrap_signing_key(&primary, watch).await;
            };
            position = last.key.clone();
            let work = async |row: &Scanned<_>, content: &_| {
                self.rewrap_one(&primary, &row.key, content, watch).await
            };
            self.each(page, watch, work).await?;
        }
    }

    /// Webhook secrets have data keys like credentials.
    async fn rewrap_webhook_secrets(
        &self,
        primary: &MasterKeyId,
        watch: &Watch<'_>,
    ) -> Result<(), RotationFault> {
        let mut position = RowKey::default();
        loop {
            let page = self.store.webhook_secret_keys(&position, KEYS_PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            position = last.key.clone();
            let work = async |row: &Scanned<_>, content: &_| {
                self.rewrap_secret(primary, &row.key, content, watch).await
            };
            self.each(page, watch, work).await?;
        }
    }

    async fn rewrap_secret(
        &self,
        primary: &MasterKeyId,
        key: &RowKey,
        row: &SecretKeyRow,
        watch: &Watch<'_>,
    ) -> Result<(), Trouble> {
        if row.data_key.master_key == *primary {
            return Ok(());
        }
        self.pace.turn().await;
        let context = webhook_secret::kms_context(&row.developer);
        let rewrap = async || self.keys.rewrap(&row.data_key, &context).await;
        let rewrapped = self.call(rewrap).await?;
        let replaced = self
            .store
            .replace_webhook_secret_key(key, &row.data_key, &rewrapped)
            .await?;
        match replaced {
            Replaced::Done => watch.done(),
            Replaced::Overtaken => watch.overtaken(),
        }
        Ok(())
    }

    /// The key that signs the audit record is wrapped like the others.
    async fn rewrap_signing_key(
        &self,
        primary: &MasterKeyId,
        watch: &Watch<'_>,
    ) -> Result<(), RotationFault> {
        let Some(SigningKeyRow { wrapped, .. }) = self.store.signing_key().await? else {
            return Ok(());
        };
        if wrapped.master_key == *primary {
            return Ok(());
        }
        let rewrap = async || self.keys.rewrap(&wrapped, &KmsContext::AuditSeals).await;
        match self.call(rewrap).await {
            Ok(rewrapped) => {
                self.store.rewrap_signing_key(&wrapped, &rewrapped).await?;
                Ok(())
            }
            Err(Trouble::Run(fault)) => Err(fault),
            Err(Trouble::Row(why)) => {
                let row = RowKey {
                    developer: "audit".to_owned(),
                    id: "signing key".to_owned(),
                };
                watch.broken(&Broken { row, why });
                Ok(())
            }
        }
    }

    async fn rewrap_one(
        &self,
        primary: &MasterKeyId,
        key: &RowKey,
        row: &DataKeyRow,
        watch: &Watch<'_>,
    ) -> Result<(), Trouble> {
        if row.data_key.master_key == *primary {
            return Ok(());
        }
        self.pace.turn().await;
        let context = place_of(&row.labels).kms_context();
        let rewrapped = self
            .call(async || self.keys.rewrap(&row.data_key, &context).await)
            .await?;
        let replaced = self
            .store
            .replace_data_key(key, &row.data_key, &rewrapped)
            .await?;
        match replaced {
            Replaced::Done => watch.done(),
            Replaced::Overtaken => watch.overtaken(),
        }
        Ok(())
    }
}
