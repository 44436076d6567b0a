//! The developer's own data beside a credential.

use std::fmt;

use thiserror::Error;

use super::json::Json;

/// A JSON object of up to 64 KiB and 32 levels, kept as the compact text that was made of it: its keys
/// come back in the order in which they came.
#[derive(Clone, PartialEq, Eq)]
pub struct Metadata(Box<str>);

/// Why a value cannot be metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MetadataFault {
    /// Something else than an object.
    #[error("must be an object")]
    NotAnObject,
    /// Nested deeper than [`Metadata::MAX_DEPTH`].
    #[error("must be nested at most 32 levels deep")]
    TooDeep,
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

    /// The most levels of objects and arrays, itself the first.
    ///
    /// Decoders of protobuf stop at 100 nested messages. A level of objects is three of them, and an answer
    /// is one more: what is nested any deeper could be stored over REST and be read by no client of gRPC.
    pub const MAX_DEPTH: usize = 32;

    /// Takes an object.
    ///
    /// # Errors
    ///
    /// See [`MetadataFault`].
    pub fn new(value: &Json) -> Result<Self, MetadataFault> {
        if !matches!(value, Json::Object(_)) {
            return Err(MetadataFault::NotAnObject);
        }
        if value.depth() > Self::MAX_DEPTH {
            return Err(MetadataFault::TooDeep);
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

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    /// A value of so many levels around a scalar, objects and arrays by turns.
    fn nested(levels: usize) -> String {
        let around = |inner: String, level: usize| {
            if level.is_multiple_of(2) {
                format!(r#"{{"a":{inner}}}"#)
            } else {
                format!("[{inner}]")
            }
        };
        (0..levels).rev().fold("1".to_owned(), around)
    }

    fn of(text: &str) -> Result<Metadata, MetadataFault> {
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        Metadata::new(&Json::parse_member(raw).unwrap())
    }

    #[test]
    fn thirty_two_levels_are_taken_and_one_more_is_refused() {
        for levels in [1, 2, 31, 32] {
            assert_eq!(of(&nested(levels)).unwrap().as_str(), nested(levels));
        }
        for levels in [33, 34, 63] {
            assert_eq!(of(&nested(levels)), Err(MetadataFault::TooDeep), "{levels}");
        }
        // What is empty is a level all the same, wherever it stands.
        let beside = |levels: usize| {
            let deep = format!("{}{}", "[".repeat(levels - 1), "]".repeat(levels - 1));
            format!(r#"{{"a":[],"b":{deep},"c":{{}}}}"#)
        };
        assert!(of(&beside(32)).is_ok());
        assert_eq!(of(&beside(33)), Err(MetadataFault::TooDeep));
    }
}
