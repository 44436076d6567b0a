//! The issuer's keys, cached: refreshed ahead, on an unknown `kid`, and never trusted for too long.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use serde_json::Value;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::sync::{Mutex, Semaphore};
use tracing::Instrument;

use super::key_source::{KeySource, KeySourceFault};
use crate::{clock::Clock, model::timestamp::Timestamp};

/// The most keys that are kept of a set.
const MAX_KEYS: usize = 100;
/// The longest `kid` that is kept.
const MAX_KID_BYTES: usize = 512;
/// RSA moduli below are too weak, above too slow (RFC 7518, section 3.3 asks for 2048 or more).
const MODULUS_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// After an attempt no unknown `kid` causes another one for this long: tokens are free to make up.
const COOLDOWN: Duration = Duration::from_secs(10);
/// How many requests may wait for one fetch.
const MAX_WAITING: usize = 256;

/// The keys by which tokens are verified.
pub struct VerificationKeys {
    source: Arc<dyn KeySource>,
    clock: Arc<dyn Clock>,
    max_stale: Duration,
    current: ArcSwapOption<Fetched>,
    last_attempt: Mutex<Option<Attempt>>,
    last_succeeded: AtomicBool,
    places: Semaphore,
    started: Timestamp,
}

/// Why there is no key for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoKey {
    /// The issuer has no such key.
    #[error("the issuer has no such key")]
    Unknown,
    /// The issuer cannot be asked.
    #[error("the issuer's keys cannot be had")]
    Unavailable,
}

/// A key of the issuer.
pub struct VerificationKey {
    /// The key.
    pub key: DecodingKey,
    /// What tells it from every other.
    pub thumbprint: Thumbprint,
}

/// A hash over modulus and exponent, as the key set has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thumbprint([u8; 32]);

struct Fetched {
    keys: HashMap<String, Arc<VerificationKey>>,
    at: Timestamp,
}

#[derive(Clone, Copy)]
struct Attempt {
    at: Timestamp,
    succeeded: bool,
}

impl VerificationKeys {
    /// Nothing is fetched yet. Keys that were fetched longer ago than `max_stale` do not count.
    #[must_use]
    pub fn new(source: Arc<dyn KeySource>, clock: Arc<dyn Clock>, max_stale: Duration) -> Self {
        let started = clock.now();
        Self {
            source,
            clock,
            started,
            max_stale,
            current: ArcSwapOption::empty(),
            last_attempt: Mutex::new(None),
            last_succeeded: AtomicBool::new(false),
            places: Semaphore::new(MAX_WAITING),
        }
    }

    /// The key of this `kid`, fetched if it must be.
    ///
    /// # Errors
    ///
    /// [`NoKey`]; unavailable also when too many requests wait for the issuer already.
    pub async fn find(&self, kid: &str) -> Result<Arc<VerificationKey>, NoKey> {
        if let Some(key) = self.cached(kid) {
            return Ok(key);
        }
        let _place = self.places.try_acquire().map_err(|_| NoKey::Unavailable)?;
        let mut last_attempt = self.last_attempt.lock().await;
        // Whoever held the lock before may have fetched it.
        if let Some(key) = self.cached(kid) {
            return Ok(key);
        }
        let attempt = match *last_attempt {
            Some(attempt) if self.clock.now().since(attempt.at) < COOLDOWN => attempt,
            _ => {
                let (attempt, _) = self.fetch().await;
                *last_attempt = Some(attempt);
                attempt
            }
        };
        let missing = if attempt.succeeded {
            NoKey::Unknown
        } else {
            NoKey::Unavailable
        };
        self.cached(kid).ok_or(missing)
    }

    /// Fetches the set now, whatever the cooldown.
    ///
    /// # Errors
    ///
    /// When it cannot be had; the keys that are there stay.
    pub async fn refresh(&self) -> Result<(), KeySourceFault> {
        let mut last_attempt = self.last_attempt.lock().await;
        let (attempt, outcome) = self.fetch().await;
        *last_attempt = Some(attempt);
        outcome
    }

