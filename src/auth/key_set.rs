//! A JSON Web Key Set (RFC 7517): which of its keys verify grant tokens, and by which algorithm.

use std::{collections::HashMap, fmt, ops::RangeInclusive, str::FromStr, sync::Arc};

use aws_lc_rs::{
    digest::{Context, SHA256},
    signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

/// The most keys that are kept of a set.
const MAX_KEYS: usize = 100;
/// The longest `kid` that is kept.
const MAX_KID_BYTES: usize = 512;
/// RSA moduli below are too weak, above too slow (RFC 7518, section 3.3 asks for 2048 or more).
const MODULUS_BITS: RangeInclusive<usize> = 2048..=8192;
/// Longer exponents make verifying slow, and no issuer has one: 65537 has 17 bits.
const MAX_EXPONENT_BITS: usize = 33;
/// The size of a coordinate on P-256 (RFC 7518, section 6.2.1.2).
const P256_COORDINATE_BYTES: usize = 32;

/// The keys of an issuer that can verify a grant token.
pub(super) struct KeySet {
    /// By `kid`. Keys of different types may share one (RFC 7517, section 4.5).
    by_id: HashMap<String, Vec<Arc<VerificationKey>>>,
    usable: usize,
    skipped: usize,
}

/// How a grant token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256; the signature is `r` and `s`, 32 bytes each.
    Es256,
}

/// A public key of an issuer.
pub struct VerificationKey {
    key: DecodingKey,
    /// The one algorithm that it is used with, whatever a token says.
    pub algorithm: SignatureAlgorithm,
    /// What tells it from every other.
    pub thumbprint: Thumbprint,
}

/// SHA-256 of a key's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thumbprint([u8; 32]);

/// The document is not a JSON Web Key Set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotAKeySet;

impl KeySet {
    /// Reads a set. A key that is of no use here is skipped and counted; it does not spoil the others.
    pub(super) fn parse(document: &[u8]) -> Result<Self, NotAKeySet> {
        const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
        let text = document.strip_prefix(BYTE_ORDER_MARK).unwrap_or(document);
        let document: Value = serde_json::from_slice(text).map_err(|_| NotAKeySet)?;
        let entries = document.get("keys").and_then(Value::as_array);
        let mut set = Self {
            by_id: HashMap::new(),
            usable: 0,
            skipped: 0,
        };
        for entry in entries.ok_or(NotAKeySet)? {
            set.add(entry);
        }
        Ok(set)
    }

    fn add(&mut self, entry: &Value) {
        let Some((kid, key)) = usable(entry).filter(|_| self.usable < MAX_KEYS) else {
            self.skipped += 1;
            return;
        };
        let of_this_id = self.by_id.entry(kid).or_default();
        // Which of two keys a token means could not be told: the first one counts.
        if of_this_id
            .iter()
            .any(|other| other.algorithm == key.algorithm)
        {
            self.skipped += 1;
            return;
        }
        of_this_id.push(Arc::new(key));
        self.usable += 1;
    }

    /// The keys of this `kid`, at most one of each algorithm.
    pub(super) fn of_id(&self, kid: &str) -> &[Arc<VerificationKey>] {
        self.by_id.get(kid).map_or(&[], Vec::as_slice)
    }

    /// How many keys can verify.
    pub(super) fn usable(&self) -> usize {
        self.usable
    }

    /// How many entries are of no use here.
    pub(super) fn skipped(&self) -> usize {
        self.skipped
    }
}

// === impl SignatureAlgorithm ===

impl SignatureAlgorithm {
    /// Reads the name (RFC 7518, section 3.1).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Rs256, Self::Es256]
            .into_iter()
            .find(|algorithm| algorithm.as_str() == name)
    }

    /// The name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }
}

impl FromStr for SignatureAlgorithm {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name).ok_or("must be RS256 or ES256")
    }
}

impl fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl VerificationKey ===

