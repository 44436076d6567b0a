//! The name of an upstream service, and the key by which it is compared.

use std::{fmt, sync::Arc};

use thiserror::Error;

/// The service that a credential is for, as it was spelled: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
///
/// It compares by [`ServiceKey`]; the spelling is only shown.
#[derive(Debug, Clone)]
pub struct ServiceName {
    spelling: Arc<str>,
    key: ServiceKey,
}

/// The ASCII-lower-cased service name: what stands in the unique key, the lookups, the additional
/// authenticated data and the KMS context. It is computed here only, never by SQL's `lower`, which
/// depends on the database's locale.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceKey(Arc<str>);

/// The text is not a service name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "service must be 1-64 characters and contain only letters, numbers, dot, underscore, or dash"
)]
pub struct NotAServiceName;

impl ServiceName {
    const MAX_BYTES: usize = 64;

    /// Parses a service name.
    ///
    /// # Errors
    ///
    /// When the text has another form.
    pub fn parse(text: &str) -> Result<Self, NotAServiceName> {
        let [first, rest @ ..] = text.as_bytes() else {
            return Err(NotAServiceName);
        };
        let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
        if text.len() > Self::MAX_BYTES || !first.is_ascii_alphanumeric() || !rest.iter().all(inner)
        {
            return Err(NotAServiceName);
        }
        let key = ServiceKey(text.to_ascii_lowercase().into());
        Ok(Self {
            spelling: text.into(),
            key,
        })
    }

    /// The name as it was spelled.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.spelling
    }

    /// What it compares by.
    #[must_use]
    pub fn key(&self) -> &ServiceKey {
        &self.key
    }
}

// === impl ServiceKey ===

impl ServiceKey {
    /// The key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spelling)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_name_keeps_its_spelling_and_compares_without_case(text in "[A-Za-z0-9][A-Za-z0-9._-]{0,63}") {
            let name = ServiceName::parse(&text).unwrap();
            prop_assert_eq!(name.as_str(), text.as_str());
            let upper = ServiceName::parse(&text.to_ascii_uppercase()).unwrap();
            prop_assert_eq!(name.key(), upper.key());
        }

        #[test]
        fn nothing_else_is_a_name(text in ".{0,70}") {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            let well_formed = (1..=64).contains(&text.len())
                && text.chars().all(allowed)
                && text.starts_with(|c: char| c.is_ascii_alphanumeric());
            prop_assert_eq!(ServiceName::parse(&text).is_ok(), well_formed);
        }
    }

    #[test]
    fn the_kelvin_sign_is_not_a_k() {
        assert!(ServiceName::parse("\u{212a}").is_err());
    }
}
