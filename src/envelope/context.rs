//! What a ciphertext is bound to: its place, and the columns beside it.

use std::collections::HashMap;

use aws_lc_rs::digest::{self, SHA256};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::format::{Field, VERSION};
use crate::model::{
    metadata::Metadata,
    service_name::{ServiceKey, ServiceName},
    text::{CredentialType, DeveloperId, PrincipalId},
    timestamp::Timestamp,
};

/// Where a credential belongs. On exchange it comes from the grant, never from the row: a row that
/// was re-labelled in the database does not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The tenant.
    pub developer: DeveloperId,
    /// The end user.
    pub principal: PrincipalId,
    /// The service, by the key it compares by.
    pub service: ServiceKey,
}

/// The columns that go out beside the access token. They are sealed with it, so that whoever can
/// write the table cannot change what an agent is told about a token.
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
}

// === impl Place ===

impl Place {
    /// The context of this place's data keys.
    #[must_use]
    pub fn kms_context(&self) -> KmsContext {
        let mut bytes = Vec::new();
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
        let mut bytes = vec![VERSION];
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
        let expiry = self
            .token_expires_at
            .map(|expiry| expiry.as_millisecond().to_be_bytes());
        let mut bytes = Vec::new();
        push(&mut bytes, self.service.as_str().as_bytes());
        push(&mut bytes, self.credential_type.as_str().as_bytes());
        // No expiry is the empty string, an expiry always eight bytes.
        push(
            &mut bytes,
            expiry.as_ref().map_or(&[][..], |bytes| &bytes[..]),
        );
        push(&mut bytes, self.metadata.as_str().as_bytes());
        digest::digest(&SHA256, &bytes)
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

/// Appends a part with its length before it, as 32 bits big-endian.
pub(super) fn push(bytes: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).expect("every part is bounded far below 4 GiB");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(part);
}
