//! What this replica can do now: for probes, and for whoever looks.
//!
//! A replica is ready once everything that it needs has been there once. From then on it stays ready
//! but for three cases: it is draining, it has had no Postgres for a grace period, or its Postgres must
//! not be used. Trouble with a
//! KMS, an issuer or the audit makes it degraded and no less ready: taking every replica out of
//! service would only replace our clear 503 by a proxy's page.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Serialize;
use tokio::sync::{Notify, futures::Notified};

use crate::{clock::Clock, model::timestamp::Timestamp};

/// What a replica needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Postgres, with our schema.
    Database,
    /// The master keys; each has a probe of its own.
    MasterKeys,
    /// The issuer's keys.
    IssuerKeys,
    /// The audit record.
    Audit,
}

/// What is known of all that a replica needs.
pub struct Health {
    clock: Arc<dyn Clock>,
    grace: Duration,
    state: Mutex<State>,
    changed: Notify,
}

/// Says of one thing whether it is there.
#[derive(Clone)]
pub struct Probe {
    health: Arc<Health>,
    index: usize,
}

#[derive(Default)]
struct State {
    draining: bool,
    records: Vec<Record>,
}

struct Record {
    need: Need,
    last: Option<Observation>,
    last_success: Option<Timestamp>,
}

#[derive(Clone, Copy)]
struct Observation {
    at: Timestamp,
    fault: Option<&'static str>,
    trouble: Trouble,
}

/// How bad a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// It answers, and not everything that is asked of it works.
    Impaired,
    /// It is not there.
    Absent,
    /// Somebody must act: it does not come back by itself.
    Refused,
}

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// It is there.
    Ok,
    /// It is not, and the replica serves what it can without.
    Degraded,
    /// It is not, and the replica should get no requests.
    Failed,
}

/// Whether requests should come here, and why.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Readiness {
    /// The worst of what follows.
    pub status: Status,
    /// Whether the replica is stopping.
    pub draining: bool,
    /// What it needs.
    pub checks: Checks,
}

/// One finding a need.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "each is the need of its name")]
pub struct Checks {
    pub database: Finding,
    pub master_keys: Finding,
    pub issuer_keys: Finding,
    pub audit: Finding,
}

/// What was found last.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How well it is.
    pub status: Status,
    /// How long ago that was found; `None` when nobody looked yet.
    pub age_seconds: Option<f64>,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'static str>,
}

// === impl Health ===

impl Health {
    /// Nothing is needed yet. Without Postgres the replica stays ready for `grace`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, grace: Duration) -> Self {
        Self {
            clock,
            grace,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// From now on this is needed.
    #[must_use]
    pub fn need(self: &Arc<Self>, need: Need) -> Probe {
        let mut state = self.state();
        state.records.push(Record {
            need,
            last: None,
            last_success: None,
        });
        Probe {
            health: Arc::clone(self),
            index: state.records.len() - 1,
        }
    }

    /// The replica is stopping, for good.
    pub fn drain(&self) {
        self.state().draining = true;
        self.changed.notify_waiters();
    }

    /// Whether requests should come here now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let (now, state) = (self.clock.now(), self.state());
        let finding = |need| self.finding(&state, need, now);
        let checks = Checks {
            database: finding(Need::Database),
            master_keys: finding(Need::MasterKeys),
            issuer_keys: finding(Need::IssuerKeys),
            audit: finding(Need::Audit),
        };
        let worst = checks.all().map(|finding| finding.status).into_iter().max();
        let status = if state.draining {
            Status::Failed
        } else {
            worst.expect("there are four")
        };
        Readiness {
            status,
            draining: state.draining,
            checks,
        }
    }

