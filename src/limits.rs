//! How much one caller may ask of this replica: token buckets (GCRA), in bounded memory.
//!
//! A budget belongs to whoever was known: a grant token that was verified, a developer whose key was
//! found. Made-up tokens have none, so they cannot mint fresh ones. An address has a budget of *failed*
//! authentications only, so that a network behind one address does not lock itself out.
//!
//! `in_flight` bounds what is under way at once, `bodies` what is read.

mod bodies;
mod in_flight;

use std::{
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::Clock as GovernorClock,
    middleware::StateInformationMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};
use moka::{policy::EvictionPolicy, sync::Cache};

use crate::{
    clock::Clock,
    metrics::{Limit, Metrics},
    model::{
        network::Network,
        request::Allowance,
        text::{DeveloperId, TokenId},
        timestamp::Timestamp,
    },
};

pub use bodies::{Bodies, BodyError, BodyLimits, ReadBody, read_under};
pub use in_flight::{InFlight, MaxInFlight};

/// Buckets of one kind that are kept. One more, and the one that was not used for longest goes: its
/// owner begins again with a full one.
const MAX_BUCKETS: u64 = 100_000;
/// What a budget is per.
const PERIOD: Duration = Duration::from_mins(1);
/// A bucket that nobody touched this long is full again and need not be kept.
const IDLE: Duration = PERIOD.saturating_mul(2);

/// How many of each a minute; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerMinute {
    /// Exchanges with one grant token.
    pub exchanges_per_grant: Option<NonZeroU32>,
    /// Verbs of one developer.
    pub requests_per_developer: Option<NonZeroU32>,
    /// Failed authentications of one address.
    pub failed_auth_per_address: Option<NonZeroU32>,
}

/// The budgets of this replica.
pub struct Limits {
    /// What is under way at once.
    pub in_flight: InFlight,
    exchanges: Option<Buckets>,
    requests: Option<Buckets>,
    failed_auth: Option<Buckets>,
}

/// The failed logins of operators that an address has: a budget apart from that of the public
/// listeners, so that nobody can use it up there and then guess without leaving events.
pub struct FailedLogins(Option<Buckets>);

/// A budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// When there is some of it again.
    pub retry_after: Duration,
    /// The whole of it.
    pub allowance: Allowance,
}

struct Buckets {
    limit: Limit,
    per_minute: NonZeroU32,
    /// By a hash of the owner, whose name may be long. Nobody can choose two of one hash: it is
    /// seeded anew by every process.
    kept: Cache<u64, Arc<Bucket>>,
    seed: RandomState,
    clock: Time,
    metrics: Metrics,
}

type Bucket = RateLimiter<NotKeyed, InMemoryState, Time, StateInformationMiddleware>;

/// Our clock as the library wants it.
#[derive(Clone)]
struct Time(Arc<dyn Clock>);

impl Limits {
    /// Every budget is full.
    #[must_use]
    pub fn new(
        per_minute: PerMinute,
        in_flight: MaxInFlight,
        clock: &Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Self {
        let PerMinute {
            exchanges_per_grant,
            requests_per_developer,
            failed_auth_per_address,
        } = per_minute;
        Self {
            in_flight: InFlight::new(in_flight, metrics),
            exchanges: exchanges_per_grant
                .map(|many| Buckets::new(Limit::ExchangePerGrant, many, clock, metrics)),
            requests: requests_per_developer
                .map(|many| Buckets::new(Limit::RequestsPerDeveloper, many, clock, metrics)),
            failed_auth: failed_auth_per_address
                .map(|many| Buckets::new(Limit::FailedAuthPerAddress, many, clock, metrics)),
        }
    }

    /// One exchange with a grant token that was verified; answers what is left, where there is a
    /// limit.
    ///
    /// # Errors
    ///
    /// [`Exceeded`].
    pub fn exchange(
        &self,
        developer: &DeveloperId,
        token: &TokenId,
    ) -> Result<Option<Allowance>, Exceeded> {
        // A token's id is its issuer's choice and unique to a developer at most.
        let all = self.exchanges.as_ref();
        all.map(|all| all.take(&(developer, token))).transpose()
    }

    /// One request of a developer whose key was found.
    ///
    /// # Errors
    ///
    /// [`Exceeded`].
    pub fn request(&self, developer: &DeveloperId) -> Result<Option<Allowance>, Exceeded> {
        let all = self.requests.as_ref();
        all.map(|all| all.take(developer)).transpose()
    }

    /// One authentication that failed.
    ///
    /// # Errors
    ///
    /// [`Exceeded`].
    pub fn failed_authentication(&self, address: IpAddr) -> Result<(), Exceeded> {
        let all = self.failed_auth.as_ref();
        let taken = all.map(|all| all.take(&Network::of(address))).transpose();
        taken.map(|_| ())
    }
}

// === impl FailedLogins ===

impl FailedLogins {
    /// Every budget is full; `None` is no limit.
    #[must_use]
    pub fn new(per_address: Option<NonZeroU32>, clock: &Arc<dyn Clock>, metrics: &Metrics) -> Self {
        let limit = Limit::FailedOperatorLoginPerAddress;
        Self(per_address.map(|many| Buckets::new(limit, many, clock, metrics)))
    }

