//! How fast long work of an operator goes: a share of what the KMS and the database can bear.

use std::{
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// How many items are worked on at once, and how many a second are begun.
#[derive(Debug)]
pub struct Pace {
    concurrency: usize,
    interval: Option<Duration>,
    /// When the next one may begin.
    next: Mutex<Instant>,
}

impl Pace {
    /// At most `concurrency` at once, and at most so many a second.
    #[must_use]
    pub fn new(concurrency: usize, max_per_second: Option<NonZeroU32>) -> Self {
        Self {
            concurrency: concurrency.max(1),
            interval: max_per_second.map(|many| Duration::from_secs(1) / many.get()),
            next: Mutex::new(Instant::now()),
        }
    }

    /// How many at once.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Waits for one's turn. What was not used is not saved up, so that a pause is not followed by a
    /// burst.
    pub async fn turn(&self) {
        self.turns(1).await;
    }

    /// Waits for the turn of so many at once, which then cost the next ones their time.
    pub async fn turns(&self, many: u32) {
        let Some(interval) = self.interval else {
            return;
        };
        let interval = interval * many;
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(Instant::now());
            *next = turn + interval;
            turn
        };
        sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_second_begins_more_than_it_may() {
        let pace = Pace::new(4, NonZeroU32::new(10));
        let start = Instant::now();
        for _ in 0..31 {
            pace.turn().await;
        }
        assert!(start.elapsed() >= Duration::from_secs(3));
        assert!(start.elapsed() < Duration::from_millis(3100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_saves_nothing_up() {
        let pace = Pace::new(4, NonZeroU32::new(10));
        tokio::time::advance(Duration::from_mins(1)).await;
        let start = Instant::now();
        for _ in 0..11 {
            pace.turn().await;
        }
        assert!(start.elapsed() >= Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nobody_waits() {
        let pace = Pace::new(0, None);
        assert_eq!(pace.concurrency(), 1);
        let start = Instant::now();
        pace.turn().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
