//! How old a connection gets, so that load moves to new replicas.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use http::Version;

/// A connection is asked to close after this long, and up to a fifth longer, so that connections of one
/// moment do not all come back in one moment.
const MAX_AGE: Duration = Duration::from_mins(30);

/// Whether a connection is old, and how it is told.
///
/// Over HTTP/2 it is told at once, by a GOAWAY, which says what was taken up before it. Over HTTP/1 its
/// next answer says so: whoever closes an idle one loses the request that is just being sent on it.
#[derive(Default)]
pub(super) struct Age {
    is_old: AtomicBool,
    is_http2: AtomicBool,
}

/// How old one connection gets.
pub(super) fn max_age() -> Duration {
    let mut random = [0_u8; 1];
    getrandom::fill(&mut random).expect("the operating system has randomness");
    MAX_AGE + MAX_AGE / 5 * u32::from(random[0]) / 255
}

impl Age {
    /// Notes a request of this version; answers whether its answer asks for the end of the connection.
    pub(super) fn is_told_by_answer(&self, version: Version) -> bool {
        if version == Version::HTTP_2 {
            self.is_http2.store(true, Ordering::Relaxed);
            return false;
        }
        self.is_old()
    }

    pub(super) fn is_old(&self) -> bool {
        self.is_old.load(Ordering::Relaxed)
    }

    /// Notes that the connection is old; answers whether it is to be told at once.
    pub(super) fn is_reached(&self) -> bool {
        self.is_old.store(true, Ordering::Relaxed);
        self.is_http2.load(Ordering::Relaxed)
    }
}
