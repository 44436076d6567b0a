//! How many requests wait for what they read. Nearly each of them records an event next.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Counts them; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Reading(Arc<AtomicUsize>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Reads<'a>(&'a AtomicUsize);

impl Reading {
    /// One more.
    #[must_use]
    pub fn begin(&self) -> Reads<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Reads(&self.0)
    }

    /// How many there are now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Reads<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
