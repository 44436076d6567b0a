//! Reading the bounds: how much callers may ask for, hold and keep.

use std::{num::NonZeroU32, ops::RangeInclusive, time::Duration};

use super::values::Values;
use crate::{
    limits::{MaxInFlight, PerMinute},
    listener::connections::MaxConnections,
};

/// More requests than anybody has under way.
const MAX_IN_FLIGHT: usize = 1_000_000;
/// More connections than a process has file descriptors.
const MAX_CONNECTIONS: usize = 1_000_000;
/// How long an idle connection may make sense: load balancers have up to 6,000 seconds.
const IDLE_TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);

impl Values<'_> {
    pub(super) fn limits(&mut self) -> Option<PerMinute> {
        let mut limit = |name| self.parsed(name).map(NonZeroU32::new);
        let exchanges_per_grant = limit("GRANTEX_VAULT_LIMIT_EXCHANGE_PER_GRANT");
        let requests_per_developer = limit("GRANTEX_VAULT_LIMIT_REQUESTS_PER_DEVELOPER");
        let failed_auth_per_address = limit("GRANTEX_VAULT_LIMIT_FAILED_AUTH_PER_ADDRESS");
        Some(PerMinute {
            exchanges_per_grant: exchanges_per_grant?,
            requests_per_developer: requests_per_developer?,
            failed_auth_per_address: failed_auth_per_address?,
        })
    }

    pub(super) fn max_in_flight(&mut self) -> Option<MaxInFlight> {
        let (total, per_developer) = self.shared(
            "GRANTEX_VAULT_MAX_IN_FLIGHT",
            MAX_IN_FLIGHT,
            "GRANTEX_VAULT_MAX_IN_FLIGHT_PER_DEVELOPER",
        )?;
        Some(MaxInFlight {
            total,
            per_developer,
        })
    }

    pub(super) fn max_connections(&mut self) -> Option<MaxConnections> {
        let (total, per_address) = self.shared(
            "GRANTEX_VAULT_MAX_CONNECTIONS",
            MAX_CONNECTIONS,
            "GRANTEX_VAULT_MAX_CONNECTIONS_PER_ADDRESS",
        )?;
        Some(MaxConnections { total, per_address })
    }

    pub(super) fn idle_timeout(&mut self) -> Option<Duration> {
        const NAME: &str = "GRANTEX_VAULT_IDLE_TIMEOUT";
        match self.duration(NAME)? {
            timeout if IDLE_TIMEOUTS.contains(&timeout) => Some(timeout),
            _ => self.fault(NAME, "must be 1s to 24h"),
        }
    }

    /// A number of something, and how much of it may be one owner's: a quarter if nobody says.
    fn shared(
        &mut self,
        name: &'static str,
        most: usize,
        share_name: &'static str,
    ) -> Option<(usize, usize)> {
        let total = match self.parsed(name)? {
            many if (1..=most).contains(&many) => many,
            _ => return self.fault(name, format_args!("must be 1 to {most}")),
        };
        if self.get(share_name).is_none() {
            return Some((total, (total / 4).max(1)));
        }
        match self.parsed(share_name)? {
            share if (1..=total).contains(&share) => Some((total, share)),
            _ => self.fault(
                share_name,
                format_args!("must be 1 to {total}, which {name} says"),
            ),
        }
    }
}
