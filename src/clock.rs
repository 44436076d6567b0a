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
