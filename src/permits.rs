//! A semaphore that is shared fairly: no owner keeps the others waiting while it has more than its
//! share.
//!
//! While permits are free anybody takes them. Once they are not, those who have less than their share
//! are served first.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use thiserror::Error;
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

/// How permits are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How many there are.
    pub permits: usize,
    /// How many of them one owner may have while others wait.
    pub share: usize,
    /// How many may wait at once.
    pub queue: usize,
    /// How long one may wait.
    pub patience: Duration,
    /// What becomes of those who have their share, while others wait.
    pub over_share: OverShare,
}

/// What becomes of who asks for more than its share while others wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverShare {
    /// It waits behind the others.
    Waits,
    /// It is refused at once.
    IsRefused,
}

/// The permits; clones are the same.
#[derive(Clone)]
pub struct FairPermits(Arc<Shared>);

/// A permit, until it is dropped.
pub struct Permit {
    of: Arc<Shared>,
    owner: u64,
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// All are taken, and too many wait or waiting took too long.
    #[error("all permits are taken")]
    Busy,
    /// The owner has its share, and others wait.
    #[error("the owner has its share of the permits")]
    OverShare,
}

struct Shared {
    rules: Rules,
    /// Seeded anew by every process: nobody can choose two owners of one hash.
    seed: RandomState,
    state: Mutex<State>,
    waiting: watch::Sender<usize>,
    /// Changes when somebody begins to wait who has less than its share. Those who have more are told of
    /// no others: else each of a flood would wake all of it.
    modest: watch::Sender<usize>,
}

/// While a permit is free nobody waits: who gives one back hands it to who waits.
struct State {
    free: usize,
    /// How many each owner has; who has none is not there.
    held: HashMap<u64, usize>,
    queue: VecDeque<Waiter>,
}

struct Waiter {
    owner: u64,
    granted: oneshot::Sender<Permit>,
}

/// What is answered at once.
enum Asked {
    Taken(Permit),
    Refused(Refused),
    Waits(oneshot::Receiver<Permit>),
}

/// Counts one that waits, until it is dropped.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl FairPermits {
    /// All of them are free.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self(Arc::new(Shared {
            rules,
            seed: RandomState::new(),
            state: Mutex::new(State {
                free: rules.permits,
                held: HashMap::new(),
                queue: VecDeque::new(),
            }),
            waiting: watch::Sender::new(0),
            modest: watch::Sender::new(0),
        }))
    }

    /// Takes a permit, or waits for one.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub async fn acquire(&self, owner: &(impl Hash + ?Sized)) -> Result<Permit, Refused> {
        let owner = self.0.seed.hash_one(owner);
        let granted = match self.ask(owner) {
            Asked::Taken(permit) => return Ok(permit),
            Asked::Refused(why) => return Err(why),
            Asked::Waits(granted) => granted,
        };
        let _waiting = Waiting::count(&self.0.waiting);
        match timeout(self.0.rules.patience, granted).await {
            Ok(Ok(permit)) => Ok(permit),
            // It gave way to who has less than its share.
            Ok(Err(_)) => Err(Refused::OverShare),
            Err(_) => Err(self.0.lock().refusal(owner, self.0.rules.share)),
        }
    }

    /// Takes a permit that is free, unless the owner has its share, whether or not anybody waits: for
    /// what lasts.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn try_acquire_share(&self, owner: &(impl Hash + ?Sized)) -> Result<Permit, Refused> {
        let owner = self.0.seed.hash_one(owner);
        let mut state = self.0.lock();
        if state.held_by(owner) >= self.0.rules.share {
            return Err(Refused::OverShare);
        }
        if state.free == 0 {
            return Err(Refused::Busy);
        }
        Ok(state.take(owner, &self.0))
    }

    fn ask(&self, owner: u64) -> Asked {
        let Rules {
            share,
            queue,
            over_share,
            ..
        } = self.0.rules;
        let mut state = self.0.lock();
        if state.free > 0 {
            return Asked::Taken(state.take(owner, &self.0));
        }
        let is_refused = over_share == OverShare::IsRefused;
        if is_refused && state.refusal(owner, share) == Refused::OverShare {
            return Asked::Refused(Refused::OverShare);
        }
        if state.queue.len() >= queue {
            state.queue.retain(|waiter| !waiter.granted.is_closed());
        }
        if state.queue.len() >= queue && !state.displace(owner, share) {
            return Asked::Refused(Refused::Busy);
        }
        let (granted, waits) = oneshot::channel();
        state.queue.push_back(Waiter { owner, granted });
        let is_modest = state.held_by(owner) < share;
        drop(state);
        if is_modest {
            let one_more = |arrived: &mut usize| *arrived = arrived.wrapping_add(1);
            self.0.modest.send_modify(one_more);
        }
        Asked::Waits(waits)
    }
}

