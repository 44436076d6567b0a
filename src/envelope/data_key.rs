//! Data keys: one a store, AES-256-GCM, used to seal once.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{
    context::{Attributes, Place},
    format::{self, Field, NONCE_BYTES, TAG_BYTES},
};
use crate::model::{
    sealed::{Sealed, SealedCredential, WrappedKey},
    secret::{AccessToken, RefreshToken},
};

/// The bytes of a data key.
pub const KEY_BYTES: usize = 32;

/// A data key in memory. It opens; only a [`FreshDataKey`] seals.
pub struct DataKey(Zeroizing<[u8; KEY_BYTES]>);

/// A data key that has not sealed anything yet. Sealing consumes it, so that a key never seals two
/// credentials.
#[derive(Debug)]
pub struct FreshDataKey {
    key: DataKey,
    wrapped: WrappedKey,
}

/// What of a stored credential does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DoesNotOpen {
    /// The bytes have no known format.
    #[error("unknown format of the stored bytes")]
    Format,
    /// The ciphertext, its place or the columns beside it are not those of the sealing.
    #[error("ciphertext, place or attributes are not those that were sealed")]
    Ciphertext,
    /// The master key did not make this wrapped data key for this place.
    #[error("the data key was not wrapped for this place by its master key")]
    DataKey,
    /// It opened to something that is no token.
    #[error("the opened bytes are not a token")]
    Plaintext,
}

// === impl DataKey ===

