//! What a ciphertext is bound to: its place, and the columns beside it.

use std::collections::HashMap;

use aws_lc_rs::digest::{self, SHA256};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::format::{Field, VERSION};
use crate::model::{
    metadata::Metadata,
    restrictions::Restrictions,
    scope::RequiredScope,
    service_name::{ServiceKey, ServiceName},
    text::{AgentId, CredentialType, DeveloperId, PrincipalId},
    timestamp::Timestamp,
};

/// Room for nearly every place in bytes.
const USUAL_BYTES: usize = 256;

/// Where a credential belongs. On exchange it comes from the grant, never from the row: a row that
/// was re-labelled in the database does not open.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The tenant.
    pub developer: DeveloperId,
    /// The end user.
    pub principal: PrincipalId,
    /// The service, by the key it compares by.
    pub service: ServiceKey,
}

/// The columns that go out beside the access token, and those that say to whom. They are sealed with
/// it, so that whoever can write the table cannot change what an agent is told about a token, nor
/// which agents get it.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// The spelling that comes back.
    pub service: &'a ServiceName,
    /// The kind.
    pub credential_type: &'a CredentialType,
    /// The upstream expiry.
    pub token_expires_at: Option<Timestamp>,
    /// The developer's data, byte for byte.
    pub metadata: &'a Metadata,
    /// What an exchange needs beside a scope.
    pub restrictions: &'a Restrictions,
}

/// The KMS encryption context of a key: what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KmsContext {
    /// A credential's data key.
    ///
    /// `CloudTrail` shows it in clear and principals are often e-mail addresses, so principal and
    /// service appear only in a hash.
    Credential {
        /// The tenant.
        developer: DeveloperId,
        /// The hash of the place.
        place_sha256: String,
    },
    /// The key that signs the seals of the audit record.
    AuditSeals,
    /// The data key of a webhook secret.
    WebhookSecret {
        /// Whose.
        developer: DeveloperId,
    },
}

// === impl Place ===

impl Place {
    /// The context of this place's data keys.
    #[must_use]
    pub fn kms_context(&self) -> KmsContext {
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        for part in self.parts() {
            push(&mut bytes, part);
        }
        let hash = digest::digest(&SHA256, &bytes);
        let place_sha256 = URL_SAFE_NO_PAD.encode(hash);
        KmsContext::Credential {
            developer: self.developer.clone(),
            place_sha256,
        }
    }

    /// The additional authenticated data of one field: format version, field name, place, and a
    /// SHA-256 over the attributes, each with its length before it, so that no two have one encoding.
    pub(super) fn additional_data(&self, field: Field, attributes: &Attributes<'_>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        bytes.push(VERSION);
        push(&mut bytes, field.as_str().as_bytes());
        for part in self.parts() {
            push(&mut bytes, part);
        }
        push(&mut bytes, attributes.digest().as_ref());
        bytes
    }

    fn parts(&self) -> [&[u8]; 3] {
        [
            self.developer.as_str().as_bytes(),
            self.principal.as_str().as_bytes(),
            self.service.as_str().as_bytes(),
        ]
    }
}

// === impl Attributes ===

impl Attributes<'_> {
    fn digest(&self) -> digest::Digest {
        digest::digest(&SHA256, &self.encode())
    }

    /// The attributes, each with its length before it; two parts more when the credential is restricted,
    /// so that one that is not has the bytes that it always had.
    ///
    /// No two have the same bytes. A sequence of parts can be read in one way only, so the bytes tell how
    /// many there are: four, and nothing is restricted, or six, and something is. Each list is one part,
    /// itself a sequence of its entries, so no entry passes from one list to the other, nor into the
    /// metadata before them. An entry is never empty, and neither are both lists: nothing has two forms.
    fn encode(&self) -> Vec<u8> {
        let expiry = self
            .token_expires_at
            .map(|expiry| expiry.as_millisecond().to_be_bytes());
        let mut bytes = Vec::with_capacity(USUAL_BYTES + self.metadata.as_str().len());
        push(&mut bytes, self.service.as_str().as_bytes());
        push(&mut bytes, self.credential_type.as_str().as_bytes());
        // No expiry is the empty string, an expiry always eight bytes.
        push(
            &mut bytes,
            expiry.as_ref().map_or(&[][..], |bytes| &bytes[..]),
        );
        push(&mut bytes, self.metadata.as_str().as_bytes());
        if !self.restrictions.restricts_nothing() {
            let scopes = self.restrictions.required_scopes().iter();
            push(&mut bytes, &list(scopes.map(RequiredScope::as_str)));
            let agents = self.restrictions.allowed_agents().iter();
            push(&mut bytes, &list(agents.map(AgentId::as_str)));
        }
        bytes
    }
}

// === impl KmsContext ===

impl KmsContext {
    /// The pairs, in the order of their names.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Credential {
                developer,
                place_sha256,
            } => vec![
                ("grantex:developer", developer.as_str()),
                ("grantex:place", place_sha256),
            ],
            Self::AuditSeals => vec![("grantex:purpose", "audit-seals")],
            Self::WebhookSecret { developer } => vec![
                ("grantex:developer", developer.as_str()),
                ("grantex:purpose", "webhook-secret"),
            ],
        }
    }

    /// The pairs as AWS takes them.
    #[must_use]
    pub fn to_map(&self) -> HashMap<String, String> {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        self.pairs().into_iter().map(owned).collect()
    }

    /// An injective encoding of the pairs, for masters keys that authenticate bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, value) in self.pairs() {
            push(&mut bytes, name.as_bytes());
            push(&mut bytes, value.as_bytes());
        }
        bytes
    }
}

