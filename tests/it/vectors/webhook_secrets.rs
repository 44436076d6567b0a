//! The vectors of webhook secrets.

use std::{io::Write, sync::Arc, time::Duration};

use grantex_vault::{
    clock::SystemClock,
    envelope::{Envelope, EnvelopeError, cache::DataKeyCache, local_keyring::LocalKeyring},
    metrics::Metrics,
    model::{
        id::WebhookSecretId,
        sealed::{MasterKeyId, Sealed, SealedWebhookSecret, WrappedKey},
        text::DeveloperId,
    },
};
use serde::Deserialize;
use serde_json::Value;

use super::{Bytes, SealedText, renamed};

/// As the other files: it never changes.
const FILE: &str = include_str!("../../vectors/v1-webhook-secret.json");

/// How many vectors there are.
pub(super) const COUNT: usize = 3;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    keyring: Value,
    webhook_secrets: Vec<Vector>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Vector {
    name: String,
    developer: String,
    id: String,
    master_key: String,
    wrapped_key: Bytes,
    secret: SealedText,
}

impl Vector {
    async fn open(&self, kms: &Arc<LocalKeyring>) -> Result<String, EnvelopeError> {
        let metrics = Metrics::unobserved();
        let nothing_kept = DataKeyCache::new(None, 0, Arc::new(SystemClock), metrics.clone());
        let ten_seconds = Duration::from_secs(10);
        let envelope = Envelope::new(Arc::clone(kms) as _, ten_seconds, nothing_kept, metrics);
        let developer = DeveloperId::parse(&self.developer).unwrap();
        let sealed = SealedWebhookSecret {
            id: WebhookSecretId::parse(&self.id).unwrap(),
            secret: Sealed::from_stored(self.secret.sealed.0.clone()),
            data_key: WrappedKey {
                master_key: MasterKeyId::new(&self.master_key),
                bytes: self.wrapped_key.0.clone(),
            },
        };
        let opened = envelope.open_webhook_secret(&developer, &sealed);
        Ok(opened.await?.expose().to_owned())
    }
}

#[tokio::test]
async fn every_vector_opens_and_with_anything_changed_none() {
    let file: File = serde_json::from_str(FILE).unwrap();
    let mut keyring = tempfile::NamedTempFile::new().unwrap();
    write!(keyring, "{}", file.keyring).unwrap();
    let kms = Arc::new(LocalKeyring::load(keyring.path()).unwrap());
    for vector in &file.webhook_secrets {
        let opened = vector.open(&kms).await.unwrap();
        assert_eq!(opened, vector.secret.text, "{}", vector.name);
        let changes: [fn(&mut Vector); 6] = [
            |v| v.developer = renamed(&v.developer),
            |v| v.id = "01JR2YB8G0ZC5T9W3M6N7P0QRS".to_owned(),
            |v| v.secret.sealed.0[20] ^= 1,
            |v| v.secret.sealed.0[0] += 1,
            |v| v.secret.sealed.0.truncate(28),
            |v| v.wrapped_key.0[20] ^= 1,
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut altered = vector.clone();
            change(&mut altered);
            let opened = altered.open(&kms).await;
            let stays_shut = matches!(opened, Err(EnvelopeError::DoesNotOpen(_)));
            assert!(stays_shut, "{}: change {index}", vector.name);
        }
    }
    assert_eq!(file.webhook_secrets.len(), COUNT);
}