impl VerificationKey {
    /// Whether `signature`, in base64url, is this key's of the message.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &str) -> bool {
        let algorithm = match self.algorithm {
            SignatureAlgorithm::Rs256 => Algorithm::RS256,
            SignatureAlgorithm::Es256 => Algorithm::ES256,
        };
        jsonwebtoken::crypto::verify(signature, message, &self.key, algorithm).unwrap_or(false)
    }

    fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let (modulus, exponent) = (significant(modulus), significant(exponent));
        let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
        let exponent_fits = (2..=MAX_EXPONENT_BITS).contains(&bits(exponent)) && is_odd(exponent);
        let modulus_fits = MODULUS_BITS.contains(&bits(modulus)) && is_odd(modulus);
        (exponent_fits && modulus_fits).then(|| Self {
            key: DecodingKey::from_rsa_raw_components(modulus, exponent),
            algorithm: SignatureAlgorithm::Rs256,
            thumbprint: Thumbprint::of(SignatureAlgorithm::Rs256, modulus, exponent),
        })
    }

    fn p256(x: &[u8], y: &[u8]) -> Option<Self> {
        if x.len() != P256_COORDINATE_BYTES || y.len() != P256_COORDINATE_BYTES {
            return None;
        }
        // An uncompressed point (SEC 1, section 2.3.3); reading it checks that it is on the curve.
        let point = [&[4], x, y].concat();
        ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).ok()?;
        Some(Self {
            key: DecodingKey::from_ec_der(&point),
            algorithm: SignatureAlgorithm::Es256,
            thumbprint: Thumbprint::of(SignatureAlgorithm::Es256, x, y),
        })
    }
}

// === impl Thumbprint ===