fn list<'a>(entries: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        push(&mut bytes, entry.as_bytes());
    }
    bytes
}

/// Appends a part with its length before it, as 32 bits big-endian.
pub(super) fn push(bytes: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).expect("every part is bounded far below 4 GiB");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(part);
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    /// All that goes into the attributes, owned.
    #[derive(Debug, Clone, PartialEq)]
    struct Columns {
        service: String,
        credential_type: String,
        expiry: Option<i64>,
        metadata: String,
        required_scopes: Vec<String>,
        allowed_agents: Vec<String>,
    }

    impl Columns {
        fn restrictions(&self) -> Restrictions {
            Restrictions::parse(&self.required_scopes, &self.allowed_agents).unwrap()
        }

        fn encode(&self) -> Vec<u8> {
            Attributes {
                service: &ServiceName::parse(&self.service).unwrap(),
                credential_type: &CredentialType::parse(&self.credential_type).unwrap(),
                token_expires_at: self
                    .expiry
                    .map(|at| Timestamp::from_millisecond(at).unwrap()),
                metadata: &Metadata::from_stored(&self.metadata).unwrap(),
                restrictions: &self.restrictions(),
            }
            .encode()
        }

        /// The inverse of [`Self::encode`]: where there is one, no two have one encoding.
        fn read(bytes: &[u8]) -> Self {
            let parts = split(bytes);
            let text = |part: &[u8]| String::from_utf8(part.to_vec()).unwrap();
            let texts = |part: &[u8]| split(part).into_iter().map(text).collect();
            let (scopes, agents) = match parts[4..] {
                [] => (Vec::new(), Vec::new()),
                [scopes, agents] => (texts(scopes), texts(agents)),
                _ => panic!("four parts or six"),
            };
            Self {
                service: text(parts[0]),
                credential_type: text(parts[1]),
                expiry: (!parts[2].is_empty())
                    .then(|| i64::from_be_bytes(parts[2].try_into().unwrap())),
                metadata: text(parts[3]),
                required_scopes: scopes,
                allowed_agents: agents,
            }
        }
    }

    fn split(mut bytes: &[u8]) -> Vec<&[u8]> {
        let mut parts = Vec::new();
        while let Some((length, rest)) = bytes.split_first_chunk() {
            let length = u32::from_be_bytes(*length).try_into().unwrap();
            let (part, rest) = rest.split_at(length);
            parts.push(part);
            bytes = rest;
        }
        assert!(bytes.is_empty());
        parts
    }

    /// Of few and short texts, so that two are often nearly the same; what stands twice is taken out.
    fn columns() -> impl Strategy<Value = Columns> {
        let entries = || vec("[ab]{1,2}", 0..3);
        let columns = (
            "[ab]{1,2}",
            "[ab]{1,2}",
            option::of(-1_i64..2),
            "\\{[ab]{0,2}\\}",
        );
        (columns, entries(), entries()).prop_map(|(columns, mut scopes, mut agents)| {
            let (service, credential_type, expiry, metadata) = columns;
            for entries in [&mut scopes, &mut agents] {
                let mut seen = std::collections::HashSet::new();
                entries.retain(|entry| seen.insert(entry.clone()));
            }
            Columns {
                service,
                credential_type,
                expiry,
                metadata,
                required_scopes: scopes,
                allowed_agents: agents,
            }
        })
    }

    #[test]
    fn attributes_without_restrictions_have_the_bytes_that_they_always_had() {
        let columns = Columns {
            service: "github".into(),
            credential_type: "oauth2".into(),
            expiry: None,
            metadata: "{}".into(),
            required_scopes: Vec::new(),
            allowed_agents: Vec::new(),
        };
        let bytes = b"\0\0\0\x06github\0\0\0\x06oauth2\0\0\0\0\0\0\0\x02{}";
        assert_eq!(columns.encode(), bytes);
        let restricted = Columns {
            required_scopes: vec!["a".into(), "bc".into()],
            ..columns
        };
        let more = b"\0\0\0\x0b\0\0\0\x01a\0\0\0\x02bc\0\0\0\0";
        assert_eq!(restricted.encode(), [&bytes[..], more].concat());
    }

    proptest! {
        #[test]
        fn attributes_are_read_again_from_their_bytes(columns in columns()) {
            prop_assert_eq!(Columns::read(&columns.encode()), columns);
        }

        #[test]
        fn no_two_attributes_have_the_same_bytes(one in columns(), two in columns()) {
            prop_assert_eq!(one.encode() == two.encode(), one == two);
        }

        #[test]
        fn no_entry_moves_to_the_other_list_unseen(mut columns in columns(), entry in "[c-e]{1,3}") {
            columns.required_scopes.push(entry);
            let mut moved = columns.clone();
            moved.allowed_agents.extend(moved.required_scopes.pop());
            prop_assert_ne!(columns.encode(), moved.encode());
        }
    }
}
