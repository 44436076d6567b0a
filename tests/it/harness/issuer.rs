//! An issuer of grant tokens: keys that come and go, and tokens of any content.

use std::sync::{
    Arc, Mutex, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use grantex_vault::auth::key_source::{Fetched, KeySource, KeySourceFault};
use serde_json::{Value, json};
use tokio::sync::watch;

/// A key with the `kid` that it is published under.
#[derive(Clone)]
pub(crate) struct SigningKey {
    pub(crate) kid: String,
    pair: Pair,
}

#[derive(Clone)]
enum Pair {
    /// Signs RS256.
    Rsa(Arc<RsaKeyPair>),
    /// Signs ES256.
    P256(Arc<EcdsaKeyPair>),
}

/// What the issuer answers when its keys are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Fails,
    Hangs,
}

pub(crate) struct FakeIssuer {
    published: Mutex<Vec<SigningKey>>,
    /// Instead of the key set.
    document: Mutex<Option<Vec<u8>>>,
    mood: watch::Sender<Mood>,
    fetches: AtomicUsize,
}

// === impl SigningKey ===

impl SigningKey {
    /// One of a few RSA keys that are made once for all tests, because making one is slow.
    pub(crate) fn number(index: usize) -> Self {
        static PAIRS: [OnceLock<Arc<RsaKeyPair>>; 3] = [const { OnceLock::new() }; 3];
        let make = || Arc::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
        let pair = PAIRS[index].get_or_init(make);
        Self {
            kid: format!("key-{index}"),
            pair: Pair::Rsa(Arc::clone(pair)),
        }
    }

    /// A new key on P-256.
    pub(crate) fn p256(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self {
            kid: kid.to_owned(),
            pair: Pair::P256(Arc::new(pair)),
        }
    }

    /// The same key under another `kid`.
    pub(crate) fn called(&self, kid: &str) -> Self {
        Self {
            kid: kid.to_owned(),
            pair: self.pair.clone(),
        }
    }

    /// An RSA key itself, to sign or encode in another way.
    pub(crate) fn pair(&self) -> &RsaKeyPair {
        match &self.pair {
            Pair::Rsa(pair) => pair,
            Pair::P256(_) => panic!("{} is no RSA key", self.kid),
        }
    }

    /// How it signs.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
        }
    }

    /// The public key as an entry of a key set (RFC 7517).
    pub(crate) fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let (modulus, exponent) = public_numbers(pair.public_key().as_ref());
                json!({"kty": "RSA", "n": encode(modulus), "e": encode(exponent)})
            }
            Pair::P256(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)})
            }
        };
        jwk["use"] = "sig".into();
        jwk["alg"] = self.algorithm().into();
        jwk["kid"] = self.kid.as_str().into();
        jwk
    }

    /// A header that the vault accepts.
    pub(crate) fn header(&self) -> Value {
        json!({"alg": self.algorithm(), "typ": "JWT", "kid": self.kid})
    }

    /// A token of these claims under [`Self::header`].
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_raw(self.header().to_string(), claims.to_string())
    }

    /// A token of any header and payload, JSON or not.
    pub(crate) fn sign_raw(&self, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        let header = URL_SAFE_NO_PAD.encode(header);
        let payload = URL_SAFE_NO_PAD.encode(payload);
        self.sign_parts(&header, &payload)
    }

    /// A token of parts that are encoded already, however they are.
    pub(crate) fn sign_parts(&self, header: &str, payload: &str) -> String {
        let message = format!("{header}.{payload}");
        let signature = self.signature(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .unwrap();
                signature
            }
            Pair::P256(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
        }
    }
}

// === impl FakeIssuer ===

impl FakeIssuer {
    /// Publishes the key number 0.
    pub(crate) fn start() -> Self {
        Self {
            published: Mutex::new(vec![SigningKey::number(0)]),
            document: Mutex::default(),
            mood: watch::Sender::new(Mood::Well),
            fetches: AtomicUsize::new(0),
        }
    }

    /// The first published key.
    pub(crate) fn key(&self) -> SigningKey {
        self.published.lock().unwrap()[0].clone()
    }

    pub(crate) fn publish(&self, key: SigningKey) {
        self.published.lock().unwrap().push(key);
    }

    pub(crate) fn withdraw(&self, kid: &str) {
        self.published.lock().unwrap().retain(|key| key.kid != kid);
    }

    /// Answers this instead of a key set, or the key set again.
    pub(crate) fn set_document(&self, document: Option<&str>) {
        let document = document.map(|text| text.as_bytes().to_vec());
        *self.document.lock().unwrap() = document;
    }

    pub(crate) fn recover(&self) {
        self.mood.send_replace(Mood::Well);
    }

    pub(crate) fn fail(&self) {
        self.mood.send_replace(Mood::Fails);
    }

    /// Answers nothing until [`Self::recover`] or [`Self::fail`].
    pub(crate) fn hang(&self) {
        self.mood.send_replace(Mood::Hangs);
    }

    /// How often the keys were asked for.
    pub(crate) fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl KeySource for FakeIssuer {
    async fn fetch(&self, _: Option<&str>) -> Result<Fetched, KeySourceFault> {
        let mut mood = self.mood.subscribe();
        self.fetches.fetch_add(1, Ordering::SeqCst);
        let decided = mood.wait_for(|mood| *mood != Mood::Hangs).await;
        if *decided.expect("the sender lives as long as we") == Mood::Fails {
            return Err(KeySourceFault::Status(500));
        }
        let document = self.document.lock().unwrap().clone();
        let published = || {
            let published = self.published.lock().unwrap();
            let keys: Vec<Value> = published.iter().map(SigningKey::jwk).collect();
            json!({ "keys": keys }).to_string().into_bytes()
        };
        Ok(Fetched::Document {
            bytes: document.unwrap_or_else(published),
            etag: None,
            max_age: None,
        })
    }
}

/// Modulus and exponent of an `RSAPublicKey` (RFC 8017, appendix A.1.1), as unsigned big-endian.
fn public_numbers(der: &[u8]) -> (&[u8], &[u8]) {
    let (sequence, _) = element(der, 0x30);
    let (modulus, rest) = element(sequence, 0x02);
    let (exponent, _) = element(rest, 0x02);
    let unsigned = |number: &'_ [u8]| number.iter().take_while(|byte| **byte == 0).count();
    (
        &modulus[unsigned(modulus)..],
        &exponent[unsigned(exponent)..],
    )
}

/// The content of a DER element of this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> (&[u8], &[u8]) {
    assert_eq!(der[0], tag);
    let (length, start) = match der[1] {
        short @ 0..0x80 => (usize::from(short), 2),
        long => {
            let bytes = usize::from(long & 0x7f);
            let length = der[2..2 + bytes].iter();
            let length = length.fold(0, |length, byte| length << 8 | usize::from(*byte));
            (length, 2 + bytes)
        }
    };
    (&der[start..start + length], &der[start + length..])
}
