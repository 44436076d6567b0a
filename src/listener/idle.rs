//! How long a connection may be idle: long once somebody who is known has asked for something on it, and
//! short before that.
//!
//! A proxy keeps connections to send requests on them. It must be the first to close one that is idle:
//! a request that it sends while we close is lost, and answered 502.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http_body::{Body, Frame, SizeHint};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

/// A connection that has not made a request by then is closed.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// The idle time of a connection on which nobody who is known has asked for anything.
const UNKNOWN_TIMEOUT: Duration = Duration::from_secs(75);

/// How long connections may be idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IdleTimes {
    /// Once a caller on them was authenticated; never the shorter one.
    known: Duration,
    /// Before that.
    unknown: Duration,
}

/// What a connection is used for; clones are the same.
#[derive(Clone)]
pub(super) struct Activity(Arc<State>);

struct State {
    begun: Instant,
    under_way: AtomicUsize,
    /// When the last request ended, in milliseconds since the connection began.
    ended_after: AtomicU64,
    is_used: AtomicBool,
    is_known: AtomicBool,
}

/// A request that is under way on a connection, until it is dropped.
pub(super) struct UnderWay(Activity);

/// The body of an answer: its request is under way until all of it is sent.
pub(super) struct Tracked<B> {
    body: B,
    _under_way: UnderWay,
}

/// How connections that are idle make room for new ones; clones are the same.
#[derive(Clone, Default)]
pub(super) struct GiveWay(Arc<Asked>);

#[derive(Default)]
struct Asked {
    waiting: AtomicUsize,
    /// Wakes those who wait in their order: who has been idle the longest is the first.
    asked: Notify,
}

/// Counts one who waits for room, until it is dropped.
pub(super) struct WaitsForRoom<'a>(&'a GiveWay);

// === impl IdleTimes ===

impl IdleTimes {
    /// `known` is for connections on which a caller was authenticated; the time of others is no longer.
    pub(super) fn of_known(known: Duration) -> Self {
        Self {
            known,
            unknown: known.min(UNKNOWN_TIMEOUT),
        }
    }

    /// The longest that any connection may be idle.
    pub(super) fn longest(self) -> Duration {
        self.known.max(FIRST_REQUEST_TIMEOUT)
    }
}

impl Default for IdleTimes {
    fn default() -> Self {
        Self::of_known(UNKNOWN_TIMEOUT)
    }
}

// === impl Activity ===

impl Activity {
    /// A connection that begins now.
    pub(super) fn begin() -> Self {
        Self(Arc::new(State {
            begun: Instant::now(),
            under_way: AtomicUsize::new(0),
            ended_after: AtomicU64::new(0),
            is_used: AtomicBool::new(false),
            is_known: AtomicBool::new(false),
        }))
    }

    /// Counts a request.
    pub(super) fn request(&self) -> UnderWay {
        self.0.is_used.store(true, Ordering::Relaxed);
        self.0.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.clone())
    }

    /// How long no request has been under way; `None` while one is.
    pub(super) fn idle_for(&self) -> Option<Duration> {
        // Ordered after the end of the request that is seen to be gone.
        if self.0.under_way.load(Ordering::Acquire) > 0 {
            return None;
        }
        let ended_after = Duration::from_millis(self.0.ended_after.load(Ordering::Relaxed));
        Some(self.0.begun.elapsed().saturating_sub(ended_after))
    }

    /// Waits until the connection has been idle for too long. Nothing wakes this for each request: it
    /// looks when its time could be over.
    pub(super) async fn is_over(&self, times: IdleTimes, give_way: &GiveWay) {
        loop {
            let limit = self.limit(times);
            let Some(idle_for) = self.idle_for() else {
                sleep(times.unknown).await;
                continue;
            };
            let short = limit.min(times.unknown);
            if idle_for >= limit {
                return;
            }
            if idle_for < short {
                sleep(short.saturating_sub(idle_for)).await;
                continue;
            }
            tokio::select! {
                () = sleep(limit.saturating_sub(idle_for)) => {}
                () = give_way.is_asked() => {
                    if self.idle_for().is_some_and(|idle_for| idle_for >= short) {
                        return;
                    }
                    give_way.ask();
                }
            }
        }
    }

    fn limit(&self, times: IdleTimes) -> Duration {
        if !self.0.is_used.load(Ordering::Relaxed) {
            FIRST_REQUEST_TIMEOUT
        } else if self.0.is_known.load(Ordering::Relaxed) {
            times.known
        } else {
            times.unknown
        }
    }
}