    /// Ends when something is found, from now on, that may change the readiness.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// The worst finding of all probes of a need.
    fn finding(&self, state: &State, need: Need, now: Timestamp) -> Finding {
        let records = state.records.iter().filter(|record| record.need == need);
        let findings = records.map(|record| record.finding(now, self.grace));
        let worst = findings.max_by_key(|finding| finding.status);
        // What nobody watches is not needed.
        worst.unwrap_or(Finding {
            status: Status::Ok,
            age_seconds: None,
            detail: None,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Probe ===

impl Probe {
    /// It is there.
    pub fn succeeded(&self) {
        self.observed(None);
    }

    /// It is not, for this reason, which whoever reaches the admin listener may read.
    pub fn failed(&self, fault: &'static str) {
        self.observed(Some((fault, Trouble::Absent)));
    }

    /// It answers, and for this reason not everything works. A replica whose database that is stays ready:
    /// its own answer says more than that of a proxy without one.
    pub fn impaired(&self, fault: &'static str) {
        self.observed(Some((fault, Trouble::Impaired)));
    }

    /// It is there and must not be used. A replica whose database that is is not ready from now on,
    /// whatever its grace period.
    pub fn refused(&self, fault: &'static str) {
        self.observed(Some((fault, Trouble::Refused)));
    }

    fn observed(&self, found: Option<(&'static str, Trouble)>) {
        let fault = found.map(|(fault, _)| fault);
        let trouble = found.map_or(Trouble::Impaired, |(_, trouble)| trouble);
        let at = self.health.clock.now();
        {
            let mut state = self.health.state();
            let record = state.records.get_mut(self.index);
            let record = record.expect("records are never removed");
            let before = record.last.replace(Observation { at, fault, trouble });
            if trouble == Trouble::Impaired {
                record.last_success = Some(at);
            }
            // Most findings are what was known: those wake nobody.
            if before.is_some_and(|before| before.fault == fault) {
                return;
            }
        }
        self.health.changed.notify_waiters();
    }
}

// === impl Record ===

impl Record {
    fn finding(&self, now: Timestamp, grace: Duration) -> Finding {
        Finding {
            status: self.status(now, grace),
            age_seconds: self.last.map(|last| now.since(last.at).as_secs_f64()),
            detail: match self.last {
                None => Some("not checked yet"),
                Some(last) => last.fault,
            },
        }
    }

    fn status(&self, now: Timestamp, grace: Duration) -> Status {
        let Some(last_success) = self.last_success else {
            return Status::Failed;
        };
        if self.last.is_none_or(|last| last.fault.is_none()) {
            return Status::Ok;
        }
        let trouble = self.last.map(|last| last.trouble);
        match self.need {
            Need::Database if trouble == Some(Trouble::Refused) => Status::Failed,
            Need::Database if now.since(last_success) >= grace => Status::Failed,
            Need::Database | Need::MasterKeys | Need::IssuerKeys | Need::Audit => Status::Degraded,
        }
    }
}

// === impl Readiness ===

impl Readiness {
    /// Whether requests should come here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status != Status::Failed
    }
}

// === impl Checks ===

impl Checks {
    fn all(&self) -> [&Finding; 4] {
        [
            &self.database,
            &self.master_keys,
            &self.issuer_keys,
            &self.audit,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FakeClock;

    const GRACE: Duration = Duration::from_secs(30);

    fn health() -> (Arc<Health>, Arc<FakeClock>) {
        let clock = Arc::new(FakeClock::default());
        (Arc::new(Health::new(Arc::clone(&clock) as _, GRACE)), clock)
    }

    #[test]
    fn a_replica_is_ready_once_everything_was_there_once() {
        let (health, _) = health();
        let probes = [Need::Database, Need::MasterKeys, Need::IssuerKeys].map(|n| health.need(n));
        for probe in &probes {
            assert!(!health.readiness().is_ready());
            probe.failed("unreachable");
            assert!(!health.readiness().is_ready());
            probe.succeeded();
        }
        assert_eq!(health.readiness().status, Status::Ok);
    }

    #[test]
    fn without_postgres_it_stays_ready_for_the_grace_period() {
        let (health, clock) = health();
        let database = health.need(Need::Database);
        database.succeeded();
        clock.step(GRACE);
        assert!(health.readiness().is_ready(), "nobody found anything wrong");
        database.succeeded();
        database.failed("unreachable");
        clock.step(GRACE.checked_sub(Duration::from_millis(1)).unwrap());
        assert_eq!(health.readiness().status, Status::Degraded);
        clock.step(Duration::from_millis(1));
        assert!(!health.readiness().is_ready());
        database.succeeded();
        assert_eq!(health.readiness().status, Status::Ok);
    }

    #[test]
    fn with_a_postgres_that_must_not_be_used_it_is_not_ready_at_once() {
        let (health, _) = health();
        let database = health.need(Need::Database);
        database.succeeded();
        database.refused("fsync=off");
        assert!(!health.readiness().is_ready());
        database.succeeded();
        assert_eq!(health.readiness().status, Status::Ok);
    }

    #[test]
    fn with_a_postgres_that_answers_and_takes_no_writes_it_is_degraded_for_as_long_as_it_takes() {
        let (health, clock) = health();
        let database = health.need(Need::Database);
        database.impaired("takes no writes");
        clock.step(GRACE * 100);
        database.impaired("takes no writes");
        let readiness = health.readiness();
        assert_eq!(readiness.status, Status::Degraded);
        assert_eq!(readiness.checks.database.detail, Some("takes no writes"));
        database.failed("unreachable");
        clock.step(GRACE);
        assert!(!health.readiness().is_ready());
    }

    #[test]
    fn without_a_kms_it_is_degraded_for_as_long_as_it_takes() {
        let (health, clock) = health();
        let [one, other] = [Need::MasterKeys; 2].map(|need| health.need(need));
        one.succeeded();
        other.succeeded();
        one.failed("unreachable");
        clock.step(GRACE * 100);
        let readiness = health.readiness();
        assert!(readiness.is_ready());
        assert_eq!(readiness.checks.master_keys.status, Status::Degraded);
        assert_eq!(readiness.checks.master_keys.detail, Some("unreachable"));
    }

    #[test]
    fn a_draining_replica_is_not_ready() {
        let (health, _) = health();
        health.drain();
        assert!(!health.readiness().is_ready());
    }
}
