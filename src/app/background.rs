//! What goes on beside the requests.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

use super::readiness::{self, Check};
use crate::{
    auth::jwks::VerificationKeys,
    envelope::Envelope,
    grpc::Health,
    listener::tls::Tls,
    shutdown::{self, Shutdown},
};

/// The key set is fetched anew this often, and this soon after a failure.
const KEYS_REFRESH: Duration = Duration::from_mins(5);
const KEYS_RETRY: Duration = Duration::from_secs(15);
/// How often data keys whose time is over are wiped.
const SWEEP_INTERVAL: Duration = Duration::from_secs(15);

/// Does some work until the server closes.
pub(super) fn spawn(shutdown: &Shutdown, work: impl Future<Output = ()> + Send + 'static) {
    spawn_until(shutdown, shutdown.closing.clone(), work);
}

/// Does some work until the server begins to stop.
pub(super) fn spawn_until_draining(
    shutdown: &Shutdown,
    work: impl Future<Output = ()> + Send + 'static,
) {
    spawn_until(shutdown, shutdown.draining.clone(), work);
}

fn spawn_until(
    shutdown: &Shutdown,
    end: CancellationToken,
    work: impl Future<Output = ()> + Send + 'static,
) {
    shutdown
        .tasks
        .spawn(async move { end.run_until_cancelled(work).await });
}

/// Says that the server serves when everything that it waits for has succeeded.
pub(super) async fn become_ready(unready: Vec<Check>, health: Health) {
    if !unready.is_empty() {
        readiness::all(unready).await;
        health.set_serving(true).await;
    }
}

/// Keeps the issuer's keys fresh. A failure is logged where it happens.
pub(super) async fn refresh_keys(keys: Arc<VerificationKeys>) {
    loop {
        let fresh = keys.refresh().await.is_ok();
        let pause = if fresh { KEYS_REFRESH } else { KEYS_RETRY };
        let _ = timeout(pause, pending::<()>()).await;
    }
}

/// Takes up certificates that have changed.
pub(super) async fn follow_files(tls: Arc<Tls>, look_every: Duration) {
    tls.follow_files(look_every).await;
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
