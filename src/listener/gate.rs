//! How many requests a replica has under way, whichever door they came through.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// How long a request waits for a place: long enough for a burst, and no longer, because whoever waits
/// in a long queue is served too late to be of use.
const PATIENCE: Duration = Duration::from_millis(100);
/// The queue is this part of the places.
const QUEUE_SHARE: usize = 4;

/// The way in; clones are the same.
#[derive(Clone)]
pub(super) struct Gate {
    places: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    queue: usize,
}

impl Gate {
    /// Lets so many in at once.
    pub(super) fn new(places: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            waiting: Arc::default(),
            queue: (places / QUEUE_SHARE).max(1),
        }
    }

    /// A place, until it is dropped; `None` at once when too many wait for one, or soon.
    pub(super) async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        let _waiting = Waiting::begin(&self.waiting, self.queue)?;
        let place = timeout(PATIENCE, Arc::clone(&self.places).acquire_owned()).await;
        place.ok()?.ok()
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a AtomicUsize, at_most: usize) -> Option<Self> {
        let one_more = |waiting| (waiting < at_most).then_some(waiting + 1);
        let begun = waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        // Made only when it was counted: dropping it takes one off again.
        begun.is_ok().then(|| Self(waiting))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_few_wait_for_a_moment_and_the_rest_is_refused_at_once() {
        let gate = Gate::new(8);
        let mut inside = Vec::new();
        for _ in 0..8 {
            inside.push(gate.enter().await.expect("there is a place"));
        }
        let begun = Instant::now();
        let (first, second, refused) = tokio::join!(gate.enter(), gate.enter(), async {
            let refused = gate.enter().await;
            (refused.is_none(), begun.elapsed())
        });
        assert!(first.is_none() && second.is_none());
        assert_eq!(begun.elapsed(), PATIENCE);
        assert_eq!(refused, (true, Duration::ZERO));
        let (waited, ()) = tokio::join!(gate.enter(), async { drop(inside.pop()) });
        assert!(waited.is_some());
    }
}
