//! What callers present: raw, unverified, and secret.

use std::fmt;

use zeroize::Zeroizing;

/// An API key as it was presented: 16 to 512 visible ASCII characters, nothing more is known of it.
pub struct ApiKey(Zeroizing<String>);

/// The SHA-256 of an API key: all that is stored of it.
///
/// A fast hash is enough because the keys that the vault mints are 32 random bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKeyHash([u8; 32]);

/// A grant token as it was presented, where its request has it: a copy would have to be wiped. It has no
/// claims to read: only a verifier makes those.
pub struct GrantToken<'a>(&'a str);

/// Why there is no usable `Authorization: Bearer …`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoBearer;

/// Reads the one `Authorization` value of a request: the scheme `Bearer` in any case, one or more
/// spaces, and the rest (RFC 6750, section 2.1).
///
/// # Errors
///
/// When there is none, more than one, or it has another form.
pub fn bearer<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Result<&'a str, NoBearer> {
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(NoBearer);
    };
    let value = std::str::from_utf8(value).map_err(|_| NoBearer)?;
    let (scheme, rest) = value.split_once(' ').ok_or(NoBearer)?;
    let credentials = rest.trim_start_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || credentials.is_empty() {
        return Err(NoBearer);
    }
    Ok(credentials)
}

// === impl ApiKey ===

impl ApiKey {
    /// `None` when it cannot be a key of anybody.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        ((16..=512).contains(&text.len()) && visible).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The key itself, for hashing it and for printing a new one once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

// === impl ApiKeyHash ===

impl ApiKeyHash {
    /// Types a hash that was just made.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ApiKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

// === impl GrantToken ===

impl<'a> GrantToken<'a> {
    /// Any text.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// The token itself, for verifying it.
    #[must_use]
    pub fn expose(&self) -> &'a str {
        self.0
    }
}

impl fmt::Debug for GrantToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<String, NoBearer> {
        bearer(values.iter().map(|value| value.as_bytes())).map(str::to_owned)
    }

    #[test]
    fn the_scheme_is_read_in_any_case_with_any_number_of_spaces() {
        for value in ["Bearer abc", "bearer abc", "BEARER    abc"] {
            assert_eq!(read(&[value]), Ok("abc".to_owned()), "{value}");
        }
    }

    #[test]
    fn anything_but_one_bearer_value_is_none() {
        for values in [
            &[][..],
            &["abc"],
            &["Bearer"],
            &["Bearer "],
            &["Bearer\tabc"],
            &["Basic abc"],
            &["Bearer a", "Bearer a"],
        ] {
            assert_eq!(read(values), Err(NoBearer), "{values:?}");
        }
    }

    #[test]
    fn a_key_is_16_to_512_visible_characters() {
        assert!(ApiKey::parse(&"k".repeat(16)).is_some());
        assert!(ApiKey::parse(&"k".repeat(512)).is_some());
        assert!(ApiKey::parse(&"k".repeat(15)).is_none());
        assert!(ApiKey::parse(&"k".repeat(513)).is_none());
        assert!(ApiKey::parse("has a space in its middle").is_none());
        assert!(ApiKey::parse("ключключключключ").is_none());
    }
}
