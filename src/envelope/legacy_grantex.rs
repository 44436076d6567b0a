//! What the TypeScript vault stored, opened with its one key: for moving in, and for nothing else.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use thiserror::Error;
use zeroize::Zeroizing;

use super::format::{NONCE_BYTES, TAG_BYTES};
use crate::model::secret::{AccessToken, MAX_TOKEN_BYTES, RefreshToken};

const KEY_BYTES: usize = 32;

/// The longest stored form of a token within our limits.
pub const MAX_STORED_CHARS: usize = (NONCE_BYTES + TAG_BYTES + MAX_TOKEN_BYTES).div_ceil(3) * 4;

/// As Node reads base64: with or without padding, whatever the loose last bits are.
const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);

/// The key under which the TypeScript vault encrypted everything.
pub struct LegacyKey(Zeroizing<[u8; KEY_BYTES]>);

/// Why a stored value cannot be taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LegacyFault {
    /// Another alphabet, or cut off within a group of four.
    #[error("is not base64")]
    NotBase64,
    /// Not even IV and tag.
    #[error("is truncated: it is shorter than an IV and a tag")]
    TooShort,
    /// GCM cannot tell one from the other.
    #[error("does not decrypt: another key encrypted it, or it was truncated or changed")]
    DoesNotDecrypt,
    /// It decrypts to something that is no text.
    #[error("is not UTF-8 when it is decrypted")]
    NotText,
    /// It decrypts to nothing.
    #[error("is empty when it is decrypted")]
    Empty,
    /// More than we keep.
    #[error("is larger than {MAX_TOKEN_BYTES} bytes")]
    TooLarge,
}

// === impl LegacyKey ===

impl LegacyKey {
    /// Reads 64 hexadecimal digits, or base64 of 32 bytes with or without its padding.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        from_hex(text).or_else(|| from_base64(text)).map(Self)
    }

    /// Opens an access token.
    ///
    /// # Errors
    ///
    /// See [`LegacyFault`].
    pub fn open_access_token(&self, stored: &str) -> Result<AccessToken, LegacyFault> {
        let text = self.open(stored)?;
        if text.is_empty() {
            return Err(LegacyFault::Empty);
        }
        AccessToken::new(text).ok_or(LegacyFault::TooLarge)
    }

    /// Opens a refresh token; an empty one is none.
    ///
    /// # Errors
    ///
    /// See [`LegacyFault`].
    pub fn open_refresh_token(&self, stored: &str) -> Result<Option<RefreshToken>, LegacyFault> {
        let text = self.open(stored)?;
        if text.is_empty() {
            return Ok(None);
        }
        RefreshToken::new(text)
            .map(Some)
            .ok_or(LegacyFault::TooLarge)
    }

    /// Base64 of `IV | tag | ciphertext`, without additional data.
    fn open(&self, stored: &str) -> Result<Zeroizing<String>, LegacyFault> {
        if stored.len() > MAX_STORED_CHARS {
            return Err(LegacyFault::TooLarge);
        }
        let bytes = BASE64.decode(stored).map_err(|_| LegacyFault::NotBase64)?;
        let (nonce, rest) = bytes
            .split_at_checked(NONCE_BYTES)
            .ok_or(LegacyFault::TooShort)?;
        let (tag, ciphertext) = rest
            .split_at_checked(TAG_BYTES)
            .ok_or(LegacyFault::TooShort)?;
        let nonce =
            Nonce::try_assume_unique_for_key(nonce).map_err(|_| LegacyFault::DoesNotDecrypt)?;
        // Decrypted in place, in memory that is wiped; the tag comes last here.
        let mut buffer = Zeroizing::new([ciphertext, tag].concat());
        let length = RandomizedNonceKey::new(&AES_256_GCM, self.0.as_ref())
            .expect("the key has 32 bytes")
            .open_in_place(nonce, Aad::empty(), &mut buffer)
            .map_err(|_| LegacyFault::DoesNotDecrypt)?
            .len();
        buffer.truncate(length);
        let text = String::from_utf8(std::mem::take(&mut buffer));
        text.map(Zeroizing::new).map_err(|fault| {
            drop(Zeroizing::new(fault.into_bytes()));
            LegacyFault::NotText
        })
    }
}

impl fmt::Debug for LegacyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

fn from_hex(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    if text.len() != 2 * KEY_BYTES {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?;
    }
    Some(key)
}

