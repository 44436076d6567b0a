//! What somebody who watches the work is told.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Broken;

/// Counts, and passes on what is broken as it is found.
pub struct Watch<'a> {
    looked: AtomicU64,
    done: AtomicU64,
    overtaken: AtomicU64,
    broken: AtomicU64,
    report: &'a (dyn Fn(&Broken) + Sync),
}

/// How far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Credentials that were looked at.
    pub looked: u64,
    /// Those that were changed; for verify, those that open.
    pub done: u64,
    /// Those that somebody else changed meanwhile.
    pub overtaken: u64,
    /// Those that were reported.
    pub broken: u64,
}

impl<'a> Watch<'a> {
    /// Nothing yet.
    #[must_use]
    pub fn new(report: &'a (dyn Fn(&Broken) + Sync)) -> Self {
        Self {
            looked: AtomicU64::new(0),
            done: AtomicU64::new(0),
            overtaken: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            report,
        }
    }

    /// How far it is now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            looked: read(&self.looked),
            done: read(&self.done),
            overtaken: read(&self.overtaken),
            broken: read(&self.broken),
        }
    }

    pub(super) fn looked(&self) {
        self.looked.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn overtaken(&self) {
        self.overtaken.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn broken(&self, broken: &Broken) {
        self.broken.fetch_add(1, Ordering::Relaxed);
        (self.report)(broken);
    }
}
