//! Unwrapped data keys, kept for a while so that a hot credential costs no KMS call an exchange.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use moka::{future::Cache, notification::RemovalCause, ops::compute::Op};

use super::{context::KmsContext, data_key::DataKey, kms::KmsFault};
use crate::{
    clock::Clock,
    metrics::Metrics,
    model::{sealed::WrappedKey, timestamp::Timestamp},
};

/// How long a data key may be used after the KMS was asked for it, however often it is used. It is no
/// idle time: using a key does not make it live longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeToLive(Duration);

/// The data keys in memory: bounded in number and age, wiped when they go.
///
/// A key is found by its whole wrapped form and its whole context, compared byte for byte. Concurrent
/// misses of one key make one call; a waiter goes on when the caller that made it gave up.
pub struct DataKeyCache {
    /// `None` when the cache is switched off.
    entries: Option<Cache<CacheKey, Entry>>,
    time_to_live: TimeToLive,
    /// Which purge the entries are younger than: a call that was under way during one does not bring
    /// its key back.
    generation: AtomicU64,
    clock: Arc<dyn Clock>,
}

/// A data key from the cache.
#[derive(Debug)]
pub struct CachedKey {
    /// The key.
    pub key: Arc<DataKey>,
    /// Whether it is time to ask for it again, ahead of its end. It is said to one caller only.
    pub refresh: bool,
    /// Whether it was in memory already.
    pub hit: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct CacheKey {
    wrapped: WrappedKey,
    context: KmsContext,
}

#[derive(Clone)]
struct Entry {
    key: Arc<DataKey>,
    /// Before the KMS was asked: the time of the call counts.
    since: Timestamp,
    generation: u64,
    refreshing: Arc<AtomicBool>,
}

impl CacheKey {
    fn new(wrapped: &WrappedKey, context: &KmsContext) -> Self {
        Self {
            wrapped: wrapped.clone(),
            context: context.clone(),
        }
    }
}

impl TimeToLive {
    /// `None` for zero, which switches the cache off.
    #[must_use]
    pub fn new(duration: Duration) -> Option<Self> {
        (!duration.is_zero()).then_some(Self(duration))
    }

    /// The age from which a key that is still used is asked for again: four fifths of its life.
    fn refresh_age(self) -> Duration {
        self.0 / 5 * 4
    }
}

impl DataKeyCache {
    /// Keeps at most `capacity` keys for this long; none when there is no time to live.
    #[must_use]
    pub fn new(
        time_to_live: Option<TimeToLive>,
        capacity: u64,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        let lasting = time_to_live.unwrap_or(TimeToLive(Duration::ZERO));
        let entries = time_to_live
            .filter(|_| capacity > 0)
            .map(|TimeToLive(duration)| {
                // The clock of the library only sweeps; whether a key may be used is for ours to say.
                Cache::builder()
                    .max_capacity(capacity)
                    .time_to_live(duration)
                    .eviction_listener(move |_, _, cause| {
                        if cause == RemovalCause::Size {
                            metrics.data_key_evicted();
                        }
                    })
                    .build()
            });
        Self {
            entries,
            time_to_live: lasting,
            generation: AtomicU64::new(0),
            clock,
        }
    }

    /// The data key, from memory or else by `unwrap`, which one of several callers runs.
    ///
    /// # Errors
    ///
    /// What `unwrap` answered to whoever ran it.
    pub async fn find<F>(
        &self,
        wrapped: &WrappedKey,
        context: &KmsContext,
        unwrap: impl FnOnce() -> F,
    ) -> Result<CachedKey, Arc<KmsFault>>
    where
        F: Future<Output = Result<DataKey, KmsFault>>,
    {
        let Some(entries) = &self.entries else {
            let key = Box::pin(unwrap()).await.map_err(Arc::new)?;
            return Ok(CachedKey {
                key: Arc::new(key),
                refresh: false,
                hit: false,
            });
        };
        let cache_key = CacheKey::new(wrapped, context);
        if let Some(entry) = entries.get(&cache_key).await {
            if let Some(found) = self.usable(&entry) {
                return Ok(found);
            }
            Box::pin(self.remove_unusable(entries, cache_key.clone())).await;
        }
        // Boxed: a hit, which is what nearly all of them are, would carry its 12 KiB around.
        Box::pin(self.made(entries, cache_key, unwrap())).await
    }