impl DataKey {
    /// Takes key bytes over; `None` when they are not [`KEY_BYTES`] long.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        if bytes.len() != KEY_BYTES {
            return None;
        }
        key.copy_from_slice(bytes);
        Some(Self(key))
    }

    /// A random key.
    #[must_use]
    pub fn make() -> Self {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        aws_lc_rs::rand::fill(key.as_mut()).expect("the operating system has randomness");
        Self(key)
    }

    /// The key bytes, for wrapping them.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Opens an access token.
    ///
    /// # Errors
    ///
    /// When key, place, attributes or bytes are not those of the sealing.
    pub fn open_access_token(
        &self,
        place: &Place,
        attributes: &Attributes<'_>,
        sealed: Sealed<AccessToken>,
    ) -> Result<AccessToken, DoesNotOpen> {
        let text = self.open(Field::AccessToken, place, attributes, sealed)?;
        AccessToken::new(text).ok_or(DoesNotOpen::Plaintext)
    }

    /// Opens a refresh token. No exchange does: it is for verifying and re-encrypting.
    ///
    /// # Errors
    ///
    /// When key, place, attributes or bytes are not those of the sealing.
    pub fn open_refresh_token(
        &self,
        place: &Place,
        attributes: &Attributes<'_>,
        sealed: Sealed<RefreshToken>,
    ) -> Result<RefreshToken, DoesNotOpen> {
        let text = self.open(Field::RefreshToken, place, attributes, sealed)?;
        RefreshToken::new(text).ok_or(DoesNotOpen::Plaintext)
    }

    /// `version | nonce | ciphertext | tag`.
    pub(super) fn encrypt(&self, additional_data: &[u8], plaintext: &[u8]) -> Vec<u8> {
        // Room for the tag from the start: growing would leave a copy of the plaintext behind.
        let mut body = Zeroizing::new(Vec::with_capacity(plaintext.len() + TAG_BYTES));
        body.extend_from_slice(plaintext);
        let nonce = self
            .cipher()
            .seal_in_place_append_tag(Aad::from(additional_data), &mut *body)
            .expect("tokens are far below the limit of GCM");
        format::versioned(&[nonce.as_ref().as_slice(), &body].concat())
    }

    /// The plaintext of what [`Self::encrypt`] made with the same additional data.
    pub(super) fn decrypt(
        &self,
        additional_data: &[u8],
        bytes: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, DoesNotOpen> {
        let body = format::unversioned(bytes).ok_or(DoesNotOpen::Format)?;
        let (nonce, ciphertext) = body
            .split_at_checked(NONCE_BYTES)
            .ok_or(DoesNotOpen::Format)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| DoesNotOpen::Format)?;
        let mut buffer = Zeroizing::new(ciphertext.to_vec());
        let length = self
            .cipher()
            .open_in_place(nonce, Aad::from(additional_data), &mut buffer)
            .map_err(|_| DoesNotOpen::Ciphertext)?
            .len();
        buffer.truncate(length);
        Ok(buffer)
    }

    fn open<T>(
        &self,
        field: Field,
        place: &Place,
        attributes: &Attributes<'_>,
        sealed: Sealed<T>,
    ) -> Result<Zeroizing<String>, DoesNotOpen> {
        let additional_data = place.additional_data(field, attributes);
        let mut plaintext = self.decrypt(&additional_data, &sealed.into_bytes())?;
        let text = String::from_utf8(std::mem::take(&mut plaintext));
        text.map(Zeroizing::new).map_err(|fault| {
            drop(Zeroizing::new(fault.into_bytes()));
            DoesNotOpen::Plaintext
        })
    }

    fn cipher(&self) -> RandomizedNonceKey {
        RandomizedNonceKey::new(&AES_256_GCM, self.0.as_ref()).expect("the key has 32 bytes")
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

// === impl FreshDataKey ===

impl FreshDataKey {
    /// A key that was just generated, with its wrapped form.
    #[must_use]
    pub fn new(key: DataKey, wrapped: WrappedKey) -> Self {
        Self { key, wrapped }
    }

    /// The key itself, for a use that is not sealing.
    pub(super) fn into_parts(self) -> (DataKey, WrappedKey) {
        (self.key, self.wrapped)
    }

    /// Seals a credential's fields, each apart, for their place and beside their attributes. The key
    /// that comes back opens them and seals no more.
    #[must_use]
    pub fn seal(
        self,
        place: &Place,
        attributes: &Attributes<'_>,
        access_token: &AccessToken,
        refresh_token: Option<&RefreshToken>,
    ) -> (SealedCredential, DataKey) {
        let Self { key, wrapped } = self;
        let seal = |field, text: &str| {
            key.encrypt(&place.additional_data(field, attributes), text.as_bytes())
        };
        let sealed = SealedCredential {
            access_token: Sealed::from_stored(seal(Field::AccessToken, access_token.expose())),
            refresh_token: refresh_token
                .map(|token| Sealed::from_stored(seal(Field::RefreshToken, token.expose()))),
            data_key: wrapped,
        };
        (sealed, key)
    }

    /// The wrapped form.
    #[must_use]
    pub fn wrapped(&self) -> &WrappedKey {
        &self.wrapped
    }

    /// The key itself.
    #[must_use]
    pub fn key(&self) -> &DataKey {
        &self.key
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{
        metadata::Metadata,
        restrictions::Restrictions,
        sealed::MasterKeyId,
        service_name::ServiceName,
        text::{CredentialType, DeveloperId, PrincipalId},
        timestamp::Timestamp,
    };

    #[derive(Debug, Clone)]
    struct Row {
        developer: String,
        principal: String,
        service: String,
        credential_type: String,
        expiry: Option<i64>,
        metadata: String,
        required_scopes: Vec<String>,
        allowed_agents: Vec<String>,
    }

    impl Row {
        fn place(&self) -> Place {
            Place {
                developer: DeveloperId::parse(&self.developer).unwrap(),
                principal: PrincipalId::parse(&self.principal).unwrap(),
                service: ServiceName::parse(&self.service).unwrap().key().clone(),
            }
        }

        fn with_attributes<T>(&self, use_them: impl FnOnce(&Attributes<'_>) -> T) -> T {
            use_them(&Attributes {
                service: &ServiceName::parse(&self.service).unwrap(),
                credential_type: &CredentialType::parse(&self.credential_type).unwrap(),
                token_expires_at: self
                    .expiry
                    .map(|at| Timestamp::from_millisecond(at).unwrap()),
                metadata: &Metadata::from_stored(&self.metadata).unwrap(),
                restrictions: &self.restrictions(),
            })
        }

        fn restrictions(&self) -> Restrictions {
            Restrictions::parse(&self.required_scopes, &self.allowed_agents).unwrap()
        }

        fn seal(&self, key: [u8; 32], access: &str, refresh: &str) -> SealedCredential {
            let wrapped = WrappedKey {
                master_key: MasterKeyId::new("test"),
                bytes: Vec::new(),
            };
            let fresh = FreshDataKey::new(DataKey::from_bytes(&key).unwrap(), wrapped);
            let access = AccessToken::new(Zeroizing::new(access.to_owned())).unwrap();
            let refresh = RefreshToken::new(Zeroizing::new(refresh.to_owned())).unwrap();
            self.with_attributes(|attributes| {
                fresh
                    .seal(&self.place(), attributes, &access, Some(&refresh))
                    .0
            })
        }

        fn open(&self, key: [u8; 32], bytes: &[u8]) -> Result<String, DoesNotOpen> {
            let key = DataKey::from_bytes(&key).unwrap();
            self.with_attributes(|attributes| {
                let sealed = Sealed::from_stored(bytes.to_vec());
                key.open_access_token(&self.place(), attributes, sealed)
                    .map(|token| token.expose().to_owned())
            })
        }
    }

    prop_compose! {
        fn row()(
            developer in "[a-z]{1,8}", principal in "[a-z@.]{1,8}", service in "[a-zA-Z0-9]{1,8}",
            credential_type in "[a-z0-9]{1,8}", expiry in proptest::option::of(0_i64..9_999_999_999_999),
            metadata in "\\{[a-z\":,]{0,8}\\}",
            required_scopes in proptest::collection::vec("[a-z:]{1,8}", 0..4),
            allowed_agents in proptest::collection::vec("[a-z:]{1,8}", 0..4),
        ) -> Row {
            Row {
                developer, principal, service, credential_type, expiry, metadata, required_scopes,
                allowed_agents,
            }
        }
    }

    proptest! {
        #[test]
        fn open_of_seal_is_identity(row in row(), key: [u8; 32], access in ".{1,100}") {
            let sealed = row.seal(key, &access, "refresh");
            prop_assert_eq!(row.open(key, sealed.access_token.as_bytes()), Ok(access));
        }

        #[test]
        fn any_flipped_bit_is_noticed(row in row(), key: [u8; 32], access in ".{1,20}", at: usize, bit in 0_u32..8) {
            let mut bytes = row.seal(key, &access, "refresh").access_token.into_bytes();
            let at = at % bytes.len();
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(row.open(key, &bytes).is_err());
        }

        #[test]
        fn any_cut_is_noticed(row in row(), key: [u8; 32], cut in 0_usize..34) {
            let bytes = row.seal(key, "token", "refresh").access_token.into_bytes();
            prop_assert!(row.open(key, &bytes[..cut]).is_err());
        }

        #[test]
        fn a_refresh_token_does_not_open_as_an_access_token(row in row(), key: [u8; 32]) {
            let sealed = row.seal(key, "token", "refresh").refresh_token.unwrap();
            prop_assert_eq!(row.open(key, sealed.as_bytes()), Err(DoesNotOpen::Ciphertext));
        }

        #[test]
        fn it_opens_in_no_other_place_and_beside_no_other_attributes(
            row in row(), other in row(), key: [u8; 32], column in 0..8
        ) {
            let sealed = row.seal(key, "token", "refresh").access_token;
            let mut changed = row.clone();
            match column {
                0 => changed.developer = other.developer,
                1 => changed.principal = other.principal,
                2 => changed.service = other.service,
                3 => changed.credential_type = other.credential_type,
                4 => changed.expiry = other.expiry,
                5 => changed.metadata = other.metadata,
                6 => changed.required_scopes = other.required_scopes,
                _ => changed.allowed_agents = other.allowed_agents,
            }
            prop_assume!(format!("{changed:?}") != format!("{row:?}"));
            prop_assume!(column < 6 || changed.restrictions() != row.restrictions());
            prop_assert_eq!(changed.open(key, sealed.as_bytes()), Err(DoesNotOpen::Ciphertext));
        }

        #[test]
        fn moving_a_border_between_two_columns_is_noticed(
            text in "[a-z]{2,10}", one in 1_usize..10, two in 1_usize..10, key: [u8; 32]
        ) {
            let (one, two) = (one.min(text.len() - 1), two.min(text.len() - 1));
            prop_assume!(one != two);
            let split = |at: usize| Row {
                developer: text[..at].into(), principal: text[at..].into(), service: "github".into(),
                credential_type: "oauth2".into(), expiry: None, metadata: "{}".into(), required_scopes: Vec::new(),
                allowed_agents: Vec::new(),
            };
            let sealed = split(one).seal(key, "token", "refresh").access_token;
            prop_assert!(split(two).open(key, sealed.as_bytes()).is_err());
        }
    }
}
