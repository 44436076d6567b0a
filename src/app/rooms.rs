//! The rooms of a server, put together: nothing listens yet, and nothing goes on in the background.

use std::sync::Arc;

use super::{
    StartFault,
    master_keys::{self, Holder},
    readiness::{self, Check},
};
use crate::{
    audit::{journal::Journal, sealer::Sealer},
    auth::{
        admin_token::AdminToken,
        grant_verifier::GrantVerifier,
        jwks::VerificationKeys,
        key_source::{FileKeySource, HttpKeySource, KeySource},
    },
    clock::Clock,
    config::{Config, ConfigFaults, KeyLocation},
    envelope::{
        Envelope,
        cache::{DataKeyCache, TimeToLive},
        kms::Kms,
        master_keys::MasterKeys,
    },
    grpc::AdminGrpc,
    health::{Health, Need},
    limits::{FailedLogins, Limits},
    listener::tls::Tls,
    metrics::{Gauge, Metrics},
    operator::{Keys, Operations, OperatorLogin},
    pace::Pace,
    proxies::Proxies,
    rotation::Rotation,
    store::Store,
    telemetry,
    vault::Vault,
};

/// What a server consists of.
pub(super) struct Rooms {
    pub(super) vault: Arc<Vault>,
    /// What operators are served with, if there is a way to know them.
    pub(super) operators: Option<AdminGrpc>,
    pub(super) envelope: Arc<Envelope>,
    pub(super) store: Store,
    pub(super) journal: Arc<Journal>,
    /// Unless another replica is to seal.
    pub(super) sealer: Option<Sealer>,
    /// What it needs, checked once.
    pub(super) checks: Vec<Check>,
    pub(super) health: Arc<Health>,
    pub(super) metrics: Metrics,
}

/// What most rooms stand on.
struct Ground<'a> {
    config: &'a Config,
    clock: &'a Arc<dyn Clock>,
    metrics: Metrics,
    health: Arc<Health>,
}

// === impl Rooms ===

impl Rooms {
    /// Puts them together and checks once what they need; holders of keys that come from outside take
    /// the place of those that are configured.
    pub(super) async fn put_together(
        config: &Config,
        clock: &Arc<dyn Clock>,
        world: Option<Arc<dyn Clock>>,
        kms: Option<Arc<dyn Kms>>,
        source: Option<Arc<dyn KeySource>>,
    ) -> Result<Self, StartFault> {
        let ground = Ground {
            config,
            clock,
            metrics: metrics(config)?,
            health: Arc::new(Health::new(Arc::clone(clock), config.readiness_grace)),
        };
        let holders = ground.holders(kms).await?;
        let store = ground.store()?;
        let keys = ground.verification_keys(source)?;
        let mut checks = readiness::checks(config, &store, &holders, &keys, &ground.health, world);
        readiness::first(&mut checks).await?;

        let envelope = Arc::new(ground.envelope(&holders));
        ground.gauges(&keys, &envelope);
        let journal = ground.journal(&store);
        let sealer = ground.sealer(&store, &envelope);
        let operators = ground
            .operators(&store, &journal, &envelope, master_keys::together(&holders))
            .await?;
        let vault = Vault::new(
            store.clone(),
            Arc::clone(&envelope),
            ground.grants(keys),
            Arc::clone(&journal),
            Limits::new(config.limits, config.max_in_flight, clock, &ground.metrics),
            Arc::clone(clock),
            ground.metrics.clone(),
        )
        .taking(config.webhook_signatures);
        Ok(Self {
            vault: Arc::new(vault),
            operators,
            envelope,
            store,
            journal,
            sealer,
            checks,
            health: ground.health,
            metrics: ground.metrics,
        })
    }
}

// === impl Ground ===

