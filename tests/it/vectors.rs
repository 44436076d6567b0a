//! What was ever sealed opens for ever: vectors of every version of the envelope's format.

mod webhook_secrets;

use std::{io::Write, process::Command, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use grantex_vault::{
    clock::SystemClock,
    envelope::{
        Envelope, EnvelopeError,
        cache::DataKeyCache,
        context::{Attributes, Place},
        data_key::DoesNotOpen,
        kms::{Kms, KmsFault},
        local_keyring::LocalKeyring,
    },
    metrics::Metrics,
    model::{
        metadata::Metadata,
        restrictions::Restrictions,
        sealed::{MasterKeyId, Sealed, WrappedKey},
        service_name::ServiceName,
        text::{CredentialType, DeveloperId, PrincipalId},
        timestamp::Timestamp,
    },
};
use serde::Deserialize;
use serde_json::Value;

use crate::harness::python_program;

/// Files of vectors of credentials, each of what was new in a version of the format. A file that stands
/// here never changes.
const FILES: [&str; 2] = [
    include_str!("../vectors/v1.json"),
    include_str!("../vectors/v1-restricted.json"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// As in a keyring file.
    keyring: Value,
    credentials: Vec<Vector>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Vector {
    name: String,
    developer: String,
    principal: String,
    service: String,
    credential_type: String,
    token_expires_at: Option<String>,
    /// The JSON text, byte for byte.
    metadata: String,
    /// Not there in what was made before there were any.
    #[serde(default)]
    required_scopes: Vec<String>,
    #[serde(default)]
    allowed_agents: Vec<String>,
    master_key: String,
    wrapped_key: Bytes,
    access_token: SealedText,
    refresh_token: Option<SealedText>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct SealedText {
    text: String,
    sealed: Bytes,
}

#[derive(Deserialize, Clone)]
#[serde(try_from = "String")]
struct Bytes(Vec<u8>);

impl TryFrom<String> for Bytes {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        STANDARD.decode(text).map(Self)
    }
}

type Columns = (ServiceName, CredentialType, Metadata, Restrictions);

// === impl File ===

impl File {
    fn read_all() -> Vec<Self> {
        let read = |text| serde_json::from_str(text).expect("a file of vectors");
        FILES.map(read).into()
    }

    fn kms(&self) -> Arc<LocalKeyring> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "{}", self.keyring).unwrap();
        Arc::new(LocalKeyring::load(file.path()).unwrap())
    }
}

// === impl Vector ===

impl Vector {
    fn place(&self) -> Place {
        let service = ServiceName::parse(&self.service).unwrap();
        Place {
            developer: DeveloperId::parse(&self.developer).unwrap(),
            principal: PrincipalId::parse(&self.principal).unwrap(),
            service: service.key().clone(),
        }
    }

    fn wrapped_key(&self) -> WrappedKey {
        WrappedKey {
            master_key: MasterKeyId::new(&self.master_key),
            bytes: self.wrapped_key.0.clone(),
        }
    }

    /// Opens the access token as an exchange does.
    async fn access_token(&self, kms: Arc<LocalKeyring>) -> Result<String, EnvelopeError> {
        let metrics = Metrics::unobserved();
        let nothing_kept = DataKeyCache::new(None, 0, Arc::new(SystemClock), metrics.clone());
        let envelope = Envelope::new(kms, Duration::from_secs(10), nothing_kept, metrics);
        let sealed = Sealed::from_stored(self.access_token.sealed.0.clone());
        let (place, wrapped) = (self.place(), self.wrapped_key());
        let columns = self.columns();
        let attributes = self.attributes(&columns);
        let opened = envelope.open_access_token(&place, &attributes, sealed, &wrapped);
        let opened = opened.await?;
        Ok(opened.access_token.expose().to_owned())
    }

    /// Opens bytes as the refresh token.
    async fn refresh_token(
        &self,
        kms: &LocalKeyring,
        sealed: &[u8],
    ) -> Result<String, DoesNotOpen> {
        let context = self.place().kms_context();
        let data_key = kms.unwrap(&self.wrapped_key(), &context).await.unwrap();
        let sealed = Sealed::from_stored(sealed.to_vec());
        let columns = self.columns();
        let attributes = self.attributes(&columns);
        let opened = data_key.open_refresh_token(&self.place(), &attributes, sealed);
        opened.map(|token| token.expose().to_owned())
    }

    fn columns(&self) -> Columns {
        (
            ServiceName::parse(&self.service).unwrap(),
            CredentialType::parse(&self.credential_type).unwrap(),
            Metadata::from_stored(&self.metadata).expect("an object"),
            Restrictions::parse(&self.required_scopes, &self.allowed_agents).unwrap(),
        )
    }

    fn attributes<'a>(
        &self,
        (service, credential_type, metadata, restrictions): &'a Columns,
    ) -> Attributes<'a> {
        let expiry = self.token_expires_at.as_deref();
        Attributes {
            service,
            credential_type,
            token_expires_at: expiry.map(|text| Timestamp::parse(text).unwrap()),
            metadata,
            restrictions,
        }
    }

    /// The same with one thing changed, each that could be.
    fn altered(&self) -> Vec<(&'static str, Self)> {
        let alter = |name, change: fn(&mut Self)| {
            let mut altered = self.clone();
            change(&mut altered);
            (name, altered)
        };
        vec![
            alter("developer", |v| v.developer = renamed(&v.developer)),
            alter("principal", |v| v.principal = renamed(&v.principal)),
            alter("service", |v| v.service = renamed(&v.service)),
            alter("spelling", |v| v.service = swap_case(&v.service)),
            alter("type", |v| v.credential_type = renamed(&v.credential_type)),
            alter("expiry", |v| v.token_expires_at = another_expiry(v)),
            alter("metadata", |v| v.metadata.push(' ')),
            alter("a bit of the token", |v| v.access_token.sealed.0[20] ^= 1),
            alter("a bit of its nonce", |v| v.access_token.sealed.0[1] ^= 0x80),
            alter("the last bit", |v| {
                *v.access_token.sealed.0.last_mut().unwrap() ^= 1;
            }),
            alter("the version", |v| v.access_token.sealed.0[0] += 1),
            alter("the length", |v| v.access_token.sealed.0.truncate(28)),
            alter("a bit of the data key", |v| v.wrapped_key.0[20] ^= 1),
            alter("the version of the data key", |v| v.wrapped_key.0[0] += 1),
            alter("the master key", |v| v.master_key = another_master_key(v)),
        ]
    }

    /// The same under other restrictions, as far as there are such.
    fn restricted_otherwise(&self) -> Vec<(&'static str, Self)> {
        let alter = |name, change: fn(&mut Self)| {
            let mut altered = self.clone();
            change(&mut altered);
            (name, altered)
        };
        let mut all = vec![
            alter("one scope more", |v| v.required_scopes.push("q".into())),
            alter("one agent more", |v| v.allowed_agents.push("q".into())),
            alter("no scopes", |v| v.required_scopes.clear()),
            alter("no agents", |v| v.allowed_agents.clear()),
            alter("one scope less", |v| drop(v.required_scopes.pop())),
            alter("one agent less", |v| drop(v.allowed_agents.pop())),
            alter("scopes turned round", |v| v.required_scopes.reverse()),
            alter("agents turned round", |v| v.allowed_agents.reverse()),
            alter("a scope as an agent", |v| {
                v.allowed_agents.extend(v.required_scopes.pop());
            }),
            alter("an agent as a scope", |v| {
                v.required_scopes.extend(v.allowed_agents.pop());
            }),
            alter("the lists swapped", |v| {
                std::mem::swap(&mut v.required_scopes, &mut v.allowed_agents);
            }),
            alter("scopes in another case", |v| {
                v.required_scopes
                    .iter_mut()
                    .for_each(|scope| *scope = swap_case(scope));
            }),
        ];
        all.retain(|(_, altered)| {
            let lists = |v: &Self| [v.required_scopes.clone(), v.allowed_agents.clone()];
            let [scopes, agents] = lists(altered);
            lists(altered) != lists(self) && Restrictions::parse(&scopes, &agents).is_ok()
        });
        all
    }
}

