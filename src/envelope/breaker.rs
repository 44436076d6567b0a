//! A circuit breaker: while a KMS does not answer, calls are refused at once instead of waiting.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::Instant;

use super::{
    context::KmsContext,
    data_key::{DataKey, FreshDataKey},
    kms::{Kms, KmsFault},
};
use crate::{
    clock::Clock,
    metrics::Metrics,
    model::{
        sealed::{MasterKeyId, WrappedKey},
        timestamp::Timestamp,
    },
};

/// Calls in a row, with no answer between them, that open the breaker. Fewer, and two lost packets
/// would be an outage.
const OPENS_AFTER: u32 = 5;
/// How long nobody asks after the breaker opened, at most; it doubles with every probe that fails.
const FIRST_COOL_OFF: Duration = Duration::from_secs(1);
/// How long that gets: a KMS that is back is found within this time.
const LONGEST_COOL_OFF: Duration = Duration::from_secs(10);

/// A holder of master keys behind a breaker.
///
/// It opens when the KMS gives no answer several times in a row. While it is open every call is
/// refused with [`KmsFault::BreakerOpen`], but for one probe after each cool-off. An answer of any
/// kind closes it, and refusals are answers: a KMS that denies, or says that a key is disabled, is
/// there. So is one that throttles. It still serves some calls, and one probe in ten seconds would
/// serve fewer; backing off from it is the business of the client's retries.
pub struct GuardedKms {
    kms: Arc<dyn Kms>,
    breaker: Breaker,
}

/// Decides whether a KMS is asked, by what became of earlier calls.
struct Breaker {
    /// What the log calls the KMS.
    name: String,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// A call that was given up counts as unanswered if it waited this long. One that was given up
    /// sooner says something of its caller, not of the KMS: who hangs up must not open the breaker.
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    phase: Phase,
    /// Grows with every change between closed and open. A call that was let through in an earlier
    /// phase no longer counts when it fails: a burst that fails together is one outage.
    epoch: u64,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed {
        unanswered: u32,
    },
    Open {
        since: Timestamp,
        cool_off: Duration,
        failed_probes: u32,
        probing: bool,
    },
}

/// What the end of a call says of the KMS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// It answered.
    Answered,
    /// It did not.
    Unanswered,
    /// Nothing: it was not asked, or not for long.
    None,
}

/// The permission for one call. When it is dropped, however the call ended, the breaker has learnt.
struct Pass<'a> {
    breaker: &'a Breaker,
    epoch: u64,
    started: Instant,
    /// What the call ended with; `None` when it was given up.
    sign: Option<Sign>,
}

// === impl GuardedKms ===

impl GuardedKms {
    /// Guards a holder, which the log calls `name` and whose calls take no longer than `timeout`.
    #[must_use]
    pub fn new(
        kms: Arc<dyn Kms>,
        name: String,
        clock: Arc<dyn Clock>,
        timeout: Duration,
        metrics: Metrics,
    ) -> Self {
        // Part of the time may have gone by before the call was let through.
        let breaker = Breaker::new(name, clock, timeout / 2, metrics);
        Self { kms, breaker }
    }
}

#[async_trait]
impl Kms for GuardedKms {
    async fn generate(&self, context: &KmsContext) -> Result<FreshDataKey, KmsFault> {
        self.breaker.guard(self.kms.generate(context)).await
    }

    async fn wrap(&self, key: &DataKey, context: &KmsContext) -> Result<WrappedKey, KmsFault> {
        self.breaker.guard(self.kms.wrap(key, context)).await
    }

    async fn unwrap(&self, key: &WrappedKey, context: &KmsContext) -> Result<DataKey, KmsFault> {
        self.breaker.guard(self.kms.unwrap(key, context)).await
    }

    async fn rewrap(&self, key: &WrappedKey, context: &KmsContext) -> Result<WrappedKey, KmsFault> {
        self.breaker.guard(self.kms.rewrap(key, context)).await
    }

    async fn holds(&self, id: &MasterKeyId) -> Result<bool, KmsFault> {
        if let Some(known) = self.kms.holds_unasked(id) {
            return Ok(known);
        }
        let mut pass = self.breaker.admit()?;
        let answer = self.kms.holds(id).await;
        // It may have known without asking, after all.
        pass.sign = Some(answer.as_ref().err().map_or(Sign::None, Sign::of));
        answer
    }

    fn holds_unasked(&self, id: &MasterKeyId) -> Option<bool> {
        self.kms.holds_unasked(id)
    }