    /// Counts one login that failed.
    ///
    /// # Errors
    ///
    /// [`Exceeded`].
    pub fn count(&self, address: IpAddr) -> Result<(), Exceeded> {
        let all = self.0.as_ref();
        let taken = all.map(|all| all.take(&Network::of(address))).transpose();
        taken.map(|_| ())
    }
}

// === impl Buckets ===

impl Buckets {
    fn new(
        limit: Limit,
        per_minute: NonZeroU32,
        clock: &Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Self {
        Self {
            limit,
            per_minute,
            kept: Cache::builder()
                .max_capacity(MAX_BUCKETS)
                .time_to_idle(IDLE)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            seed: RandomState::new(),
            clock: Time(Arc::clone(clock)),
            metrics: metrics.clone(),
        }
    }

    fn take(&self, owner: &impl Hash) -> Result<Allowance, Exceeded> {
        let key = self.seed.hash_one(owner);
        let bucket = self.kept.get_with(key, || Arc::new(self.full_bucket()));
        let until = match bucket.check() {
            Ok(state) => return Ok(self.allowance(state.remaining_burst_capacity())),
            Err(until) => until,
        };
        let retry_after = until.wait_time_from(self.clock.now());
        if retry_after > PERIOD {
            // No bucket takes longer: the clock was set back, and nobody must wait for it to catch up.
            self.kept.insert(key, Arc::new(self.full_bucket()));
            return Ok(self.allowance(self.per_minute.get()));
        }
        self.metrics.rate_limited(self.limit);
        Err(Exceeded {
            retry_after,
            allowance: self.allowance(0),
        })
    }

    fn full_bucket(&self) -> Bucket {
        let quota = Quota::per_minute(self.per_minute);
        RateLimiter::direct_with_clock(quota, self.clock.clone()).with_middleware()
    }

    fn allowance(&self, remaining: u32) -> Allowance {
        let limit = self.per_minute.get();
        let used = limit.saturating_sub(remaining);
        Allowance {
            limit,
            remaining,
            full_in: PERIOD.mul_f64(f64::from(used) / f64::from(limit)),
        }
    }
}

// === impl Time ===

impl GovernorClock for Time {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        let origin = Timestamp::from_millisecond(0).expect("1970 is among the years that we know");
        self.0.now().since(origin).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FakeClock;

    fn limits(per_minute: u32) -> (Limits, Arc<FakeClock>) {
        let clock = Arc::new(FakeClock::default());
        let many = NonZeroU32::new(per_minute);
        let per_minute = PerMinute {
            exchanges_per_grant: many,
            requests_per_developer: many,
            failed_auth_per_address: many,
        };
        let as_clock: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let in_flight = MaxInFlight {
            total: 1,
            per_developer: 1,
        };
        (
            Limits::new(per_minute, in_flight, &as_clock, &Metrics::unobserved()),
            clock,
        )
    }

    fn developer(id: &str) -> DeveloperId {
        DeveloperId::parse(id).unwrap()
    }

    #[test]
    fn a_budget_is_used_up_and_comes_back_bit_by_bit() {
        let (limits, clock) = limits(60);
        let acme = developer("acme");
        for used in 1..=60 {
            let left = limits.request(&acme).unwrap().unwrap();
            assert_eq!((left.limit, left.remaining), (60, 60 - used));
            assert_eq!(left.full_in, Duration::from_secs(used.into()));
        }
        let exceeded = limits.request(&acme).unwrap_err();
        assert_eq!(exceeded.retry_after, Duration::from_secs(1));
        assert_eq!(exceeded.allowance.remaining, 0);
        clock.step(Duration::from_millis(999));
        assert!(limits.request(&acme).is_err());
        clock.step(Duration::from_millis(1));
        assert!(limits.request(&acme).is_ok());
        assert!(limits.request(&acme).is_err());
        clock.step(PERIOD);
        assert_eq!(limits.request(&acme).unwrap().unwrap().remaining, 59);
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_nobody_waiting() {
        let (limits, clock) = limits(1);
        let acme = developer("acme");
        clock.advance(10_000_000);
        assert!(limits.request(&acme).is_ok());
        assert!(limits.request(&acme).is_err());
        clock.advance(-5_000_000);
        assert!(limits.request(&acme).is_ok());
    }

    #[test]
    fn nobody_uses_the_budget_of_another() {
        let (limits, _) = limits(1);
        let token = |id| TokenId::parse(id).unwrap();
        assert!(limits.request(&developer("acme")).is_ok());
        assert!(limits.request(&developer("other")).is_ok());
        assert!(limits.exchange(&developer("acme"), &token("t1")).is_ok());
        assert!(limits.exchange(&developer("acme"), &token("t2")).is_ok());
        assert!(limits.exchange(&developer("other"), &token("t1")).is_ok());
        assert!(limits.exchange(&developer("acme"), &token("t1")).is_err());
    }

    #[test]
    fn zero_is_no_limit() {
        let (limits, _) = limits(0);
        for _ in 0..10_000 {
            assert_eq!(limits.request(&developer("acme")), Ok(None));
        }
    }

    #[test]
    fn an_address_is_itself_in_ipv4_and_its_network_in_ipv6() {
        let fails = |limits: &Limits, address: &str| {
            let address = address.parse().unwrap();
            limits.failed_authentication(address).is_err()
        };
        let (limits, _) = limits(1);
        for (address, refused) in [
            ("192.0.2.1", false),
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.2.2", false),
            ("2001:db8:0:1::1", false),
            ("2001:db8:0:1:ffff::2", true),
            ("2001:db8:0:2::1", false),
        ] {
            assert_eq!(fails(&limits, address), refused, "{address}");
        }
    }

    #[test]
    fn memory_is_bounded_however_many_ask() {
        let (limits, _) = limits(1);
        for number in 0..300_000_u32 {
            let address = IpAddr::V4(number.into());
            let _ = limits.failed_authentication(address);
        }
        let buckets = &limits.failed_auth.as_ref().unwrap().kept;
        buckets.run_pending_tasks();
        assert!(buckets.entry_count() <= MAX_BUCKETS);
    }
}