/// Another first letter, with which no name here begins.
fn renamed(name: &str) -> String {
    format!("q{}", name.chars().skip(1).collect::<String>())
}

/// The same to whoever compares without case.
fn swap_case(text: &str) -> String {
    let upper = text.to_ascii_uppercase();
    if upper == text {
        text.to_ascii_lowercase()
    } else {
        upper
    }
}

/// One where there is none, none where there is one.
fn another_expiry(vector: &Vector) -> Option<String> {
    let none = vector.token_expires_at.is_none();
    none.then(|| "1970-01-01T00:00:00.000Z".to_owned())
}

fn another_master_key(vector: &Vector) -> String {
    let (keyring, version) = vector.master_key.rsplit_once('/').unwrap();
    let other = if version == "1" { 2 } else { 1 };
    format!("{keyring}/{other}")
}

#[tokio::test]
async fn every_vector_opens() {
    for file in File::read_all() {
        let kms = file.kms();
        for vector in &file.credentials {
            let opened = vector.access_token(Arc::clone(&kms)).await;
            assert_eq!(opened.unwrap(), vector.access_token.text, "{}", vector.name);
            if let Some(refresh_token) = &vector.refresh_token {
                let opened = vector.refresh_token(&kms, &refresh_token.sealed.0).await;
                assert_eq!(opened.unwrap(), refresh_token.text, "{}", vector.name);
            }
        }
    }
}

