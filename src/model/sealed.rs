//! Ciphertext, typed by what it hides.
//!
//! The store moves these and cannot open them; only the envelope can.

use std::{fmt, marker::PhantomData, sync::Arc};

use super::{
    id::WebhookSecretId,
    secret::{AccessToken, RefreshToken, WebhookSecret},
};

/// The stored form of a sealed `T`: versioned bytes, described in `envelope/format.rs`.
pub struct Sealed<T> {
    bytes: Vec<u8>,
    hides: PhantomData<fn() -> T>,
}

/// Which master key wraps a data key: its resolved identity, never an alias or a path.
///
/// For AWS the key ARN, for a local keyring `local:<keyring id>/<version>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MasterKeyId(Arc<str>);

/// A data key as it is stored: wrapped by a master key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WrappedKey {
    /// The key that wraps it.
    pub master_key: MasterKeyId,
    /// Versioned bytes, described in `envelope/format.rs`.
    pub bytes: Vec<u8>,
}

/// Everything of a credential that is secret, at rest.
#[derive(Debug)]
pub struct SealedCredential {
    /// The access token, under the data key.
    pub access_token: Sealed<AccessToken>,
    /// The refresh token, under the data key, apart: an exchange never opens it.
    pub refresh_token: Option<Sealed<RefreshToken>>,
    /// The data key, under the master key.
    pub data_key: WrappedKey,
}

/// A webhook secret at rest.
#[derive(Debug)]
pub struct SealedWebhookSecret {
    /// Which; it opens under no other id.
    pub id: WebhookSecretId,
    /// The secret, under its data key.
    pub secret: Sealed<WebhookSecret>,
    /// The data key, under the master key.
    pub data_key: WrappedKey,
}

// === impl Sealed ===

impl<T> Sealed<T> {
    /// Types bytes that were read from their place or just sealed for it.
    #[must_use]
    pub fn from_stored(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            hides: PhantomData,
        }
    }

    /// The bytes to store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes to open in place.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl<T> Clone for Sealed<T> {
    fn clone(&self) -> Self {
        Self::from_stored(self.bytes.clone())
    }
}

impl<T> fmt::Debug for Sealed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.bytes.len())
    }
}

// === impl MasterKeyId ===

impl MasterKeyId {
    /// Names a master key.
    #[must_use]
    pub fn new(identity: &str) -> Self {
        Self(identity.into())
    }

    /// The identity as it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
