//! TLS handshakes: bounded in time and number, so that unfinished ones hurt nobody.

use std::{future::pending, io, time::Duration};

use thiserror::Error;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::connections::Owner;
use crate::permits::{FairPermits, OverShare, Permit, Refused, Rules};

/// The time for a handshake, waiting for a permit included.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes that are under way. A client can have up to 64 KiB kept for it in one, so this is
/// 32 MiB; the connections that wait for a permit have nothing kept for them.
const MAX_HANDSHAKES: usize = 512;
/// Those of one address, while others wait.
const MAX_OF_ADDRESS: usize = 128;
/// While others wait for a permit, a handshake has no more than this; it is four round trips of a
/// distant client. Without it 512 idle connections would keep everybody out for ten seconds.
const CROWDED_TIMEOUT: Duration = Duration::from_secs(1);

/// The handshakes of the listeners that share their connections; clones are the same.
#[derive(Clone)]
pub(super) struct Handshakes(FairPermits);

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
    /// Too many others were under way.
    #[error("{0}")]
    Refused(#[from] Refused),
}

impl Handshakes {
    /// None is under way; all connections may wait.
    pub(super) fn new(connections: usize) -> Self {
        Self(FairPermits::new(Rules {
            permits: MAX_HANDSHAKES,
            share: MAX_OF_ADDRESS,
            queue: connections,
            patience: HANDSHAKE_TIMEOUT,
            over_share: OverShare::Waits,
        }))
    }

    /// Makes a handshake on a connection that was just accepted. What it is made with is asked for
    /// when it begins.
    pub(super) async fn make(
        &self,
        stream: TcpStream,
        owner: Owner,
        acceptor: impl FnOnce() -> TlsAcceptor,
    ) -> Result<TlsStream<TcpStream>, NoHandshake> {
        let handshake = async {
            let permit = self.0.acquire(&owner).await?;
            tokio::select! {
                done = acceptor().accept(stream) => Ok(done?),
                () = crowded(&permit) => Err(NoHandshake::Crowded),
            }
        };
        let made = timeout(HANDSHAKE_TIMEOUT, handshake).await;
        made.unwrap_or(Err(NoHandshake::TimedOut))
    }
}

/// Waits until it is time to make room.
async fn crowded(permit: &Permit) {
    let _ = timeout(CROWDED_TIMEOUT, pending::<()>()).await;
    permit.is_wanted().await;
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{task::JoinSet, time::Instant};

    use super::*;
    use crate::model::network::Network;

    fn owner(last: u8) -> Owner {
        Owner::Network(Network::of(Ipv4Addr::new(192, 0, 2, last).into()))
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_renews_silent_handshakes_keeps_no_other_waiting() {
        let rounds = 4;
        let handshakes = Handshakes::new(rounds * MAX_HANDSHAKES);
        let mut silent = JoinSet::new();
        for _ in 0..rounds * MAX_HANDSHAKES {
            let handshakes = handshakes.clone();
            silent.spawn(async move {
                while let Ok(permit) = handshakes.0.acquire(&owner(1)).await {
                    crowded(&permit).await;
                }
            });
        }
        // Time goes on when nobody can do anything: all that can have a permit have one then.
        let _ = timeout(Duration::from_millis(1), pending::<()>()).await;
        for _ in 0..3 {
            let since = Instant::now();
            let permit = handshakes.0.acquire(&owner(2)).await;
            assert!(permit.is_ok());
            let waited = since.elapsed();
            assert!(waited <= 2 * CROWDED_TIMEOUT, "{waited:?}");
        }
        silent.shutdown().await;
    }
}
