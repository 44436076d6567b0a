//! The time of day, which tests advance instead of sleeping.

use crate::model::timestamp::Timestamp;

/// Where the time comes from. A trait because time is where the outside world begins.
pub trait Clock: Send + Sync {
    /// Now, in UTC.
    fn now(&self) -> Timestamp;
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the clock"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(jiff::Timestamp::now().as_millisecond())
            .expect("the system's year is 0001 to 9999")
    }
}

/// A clock that a test sets.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct FakeClock(std::sync::atomic::AtomicI64);

#[cfg(test)]
impl FakeClock {
    /// Goes so many milliseconds on, or back.
    pub(crate) fn advance(&self, millis: i64) {
        self.0
            .fetch_add(millis, std::sync::atomic::Ordering::SeqCst);
    }

    /// Goes on.
    pub(crate) fn step(&self, by: std::time::Duration) {
        self.advance(i64::try_from(by.as_millis()).unwrap());
    }
}

#[cfg(test)]
impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        let millis = self.0.load(std::sync::atomic::Ordering::SeqCst);
        Timestamp::from_millisecond(millis).unwrap()
    }
}
