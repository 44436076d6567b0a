//! The issuer's keys, cached: refreshed ahead, on an unknown `kid`, and never trusted for too long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use thiserror::Error;
use tokio::sync::{Mutex, Semaphore};
use tracing::Instrument;

use super::{
    key_set::{KeySet, SignatureAlgorithm, VerificationKey},
    key_source::{Fetched, KeySource, KeySourceFault},
};
use crate::{clock::Clock, model::timestamp::Timestamp};

/// After an attempt no unknown `kid` causes another one for this long: tokens are free to make up.
const COOLDOWN: Duration = Duration::from_secs(10);
/// The set is fetched again after this long when its source does not say how long it stays (`max-age`).
const REFRESH: Duration = Duration::from_mins(5);
/// It is not fetched more often than this, whatever its source says,
const MIN_REFRESH: Duration = Duration::from_mins(1);
/// nor less often: a key that is withdrawn must stop verifying.
const MAX_REFRESH: Duration = Duration::from_mins(15);
/// How many requests may wait for one fetch.
const MAX_WAITING: usize = 256;

/// The keys by which tokens are verified.
pub struct VerificationKeys {
    source: Arc<dyn KeySource>,
    clock: Arc<dyn Clock>,
    max_stale: Duration,
    current: ArcSwapOption<Current>,
    last_attempt: Mutex<Option<Attempt>>,
    last_succeeded: AtomicBool,
    waiting: Semaphore,
    started: Timestamp,
}

/// Why there is no key for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoKey {
    /// The issuer has no such key.
    #[error("the issuer has no such key")]
    Unknown,
    /// The key of that `kid` is for this algorithm only.
    #[error("the issuer's key is for {0} only")]
    OtherAlgorithm(SignatureAlgorithm),
    /// The issuer cannot be asked.
    #[error("the issuer's keys cannot be had")]
    Unavailable,
}

/// The key set that was fetched last.
struct Current {
    keys: Arc<KeySet>,
    at: Timestamp,
    etag: Option<String>,
    refresh_after: Duration,
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
            waiting: Semaphore::new(MAX_WAITING),
        }
    }

    /// The key of this `kid` and algorithm, fetched if it must be.
    ///
    /// # Errors
    ///
    /// [`NoKey`]; unavailable also when too many requests wait for the issuer already.
    pub async fn find(
        &self,
        kid: &str,
        algorithm: SignatureAlgorithm,
    ) -> Result<Arc<VerificationKey>, NoKey> {
        if let Some(found) = self.cached(kid, algorithm) {
            return found;
        }
        let _permit = self.waiting.try_acquire().map_err(|_| NoKey::Unavailable)?;
        let mut last_attempt = self.last_attempt.lock().await;
        // Whoever held the lock before may have fetched it.
        if let Some(found) = self.cached(kid, algorithm) {
            return found;
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
        self.cached(kid, algorithm).unwrap_or(Err(missing))
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
    pub fn usable(&self) -> usize {
        let current = self.current.load();
        current.as_ref().map_or(0, |current| current.keys.usable())
    }

    /// How many keys of the set are of no use here: of another type, say, or too weak.
    #[must_use]
    pub fn skipped(&self) -> usize {
        let current = self.current.load();
        current.as_ref().map_or(0, |current| current.keys.skipped())
    }

    /// After how long the set is to be fetched again: what its source says, one minute at least and
    /// fifteen at most; five minutes when it says nothing.
    #[must_use]
    pub fn refresh_after(&self) -> Duration {
        let current = self.current.load();
        current
            .as_ref()
            .map_or(REFRESH, |current| current.refresh_after)
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
        let at = current.as_ref().map_or(self.started, |current| current.at);
        self.clock.now().since(at)
    }

    /// `None` when asking the issuer could change the answer.
    fn cached(
        &self,
        kid: &str,
        algorithm: SignatureAlgorithm,
    ) -> Option<Result<Arc<VerificationKey>, NoKey>> {
        let current = self.current.load();
        let current = current.as_ref()?;
        if self.clock.now().since(current.at) > self.max_stale {
            return None;
        }
        let of_this_id = current.keys.of_id(kid);
        let found = of_this_id.iter().find(|key| key.algorithm == algorithm);
        match (found, of_this_id.first()) {
            (Some(key), _) => Some(Ok(Arc::clone(key))),
            (None, Some(other)) => Some(Err(NoKey::OtherAlgorithm(other.algorithm))),
            (None, None) => None,
        }
    }

    async fn fetch(&self) -> (Attempt, Result<(), KeySourceFault>) {
        let span = tracing::info_span!("fetch jwks", otel.kind = "client");
        let known = self.current.load_full();
        let etag = known.as_ref().and_then(|known| known.etag.as_deref());
        let fetched = self.source.fetch(etag).instrument(span).await;
        let outcome = fetched.and_then(|fetched| self.take_up(fetched, known.as_deref()));
        let succeeded = outcome.is_ok();
        self.last_succeeded.store(succeeded, Ordering::Relaxed);
        if let Err(fault) = &outcome {
            let cause = std::error::Error::source(fault).map(tracing::field::display);
            tracing::warn!(error = %fault, cause, "fetching the issuer's keys failed");
        }
        let at = self.clock.now();
        (Attempt { at, succeeded }, outcome)
    }

    fn take_up(&self, fetched: Fetched, known: Option<&Current>) -> Result<(), KeySourceFault> {
        let (keys, etag, max_age) = match (fetched, known) {
            (
                Fetched::Document {
                    bytes,
                    etag,
                    max_age,
                },
                _,
            ) => {
                let keys = KeySet::parse(&bytes).map_err(|_| KeySourceFault::Malformed)?;
                (Arc::new(keys), etag, max_age)
            }
            (Fetched::Unchanged { max_age }, Some(known)) => {
                (Arc::clone(&known.keys), known.etag.clone(), max_age)
            }
            // Nobody asked whether anything had changed.
            (Fetched::Unchanged { .. }, None) => return Err(KeySourceFault::Malformed),
        };
        self.current.store(Some(Arc::new(Current {
            keys,
            etag,
            at: self.clock.now(),
            refresh_after: max_age.map_or(REFRESH, |age| age.clamp(MIN_REFRESH, MAX_REFRESH)),
        })));
        Ok(())
    }
}
