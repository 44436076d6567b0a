//! The developer's own data beside a credential.

use std::fmt;

use thiserror::Error;

use super::json::Json;

/// A JSON object of up to 64 KiB, kept as the compact text that was made of it: its keys come back
/// in the order in which they came.
#[derive(Clone, PartialEq, Eq)]
pub struct Metadata(Box<str>);

/// Why a value cannot be metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MetadataFault {
    /// Something else than an object.
    #[error("must be an object")]
    NotAnObject,
    /// More than [`Metadata::MAX_BYTES`] as compact JSON.
    #[error("must be at most 65536 bytes as JSON")]
    TooLarge,
    /// U+0000 in a string or key, which Postgres' JSON functions cannot read.
    #[error("must not contain NUL characters")]
    Nul,
}

impl Metadata {
    /// The most bytes it may have as compact JSON.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// Takes an object.
    ///
    /// # Errors
    ///
    /// See [`MetadataFault`].
    pub fn new(value: &Json) -> Result<Self, MetadataFault> {
        if !matches!(value, Json::Object(_)) {
            return Err(MetadataFault::NotAnObject);
        }
        if value.any_text(&|text| text.contains('\0')) {
            return Err(MetadataFault::Nul);
        }
        let text = value.to_compact();
        if text.len() > Self::MAX_BYTES {
            return Err(MetadataFault::TooLarge);
        }
        Ok(Self(text.into()))
    }

    /// Types text that was read from its column, which holds JSON; `None` when that is no object.
    /// Whether it is what was stored, the envelope checks when it opens the credential.
    #[must_use]
    pub fn from_stored(text: &str) -> Option<Self> {
        text.trim_start()
            .starts_with('{')
            .then(|| Self(text.into()))
    }

    /// The compact JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Metadata {
    fn default() -> Self {
        Self("{}".into())
    }
}

impl fmt::Debug for Metadata {
    // Developers put what they like in here: it is nobody's business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metadata({} bytes)", self.0.len())
    }
}