fn from_base64(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let decode = |engine: &GeneralPurpose| engine.decode(text).ok();
    let bytes = Zeroizing::new(decode(&BASE64).or_else(|| decode(&BASE64_URL))?);
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    (bytes.len() == KEY_BYTES).then(|| key.copy_from_slice(&bytes))?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;

    /// Encrypted by the TypeScript vault under the key 000102…1e1f.
    const VECTORS: [(&str, &str); 4] = [
        ("hello", "Hie+GdXQ6Y/kGuaWwOZZfn5GjjqWB/fqLlyUTdNP/NFJ"),
        (
            "ghp_xxxxxxxxxxxx",
            "JI3QyDbw2aUs8CtUtOFwKhuWTjRJgzpo3w2Fa+ZNJey2ih1TMtpJldT7ffA=",
        ),
        (
            "tök✓😀",
            "Fyh2S5grazJr2+bEKabHAYSIzdNNhgVZNvsT7j3Erdnso+JDUjCw",
        ),
        ("a\0b", "UfyoMptkpFbmcR8gSgo9xp9IF8K3fkjo+6vRSdgZOA=="),
    ];
    const EMPTY: &str = "FEYg/VNNQN8BuSFhc/+BxHhwAAO3+zOQviPttQ==";

    fn key() -> LegacyKey {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        for (byte, value) in bytes.iter_mut().zip(0..) {
            *byte = value;
        }
        LegacyKey(bytes)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    #[test]
    fn what_the_typescript_vault_stored_opens() {
        for (token, stored) in VECTORS {
            let opened = key().open_access_token(stored).unwrap();
            assert_eq!(opened.expose(), token);
            let opened = key().open_refresh_token(stored).unwrap().unwrap();
            assert_eq!(opened.expose(), token);
            let unpadded = stored.trim_end_matches('=');
            assert!(key().open_access_token(unpadded).is_ok(), "{token}");
        }
        let empty = key().open_access_token(EMPTY).unwrap_err();
        assert_eq!(empty, LegacyFault::Empty);
        assert!(key().open_refresh_token(EMPTY).unwrap().is_none());
    }

    #[test]
    fn what_is_cut_off_or_changed_is_told_apart_as_far_as_it_can_be() {
        let stored = VECTORS[1].1;
        for (stored, fault) in [
            ("", LegacyFault::TooShort),
            (&stored[..36], LegacyFault::TooShort),
            (&stored[..40], LegacyFault::DoesNotDecrypt),
            (&stored[..37], LegacyFault::NotBase64),
            ("not base64!", LegacyFault::NotBase64),
            (&"A".repeat(MAX_STORED_CHARS + 4), LegacyFault::TooLarge),
        ] {
            assert_eq!(key().open_access_token(stored).unwrap_err(), fault);
        }
        let other = LegacyKey::parse(&"0".repeat(64)).unwrap();
        let fault = other.open_access_token(stored).unwrap_err();
        assert_eq!(fault, LegacyFault::DoesNotDecrypt);
    }

    #[test]
    fn what_is_no_key_is_refused_and_none_is_shown() {
        for text in [
            "",
            "canary",
            &"0".repeat(63),
            &"+0".repeat(32),
            &"g".repeat(64),
            &BASE64.encode([7; 31]),
            &BASE64.encode([7; 33]),
        ] {
            assert!(LegacyKey::parse(text).is_none(), "{text}");
        }
        assert_eq!(format!("{:?}", key()), "[redacted]");
    }

    proptest! {
        #[test]
        fn a_key_is_read_in_every_spelling(bytes in any::<[u8; 32]>()) {
            let padded = BASE64.encode(bytes);
            let spellings = [
                hex(&bytes),
                hex(&bytes).to_uppercase(),
                padded.trim_end_matches('=').to_owned(),
                BASE64_URL.encode(bytes),
                format!(" {padded}\n"),
                padded,
            ];
            for text in spellings {
                let read = LegacyKey::parse(&text);
                prop_assert_eq!(read.map(|key| *key.0), Some(bytes), "{}", text);
            }
        }

        #[test]
        fn a_flipped_bit_never_opens(at in 0_usize..44, bit in 0_u8..8) {
            let mut bytes = BASE64.decode(VECTORS[1].1).unwrap();
            bytes[at] ^= 1 << bit;
            let opened = key().open_access_token(&BASE64.encode(bytes));
            prop_assert_eq!(opened.unwrap_err(), LegacyFault::DoesNotDecrypt);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}") {
            let _ = key().open_access_token(&text);
            let _ = LegacyKey::parse(&text);
        }
    }
}