// === impl UnderWay ===

impl UnderWay {
    /// Says that its caller was authenticated.
    pub(super) fn is_of_known_caller(&self) {
        self.0.0.is_known.store(true, Ordering::Relaxed);
    }

    /// The body of its answer.
    pub(super) fn tracks<B>(self, body: B) -> Tracked<B> {
        Tracked {
            body,
            _under_way: self,
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let State {
            begun,
            under_way,
            ended_after,
            ..
        } = &*self.0.0;
        let after = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        ended_after.fetch_max(after, Ordering::Relaxed);
        under_way.fetch_sub(1, Ordering::Release);
    }
}

// === impl Tracked ===

impl<B: Body + Unpin> Body for Tracked<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// === impl GiveWay ===

impl GiveWay {
    /// Counts one who waits for room.
    pub(super) fn wait_for_room(&self) -> WaitsForRoom<'_> {
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        WaitsForRoom(self)
    }

    /// Asks the connection that has been idle the longest to close.
    pub(super) fn ask(&self) {
        self.0.asked.notify_one();
    }

    async fn is_asked(&self) {
        loop {
            self.0.asked.notified().await;
            // Who waited may have got room meanwhile.
            if self.0.waiting.load(Ordering::Relaxed) > 0 {
                return;
            }
        }
    }
}

impl Drop for WaitsForRoom<'_> {
    fn drop(&mut self) {
        self.0.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join;
    use tokio::time::timeout;

    use super::*;

    const TIMES: IdleTimes = IdleTimes {
        known: Duration::from_mins(11),
        unknown: UNKNOWN_TIMEOUT,
    };

    async fn lasted(activity: &Activity) -> Duration {
        let since = Instant::now();
        activity.is_over(TIMES, &GiveWay::default()).await;
        since.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_may_be_idle_for_longer_once_its_caller_is_known() {
        let close = |took: Duration, expected: Duration| {
            took >= expected && took < expected + Duration::from_secs(1)
        };
        let activity = Activity::begin();
        assert!(close(lasted(&activity).await, FIRST_REQUEST_TIMEOUT));
        let activity = Activity::begin();
        drop(activity.request());
        assert!(close(lasted(&activity).await, UNKNOWN_TIMEOUT));
        let activity = Activity::begin();
        activity.request().is_of_known_caller();
        assert!(close(lasted(&activity).await, TIMES.known));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_not_idle_while_a_request_is_under_way() {
        let activity = Activity::begin();
        let under_way = activity.request();
        let request = async {
            sleep(Duration::from_hours(1)).await;
            under_way.is_of_known_caller();
            drop(under_way);
        };
        let (lasted, ()) = join(lasted(&activity), request).await;
        let expected = Duration::from_hours(1) + TIMES.known;
        assert!(lasted >= expected && lasted < expected + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_been_idle_the_longest_gives_way_and_only_to_who_waits() {
        let give_way = GiveWay::default();
        let [first, second, busy] = [(); 3].map(|()| Activity::begin());
        for activity in [&busy, &first] {
            activity.request().is_of_known_caller();
        }
        let over = |activity: &Activity| {
            let (activity, give_way) = (activity.clone(), give_way.clone());
            tokio::spawn(async move { activity.is_over(TIMES, &give_way).await })
        };
        let [busy_is_over, first_is_over] = [&busy, &first].map(over);
        sleep(Duration::from_secs(1)).await;
        second.request().is_of_known_caller();
        let second_is_over = over(&second);
        sleep(Duration::from_mins(2)).await;
        let _under_way = busy.request();
        // Nobody waits.
        give_way.ask();
        sleep(Duration::from_secs(1)).await;
        assert!(!first_is_over.is_finished());
        let _waits = give_way.wait_for_room();
        give_way.ask();
        let closed = timeout(Duration::from_secs(1), first_is_over).await;
        assert!(closed.is_ok(), "it was idle for the longest");
        assert!(!second_is_over.is_finished() && !busy_is_over.is_finished());
    }
}
