//! Puts the rooms together, starts them, stops them.

mod background;
mod certificates;
mod doors;
pub(crate) mod master_keys;
mod readiness;
pub(crate) mod rooms;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use thiserror::Error;
use tokio::{net::TcpListener, time::timeout};

use crate::{
    admin,
    audit::{journal::Journal, sealer::Sealer},
    auth::key_source::KeySource,
    clock::{Clock, SystemClock},
    config::{Config, ConfigFaults, Database},
    envelope::kms::Kms,
    gateway, grpc,
    health::{Health, Need},
    listener::{self, Protocol, connections::Connections, door::Shared},
    metrics::Metrics,
    operator::Operations,
    shutdown::{Shutdown, StopSignals},
    store::{
        Store,
        authority::Authority,
        schema::{self, Durability, SchemaFault},
    },
    telemetry,
};
use certificates::Certificates;
use doors::OperatorListener;
use readiness::Check;
use rooms::Rooms;

/// How often the files of TLS are looked at.
const TLS_LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long requests that are under way may take after the listeners have closed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

const STORAGE_IS_DURABLE: &str = "GRANTEX_VAULT_STORAGE_IS_DURABLE=true: whether Postgres flushes \
                                  is not looked at";

/// What comes from outside. Tests bring their own clock, KMS and key source.
pub struct Outside {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The time that the database should have too, if that is looked at.
    pub world: Option<Arc<dyn Clock>>,
    /// The holder of the master keys; from the configuration when `None`.
    pub kms: Option<Arc<dyn Kms>>,
    /// Where the issuer's keys are; from the configuration when `None`.
    pub key_source: Option<Arc<dyn KeySource>>,
    /// Routes that are served beside the API: those of `dev`'s issuer.
    pub beside: Router,
    /// A listener for HTTP that is open already; by the configured address when `None`.
    pub http: Option<TcpListener>,
    /// The same for gRPC.
    pub grpc: Option<TcpListener>,
    /// The same for probes and metrics.
    pub admin: Option<TcpListener>,
    /// How often the files of TLS are looked at.
    pub tls_look_every: Duration,
}

/// A server that listens.
pub struct Running {
    /// Where HTTP listens.
    pub http_addr: SocketAddr,
    /// Where gRPC listens.
    pub grpc_addr: SocketAddr,
    /// Where probes and metrics are.
    pub admin_addr: SocketAddr,
    /// Where operators are, if they have a listener.
    pub operator_addr: Option<SocketAddr>,
    health: Arc<Health>,
    served_health: grpc::Health,
    metrics: Metrics,
    shutdown: Shutdown,
    journal: Arc<Journal>,
    store: Store,
}

