//! TLS handshakes: bounded in time and number, so that unfinished ones hurt nobody.

use std::{future::pending, io, time::Duration};

use thiserror::Error;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, SemaphorePermit, watch},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The time for a handshake, waiting for a place included.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes of one listener that are under way. A client can have up to 64 KiB kept for it in
/// one, so this is 32 MiB; the connections that wait for a place have nothing kept for them.
const MAX_HANDSHAKES: usize = 512;
/// While others wait for a place, a handshake has no more than this; it is four round trips of a
/// distant client. Without it 512 idle connections would keep everybody out for ten seconds.
const CROWDED_TIMEOUT: Duration = Duration::from_secs(1);

/// The handshakes of one listener.
pub(super) struct Handshakes {
    places: Semaphore,
    /// How many wait for a place.
    waiting: watch::Sender<usize>,
}

/// Why a handshake came to nothing. It is the client's affair, and no louder than debug in the log.
#[derive(Debug, Error)]
pub(super) enum NoHandshake {
    /// It was not TLS, or not as we speak it.
    #[error("{0}")]
    Broken(#[from] io::Error),
    /// It took too long.
    #[error("it took too long")]
    TimedOut,
    /// It was slow and others waited.
    #[error("it was slow while others waited")]
    Crowded,
}

/// Counts one that waits, until it is dropped.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl Handshakes {
    pub(super) fn new() -> Self {
        Self {
            places: Semaphore::new(MAX_HANDSHAKES),
            waiting: watch::Sender::new(0),
        }
    }

    /// Makes a handshake on a connection that was just accepted. What it is made with is asked for
    /// when it begins.
    pub(super) async fn make(
        &self,
        stream: TcpStream,
        acceptor: impl FnOnce() -> TlsAcceptor,
    ) -> Result<TlsStream<TcpStream>, NoHandshake> {
        let handshake = async {
            let _place = self.place().await;
            tokio::select! {
                done = acceptor().accept(stream) => Ok(done?),
                () = self.crowded() => Err(NoHandshake::Crowded),
            }
        };
        let made = timeout(HANDSHAKE_TIMEOUT, handshake).await;
        made.unwrap_or(Err(NoHandshake::TimedOut))
    }

    async fn place(&self) -> SemaphorePermit<'_> {
        if let Ok(place) = self.places.try_acquire() {
            return place;
        }
        let _waiting = Waiting::count(&self.waiting);
        let place = self.places.acquire().await;
        place.expect("the semaphore is never closed")
    }

    /// Waits until it is time to make room.
    async fn crowded(&self) {
        let _ = timeout(CROWDED_TIMEOUT, pending::<()>()).await;
        let mut waiting = self.waiting.subscribe();
        let somebody = waiting.wait_for(|waiting| *waiting > 0).await;
        somebody.expect("we hold the sender");
    }
}

// === impl Waiting ===

impl<'a> Waiting<'a> {
    fn count(waiting: &'a watch::Sender<usize>) -> Self {
        waiting.send_modify(|waiting| *waiting += 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}