    fn rewraps_from(&self, id: &MasterKeyId) -> bool {
        self.kms.rewraps_from(id)
    }

    /// Is never refused: it is asked at start, one at a time, and its answer closes the breaker.
    async fn check(&self) -> Result<MasterKeyId, KmsFault> {
        let pass = self.breaker.admit_always();
        pass.outlive(self.kms.check()).await
    }
}

// === impl Breaker ===

impl Breaker {
    fn new(name: String, clock: Arc<dyn Clock>, patience: Duration, metrics: Metrics) -> Self {
        let phase = Phase::Closed { unanswered: 0 };
        let state = Mutex::new(State { phase, epoch: 0 });
        Self {
            name,
            clock,
            metrics,
            patience,
            state,
        }
    }

    /// Makes a call, or refuses to.
    async fn guard<T>(
        &self,
        call: impl Future<Output = Result<T, KmsFault>>,
    ) -> Result<T, KmsFault> {
        self.admit()?.outlive(call).await
    }

    fn admit(&self) -> Result<Pass<'_>, KmsFault> {
        let mut state = self.state();
        if !state.admits(self.clock.now()) {
            return Err(KmsFault::BreakerOpen);
        }
        Ok(self.pass(&mut state))
    }

    fn admit_always(&self) -> Pass<'_> {
        self.pass(&mut self.state())
    }

    fn pass(&self, state: &mut State) -> Pass<'_> {
        if let Phase::Open { probing, .. } = &mut state.phase {
            *probing = true;
        }
        Pass {
            breaker: self,
            epoch: state.epoch,
            started: Instant::now(),
            sign: None,
        }
    }

    fn learn(&self, epoch: u64, sign: Sign) {
        let (before, after) = {
            let mut state = self.state();
            let before = *state;
            state.learn(epoch, sign, self.clock.now());
            (before, *state)
        };
        if before.epoch == after.epoch {
            return;
        }
        let name = &self.name;
        match (before.phase, after.phase) {
            (Phase::Closed { .. }, Phase::Open { .. }) => {
                self.metrics.breaker_is(true);
                tracing::warn!(
                    master_key = name,
                    "the KMS does not answer: calls are refused"
                );
            }
            (Phase::Open { .. }, Phase::Closed { .. }) => {
                self.metrics.breaker_is(false);
                tracing::info!(master_key = name, "the KMS answers again");
            }
            // A probe that failed is logged by who made it.
            (Phase::Open { .. }, Phase::Open { .. })
            | (Phase::Closed { .. }, Phase::Closed { .. }) => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn admits(&self, now: Timestamp) -> bool {
        match self.phase {
            Phase::Closed { .. } => true,
            Phase::Open {
                since,
                cool_off,
                probing,
                ..
            } => {
                // A clock that was set back must not keep the breaker open.
                let cooled_off = now < since || now.since(since) >= cool_off;
                cooled_off && !probing
            }
        }
    }

    fn learn(&mut self, epoch: u64, sign: Sign, now: Timestamp) {
        let current = epoch == self.epoch;
        match (sign, &mut self.phase) {
            (Sign::Answered, Phase::Closed { unanswered }) => *unanswered = 0,
            (Sign::Answered, Phase::Open { .. }) => self.enter(Phase::Closed { unanswered: 0 }),
            (Sign::Unanswered, Phase::Closed { unanswered }) if current => {
                *unanswered += 1;
                if *unanswered >= OPENS_AFTER {
                    self.open(0, now);
                }
            }
            (Sign::Unanswered, Phase::Open { failed_probes, .. }) if current => {
                let failed_probes = failed_probes.saturating_add(1);
                self.open(failed_probes, now);
            }
            // The next call may probe.
            (Sign::None, Phase::Open { probing, .. }) if current => *probing = false,
            (Sign::Unanswered | Sign::None, _) => {}
        }
    }

    fn open(&mut self, failed_probes: u32, now: Timestamp) {
        self.enter(Phase::Open {
            since: now,
            cool_off: jittered(longest_cool_off(failed_probes)),
            failed_probes,
            probing: false,
        });
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.epoch += 1;
    }
}

fn longest_cool_off(failed_probes: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failed_probes);
    FIRST_COOL_OFF.saturating_mul(factor).min(LONGEST_COOL_OFF)
}

/// Between half of it and all of it, so that replicas do not probe in step.
fn jittered(longest: Duration) -> Duration {
    let mut share = [0];
    aws_lc_rs::rand::fill(&mut share).expect("the operating system has randomness");
    longest / 2 + longest / 2 * u32::from(share[0]) / u32::from(u8::MAX)
}