    /// The data key, if it is in memory and may be used.
    pub async fn at_hand(&self, wrapped: &WrappedKey, context: &KmsContext) -> Option<CachedKey> {
        let entries = self.entries.as_ref()?;
        let entry = entries.get(&CacheKey::new(wrapped, context)).await?;
        self.usable(&entry)
    }

    async fn made(
        &self,
        entries: &Cache<CacheKey, Entry>,
        cache_key: CacheKey,
        unwrap: impl Future<Output = Result<DataKey, KmsFault>>,
    ) -> Result<CachedKey, Arc<KmsFault>> {
        let made = async {
            let (since, generation) = (self.clock.now(), self.generation.load(Ordering::Acquire));
            let key = Arc::new(unwrap.await?);
            Ok(Entry {
                key,
                since,
                generation,
                refreshing: Arc::default(),
            })
        };
        let entry = entries.try_get_with(cache_key, made).await?;
        // Whoever waited long for it does not use it longer for that.
        let found = self.usable(&entry);
        let found = found.ok_or_else(|| Arc::new(KmsFault::TimedOut))?;
        Ok(CachedKey {
            hit: false,
            ..found
        })
    }

    /// Keeps a key that was just made or just unwrapped again; `asked_at` is when that began.
    pub async fn insert(
        &self,
        wrapped: &WrappedKey,
        context: &KmsContext,
        key: DataKey,
        asked: Asked,
    ) {
        let Some(entries) = &self.entries else {
            return;
        };
        let cache_key = CacheKey::new(wrapped, context);
        let Asked { since, generation } = asked;
        let entry = Entry {
            key: Arc::new(key),
            since,
            generation,
            refreshing: Arc::default(),
        };
        entries.insert(cache_key, entry).await;
    }

    /// The moment before a call, for [`Self::insert`] after it.
    #[must_use]
    pub fn ask(&self) -> Asked {
        let generation = self.generation.load(Ordering::Acquire);
        Asked {
            since: self.clock.now(),
            generation,
        }
    }

    /// Whether it is switched on.
    #[must_use]
    pub fn keeps_any(&self) -> bool {
        self.entries.is_some()
    }

    /// How many keys are in memory, about.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries.as_ref().map_or(0, Cache::entry_count)
    }

    /// Forgets every key.
    pub async fn purge(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        if let Some(entries) = &self.entries {
            entries.invalidate_all();
            entries.run_pending_tasks().await;
        }
    }

    /// Wipes the keys whose time is over, which otherwise waits for the next use of the cache.
    pub async fn sweep(&self) {
        if let Some(entries) = &self.entries {
            entries.run_pending_tasks().await;
        }
    }

    fn usable(&self, entry: &Entry) -> Option<CachedKey> {
        let age = self.age(entry).filter(|age| *age < self.time_to_live.0)?;
        let due = age >= self.time_to_live.refresh_age();
        let refresh = due && !entry.refreshing.swap(true, Ordering::Relaxed);
        Some(CachedKey {
            key: Arc::clone(&entry.key),
            refresh,
            hit: true,
        })
    }

    /// `None` when the entry must not be used: it was purged, or the clock went back behind it and
    /// nobody knows its age.
    fn age(&self, entry: &Entry) -> Option<Duration> {
        let now = self.clock.now();
        let current = entry.generation == self.generation.load(Ordering::Acquire);
        (current && now >= entry.since).then(|| now.since(entry.since))
    }