impl Thumbprint {
    fn of(algorithm: SignatureAlgorithm, first: &[u8], second: &[u8]) -> Self {
        let mut hash = Context::new(&SHA256);
        for part in [algorithm.as_str().as_bytes(), first, second] {
            // Lengths before the parts: no two keys have one text.
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let hash = hash.finish();
        Self(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

/// The key of an entry that verifies grant tokens, with its `kid`. `use`, `key_ops` and `alg` may be
/// absent and must fit when they are not (RFC 7517, section 4).
fn usable(entry: &Value) -> Option<(String, VerificationKey)> {
    let text = |name| entry.get(name).and_then(Value::as_str);
    let number = |name| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    let kid = text("kid").filter(|kid| (1..=MAX_KID_BYTES).contains(&kid.len()))?;
    let key = match (text("kty")?, text("crv")) {
        ("RSA", _) => VerificationKey::rsa(&number("n")?, &number("e")?),
        ("EC", Some("P-256")) => VerificationKey::p256(&number("x")?, &number("y")?),
        _ => None,
    }?;
    let absent_or = |name, value: &str| entry.get(name).is_none_or(|found| found == value);
    let may_verify = entry.get("key_ops").is_none_or(|operations| {
        let operations = operations.as_array();
        operations.is_some_and(|all| all.iter().any(|one| one == "verify"))
    });
    let fits = absent_or("use", "sig") && absent_or("alg", key.algorithm.as_str()) && may_verify;
    fits.then(|| (kid.to_owned(), key))
}

/// A big-endian number without leading zeros.
fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

fn bits(significant: &[u8]) -> usize {
    let leading = significant.first().map_or(0, |first| first.leading_zeros());
    significant.len() * 8 - leading as usize
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
    };
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn encode(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// An RSA key of this many bits; nobody has its private half.
    fn rsa(bits: usize, exponent: &[u8]) -> Value {
        let mut modulus = vec![0xff_u8; bits.div_ceil(8)];
        modulus[0] = 0xff >> (modulus.len() * 8 - bits);
        json!({"kty": "RSA", "kid": "r", "n": encode(&modulus), "e": encode(exponent)})
    }

    fn is_usable(entry: &Value) -> bool {
        usable(entry).is_some()
    }

    #[test]
    fn rsa_keys_have_2048_to_8192_bits_and_a_sane_exponent() {
        for (bits, good) in [
            (1024, false),
            (2047, false),
            (2048, true),
            (8192, true),
            (8193, false),
        ] {
            assert_eq!(is_usable(&rsa(bits, &[1, 0, 1])), good, "{bits} bits");
        }
        for (exponent, good) in [
            (&[3][..], true),
            (&[1, 0, 1], true),
            (&[0, 0, 1, 0, 1], true),
            (&[1, 0, 0, 0, 1], true),
            (&[], false),
            (&[0], false),
            (&[1], false),
            (&[2], false),
            (&[1, 0, 0], false),
            (&[2, 0, 0, 0, 1], false),
            (&[1, 0, 0, 0, 0, 1], false),
        ] {
            assert_eq!(
                is_usable(&rsa(2048, exponent)),
                good,
                "exponent {exponent:?}"
            );
        }
    }

    #[test]
    fn leading_zeros_make_no_other_number() {
        let key = rsa(2048, &[1, 0, 1]);
        let modulus = URL_SAFE_NO_PAD.decode(key["n"].as_str().unwrap()).unwrap();
        let mut padded = key.clone();
        padded["n"] = encode(&[&[0, 0], &modulus[..]].concat()).into();
        let thumbprint = |entry| usable(entry).map(|(_, key)| key.thumbprint);
        assert_eq!(thumbprint(&padded), thumbprint(&key));
        // Bytes do not make bits: this one has 2048 of which eight are zero.
        let mut short = key;
        short["n"] = encode(&[&[0], &modulus[1..]].concat()).into();
        assert!(!is_usable(&short));
    }

    #[test]
    fn an_elliptic_key_is_a_point_on_p256() {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref()).unwrap();
        let point = pair.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        let key = |crv: &str, x: &[u8], y: &[u8]| json!({"kty": "EC", "crv": crv, "kid": "e", "x": encode(x), "y": encode(y)});
        let good = key("P-256", x, y);
        assert!(is_usable(&good));
        assert!(!is_usable(&key("P-384", x, y)));
        assert!(!is_usable(&key("secp256k1", x, y)));
        assert!(!is_usable(&key("P-256", y, x)), "not on the curve");
        assert!(!is_usable(&key("P-256", &[0; 32], &[0; 32])));
        assert!(!is_usable(&key("P-256", &x[1..], y)));
        assert!(!is_usable(&key("P-256", &[&[0], x].concat(), y)));

        let (_, key) = usable(&good).unwrap();
        let signature = pair.sign(&random, b"message").unwrap();
        assert!(key.verifies(b"message", &encode(signature.as_ref())));
        assert!(!key.verifies(b"massage", &encode(signature.as_ref())));
    }

    #[test]
    fn what_is_of_no_use_is_skipped_and_counted() {
        let good = rsa(2048, &[1, 0, 1]);
        let with = |name: &str, value: Value| {
            let mut key = good.clone();
            key[name] = value;
            key
        };
        let skipped = [
            json!(null),
            json!(7),
            json!({}),
            json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "o", "x": encode(&[7; 32])}),
            json!({"kty": "oct", "alg": "HS256", "kid": "s", "k": encode(&[7; 32])}),
            with("use", json!(null)),
            with("alg", json!(null)),
            with("alg", json!("ES256")),
            with("key_ops", json!(["sign"])),
            with("kid", json!("")),
            with("kid", json!("x".repeat(MAX_KID_BYTES + 1))),
            with("n", json!(7)),
        ];
        let entries: Vec<_> = skipped.iter().chain([&good, &good]).collect();
        let set = KeySet::parse(json!({"keys": entries}).to_string().as_bytes())
            .ok()
            .unwrap();
        assert_eq!((set.usable(), set.skipped()), (1, skipped.len() + 1));
        let with_mark = format!("\u{feff}{}", json!({"keys": [good]}));
        let set = KeySet::parse(with_mark.as_bytes()).ok().unwrap();
        assert_eq!((set.usable(), set.skipped()), (1, 0));
    }

    #[test]
    fn no_more_than_a_hundred_keys_are_kept() {
        let key = |number: usize| {
            let mut key = rsa(2048, &[1, 0, 1]);
            key["kid"] = number.to_string().into();
            key
        };
        let keys: Vec<_> = (0..MAX_KEYS + 3).map(key).collect();
        let set = KeySet::parse(json!({"keys": keys}).to_string().as_bytes())
            .ok()
            .unwrap();
        assert_eq!((set.usable(), set.skipped()), (MAX_KEYS, 3));
    }

    proptest! {
        #[test]
        fn no_document_makes_it_panic(document in "\\PC{0,200}", n in "[A-Za-z0-9_-]{0,20}") {
            let _ = KeySet::parse(document.as_bytes());
            let entry = json!({"kty": "RSA", "kid": "k", "n": n, "e": n});
            let _ = KeySet::parse(json!({"keys": [entry, document]}).to_string().as_bytes());
        }
    }
}
