//! How many connections are open, and how many of them are one address's.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use ipnet::IpNet;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

use super::{
    handshake::Handshakes,
    idle::{GiveWay, IdleTimes},
    requests::Requests,
};
use crate::{
    model::network::Network,
    permits::{FairPermits, OverShare, Permit, Rules},
};

/// The connections of the admin listener. Those who probe, scrape and operate are few.
const PRIVATE: MaxConnections = MaxConnections {
    total: 256,
    per_address: 128,
};

/// While somebody waits for a connection, one more that is idle is asked to close this often: the last one
/// may take its time.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxConnections {
    /// On all listeners that share them; more wait in the kernel's queue.
    pub total: usize,
    /// Of one address; more are closed at once.
    pub per_address: usize,
}

/// The connections that some listeners share; clones are the same.
#[derive(Clone)]
pub struct Connections {
    places: Arc<Semaphore>,
    by_address: FairPermits,
    pub(super) handshakes: Handshakes,
    pub(super) requests: Requests,
    pub(super) idle_times: IdleTimes,
    pub(super) give_way: GiveWay,
    trusted_proxies: Arc<[IpNet]>,
}

/// Whose limits a connection counts for: those of its address, or nobody's when a trusted proxy has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    Network(Network),
    /// Each of its connections is one by itself: it is many clients.
    Proxy(SocketAddr),
}

impl Connections {
    /// None is open.
    #[must_use]
    pub fn new(max: MaxConnections, trusted_proxies: &[IpNet]) -> Self {
        Self {
            places: Arc::new(Semaphore::new(max.total)),
            by_address: FairPermits::new(Rules {
                // Only shares count here: `places` bounds all of them.
                permits: usize::MAX,
                share: max.per_address,
                queue: 0,
                patience: Duration::ZERO,
                over_share: OverShare::IsRefused,
            }),
            handshakes: Handshakes::new(max.total),
            requests: Requests::default(),
            idle_times: IdleTimes::default(),
            give_way: GiveWay::default(),
            trusted_proxies: trusted_proxies.into(),
        }
    }

    /// Those on which a caller was authenticated may be idle for this long. Others have 75 seconds, or less
    /// if this is less.
    #[must_use]
    pub fn with_idle_timeout(self, known: Duration) -> Self {
        Self {
            idle_times: IdleTimes::of_known(known),
            ..self
        }
    }

    /// Those of the admin listener.
    #[must_use]
    pub fn private() -> Self {
        Self::new(PRIVATE, &[])
    }

    /// Room for one more, once there is. Who has been idle the longest, and longer than a connection of
    /// nobody may be, gives way.
    pub(super) async fn place(&self) -> OwnedSemaphorePermit {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return place;
        }
        let _waits = self.give_way.wait_for_room();
        let mut place = pin!(Arc::clone(&self.places).acquire_owned());
        loop {
            self.give_way.ask();
            tokio::select! {
                place = &mut place => return place.expect("the semaphore is never closed"),
                () = sleep(ASK_EVERY) => {}
            }
        }
    }

    /// Counts a connection for its owner; `None` when that has its share.
    pub(super) fn count(&self, owner: Owner) -> Option<Permit> {
        self.by_address.try_acquire_share(&owner).ok()
    }

    pub(super) fn owner_of(&self, peer: SocketAddr) -> Owner {
        let address = peer.ip().to_canonical();
        let mut proxies = self.trusted_proxies.iter();
        if proxies.any(|network| network.contains(&address)) {
            Owner::Proxy(peer)
        } else {
            Owner::Network(Network::of(address))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_of_64_bits_is_one_address_and_a_trusted_proxy_is_none() {
        let max = MaxConnections {
            total: 100,
            per_address: 2,
        };
        let connections = Connections::new(max, &["192.0.2.0/24".parse().unwrap()]);
        let mut open = Vec::new();
        for (peer, is_counted) in [
            ("[2001:db8:0:1::1]:1", true),
            ("[2001:db8:0:1:ffff::2]:2", true),
            ("[2001:db8:0:1:ffff::3]:3", false),
            ("[2001:db8:0:2::1]:1", true),
            ("198.51.100.1:1", true),
            ("[::ffff:198.51.100.1]:2", true),
            ("198.51.100.1:3", false),
            ("192.0.2.1:1", true),
            ("192.0.2.1:2", true),
            ("[::ffff:192.0.2.1]:3", true),
        ] {
            let owner = connections.owner_of(peer.parse().unwrap());
            let counted = connections.count(owner);
            assert_eq!(counted.is_some(), is_counted, "{peer}");
            open.push(counted);
        }
    }
}
