//! What goes on beside the requests.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    audit::sealer::Sealer,
    clock::Clock,
    config::Database,
    envelope::Envelope,
    grpc,
    health::Health,
    model::cause::chain,
    shutdown::{self, Shutdown},
    store::{Store, audit_partitions::PartitionUnit, diagnosis::diagnose, serving_role},
};

/// How late the end of a grace period may be noticed.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);
/// How often data keys whose time is over are wiped.
const SWEEP_INTERVAL: Duration = Duration::from_secs(15);
/// How often it is looked whether there are partitions enough, and how soon after a failure.
const PARTITIONS_INTERVAL: Duration = Duration::from_hours(1);
const PARTITIONS_RETRY: Duration = Duration::from_mins(1);
/// How soon the database is asked again what the role may.
const ROLE_RETRY: Duration = Duration::from_secs(2);
/// How soon it is tried again to set what the role has by itself.
const SEARCH_PATH_RETRY: Duration = Duration::from_secs(15);
/// How often it is looked whether the role has it still.
const SEARCH_PATH_AGAIN: Duration = Duration::from_mins(1);
/// How often revocations are forgotten, and how long after their expiry: clocks differ, and tokens are
/// taken a little beyond theirs.
const PRUNE_INTERVAL: Duration = Duration::from_mins(10);
const PRUNE_MARGIN: Duration = Duration::from_hours(1);

/// Does some work until the server closes.
pub(super) fn spawn(shutdown: &Shutdown, work: impl Future<Output = ()> + Send + 'static) {
    let closing = shutdown.closing.clone();
    shutdown
        .tasks
        .spawn(async move { closing.run_until_cancelled(work).await });
}

/// Seals audit events. What fails is tried again in the next turn.
pub(super) async fn seal_audit_events(mut sealer: Sealer, closing: CancellationToken) {
    let mut turns = interval(sealer.interval());
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let sealing = async {
        loop {
            turns.tick().await;
            let turn = AssertUnwindSafe(sealer.turn()).catch_unwind();
            match Box::pin(turn).await {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => {
                    tracing::error!(cause = chain(&fault), "audit events are not sealed");
                }
                // The hook for panics has said what; the next turn is another one.
                Err(_) => sealer.failed().await,
            }
        }
    };
    let _: Option<()> = closing.run_until_cancelled(Box::pin(sealing)).await;
    sealer.stop().await;
}

/// Forgets revocations of what could not be used any more anyway.
pub(super) async fn prune_revocations(store: Store, clock: Arc<dyn Clock>) {
    loop {
        let before = clock.now().before(PRUNE_MARGIN);
        match store.prune_revocations(before).await {
            Ok(0) => {}
            Ok(pruned) => tracing::info!(pruned, "expired revocations are forgotten"),
            Err(fault) => {
                let cause = chain(&fault);
                tracing::warn!(cause, "expired revocations are not forgotten yet");
            }
        }
        sleep(PRUNE_INTERVAL).await;
    }
}

/// Keeps partitions of audit events ahead of the time. Without one they go to the default partition, so
/// that nothing but pruning suffers.
pub(super) async fn keep_audit_partitions_ahead(store: Store, unit: PartitionUnit) {
    loop {
        let wait = match store.make_audit_partitions(unit).await {
            Ok(_) => PARTITIONS_INTERVAL,
            Err(fault) => {
                tracing::warn!(
                    cause = chain(&fault),
                    "no partitions of audit events could be made"
                );
                PARTITIONS_RETRY
            }
        };
        sleep(wait).await;
    }
}

/// Keeps what `grpc.health.v1` answers true. Whoever watches gets a message each time that it is set, so it
/// is set when it changes only.
pub(super) async fn tell_health(health: Arc<Health>, served: grpc::Health) {
    let mut told = None;
    loop {
        let changed = health.changed();
        let is_ready = health.readiness().is_ready();
        if told.replace(is_ready) != Some(is_ready) {
            served.set_serving(is_ready).await;
        }
        let _ = timeout(HEALTH_INTERVAL, changed).await;
    }
}

/// Wipes data keys when their time is over, and all of them when a hangup (SIGHUP) asks for it.
pub(super) async fn tend_data_keys(envelope: Arc<Envelope>) {
    let mut sweeps = interval(SWEEP_INTERVAL);
    let mut hangups = match shutdown::hangups() {
        Ok(hangups) => hangups,
        Err(error) => return tracing::warn!(%error, "SIGHUP cannot be handled"),
    };
    loop {
        tokio::select! {
            _ = sweeps.tick() => envelope.sweep().await,
            _ = hangups.recv() => {
                envelope.purge().await;
                tracing::info!("the data keys in memory are forgotten");
            }
        }
    }
}

/// Gives the role that serves its search path, as soon as the database can be asked, and again if it has lost
/// it: who is that role for a moment, by code that it was made to run, could change it.
pub(super) async fn set_search_path(database: Database) {
    let mut said = false;
    loop {
        let Err(fault) = serving_role::set_search_path(&database.url).await else {
            said = false;
            sleep(SEARCH_PATH_AGAIN).await;
            continue;
        };
        if !said {
            let cause = chain(&fault);
            tracing::warn!(
                cause,
                "the role that serves could not be given its search path yet"
            );
        }
        said = true;
        sleep(SEARCH_PATH_RETRY).await;
    }
}

/// Says once that the role that serves may change the audit record, as soon as the database can be
/// asked. It is no reason not to serve: where one role is all that there is, the seals still show what
/// was changed after them.
pub(super) async fn warn_of_role(database: Database) {
    let diagnosis = loop {
        match diagnose(&database.url, database.durability).await {
            Ok(diagnosis) if diagnosis.schema.is_ok() => break diagnosis,
            _ => {
                sleep(ROLE_RETRY).await;
            }
        }
    };
    let role = diagnosis.role;
    if diagnosis.record_changes.is_empty() {
        tracing::info!(role, "the role that serves may not change the audit record");
        return;
    }
    let may = diagnosis.record_changes.join(", ");
    tracing::warn!(
        role,
        may,
        "THE ROLE THAT SERVES MAY CHANGE THE AUDIT RECORD: whoever takes over this process can rewrite \
         what is not sealed yet; serve as a role of its own (GRANTEX_VAULT_DB_ROLE)"
    );
}
