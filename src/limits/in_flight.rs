//! How much may be under way at once, and how much of it may be one caller's.

use std::{net::IpAddr, time::Duration};

use crate::{
    limits::bodies::Bodies,
    metrics::{Limit, Metrics},
    model::{network::Network, request::Interruption, text::DeveloperId},
    permits::{FairPermits, OverShare, Permit, Refused, Rules},
};

/// How long a verb waits for a permit: long enough for a burst, and no longer, because whoever waits in
/// a long queue is served too late to be of use.
const PATIENCE: Duration = Duration::from_millis(100);
/// The queue is this part of the permits.
const QUEUE_SHARE: usize = 4;
/// Webhooks whose sender is not known yet: read, looked up and verified. They have 64 KiB each.
const WEBHOOKS: Rules = Rules {
    permits: 64,
    share: 16,
    queue: 64,
    patience: Duration::from_secs(2),
    over_share: OverShare::Waits,
};
/// API keys that are looked up. It is less than the store lets wait, so that those whom nobody knows
/// do not keep out what callers that are known read.
const LOOKUPS: Rules = Rules {
    permits: 256,
    share: 64,
    queue: 1024,
    patience: Duration::from_secs(2),
    over_share: OverShare::Waits,
};

/// How many verbs may be under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxInFlight {
    /// In a replica.
    pub total: usize,
    /// Of one developer, while others wait.
    pub per_developer: usize,
}

/// What this replica has under way.
pub struct InFlight {
    verbs: FairPermits,
    webhooks: FairPermits,
    lookups: FairPermits,
    /// What is read of callers that are known.
    pub bodies: Bodies,
    metrics: Metrics,
}

impl InFlight {
    /// Nothing is under way.
    #[must_use]
    pub fn new(max: MaxInFlight, metrics: &Metrics) -> Self {
        Self {
            verbs: FairPermits::new(Rules {
                permits: max.total,
                share: max.per_developer,
                queue: (max.total / QUEUE_SHARE).max(1),
                patience: PATIENCE,
                over_share: OverShare::IsRefused,
            }),
            webhooks: FairPermits::new(WEBHOOKS),
            lookups: FairPermits::new(LOOKUPS),
            bodies: Bodies::new(metrics),
            metrics: metrics.clone(),
        }
    }

    /// A permit for a verb. Whoever asks for one is known, and what it asks for is read.
    ///
    /// # Errors
    ///
    /// Overloaded, or over the developer's share.
    pub async fn verb(&self, developer: &DeveloperId) -> Result<Permit, Interruption> {
        let permit = self.verbs.acquire(developer).await;
        permit.map_err(|why| interrupted(&self.metrics, Limit::InFlightPerDeveloper, why))
    }

    /// A permit for a webhook whose sender is not known yet.
    ///
    /// # Errors
    ///
    /// Overloaded, or over the address's share.
    pub async fn webhook(&self, address: IpAddr) -> Result<Permit, Interruption> {
        self.of_address(&self.webhooks, address).await
    }

    /// A permit to look an API key up.
    ///
    /// # Errors
    ///
    /// Overloaded, or over the address's share.
    pub async fn lookup(&self, address: IpAddr) -> Result<Permit, Interruption> {
        self.of_address(&self.lookups, address).await
    }

    async fn of_address(
        &self,
        permits: &FairPermits,
        address: IpAddr,
    ) -> Result<Permit, Interruption> {
        let permit = permits.acquire(&Network::of(address)).await;
        permit.map_err(|why| interrupted(&self.metrics, Limit::InFlightPerAddress, why))
    }
}

/// What a refusal is for whoever asked, once it is counted.
pub(super) fn interrupted(metrics: &Metrics, limit: Limit, why: Refused) -> Interruption {
    match why {
        Refused::Busy => {
            metrics.shed();
            Interruption::Overloaded
        }
        Refused::OverShare => {
            metrics.rate_limited(limit);
            Interruption::OverShare
        }
    }
}
