//! Webhook secrets at rest: sealed as tokens are, each under a data key of its own, for one developer and
//! one row.

use zeroize::Zeroizing;

use super::{
    context::{KmsContext, push},
    data_key::{DataKey, DoesNotOpen, FreshDataKey},
    format::VERSION,
};
use crate::model::{
    id::WebhookSecretId,
    sealed::{Sealed, SealedWebhookSecret},
    secret::WebhookSecret,
    text::DeveloperId,
};

/// The name of the field in the additional authenticated data.
const FIELD: &str = "webhook_secret";

/// The KMS context of the data keys of a developer's webhook secrets.
#[must_use]
pub fn kms_context(developer: &DeveloperId) -> KmsContext {
    KmsContext::WebhookSecret {
        developer: developer.clone(),
    }
}

impl FreshDataKey {
    /// Seals a webhook secret for its row.
    #[must_use]
    pub fn seal_webhook_secret(
        self,
        developer: &DeveloperId,
        id: WebhookSecretId,
        secret: &WebhookSecret,
    ) -> SealedWebhookSecret {
        let (key, data_key) = self.into_parts();
        let bytes = key.encrypt(&additional_data(developer, id), secret.expose().as_bytes());
        SealedWebhookSecret {
            id,
            secret: Sealed::from_stored(bytes),
            data_key,
        }
    }
}

impl DataKey {
    /// Opens a webhook secret of this row.
    ///
    /// # Errors
    ///
    /// When key, developer, row or bytes are not those of the sealing.
    pub fn open_webhook_secret(
        &self,
        developer: &DeveloperId,
        sealed: &SealedWebhookSecret,
    ) -> Result<WebhookSecret, DoesNotOpen> {
        let additional_data = additional_data(developer, sealed.id);
        let plaintext = self.decrypt(&additional_data, sealed.secret.as_bytes())?;
        let text = str::from_utf8(&plaintext).map_err(|_| DoesNotOpen::Plaintext)?;
        let text = Zeroizing::new(text.to_owned());
        WebhookSecret::new(text).ok_or(DoesNotOpen::Plaintext)
    }
}

/// Format version, field name, developer, row: each but the first with its length before it.
fn additional_data(developer: &DeveloperId, id: WebhookSecretId) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    push(&mut bytes, FIELD.as_bytes());
    push(&mut bytes, developer.as_str().as_bytes());
    push(&mut bytes, id.to_string().as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        sealed::{MasterKeyId, WrappedKey},
        timestamp::Timestamp,
    };

    fn fresh() -> FreshDataKey {
        let wrapped = WrappedKey {
            master_key: MasterKeyId::new("test"),
            bytes: Vec::new(),
        };
        FreshDataKey::new(DataKey::from_bytes(&[7; 32]).unwrap(), wrapped)
    }

    #[test]
    fn it_opens_for_its_developer_and_row_only() {
        let now = Timestamp::from_millisecond(0).unwrap();
        let (id, other) = (WebhookSecretId::make(now), WebhookSecretId::make(now));
        let [acme, globex] = ["acme", "globex"].map(|id| DeveloperId::parse(id).unwrap());
        let text = "a secret of enough".replace(' ', "-");
        let secret = WebhookSecret::new(Zeroizing::new(text.clone())).unwrap();
        let mut sealed = fresh().seal_webhook_secret(&acme, id, &secret);
        let key = DataKey::from_bytes(&[7; 32]).unwrap();
        let opened = key.open_webhook_secret(&acme, &sealed).unwrap();
        assert_eq!(opened.expose(), text);
        assert!(key.open_webhook_secret(&globex, &sealed).is_err());
        sealed.id = other;
        assert!(key.open_webhook_secret(&acme, &sealed).is_err());
        let another = DataKey::from_bytes(&[8; 32]).unwrap();
        sealed.id = id;
        assert!(another.open_webhook_secret(&acme, &sealed).is_err());
    }
}
