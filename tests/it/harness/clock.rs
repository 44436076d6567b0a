//! A clock that stands still until a test advances it.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use grantex_vault::{
    clock::{Clock, SystemClock},
    model::timestamp::Timestamp,
};

pub(crate) struct ManualClock(AtomicI64);

impl ManualClock {
    /// Starts at the real time: Postgres and others have clocks of their own.
    pub(crate) fn start() -> Self {
        Self(AtomicI64::new(SystemClock.now().as_millisecond()))
    }

    pub(crate) fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).expect("tests stay within this millennium");
        self.0.fetch_add(millis, Ordering::SeqCst);
    }

    /// Seconds since 1970, as tokens carry them.
    pub(crate) fn seconds(&self) -> i64 {
        self.now().as_second()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.0.load(Ordering::SeqCst)).expect("within the year 9999")
    }
}
