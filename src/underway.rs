//! The request under way: who asks, what it has waited for, and what its answer says beside its body.
//!
//! The listener begins it, the rooms below add to it, and its line in the log says it. It belongs to the task of the request: work that is spawned beside it is not the request's.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::model::request::Allowance;

tokio::task_local! {
    static CURRENT: Underway;
}

/// A request under way; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Underway(Arc<State>);

#[derive(Debug, Default)]
struct State {
    caller: AtomicU8,
    database_micros: AtomicU64,
    kms_micros: AtomicU64,
    allowance: Mutex<Option<Allowance>>,
    failed_too_often: AtomicBool,
}

/// Who asks, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallerKind {
    /// Nobody that is known; what a request begins with.
    Unknown = 0,
    /// A developer, by an API key.
    Developer,
    /// An agent, by a grant token.
    Agent,
    /// A Grantex auth service, by the signature of a webhook.
    Webhook,
}

/// What a request waited for.
#[derive(Debug, Clone, Copy)]
enum Waited {
    Database,
    Kms,
}

impl Underway {
    /// Does some work as this request.
    pub async fn scope<T>(&self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self.clone(), work).await
    }

    /// Who asks.
    #[must_use]
    pub fn caller(&self) -> CallerKind {
        let known = [
            CallerKind::Developer,
            CallerKind::Agent,
            CallerKind::Webhook,
        ];
        let caller = self.0.caller.load(Ordering::Relaxed);
        let found = known.into_iter().find(|kind| *kind as u8 == caller);
        found.unwrap_or(CallerKind::Unknown)
    }

    /// How long it has waited for Postgres.
    #[must_use]
    pub fn database_time(&self) -> Duration {
        Duration::from_micros(self.0.database_micros.load(Ordering::Relaxed))
    }

    /// How long it has waited for a KMS.
    #[must_use]
    pub fn kms_time(&self) -> Duration {
        Duration::from_micros(self.0.kms_micros.load(Ordering::Relaxed))
    }

    /// What its caller may still ask for, where there is a limit.
    #[must_use]
    pub fn allowance(&self) -> Option<Allowance> {
        *self.kept_allowance()
    }

    /// Whether it is one of too many failed authentications.
    #[must_use]
    pub fn has_failed_too_often(&self) -> bool {
        self.0.failed_too_often.load(Ordering::Relaxed)
    }

    fn kept_allowance(&self) -> MutexGuard<'_, Option<Allowance>> {
        let kept = self.0.allowance.lock();
        kept.unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, waited: Waited, time: Duration) {
        let sum = match waited {
            Waited::Database => &self.0.database_micros,
            Waited::Kms => &self.0.kms_micros,
        };
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        sum.fetch_add(micros, Ordering::Relaxed);
    }
}

// === impl CallerKind ===

impl CallerKind {
    /// The name in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Developer => "developer",
            Self::Agent => "agent",
            Self::Webhook => "webhook",
        }
    }
}

/// Says who makes the request of this task, if it is one.
pub fn called_by(caller: CallerKind) {
    let _ = CURRENT.try_with(|current| current.0.caller.store(caller as u8, Ordering::Relaxed));
}

/// Says what the caller of this task's request may still ask for.
pub fn may_still(allowance: Allowance) {
    let _ = CURRENT.try_with(|current| *current.kept_allowance() = Some(allowance));
}

/// Says that this task's request is one of too many failed authentications.
pub fn failed_too_often() {
    let failed = |current: &Underway| current.0.failed_too_often.store(true, Ordering::Relaxed);
    let _ = CURRENT.try_with(failed);
}

/// Waits for Postgres, on the account of the request of this task.
pub async fn on_database<T>(work: impl Future<Output = T>) -> T {
    waiting(Waited::Database, work).await
}

/// Waits for a KMS, on the account of the request of this task.
pub async fn on_kms<T>(work: impl Future<Output = T>) -> T {
    waiting(Waited::Kms, work).await
}

async fn waiting<T>(waited: Waited, work: impl Future<Output = T>) -> T {
    let _waiting = Waiting {
        waited,
        since: Instant::now(),
    };
    work.await
}

/// Counts also when the work is given up.
struct Waiting {
    waited: Waited,
    since: Instant,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let time = self.since.elapsed();
        let _ = CURRENT.try_with(|current| current.add(self.waited, time));
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_a_request_waited_for_is_added_up_also_when_it_was_given_up() {
        let underway = Underway::default();
        let wait = |seconds| timeout(Duration::from_secs(seconds), pending::<()>());
        let work = underway.scope(async {
            let _ = on_database(wait(1)).await;
            let _ = on_database(wait(1)).await;
            called_by(CallerKind::Agent);
            on_kms(pending::<()>()).await;
        });
        assert!(timeout(Duration::from_secs(3), work).await.is_err());
        assert_eq!(underway.database_time(), Duration::from_secs(2));
        assert_eq!(underway.kms_time(), Duration::from_secs(1));
        assert_eq!(underway.caller(), CallerKind::Agent);
    }
}
