//! What goes on beside the requests.

use std::{sync::Arc, time::Duration};

use tokio::time::{interval, timeout};

use crate::{
    envelope::Envelope,
    grpc,
    health::Health,
    shutdown::{self, Shutdown},
};

/// How late the end of a grace period may be noticed.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);
/// How often data keys whose time is over are wiped.
const SWEEP_INTERVAL: Duration = Duration::from_secs(15);

/// Does some work until the server closes.
pub(super) fn spawn(shutdown: &Shutdown, work: impl Future<Output = ()> + Send + 'static) {
    let closing = shutdown.closing.clone();
    shutdown
        .tasks
        .spawn(async move { closing.run_until_cancelled(work).await });
}

/// Keeps what `grpc.health.v1` answers true.
pub(super) async fn tell_health(health: Arc<Health>, served: grpc::Health) {
    loop {
        let changed = health.changed();
        served.set_serving(health.readiness().is_ready()).await;
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
