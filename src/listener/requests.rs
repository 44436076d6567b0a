//! How many requests have begun and are not answered, on all connections together.
//!
//! A connection may have 128 streams, and takes them up as fast as they come. What they take until they
//! are answered would have no bound but the number of connections.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::ready,
};

use tokio::sync::Notify;

/// Requests that have begun: some KiB each. It is more than everything that may be awaited for long,
/// bodies, permits, lookups and refusals that are delayed, so that those alone never come to it.
const MAX_BEGUN: usize = 10_000;
/// With so few there is room for every connection.
const ROOM_AGAIN: usize = MAX_BEGUN / 4 * 3;

/// The requests; clones are the same.
#[derive(Clone, Default)]
pub(super) struct Requests(Arc<State>);

#[derive(Default)]
struct State {
    begun: AtomicUsize,
    room: Notify,
}

/// A request that is not answered, until it is dropped.
pub(super) struct Begun(Arc<State>);

impl Requests {
    /// Counts one.
    pub(super) fn begin(&self) -> Begun {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        Begun(Arc::clone(&self.0))
    }

    /// Goes on with a connection while there is room for more requests. Meanwhile nothing is taken from
    /// it.
    pub(super) async fn pace<C: Future>(&self, mut connection: Pin<&mut C>) -> C::Output {
        let mut room: Option<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = None;
        std::future::poll_fn(|context| {
            loop {
                if let Some(waits) = &mut room {
                    ready!(waits.as_mut().poll(context));
                    room = None;
                }
                if self.0.begun.load(Ordering::Relaxed) < MAX_BEGUN {
                    return connection.as_mut().poll(context);
                }
                room = Some(Box::pin(self.room()));
            }
        })
        .await
    }

    async fn room(&self) {
        loop {
            let notified = self.0.room.notified();
            if self.0.begun.load(Ordering::SeqCst) < MAX_BEGUN {
                return;
            }
            notified.await;
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        match self.0.begun.fetch_sub(1, Ordering::SeqCst) {
            // One connection for each that is answered, and all of them once it is crowded no more.
            ROOM_AGAIN => self.0.room.notify_waiters(),
            before if before > ROOM_AGAIN => self.0.room.notify_one(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test]
    async fn a_connection_waits_while_too_many_requests_have_begun() {
        let requests = Requests::default();
        let mut begun: Vec<_> = (0..MAX_BEGUN).map(|_| requests.begin()).collect();
        let mut connection = pin!(async { 7 });
        let mut paced = Box::pin(requests.pace(connection.as_mut()));
        assert!(futures_util::poll!(&mut paced).is_pending());
        let mut other = pin!(async { 8 });
        let mut others = Box::pin(requests.pace(other.as_mut()));
        assert!(futures_util::poll!(&mut others).is_pending());
        begun.pop();
        assert!(
            futures_util::poll!(&mut others).is_pending(),
            "not its turn"
        );
        assert_eq!(paced.await, 7);
        begun.truncate(ROOM_AGAIN - 1);
        assert_eq!(others.await, 8);
    }
}
