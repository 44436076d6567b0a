//! The key that signs the seals of the audit record: Ed25519 (RFC 8032), its private half wrapped by the
//! master key as every data key is.

use std::fmt;

use aws_lc_rs::{
    digest::{self, SHA256},
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use thiserror::Error;

use super::data_key::{DataKey, FreshDataKey};
use crate::model::sealed::WrappedKey;

/// The bytes of a public key.
pub const PUBLIC_KEY_BYTES: usize = 32;
/// The bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// What stands before the key in a SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
const PEM_BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const PEM_END: &str = "-----END PUBLIC KEY-----";

/// A private key in memory.
pub struct SigningKey(Ed25519KeyPair);

/// Its public half: whoever has it can verify, offline.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; PUBLIC_KEY_BYTES]);

/// The text is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not an Ed25519 public key in PEM")]
pub struct NotAPublicKey;

// === impl SigningKey ===

impl SigningKey {
    /// The key whose seed is a data key: 32 bytes that a master key made or wrapped.
    #[must_use]
    pub fn from_data_key(key: &DataKey) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(key.expose());
        Self(pair.expect("any 32 bytes are a seed"))
    }

    /// A new key, from a data key that has sealed nothing and never will.
    #[must_use]
    pub fn from_fresh(fresh: FreshDataKey) -> (Self, WrappedKey) {
        let (key, wrapped) = fresh.into_parts();
        (Self::from_data_key(&key), wrapped)
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        let bytes = self.0.public_key().as_ref();
        PublicKey::from_bytes(bytes).expect("an Ed25519 public key has 32 bytes")
    }

    /// Signs a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut signature = [0; SIGNATURE_BYTES];
        signature.copy_from_slice(self.0.sign(message).as_ref());
        signature
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

// === impl PublicKey ===

impl PublicKey {
    /// Takes the bytes of a key; `None` when there are not [`PUBLIC_KEY_BYTES`] of them.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; PUBLIC_KEY_BYTES] {
        &self.0
    }

    /// What seals name it by: the SHA-256 of its bytes.
    #[must_use]
    pub fn id(&self) -> [u8; 32] {
        let hash = digest::digest(&SHA256, &self.0);
        hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// Whether the signature is this key's, of this message.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, &self.0);
        key.verify(message, signature).is_ok()
    }

    /// As PEM (RFC 7468, section 13), which openssl reads too.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let encoded = STANDARD.encode([&SPKI_PREFIX[..], &self.0].concat());
        format!("{PEM_BEGIN}\n{encoded}\n{PEM_END}\n")
    }

    /// Reads what [`Self::to_pem`] writes.
    ///
    /// # Errors
    ///
    /// When it is anything else.
    pub fn from_pem(text: &str) -> Result<Self, NotAPublicKey> {
        let text = text.trim();
        let body = text.strip_prefix(PEM_BEGIN);
        let body = body.and_then(|rest| rest.strip_suffix(PEM_END));
        let encoded: String = body.ok_or(NotAPublicKey)?.split_whitespace().collect();
        let bytes = STANDARD.decode(encoded).map_err(|_| NotAPublicKey)?;
        let key = bytes.strip_prefix(&SPKI_PREFIX).ok_or(NotAPublicKey)?;
        Self::from_bytes(key).ok_or(NotAPublicKey)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", STANDARD.encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_data_key(&DataKey::from_bytes(&[byte; 32]).unwrap())
    }

    /// RFC 8032, section 7.1, test 2.
    #[test]
    fn it_signs_as_the_rfc_says() {
        let hex = |text: &str| -> Vec<u8> {
            let digits = text.as_bytes().chunks(2);
            let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
            digits.map(byte).collect()
        };
        let seed = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let key = SigningKey::from_data_key(&DataKey::from_bytes(&seed).unwrap());
        let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        assert_eq!(key.public_key().as_bytes()[..], hex(public));
        let signature = concat!(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da",
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        );
        assert_eq!(key.sign(&[0x72])[..], hex(signature));
    }

    #[test]
    fn another_key_or_message_or_signature_does_not_verify() {
        let (one, two) = (key(1), key(2));
        let signature = one.sign(b"message");
        assert!(one.public_key().verifies(b"message", &signature));
        assert!(!two.public_key().verifies(b"message", &signature));
        assert!(!one.public_key().verifies(b"massage", &signature));
        assert!(!one.public_key().verifies(b"message", &signature[1..]));
        assert_ne!(one.public_key().id(), two.public_key().id());
        assert_eq!(format!("{one:?}"), "[redacted]");
    }

    #[test]
    fn pem_leads_back_to_the_key_and_anything_else_to_none() {
        let public = key(1).public_key();
        let pem = public.to_pem();
        assert_eq!(PublicKey::from_pem(&pem), Ok(public));
        assert_eq!(PublicKey::from_pem(&pem.replace('\n', "\r\n")), Ok(public));
        for wrong in [
            "",
            "x",
            &pem.replace("PUBLIC", "PRIVATE"),
            &pem.replace("MCow", "MCox"),
        ] {
            assert_eq!(PublicKey::from_pem(wrong), Err(NotAPublicKey), "{wrong}");
        }
    }
}
