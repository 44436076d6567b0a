//! Whether the authority's tables were only tables when somebody looked at them, a moment ago.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::plain_tables::Look;

/// How long a look counts. One is taken every two seconds, and may take as long as a statement may.
const COUNTS_FOR: Duration = Duration::from_secs(10);

/// What is known of the tables. Until somebody has looked that is nothing, and they are not read.
#[derive(Default)]
pub(super) struct AuthorityTrust(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// When they were seen to be only tables, unless they were something else since.
    well_at: Option<Instant>,
    /// What they were like at the last look.
    version: Option<String>,
}

impl AuthorityTrust {
    /// Whether they may be read.
    pub(super) fn holds(&self) -> bool {
        self.known(|known| known.well_at.is_some_and(|at| at.elapsed() < COUNTS_FOR))
    }

    /// Takes note of a look. Answers whether something was done to the tables since the one before.
    pub(super) fn learn(&self, look: &Look) -> bool {
        self.known(|known| {
            known.well_at = look.fault.is_none().then(Instant::now);
            let before = known.version.replace(look.version.clone());
            before.is_some_and(|before| before != look.version)
        })
    }

    fn known<T>(&self, act: impl FnOnce(&mut Known) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