#[tokio::test]
async fn no_vector_opens_with_anything_changed() {
    for file in File::read_all() {
        let kms = file.kms();
        for vector in &file.credentials {
            for (what, altered) in [vector.altered(), vector.restricted_otherwise()].concat() {
                let opened = altered.access_token(Arc::clone(&kms)).await;
                let stays_shut = matches!(opened, Err(EnvelopeError::DoesNotOpen(_)));
                assert!(stays_shut, "{}: {what} changed", vector.name);
            }
        }
    }
}

#[tokio::test]
async fn no_token_of_a_vector_opens_as_the_other_or_in_another_vector() {
    for file in File::read_all() {
        let kms = file.kms();
        for vector in &file.credentials {
            let access = &vector.access_token.sealed.0;
            let opened = vector.refresh_token(&kms, access).await;
            assert_eq!(opened, Err(DoesNotOpen::Ciphertext), "{}", vector.name);
            for other in file.credentials.iter().filter(|o| o.name != vector.name) {
                let mut moved = other.clone();
                moved.access_token = vector.access_token.clone();
                let alone = moved.access_token(Arc::clone(&kms)).await;
                assert!(matches!(alone, Err(EnvelopeError::DoesNotOpen(_))));
                moved.wrapped_key = vector.wrapped_key.clone();
                moved.master_key.clone_from(&vector.master_key);
                let with_its_key = moved.access_token(Arc::clone(&kms)).await;
                assert!(matches!(with_its_key, Err(EnvelopeError::DoesNotOpen(_))));
            }
        }
    }
}

#[tokio::test]
async fn a_vector_of_a_master_key_that_is_not_there_waits_for_it() {
    for file in File::read_all() {
        let kms = file.kms();
        for vector in &file.credentials {
            let mut altered = vector.clone();
            altered.master_key = vector.master_key.replace("local:", "local:another");
            let opened = altered.access_token(Arc::clone(&kms)).await;
            let fault = opened.expect_err("nobody has that key");
            let waits = matches!(&fault, EnvelopeError::MasterKey(fault)
                if matches!(**fault, KmsFault::NotConfigured(_)));
            assert!(waits, "{}: {fault}", vector.name);
        }
    }
}

#[test]
fn a_reader_written_from_the_document_alone_opens_every_vector() {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors");
    let output = Command::new(python_program("python"))
        .current_dir(here)
        .args(["read.py", "../../docs/envelope.md"])
        .args(["v1.json", "v1-restricted.json", "v1-webhook-secret.json"])
        .output()
        .expect("Python runs");
    let traceback = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{traceback}");
    let vectors: usize = File::read_all().iter().map(|f| f.credentials.len()).sum();
    let opened = String::from_utf8_lossy(&output.stdout);
    let vectors = vectors + webhook_secrets::COUNT;
    assert_eq!(opened.trim(), vectors.to_string());
}
