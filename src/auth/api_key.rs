//! API keys: made once, stored as a hash.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::model::{
    bearer::{ApiKey, ApiKeyHash},
    timestamp::Timestamp,
};

/// What a minted key is for; it shows in its prefix and means nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `gx_live_…`
    Live,
    /// `gx_test_…`
    Test,
}

/// Characters of a key that are kept in clear, so that people can tell their keys apart: the prefix
/// and four of 43 random ones.
const SHOWN_CHARS: usize = 12;

/// A new key: 32 random bytes, base64url, after the prefix of its mode.
#[must_use]
pub fn make(mode: Mode) -> ApiKey {
    let mut random = Zeroizing::new([0_u8; 32]);
    getrandom::fill(random.as_mut()).expect("the operating system has randomness");
    let prefix = match mode {
        Mode::Live => "gx_live_",
        Mode::Test => "gx_test_",
    };
    let mut text = Zeroizing::new(String::with_capacity(64));
    let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(random.as_ref()));
    write!(text, "{prefix}{}", *encoded).expect("a string takes what is written");
    ApiKey::parse(&text).expect("prefix and base64url are visible characters")
}

/// What is stored of a key, and looked up.
#[must_use]
pub fn hash(key: &ApiKey) -> ApiKeyHash {
    ApiKeyHash::from_bytes(Sha256::digest(key.expose()).into())
}

/// The part of a key that may be shown.
#[must_use]
pub fn shown_prefix(key: &ApiKey) -> String {
    key.expose().chars().take(SHOWN_CHARS).collect()
}

/// Whether a key that was found still admits its owner.
#[must_use]
pub fn admits(
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    revoked_at.is_none() && expires_at.is_none_or(|expiry| now < expiry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_key_has_32_random_bytes_behind_its_prefix() {
        let key = make(Mode::Live);
        let random = key.expose().strip_prefix("gx_live_").unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(random).unwrap().len(), 32);
        assert_ne!(key.expose(), make(Mode::Live).expose());
        assert!(make(Mode::Test).expose().starts_with("gx_test_"));
    }

    #[test]
    fn expired_and_revoked_keys_do_not_admit() {
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        assert!(admits(None, None, at(5)));
        assert!(admits(Some(at(6)), None, at(5)));
        assert!(!admits(Some(at(5)), None, at(5)));
        assert!(
            !admits(None, Some(at(9)), at(5)),
            "whatever the clock of whoever revoked it said"
        );
    }
}
