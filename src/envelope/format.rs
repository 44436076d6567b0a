//! The stored bytes. Frozen vectors of every version stand in `tests/vectors/` and open for ever.
//!
//! ```text
//! sealed field   version (1 byte) | nonce (12) | AES-256-GCM ciphertext | tag (16)
//! wrapped key    version (1 byte) | what the master key made of the data key
//!                for a local keyring: nonce (12) | AES-256-GCM ciphertext (32) | tag (16)
//!                for AWS KMS: the CiphertextBlob
//! ```

/// The version that is written.
pub const VERSION: u8 = 1;

/// The bytes of a GCM nonce.
pub const NONCE_BYTES: usize = 12;

/// The bytes of a GCM tag.
pub const TAG_BYTES: usize = 16;

/// The sealed fields of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// What an exchange opens.
    AccessToken,
    /// What no exchange opens.
    RefreshToken,
}

impl Field {
    /// The name in the additional authenticated data.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::RefreshToken => "refresh_token",
        }
    }
}

/// Puts the version before bytes that some version describes.
#[must_use]
pub fn versioned(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + body.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(body);
    bytes
}

/// The bytes behind the version; `None` when the version is unknown.
#[must_use]
pub fn unversioned(bytes: &[u8]) -> Option<&[u8]> {
    let (version, body) = bytes.split_first()?;
    (*version == VERSION).then_some(body)
}