impl Ground<'_> {
    async fn holders(&self, kms: Option<Arc<dyn Kms>>) -> Result<Vec<Holder>, ConfigFaults> {
        let settings = self.config.master_keys();
        match kms {
            Some(kms) => Ok(master_keys::from_outside(
                kms,
                &settings,
                self.clock,
                &self.metrics,
            )),
            None => master_keys::holders(&settings, self.clock, &self.metrics).await,
        }
    }

    fn store(&self) -> Result<Store, ConfigFaults> {
        let database = &self.config.database;
        let store = Store::open(&database.url, database.pool_size, database.durability);
        let store = store.map_err(|fault| ConfigFaults::one("DATABASE_URL", fault))?;
        Ok(store
            .under(database.authority)
            .measured_by(self.metrics.clone()))
    }

    fn verification_keys(
        &self,
        source: Option<Arc<dyn KeySource>>,
    ) -> Result<Arc<VerificationKeys>, ConfigFaults> {
        let source = match source {
            Some(source) => source,
            None => key_source(&self.config.keys, &self.config.proxies)?,
        };
        let max_stale = self.config.jwks_max_stale;
        let keys = VerificationKeys::new(source, Arc::clone(self.clock), max_stale);
        Ok(Arc::new(keys))
    }

    fn envelope(&self, holders: &[Holder]) -> Envelope {
        let settings = self.config.data_key_cache;
        let cache = DataKeyCache::new(
            TimeToLive::new(settings.time_to_live),
            settings.entries,
            Arc::clone(self.clock),
            self.metrics.clone(),
        );
        Envelope::new(
            master_keys::together(holders),
            self.config.kms_timeout,
            cache,
            self.metrics.clone(),
        )
    }

    fn grants(&self, keys: Arc<VerificationKeys>) -> GrantVerifier {
        GrantVerifier::new(
            keys,
            Arc::clone(self.clock),
            self.config.issuer.clone(),
            self.config.grants.clone(),
        )
    }

    /// Nothing went wrong with the audit as long as nothing was recorded.
    fn journal(&self, store: &Store) -> Arc<Journal> {
        let probe = self.health.need(Need::Audit);
        probe.succeeded();
        let (store, clock) = (store.clone(), Arc::clone(self.clock));
        Arc::new(Journal::start(store, clock, self.metrics.clone(), probe))
    }

    fn sealer(&self, store: &Store, envelope: &Arc<Envelope>) -> Option<Sealer> {
        let interval = self.config.audit.seal_interval?;
        Some(Sealer::new(
            store.clone(),
            Arc::clone(envelope),
            Arc::clone(self.clock),
            self.metrics.clone(),
            interval,
        ))
    }

    async fn operators(
        &self,
        store: &Store,
        journal: &Arc<Journal>,
        envelope: &Arc<Envelope>,
        master_keys: Arc<MasterKeys>,
    ) -> Result<Option<AdminGrpc>, ConfigFaults> {
        let config = self.config;
        let Some(operators) = &config.operators else {
            return Ok(None);
        };
        let token =
            match operators.token_file.clone() {
                Some(file) => Some(AdminToken::of(file).await.map_err(|fault| {
                    ConfigFaults::one("GRANTEX_VAULT_OPERATOR_TOKEN_FILE", fault)
                })?),
                None => None,
            };
        let per_address = config.limits.failed_auth_per_address;
        let failed = FailedLogins::new(per_address, self.clock, &self.metrics);
        let login = OperatorLogin::new(token, operators.names.clone(), failed, Arc::clone(journal));
        let clock = Arc::clone(self.clock);
        Ok(Some(AdminGrpc {
            operations: Operations::new(
                store.clone(),
                Arc::clone(journal),
                Arc::clone(&clock),
                config.database.authority,
                config.grants.max_token_lifetime,
            ),
            keys: Keys {
                envelope: Arc::clone(envelope),
                rotation: Rotation::new(
                    store.clone(),
                    master_keys,
                    config.kms_timeout,
                    Pace::new(1, None),
                ),
            },
            login: Arc::new(login),
            clock,
        }))
    }

    /// What is read when somebody looks at the metrics.
    fn gauges(&self, keys: &Arc<VerificationKeys>, envelope: &Arc<Envelope>) {
        let issuer = Arc::downgrade(keys);
        self.metrics.gauge(Gauge::JwksAge, move || {
            Some(issuer.upgrade()?.age().as_secs_f64())
        });
        let of_keys = |gauge, count: fn(&VerificationKeys) -> usize| {
            let issuer = Arc::downgrade(keys);
            self.metrics.gauge(gauge, move || {
                let keys = count(&*issuer.upgrade()?);
                Some(f64::from(u32::try_from(keys).unwrap_or(u32::MAX)))
            });
        };
        of_keys(Gauge::JwksKeys, VerificationKeys::usable);
        of_keys(Gauge::JwksKeysSkipped, VerificationKeys::skipped);
        let envelope = Arc::downgrade(envelope);
        self.metrics.gauge(Gauge::DataKeyCacheEntries, move || {
            let entries = envelope.upgrade()?.cached_data_keys();
            Some(f64::from(u32::try_from(entries).unwrap_or(u32::MAX)))
        });
    }
}

/// What is measured, and sent to the collector if there is one.
fn metrics(config: &Config) -> Result<Metrics, ConfigFaults> {
    let export = config.otlp.metrics.as_ref();
    let reader = export.map(telemetry::metric_reader).transpose();
    let reader = reader.map_err(|fault| ConfigFaults::one(&fault.variable, fault.problem))?;
    Ok(Metrics::start(
        telemetry::resource(&config.otlp),
        |provider| match reader {
            Some(reader) => provider.with_reader(reader),
            None => provider,
        },
    ))
}

/// Shows how long the serving certificate is good for.
pub(super) fn watch_certificate(metrics: &Metrics, tls: &Arc<Tls>, clock: &Arc<dyn Clock>) {
    let (tls, clock) = (Arc::downgrade(tls), Arc::clone(clock));
    metrics.gauge(Gauge::TlsCertificateExpiry, move || {
        let (not_after, now) = (tls.upgrade()?.not_after(), clock.now());
        // One of them is zero.
        Some(not_after.since(now).as_secs_f64() - now.since(not_after).as_secs_f64())
    });
}

/// Where the issuer's keys come from.
pub(crate) fn key_source(
    location: &KeyLocation,
    proxies: &Proxies,
) -> Result<Arc<dyn KeySource>, ConfigFaults> {
    match location {
        KeyLocation::File(path) => Ok(Arc::new(FileKeySource::new(path.clone()))),
        KeyLocation::Url(url) => HttpKeySource::new(url.clone(), proxies)
            .map(|source| Arc::new(source) as _)
            .ok_or_else(|| {
                let rule = "must be https; plain http is for loopback only";
                ConfigFaults::one("GRANTEX_VAULT_JWKS_URL", rule)
            }),
    }
}