/// Why a server does not start.
#[derive(Debug, Error)]
pub enum StartFault {
    /// The operator must change a setting.
    #[error("{0}")]
    Config(#[from] ConfigFaults),
    /// The operator must migrate or change the database.
    #[error("{0}")]
    Schema(#[from] SchemaFault),
    /// Something else listens there, say.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// Signals cannot be handled.
    #[error("cannot handle signals: {0}")]
    Signals(#[source] std::io::Error),
}

impl Default for Outside {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            world: Some(Arc::new(SystemClock)),
            kms: None,
            key_source: None,
            beside: Router::new(),
            http: None,
            grpc: None,
            admin: None,
            tls_look_every: TLS_LOOK_EVERY,
        }
    }
}

/// The operations on a database, without a server.
#[must_use]
pub fn operations(
    store: Store,
    authority: Authority,
    max_token_lifetime: Option<Duration>,
) -> Operations {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let probe = Arc::new(Health::new(Arc::clone(&clock), Duration::ZERO)).need(Need::Audit);
    let journal = Journal::start(
        store.clone(),
        Arc::clone(&clock),
        Metrics::unobserved(),
        probe,
    );
    Operations::new(
        store,
        Arc::new(journal),
        clock,
        authority,
        max_token_lifetime,
    )
}

/// Serves until a signal asks to stop, and then as long as the requests that are under way need.
///
/// # Errors
///
/// When the server does not start.
pub async fn serve(config: Config) -> Result<(), StartFault> {
    let mut signals = StopSignals::listen().map_err(StartFault::Signals)?;
    let running = Box::pin(start(&config, Outside::default())).await?;
    tracing::info!(
        http = %running.http_addr,
        grpc = %running.grpc_addr,
        admin = %running.admin_addr,
        operators = running.operator_addr.map(tracing::field::display),
        "serving"
    );
    let warning = background::warn_of_role(config.database.clone());
    background::spawn(&running.shutdown, warning);
    signals.next().await;
    stop_or_signal(running, config.drain_delay, &mut signals).await;
    Ok(())
}

/// Stops in good order; a second signal ends the waiting.
pub async fn stop_or_signal(running: Running, drain_delay: Duration, signals: &mut StopSignals) {
    tracing::info!("stopping");
    tokio::select! {
        () = running.stop(drain_delay) => tracing::info!("stopped"),
        () = signals.next() => tracing::warn!("stopped at once, by a second signal"),
    }
}

/// Starts a server.
///
/// A database or a KMS that cannot be reached yet is no reason not to: health says `NOT_SERVING` and
/// calls answer unavailable until it can. A database with the wrong schema is, and so is a master key
/// that is missing, disabled, pending deletion or of the wrong usage.
///
/// # Errors
///
/// See [`StartFault`].
pub async fn start(config: &Config, outside: Outside) -> Result<Running, StartFault> {
    let clock = outside.clock;
    let certificates = Certificates::load(config, &clock)?;
    prepare(&config.database, config.migrate).await?;
    let Rooms {
        vault,
        operators,
        envelope,
        store,
        journal,
        sealer,
        checks,
        health,
        metrics,
    } = Rooms::put_together(
        config,
        &clock,
        outside.world,
        outside.kms,
        outside.key_source,
    )
    .await?;
    if let Some(tls) = &certificates.public {
        rooms::watch_certificate(&metrics, tls, &clock);
    }

    let served_health = grpc::Health::default();
    served_health
        .set_serving(health.readiness().is_ready())
        .await;
    let grpc_routes = grpc::routes(Arc::clone(&vault), &served_health, config.grpc_reflection);
    let http_routes = gateway::routes(vault, config.api_docs, outside.beside);
    let probes = grpc::private_routes(&served_health);
    let admin_routes = admin::routes(Arc::clone(&health), metrics.clone(), probes);
    let admin_routes = doors::with_context(admin_routes);
    let (http, http_addr) = doors::listen(outside.http, config.http_addr).await?;
    let (grpc, grpc_addr) = doors::listen(outside.grpc, config.grpc_addr).await?;
    let (admin, admin_addr) = doors::listen(outside.admin, config.admin.address).await?;
    let operators = match (&config.operators, operators) {
        (Some(settings), Some(grpc)) => {
            let routes = grpc::admin_routes(grpc, config.grpc_reflection);
            let tls = certificates.operators.clone();
            Some(OperatorListener::bind(settings.address, routes, tls).await?)
        }
        _ => None,
    };

    let shutdown = Shutdown::default();
    let shared = Shared::new(metrics.clone(), config.trusted_proxies.clone());
    let until = || shutdown.clone();
    let connections = doors::connections(config);
    let http = listener::serve_secured(
        http,
        Protocol::Http,
        certificates.public.clone(),
        doors::http(http_routes, &shared),
        connections.clone(),
        until(),
    );
    let grpc = listener::serve_secured(
        grpc,
        Protocol::Http2,
        certificates.public.clone(),
        doors::grpc(grpc_routes, &shared),
        connections,
        until(),
    );
    let admin = listener::serve_secured(
        admin,
        Protocol::Http,
        certificates.admin.clone(),
        admin_routes,
        Connections::private(),
        until(),
    );
    shutdown.tasks.spawn(http);
    shutdown.tasks.spawn(grpc);
    shutdown.tasks.spawn(admin);
    let operator_addr = operators.map(|listener| listener.serve(config.idle_timeout, &shutdown));
    background::spawn(&shutdown, background::tend_data_keys(envelope));
    tend_database(config, &store, &clock, &shutdown);
    seal_and_watch(sealer, checks, &shutdown);
    let tell = background::tell_health(Arc::clone(&health), served_health.clone());
    background::spawn(&shutdown, tell);
    certificates.follow_files(outside.tls_look_every, &shutdown);
    Ok(Running {
        http_addr,
        grpc_addr,
        admin_addr,
        operator_addr,
        health,
        served_health,
        metrics,
        shutdown,
        journal,
        store,
    })
}

impl Running {
    /// Stops: health says `NOT_SERVING`; new connections are accepted for `drain_delay` more; then
    /// every connection is told to go away and what is under way finishes.
    pub async fn stop(self, drain_delay: Duration) {
        self.health.drain();
        self.served_health.set_serving(false).await;
        let _ = timeout(drain_delay, std::future::pending::<()>()).await;
        self.shutdown.closing.cancel();
        self.served_health.end_watching().await;
        self.shutdown.tasks.close();
        if timeout(DRAIN_TIMEOUT, self.shutdown.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("requests were still under way and are cut off");
        }
        self.journal.close().await;
        self.store.close();
        let metrics = self.metrics;
        telemetry::last_export("metrics", move || metrics.stop()).await;
    }
}

/// Migrates, if that is asked for, and warns of what the operator answers for.
async fn prepare(database: &Database, migrate: bool) -> Result<(), StartFault> {
    if database.durability == Durability::OfStorage {
        tracing::warn!("{STORAGE_IS_DURABLE}");
    }
    if migrate {
        schema::migrate(&database.migrate_url, database.role.as_ref()).await?;
    }
    Ok(())
}

/// What the database needs now and then.
fn tend_database(config: &Config, store: &Store, clock: &Arc<dyn Clock>, shutdown: &Shutdown) {
    let partitions = background::keep_audit_partitions_ahead(store.clone(), config.audit.partition);
    background::spawn(shutdown, partitions);
    let pruning = background::prune_revocations(store.clone(), Arc::clone(clock));
    background::spawn(shutdown, pruning);
    let path = background::set_search_path(config.database.clone());
    background::spawn(shutdown, path);
}

fn seal_and_watch(sealer: Option<Sealer>, checks: Vec<Check>, shutdown: &Shutdown) {
    if let Some(sealer) = sealer {
        let closing = shutdown.closing.clone();
        let sealing = background::seal_audit_events(sealer, closing);
        shutdown.tasks.spawn(sealing);
    }
    for check in checks {
        background::spawn(shutdown, check.watch());
    }
}