    /// How many keys of the set can verify.
    #[must_use]
    pub fn count(&self) -> usize {
        let current = self.current.load();
        current.as_ref().map_or(0, |fetched| fetched.keys.len())
    }

    /// Whether the set could be fetched when that was last tried.
    #[must_use]
    pub fn could_be_fetched(&self) -> bool {
        self.last_succeeded.load(Ordering::Relaxed)
    }

    /// How long ago the set was fetched; since the start when it never was.
    #[must_use]
    pub fn age(&self) -> Duration {
        let current = self.current.load();
        let at = current.as_ref().map_or(self.started, |fetched| fetched.at);
        self.clock.now().since(at)
    }

    fn cached(&self, kid: &str) -> Option<Arc<VerificationKey>> {
        let current = self.current.load();
        let current = current.as_ref()?;
        let fresh = self.clock.now().since(current.at) <= self.max_stale;
        fresh
            .then(|| current.keys.get(kid).map(Arc::clone))
            .flatten()
    }

    async fn fetch(&self) -> (Attempt, Result<(), KeySourceFault>) {
        let span = tracing::info_span!("fetch jwks", otel.kind = "client");
        let fetched = self.source.fetch().instrument(span).await;
        let outcome = fetched.and_then(|bytes| parse(&bytes));
        let at = self.clock.now();
        let outcome = outcome.map(|keys| self.current.store(Some(Arc::new(Fetched { keys, at }))));
        self.last_succeeded
            .store(outcome.is_ok(), Ordering::Relaxed);
        if let Err(fault) = &outcome {
            let cause = std::error::Error::source(fault).map(tracing::field::display);
            tracing::warn!(error = %fault, cause, "fetching the issuer's keys failed");
        }
        (
            Attempt {
                at,
                succeeded: outcome.is_ok(),
            },
            outcome,
        )
    }
}

/// Reads the keys that can verify RS256; others are passed over, a document of another form is a fault.
fn parse(bytes: &[u8]) -> Result<HashMap<String, Arc<VerificationKey>>, KeySourceFault> {
    let document: Value = serde_json::from_slice(bytes).map_err(|_| KeySourceFault::Malformed)?;
    let entries = document
        .get("keys")
        .and_then(Value::as_array)
        .ok_or(KeySourceFault::Malformed)?;
    let mut keys = HashMap::new();
    for (kid, key) in entries.iter().filter_map(usable).take(MAX_KEYS) {
        keys.entry(kid).or_insert_with(|| Arc::new(key));
    }
    Ok(keys)
}

/// RFC 7517, section 4: `use`, `key_ops` and `alg` may be absent and must fit when they are not.
fn usable(entry: &Value) -> Option<(String, VerificationKey)> {
    let text = |name| entry.get(name).and_then(Value::as_str);
    let absent_or = |name, value| entry.get(name).is_none_or(|found| found == value);
    let verifies = entry.get("key_ops").is_none_or(|operations| {
        operations
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one == "verify"))
    });
    let fits = text("kty") == Some("RSA")
        && absent_or("use", "sig")
        && absent_or("alg", "RS256")
        && verifies;
    let kid = text("kid").filter(|kid| (1..=MAX_KID_BYTES).contains(&kid.len()))?;
    let (modulus, exponent) = (text("n")?, text("e")?);
    let strong = MODULUS_BITS.contains(&modulus_bits(modulus)?);
    let key = VerificationKey {
        key: DecodingKey::from_rsa_components(modulus, exponent).ok()?,
        thumbprint: Thumbprint::of(modulus, exponent),
    };
    (fits && strong).then(|| (kid.to_owned(), key))
}

impl Thumbprint {
    fn of(modulus: &str, exponent: &str) -> Self {
        // Neither has a dot: no two pairs have one text.
        Self(Sha256::digest(format!("{modulus}.{exponent}")).into())
    }
}

fn modulus_bits(modulus: &str) -> Option<usize> {
    let bytes = URL_SAFE_NO_PAD.decode(modulus).ok()?;
    let significant = bytes.iter().position(|byte| *byte != 0)?;
    let first = bytes.get(significant)?;
    Some((bytes.len() - significant) * 8 - first.leading_zeros() as usize)
}