// === impl Permit ===

impl Permit {
    /// Waits until somebody waits for a permit.
    pub async fn is_wanted(&self) {
        let mut waiting = self.of.waiting.subscribe();
        let somebody = waiting.wait_for(|waiting| *waiting > 0).await;
        somebody.expect("we hold the sender");
    }

    /// Waits until another owner waits for a permit and that of this one has more than its share.
    pub async fn is_over_share(&self) {
        let (mut modest, share) = (self.of.modest.subscribe(), self.of.rules.share);
        while !self.of.lock().is_over_share(self.owner, share) {
            modest.changed().await.expect("we hold the sender");
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.of.lock();
        state.give_back(self.owner);
        let Some(waiter) = state.next(self.of.rules.share) else {
            return;
        };
        let permit = state.take(waiter.owner, &self.of);
        drop(state);
        // Who went away in between gives it back, as anybody does.
        let _ = waiter.granted.send(permit);
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        let state = self.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn held_by(&self, owner: u64) -> usize {
        self.held.get(&owner).copied().unwrap_or(0)
    }

    /// A permit that is free.
    fn take(&mut self, owner: u64, of: &Arc<Shared>) -> Permit {
        self.free -= 1;
        *self.held.entry(owner).or_insert(0) += 1;
        let of = Arc::clone(of);
        Permit { of, owner }
    }

    fn give_back(&mut self, owner: u64) {
        self.free += 1;
        let held = self.held.get_mut(&owner);
        let held = held.expect("whoever has a permit is counted");
        *held -= 1;
        if *held == 0 {
            self.held.remove(&owner);
        }
    }

    /// Who is next: the first who has less than its share, else the first of all.
    fn next(&mut self, share: usize) -> Option<Waiter> {
        let below = (self.queue.iter())
            .position(|waiter| !waiter.granted.is_closed() && self.held_by(waiter.owner) < share);
        if let Some(at) = below {
            return self.queue.remove(at);
        }
        loop {
            let first = self.queue.pop_front()?;
            if !first.granted.is_closed() {
                return Some(first);
            }
        }
    }

    /// Whether another owner waits.
    fn others_wait(&self, owner: u64) -> bool {
        let mut waiters = self.queue.iter();
        waiters.any(|waiter| waiter.owner != owner && !waiter.granted.is_closed())
    }

    fn is_over_share(&self, owner: u64, share: usize) -> bool {
        self.held_by(owner) > share && self.others_wait(owner)
    }

    /// Why an owner is refused when none is free.
    fn refusal(&self, owner: u64, share: usize) -> Refused {
        if self.held_by(owner) >= share && self.others_wait(owner) {
            Refused::OverShare
        } else {
            Refused::Busy
        }
    }

    /// Has the last who waits with its share or more give way to an owner that has less.
    fn displace(&mut self, owner: u64, share: usize) -> bool {
        let has_share = |owner| self.held_by(owner) >= share;
        if has_share(owner) {
            return false;
        }
        let last = self.queue.iter().rposition(|it| has_share(it.owner));
        last.and_then(|at| self.queue.remove(at)).is_some()
    }
}

// === impl Waiting ===

impl<'a> Waiting<'a> {
    fn count(waiting: &'a watch::Sender<usize>) -> Self {
        waiting.send_if_modified(|waiting| {
            *waiting += 1;
            *waiting == 1
        });
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_if_modified(|waiting| {
            *waiting -= 1;
            *waiting == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);

    fn permits(permits: usize, share: usize, queue: usize) -> FairPermits {
        FairPermits::new(Rules {
            permits,
            share,
            queue,
            patience: PATIENCE,
            over_share: OverShare::IsRefused,
        })
    }

    /// Takes so many at once.
    fn take(permits: &FairPermits, owner: &str, count: usize) -> Vec<Permit> {
        let take = |_| match permits.ask(permits.0.seed.hash_one(owner)) {
            Asked::Taken(permit) => permit,
            Asked::Refused(_) | Asked::Waits(_) => panic!("none is free"),
        };
        (0..count).map(take).collect()
    }

    async fn moment() {
        let _ = timeout(Duration::from_millis(1), pending::<()>()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_wait_for_a_moment_and_the_rest_is_refused_at_once() {
        let permits = permits(8, 8, 2);
        let mut held = take(&permits, "a", 8);
        let begun = Instant::now();
        let (first, second, refused) =
            tokio::join!(permits.acquire("b"), permits.acquire("b"), async {
                let refused = permits.acquire("b").await.err();
                (refused, begun.elapsed())
            });
        assert!(first.is_err() && second.is_err());
        assert_eq!(begun.elapsed(), PATIENCE);
        assert_eq!(refused, (Some(Refused::Busy), Duration::ZERO));
        let (waited, ()) = tokio::join!(permits.acquire("b"), async { drop(held.pop()) });
        assert!(waited.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_has_all_of_them_while_nobody_else_waits() {
        let permits = permits(8, 2, 4);
        let _held = take(&permits, "a", 8);
        assert_eq!(permits.acquire("a").await.err(), Some(Refused::Busy));
    }

    #[test]
    fn what_lasts_has_its_share_and_no_more_though_nobody_waits() {
        let permits = permits(3, 2, 0);
        let held = [
            permits.try_acquire_share("a"),
            permits.try_acquire_share("a"),
        ];
        let refused = permits.try_acquire_share("a").err();
        assert_eq!(refused, Some(Refused::OverShare));
        let _other = permits.try_acquire_share("b").expect("free");
        let busy = permits.try_acquire_share("b").err();
        assert_eq!(busy, Some(Refused::Busy));
        drop(held);
        assert!(permits.try_acquire_share("a").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_its_share_is_refused_while_others_wait_and_they_are_served_first() {
        let permits = permits(8, 2, 4);
        let mut held = take(&permits, "a", 8);
        let (mine, (theirs, refused)) = tokio::join!(permits.acquire("a"), async {
            let theirs = permits.acquire("b");
            let refused = async {
                moment().await;
                let refused = permits.acquire("a").await.err();
                drop(held.pop());
                refused
            };
            tokio::join!(theirs, refused)
        });
        assert_eq!(refused, Some(Refused::OverShare));
        assert!(theirs.is_ok(), "it came later and was below its share");
        assert_eq!(mine.err(), Some(Refused::Busy), "nobody else waits then");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_with_its_share_gives_way_when_the_queue_is_full() {
        let permits = permits(2, 1, 1);
        let mut held = take(&permits, "a", 2);
        let (mine, theirs, ()) = tokio::join!(permits.acquire("a"), permits.acquire("b"), async {
            moment().await;
            drop(held.pop());
        });
        assert_eq!(mine.err(), Some(Refused::OverShare));
        assert!(theirs.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_permit_comes_back_however_its_waiting_ends() {
        let permits = permits(1, 1, 4);
        for _ in 0..3 {
            let held = take(&permits, "a", 1);
            let mut gives_up = Box::pin(permits.acquire("b"));
            assert!(futures_util::poll!(&mut gives_up).is_pending());
            drop(held);
            // It was granted by now, and nobody looks.
            drop(gives_up);
            let mut gone = Box::pin(permits.acquire("b"));
            let held = take(&permits, "a", 1);
            assert!(futures_util::poll!(&mut gone).is_pending());
            drop(gone);
            drop(held);
        }
        assert!(permits.0.lock().held.is_empty());
        assert_eq!(permits.0.lock().free, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_more_than_its_share_is_told_when_others_wait() {
        let permits = permits(4, 2, 4);
        let (mut greedy, modest) = (take(&permits, "a", 3), take(&permits, "b", 1));
        let waits = permits.acquire("c");
        let told = async {
            moment().await;
            let first = greedy.remove(0);
            assert!(timeout(PATIENCE / 4, first.is_over_share()).await.is_ok());
            assert!(
                timeout(PATIENCE / 4, modest[0].is_over_share())
                    .await
                    .is_err()
            );
            assert!(timeout(PATIENCE / 4, modest[0].is_wanted()).await.is_ok());
            drop(first);
            assert!(timeout(PATIENCE, greedy[0].is_over_share()).await.is_err());
        };
        let (given, ()) = tokio::join!(waits, told);
        assert!(given.is_ok());
    }
}