// === impl Pass ===

impl Pass<'_> {
    /// Waits for a call and notes what its end says.
    async fn outlive<T>(
        mut self,
        call: impl Future<Output = Result<T, KmsFault>>,
    ) -> Result<T, KmsFault> {
        let answer = call.await;
        self.sign = Some(answer.as_ref().err().map_or(Sign::Answered, Sign::of));
        answer
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let sign = self.sign.unwrap_or_else(|| {
            let waited_in_vain = self.started.elapsed() >= self.breaker.patience;
            if waited_in_vain {
                Sign::Unanswered
            } else {
                Sign::None
            }
        });
        self.breaker.learn(self.epoch, sign);
    }
}

// === impl Sign ===

impl Sign {
    fn of(fault: &KmsFault) -> Self {
        match fault {
            KmsFault::Unreachable(_) | KmsFault::TimedOut => Self::Unanswered,
            KmsFault::Denied(_)
            | KmsFault::Disabled(_)
            | KmsFault::PendingDeletion(_)
            | KmsFault::Missing(_)
            | KmsFault::WrongUsage(_)
            | KmsFault::NotReady(_)
            | KmsFault::Throttled(_) => Self::Answered,
            // Said without a call, or perhaps so.
            KmsFault::NotConfigured(_)
            | KmsFault::Overloaded
            | KmsFault::BreakerOpen
            | KmsFault::Tampered(_) => Self::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use proptest::prelude::*;
    use tokio::time::timeout;

    use super::*;
    use crate::clock::FakeClock;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn breaker() -> (Breaker, Arc<FakeClock>) {
        let clock = Arc::new(FakeClock::default());
        let breaker = Breaker::new(
            "a key".into(),
            Arc::clone(&clock) as _,
            PATIENCE,
            Metrics::unobserved(),
        );
        (breaker, clock)
    }

    async fn end(breaker: &Breaker, answer: Result<(), KmsFault>) -> Result<(), KmsFault> {
        breaker.guard(async { answer }).await
    }

    fn unreachable() -> KmsFault {
        KmsFault::Unreachable("the test said so".into())
    }

    fn throttled() -> KmsFault {
        KmsFault::Throttled("the test said so".into())
    }

    fn tampered() -> KmsFault {
        KmsFault::Tampered("the test said so".into())
    }

    fn let_through(breaker: &Breaker) -> Pass<'_> {
        match breaker.admit() {
            Ok(pass) => pass,
            Err(fault) => panic!("{fault}"),
        }
    }

    fn refuses(breaker: &Breaker) -> bool {
        matches!(breaker.admit(), Err(KmsFault::BreakerOpen))
    }

    async fn opened() -> (Breaker, Arc<FakeClock>) {
        let (breaker, clock) = breaker();
        for _ in 0..OPENS_AFTER {
            assert!(!refuses(&breaker));
            let _ = end(&breaker, Err(unreachable())).await;
        }
        assert!(refuses(&breaker));
        (breaker, clock)
    }

    #[tokio::test]
    async fn an_answer_of_any_kind_starts_the_count_anew() {
        for answer in [|| Ok(()), || Err(throttled())] {
            let (breaker, _) = breaker();
            for _ in 0..3 {
                for _ in 1..OPENS_AFTER {
                    let _ = end(&breaker, Err(KmsFault::TimedOut)).await;
                }
                let _ = end(&breaker, answer()).await;
            }
            assert!(!refuses(&breaker));
        }
    }

    #[tokio::test]
    async fn what_needed_no_call_does_not_hide_an_outage() {
        let (breaker, _) = breaker();
        for _ in 0..OPENS_AFTER {
            let _ = end(&breaker, Err(tampered())).await;
            let _ = end(&breaker, Err(unreachable())).await;
        }
        assert!(refuses(&breaker));
    }

    #[tokio::test]
    async fn after_each_cool_off_there_is_one_probe_and_the_cool_off_doubles_to_its_cap() {
        let (breaker, clock) = opened().await;
        for longest in [1, 2, 4, 8, 10, 10].map(Duration::from_secs) {
            clock.step(longest.mul_f64(0.49));
            assert!(refuses(&breaker), "before half of {longest:?}");
            clock.step(longest.mul_f64(0.51));
            let probe = let_through(&breaker);
            assert!(refuses(&breaker), "a second probe");
            let _ = probe.outlive(async { Err::<(), _>(unreachable()) }).await;
        }
        clock.step(LONGEST_COOL_OFF);
        assert!(end(&breaker, Ok(())).await.is_ok());
        for _ in 0..3 {
            assert!(!refuses(&breaker));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_given_up_counts_when_it_waited_in_vain() {
        let (breaker, clock) = breaker();
        for _ in 0..3 * OPENS_AFTER {
            let given_up = breaker.guard(pending::<Result<(), _>>());
            assert!(timeout(PATIENCE / 2, given_up).await.is_err());
        }
        assert!(!refuses(&breaker), "who hangs up does not open it");
        for _ in 0..OPENS_AFTER {
            let given_up = breaker.guard(pending::<Result<(), _>>());
            assert!(timeout(PATIENCE, given_up).await.is_err());
        }
        assert!(refuses(&breaker));

        clock.step(FIRST_COOL_OFF);
        let probe = breaker.guard(pending::<Result<(), _>>());
        assert!(timeout(PATIENCE / 2, probe).await.is_err());
        let probe = breaker.guard(pending::<Result<(), _>>());
        assert!(
            timeout(PATIENCE, probe).await.is_err(),
            "the next may probe"
        );
        assert!(refuses(&breaker), "and it found that nobody answers");
    }

    #[tokio::test]
    async fn a_burst_that_fails_together_is_one_outage() {
        let (breaker, clock) = breaker();
        let mut burst: Vec<_> = (0..64).map(|_| let_through(&breaker)).collect();
        let late = let_through(&breaker);
        for pass in &mut burst {
            pass.sign = Some(Sign::Unanswered);
        }
        drop(burst);
        clock.step(FIRST_COOL_OFF);
        let probe = let_through(&breaker);
        let _ = probe.outlive(async { Ok(()) }).await;
        for _ in 1..OPENS_AFTER {
            let _ = end(&breaker, Err(unreachable())).await;
        }
        let _ = late.outlive(async { Err::<(), _>(unreachable()) }).await;
        assert!(!refuses(&breaker), "the late one was of the last outage");
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_does_not_keep_it_open() {
        let clock = Arc::new(FakeClock::default());
        clock.advance(1_000_000);
        let breaker = Breaker::new(
            "a key".into(),
            Arc::clone(&clock) as _,
            PATIENCE,
            Metrics::unobserved(),
        );
        for _ in 0..OPENS_AFTER {
            let _ = end(&breaker, Err(unreachable())).await;
        }
        clock.advance(-1_000_000);
        assert!(end(&breaker, Ok(())).await.is_ok());
    }

    /// A step of an interleaving.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Start,
        End(prop::sample::Index, Sign),
        Wait(u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        let sign = prop_oneof![
            1 => Just(Sign::Answered),
            4 => Just(Sign::Unanswered),
            1 => Just(Sign::None),
        ];
        prop_oneof![
            4 => Just(Step::Start),
            3 => (any::<prop::sample::Index>(), sign).prop_map(|(which, sign)| Step::End(which, sign)),
            1 => (0..4000_u16).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn however_calls_interleave_it_opens_for_a_reason_and_never_for_ever(
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let (breaker, clock) = breaker();
            let mut under_way = Vec::new();
            // Since the last answer; the breaker may ignore some, and never sees more.
            let mut unanswered = 0;
            for step in steps {
                match step {
                    Step::Start => match breaker.admit() {
                        Ok(pass) => {
                            let open = matches!(breaker.state().phase, Phase::Open { .. });
                            let probing = |other: &&Pass<'_>| other.epoch == pass.epoch;
                            let others = under_way.iter().filter(probing).count();
                            prop_assert!(!open || others == 0, "two probes at once");
                            under_way.push(pass);
                        }
                        Err(_) => prop_assert!(unanswered >= OPENS_AFTER, "refused for no reason"),
                    },
                    Step::End(which, sign) if !under_way.is_empty() => {
                        let at = which.index(under_way.len());
                        under_way.swap_remove(at).sign = Some(sign);
                        match sign {
                            Sign::Answered => unanswered = 0,
                            Sign::Unanswered => unanswered += 1,
                            Sign::None => {}
                        }
                    }
                    Step::End(..) => {}
                    Step::Wait(millis) => clock.step(Duration::from_millis(millis.into())),
                }
            }
            under_way.clear();
            clock.step(LONGEST_COOL_OFF);
            prop_assert!(!refuses(&breaker), "stuck");
        }
    }
}