    /// Removes the entry unless somebody replaced it meanwhile.
    async fn remove_unusable(&self, entries: &Cache<CacheKey, Entry>, key: CacheKey) {
        let remove = |found: Option<moka::Entry<CacheKey, Entry>>| {
            let unusable = found.is_some_and(|entry| {
                self.age(entry.value())
                    .is_none_or(|age| age >= self.time_to_live.0)
            });
            std::future::ready(if unusable { Op::Remove } else { Op::Nop })
        };
        entries.entry(key).and_compute_with(remove).await;
    }
}

/// When a key was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    since: Timestamp,
    generation: u64,
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use proptest::prelude::*;
    use tokio::sync::Notify;

    use super::*;
    use crate::{
        clock::FakeClock,
        envelope::context::Place,
        model::{
            sealed::MasterKeyId,
            service_name::ServiceName,
            text::{DeveloperId, PrincipalId},
        },
    };

    const LIFE: i64 = 1000;

    fn cache(clock: &Arc<FakeClock>) -> DataKeyCache {
        let life = TimeToLive::new(Duration::from_millis(LIFE.unsigned_abs()));
        DataKeyCache::new(life, 100, Arc::clone(clock) as _, Metrics::unobserved())
    }

    fn wrapped(number: u8) -> WrappedKey {
        WrappedKey {
            master_key: MasterKeyId::new("test"),
            bytes: vec![number],
        }
    }

    fn context(number: u8) -> KmsContext {
        let place = Place {
            developer: DeveloperId::parse("dev").unwrap(),
            principal: PrincipalId::parse(&format!("p{number}")).unwrap(),
            service: ServiceName::parse("github").unwrap().key().clone(),
        };
        place.kms_context()
    }

    /// A data key that says what it is of and when the KMS was asked for it.
    fn key_of(wrapped: u8, context: u8, asked_at: i64) -> DataKey {
        let mut bytes = [0; 32];
        bytes[0] = wrapped;
        bytes[1] = context;
        bytes[8..16].copy_from_slice(&asked_at.to_be_bytes());
        DataKey::from_bytes(&bytes).unwrap()
    }

    fn asked_at(key: &DataKey) -> i64 {
        i64::from_be_bytes(key.expose()[8..16].try_into().unwrap())
    }

    async fn is_cached(cache: &DataKeyCache) -> bool {
        let miss = async { Err(KmsFault::TimedOut) };
        cache.find(&wrapped(0), &context(0), || miss).await.is_ok()
    }

    #[tokio::test]
    async fn a_key_lives_as_long_as_its_time_to_live_however_often_it_is_used() {
        let clock = Arc::new(FakeClock::default());
        let cache = cache(&clock);
        cache
            .insert(&wrapped(0), &context(0), key_of(0, 0, 0), cache.ask())
            .await;
        for _ in 0..LIFE / 100 {
            assert!(is_cached(&cache).await);
            clock.advance(100);
        }
        assert!(!is_cached(&cache).await);
    }

    #[tokio::test]
    async fn one_caller_is_told_to_refresh_a_hot_key_ahead_of_its_end() {
        let clock = Arc::new(FakeClock::default());
        let cache = cache(&clock);
        cache
            .insert(&wrapped(0), &context(0), key_of(0, 0, 0), cache.ask())
            .await;
        let refresh = async || {
            let miss = async { Err(KmsFault::TimedOut) };
            cache
                .find(&wrapped(0), &context(0), || miss)
                .await
                .unwrap()
                .refresh
        };
        clock.advance(LIFE * 4 / 5 - 1);
        assert!(!refresh().await);
        clock.advance(1);
        assert!(refresh().await);
        assert!(!refresh().await, "once is enough");
    }

    #[tokio::test]
    async fn concurrent_misses_make_one_call_and_a_waiter_survives_the_caller_that_gave_up() {
        let clock = Arc::new(FakeClock::default());
        let cache = cache(&clock);
        let (calls, answer) = (AtomicU64::new(0), Notify::new());
        let find = || {
            let unwrap = async {
                calls.fetch_add(1, Ordering::SeqCst);
                answer.notified().await;
                Ok(key_of(0, 0, 0))
            };
            async {
                cache
                    .find(&wrapped(0), &context(0), || unwrap)
                    .await
                    .map(|found| found.key)
            }
        };
        let mut leader = Box::pin(find());
        assert!(futures_util::poll!(&mut leader).is_pending());
        let mut waiters: Vec<_> = (0..10).map(|_| Box::pin(find())).collect();
        for waiter in &mut waiters {
            assert!(futures_util::poll!(waiter).is_pending());
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        drop(leader);
        answer.notify_one();
        assert!(join_all(waiters).await.iter().all(Result::is_ok));
        assert_eq!(
            calls.load(Ordering::SeqCst),
            2,
            "the leader's, and one in its place"
        );
    }

    #[tokio::test]
    async fn a_purge_forgets_also_what_is_just_being_unwrapped() {
        let clock = Arc::new(FakeClock::default());
        let cache = cache(&clock);
        let asked = cache.ask();
        cache.purge().await;
        cache
            .insert(&wrapped(0), &context(0), key_of(0, 0, 0), asked)
            .await;
        assert!(!is_cached(&cache).await);
    }

    #[tokio::test]
    async fn without_a_time_to_live_nothing_is_kept() {
        let clock = Arc::new(FakeClock::default());
        let cache = DataKeyCache::new(None, 100, clock, Metrics::unobserved());
        cache
            .insert(&wrapped(0), &context(0), key_of(0, 0, 0), cache.ask())
            .await;
        assert!(!is_cached(&cache).await);
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// Several callers at once; each call takes some turns and some time, and may fail.
        Find(Vec<(u8, u8, usize, i64, bool)>),
        Advance(i64),
        /// The clock is set back.
        Retreat(i64),
        Purge,
    }

    fn step() -> impl Strategy<Value = Step> {
        let caller = (0_u8..3, 0_u8..3, 0_usize..4, 0_i64..LIFE, any::<bool>());
        prop_oneof![
            4 => proptest::collection::vec(caller, 1..6).prop_map(Step::Find),
            2 => (0_i64..LIFE * 2).prop_map(Step::Advance),
            1 => (0_i64..LIFE / 2).prop_map(Step::Retreat),
            1 => Just(Step::Purge),
        ]
    }

    proptest! {
        #[test]
        fn no_key_is_used_past_its_time_or_for_another_context(
            steps in proptest::collection::vec(step(), 1..30)
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let clock = Arc::new(FakeClock::default());
                clock.advance(LIFE * 1000);
                let cache = cache(&clock);
                for step in steps {
                    match step {
                        Step::Advance(millis) => clock.advance(millis),
                        Step::Retreat(millis) => clock.advance(-millis),
                        Step::Purge => cache.purge().await,
                        Step::Find(callers) => {
                            join_all(callers.into_iter().map(|caller| check(&cache, &clock, caller))).await;
                        }
                    }
                }
            });
        }
    }

    async fn check(
        cache: &DataKeyCache,
        clock: &FakeClock,
        (number, place, turns, takes, fails): (u8, u8, usize, i64, bool),
    ) {
        let unwrap = async {
            let asked_at = clock.now().as_millisecond();
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            clock.advance(takes);
            if fails {
                Err(KmsFault::TimedOut)
            } else {
                Ok(key_of(number, place, asked_at))
            }
        };
        if let Ok(found) = cache
            .find(&wrapped(number), &context(place), || unwrap)
            .await
        {
            let bytes = found.key.expose();
            assert_eq!((bytes[0], bytes[1]), (number, place));
            let age = clock.now().as_millisecond() - asked_at(&found.key);
            assert!((0..LIFE).contains(&age), "{age}");
        }
    }
}
