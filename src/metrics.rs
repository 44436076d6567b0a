//! The numbers on the dashboards. Every name stands here, and every label is of a closed set: no
//! tenant, principal, service or token is ever one.

mod labels;

use std::{sync::Arc, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram, Meter, MeterProvider, UpDownCounter},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{MeterProviderBuilder, SdkMeterProvider},
};
use prometheus::{Registry, TextEncoder};

use crate::model::{
    grant_check::GrantCheck,
    request::{Transport, Verb},
};

pub use labels::{CacheUse, ExchangeOutcome, KmsOperation, Limit, RequestOutcome};

/// Upper bounds in seconds: from a cached read to a request that is given up.
const SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// What this process counts and measures; clones are the same.
#[derive(Clone)]
pub struct Metrics(Arc<Instruments>);

struct Instruments {
    meter: Meter,
    /// `None` when nobody looks.
    shown: Option<Shown>,
    requests: Counter<u64>,
    request_duration: Histogram<f64>,
    exchanges: Counter<u64>,
    data_key_cache_hits: Counter<u64>,
    data_key_cache_misses: Counter<u64>,
    data_key_cache_evictions: Counter<u64>,
    kms_calls: Counter<u64>,
    kms_call_duration: Histogram<f64>,
    kms_breaker_open: UpDownCounter<i64>,
    audit_commit_duration: Histogram<f64>,
    audit_batches: Counter<u64>,
    audit_batched_events: Counter<u64>,
    audit_seals: Counter<u64>,
    audit_sealed_events: Counter<u64>,
    audit_seal_failures: Counter<u64>,
    audit_failures: Counter<u64>,
    audit_backlog: UpDownCounter<i64>,
    db_pool_wait: Histogram<f64>,
    grant_tokens_rejected: Counter<u64>,
    rate_limited: Counter<u64>,
    shed: Counter<u64>,
    tampered: Counter<u64>,
}

struct Shown {
    registry: Registry,
    provider: SdkMeterProvider,
}

/// A gauge that is read whenever somebody looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gauge {
    /// Data keys in memory.
    DataKeyCacheEntries,
    /// Seconds since the issuer's keys were fetched; since the start when they never were.
    JwksAge,
    /// Keys of the issuer that verify grant tokens.
    JwksKeys,
    /// Keys of the issuer's set that are of no use here.
    JwksKeysSkipped,
    /// Connections to Postgres that are in use.
    DbPoolInUse,
    /// Seconds until the serving certificate expires.
    TlsCertificateExpiry,
    /// Seconds for which an open transaction has held the sealing of audit events back.
    AuditSealingHeldBack,
}

impl Metrics {
    /// Shows what is measured by [`Self::text`]; `also` may add who else is told.
    #[must_use]
    pub fn start(
        resource: Resource,
        also: impl FnOnce(MeterProviderBuilder) -> MeterProviderBuilder,
    ) -> Self {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            // The names below are whole.
            .without_units()
            .without_counter_suffixes()
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .expect("a new registry takes an exporter");
        let provider = SdkMeterProvider::builder()
            .with_resource(resource)
            .with_reader(exporter);
        let provider = also(provider).build();
        let meter = provider.meter("grantex_vault");
        let metrics = Self(Arc::new(Instruments::new(
            meter,
            Some(Shown { registry, provider }),
        )));
        metrics.0.show_zeros();
        metrics.build_info();
        metrics
    }

    /// Measures nothing: for commands that serve nobody.
    #[must_use]
    pub fn unobserved() -> Self {
        // Nothing sets a global provider, so this meter does nothing.
        let meter = opentelemetry::global::meter("grantex_vault");
        Self(Arc::new(Instruments::new(meter, None)))
    }

    /// In Prometheus' text format.
    #[must_use]
    pub fn text(&self) -> String {
        let families = self.0.shown.as_ref().map(|shown| shown.registry.gather());
        let encoded = TextEncoder::new().encode_to_string(&families.unwrap_or_default());
        encoded.unwrap_or_else(|error| {
            tracing::error!(%error, "the metrics cannot be written");
            String::new()
        })
    }

    /// Sends what was not sent yet, and measures nothing from now on. It may block for seconds.
    ///
    /// # Errors
    ///
    /// When it could not be sent.
    pub fn stop(&self) -> OTelSdkResult {
        let shown = self.0.shown.as_ref();
        shown.map_or(Ok(()), |shown| shown.provider.shutdown())
    }

    /// A request was answered, or abandoned.
    pub fn answered(
        &self,
        verb: Option<Verb>,
        transport: Transport,
        outcome: RequestOutcome,
        duration: Duration,
    ) {
        let labels = [
            KeyValue::new("verb", verb.map_or("none", Verb::as_str)),
            KeyValue::new("transport", transport.as_str()),
            KeyValue::new("outcome", outcome.as_str()),
        ];
        self.0.requests.add(1, &labels);
        self.0
            .request_duration
            .record(duration.as_secs_f64(), &labels);
    }

    /// An exchange of a known agent ended.
    pub fn exchanged(&self, outcome: ExchangeOutcome, cache: CacheUse) {
        let labels = [
            KeyValue::new("outcome", outcome.as_str()),
            KeyValue::new("cache", cache.as_str()),
        ];
        self.0.exchanges.add(1, &labels);
    }

    /// A data key was in memory.
    pub fn data_key_hit(&self) {
        self.0.data_key_cache_hits.add(1, &[]);
    }

    /// A data key was not in memory.
    pub fn data_key_missed(&self) {
        self.0.data_key_cache_misses.add(1, &[]);
    }

    /// A data key went to make room.
    pub fn data_key_evicted(&self) {
        self.0.data_key_cache_evictions.add(1, &[]);
    }

    /// A KMS was called, or not asked because it did not answer lately; `outcome` is the name of
    /// what it said.
    pub fn kms_called(&self, operation: KmsOperation, outcome: &'static str, duration: Duration) {
        let labels = [
            KeyValue::new("operation", operation.as_str()),
            KeyValue::new("outcome", outcome),
        ];
        self.0.kms_calls.add(1, &labels);
        self.0
            .kms_call_duration
            .record(duration.as_secs_f64(), &labels);
    }

    /// A master key's breaker opened or closed.
    pub fn breaker_is(&self, open: bool) {
        self.0.kms_breaker_open.add(if open { 1 } else { -1 }, &[]);
    }

    /// An audit event waits to be durable, until what is returned is dropped.
    #[must_use]
    pub fn audit_event_waits(&self) -> impl Drop + use<> {
        self.0.audit_backlog.add(1, &[]);
        Waiting(self.0.audit_backlog.clone())
    }

    /// An audit event is durable.
    pub fn audit_committed(&self, duration: Duration) {
        self.0
            .audit_commit_duration
            .record(duration.as_secs_f64(), &[]);
    }

    /// Events became durable by one commit.
    pub fn audit_batch_committed(&self, events: usize) {
        self.0.audit_batches.add(1, &[]);
        self.0.audit_batched_events.add(events as u64, &[]);
    }

    /// A seal was made.
    pub fn sealed(&self, events: usize) {
        self.0.audit_seals.add(1, &[]);
        self.0.audit_sealed_events.add(events as u64, &[]);
    }

    /// Events could not be sealed.
    pub fn sealing_failed(&self) {
        self.0.audit_seal_failures.add(1, &[]);
    }

    /// An audit event could not be recorded.
    pub fn audit_failed(&self) {
        self.0.audit_failures.add(1, &[]);
    }

    /// A connection to Postgres was waited for.
    pub fn connection_waited_for(&self, duration: Duration) {
        self.0.db_pool_wait.record(duration.as_secs_f64(), &[]);
    }

    /// A grant token was refused.
    pub fn grant_token_rejected(&self, check: GrantCheck) {
        let labels = [KeyValue::new("check", check.as_str())];
        self.0.grant_tokens_rejected.add(1, &labels);
    }

    /// A limit refused a request.
    pub fn rate_limited(&self, limit: Limit) {
        let labels = [KeyValue::new("limit", limit.as_str())];
        self.0.rate_limited.add(1, &labels);
    }

    /// A request was refused because too many were under way.
    pub fn shed(&self) {
        self.0.shed.add(1, &[]);
    }

    /// A stored row did not open, or holds what the vault never writes.
    pub fn tampered(&self) {
        self.0.tampered.add(1, &[]);
    }

    /// Reads a gauge by `read` whenever somebody looks; `None` shows nothing.
    pub fn gauge(&self, gauge: Gauge, read: impl Fn() -> Option<f64> + Send + Sync + 'static) {
        let (name, what) = gauge.describe();
        let builder = self.0.meter.f64_observable_gauge(name);
        builder
            .with_description(what)
            .with_callback(move |observer| {
                if let Some(value) = read() {
                    observer.observe(value, &[]);
                }
            })
            .build();
    }

    fn build_info(&self) {
        let gauge = self.0.meter.u64_gauge("grantex_vault_build_info");
        let gauge = gauge.with_description("1, with what is running").build();
        let labels = [KeyValue::new("version", env!("CARGO_PKG_VERSION"))];
        gauge.record(1, &labels);
    }
}

struct Waiting(UpDownCounter<i64>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.add(-1, &[]);
    }
}

// === impl Gauge ===

impl Gauge {
    fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::DataKeyCacheEntries => (
                "grantex_vault_data_key_cache_entries",
                "Data keys in memory",
            ),
            Self::JwksAge => (
                "grantex_vault_jwks_age_seconds",
                "Since the issuer's keys were last fetched; since the start when they never were",
            ),
            Self::JwksKeys => (
                "grantex_vault_jwks_keys",
                "Keys of the issuer that verify grant tokens",
            ),
            Self::JwksKeysSkipped => (
                "grantex_vault_jwks_keys_skipped",
                "Keys of the issuer's set that are of no use: of another type, or too weak",
            ),
            Self::DbPoolInUse => (
                "grantex_vault_db_pool_in_use",
                "Connections to Postgres that are in use",
            ),
            Self::TlsCertificateExpiry => (
                "grantex_vault_tls_certificate_expiry_seconds",
                "Until the serving certificate expires; negative when it has",
            ),
            Self::AuditSealingHeldBack => (
                "grantex_vault_audit_sealing_held_back_seconds",
                "For how long an open transaction has held the sealing of audit events back",
            ),
        }
    }
}

// === impl Instruments ===

impl Instruments {
    fn new(meter: Meter, shown: Option<Shown>) -> Self {
        let counter = |name, what| meter.u64_counter(name).with_description(what).build();
        let level = |name, what| {
            let builder = meter.i64_up_down_counter(name);
            builder.with_description(what).build()
        };
        let seconds = |name, what| {
            let builder = meter.f64_histogram(name).with_boundaries(SECONDS.to_vec());
            builder.with_description(what).with_unit("s").build()
        };
        Self {
            requests: counter(
                "grantex_vault_requests_total",
                "Requests that were answered or abandoned",
            ),
            request_duration: seconds(
                "grantex_vault_request_duration_seconds",
                "From a request's headers to the beginning of its answer, or to its end without one",
            ),
            exchanges: counter(
                "grantex_vault_exchanges_total",
                "Exchanges of known agents, by what became of them and what was in memory",
            ),
            data_key_cache_hits: counter(
                "grantex_vault_data_key_cache_hits_total",
                "Data keys that were in memory",
            ),
            data_key_cache_misses: counter(
                "grantex_vault_data_key_cache_misses_total",
                "Data keys that were not in memory",
            ),
            data_key_cache_evictions: counter(
                "grantex_vault_data_key_cache_evictions_total",
                "Data keys that went to make room",
            ),
            kms_calls: counter("grantex_vault_kms_calls_total", "Uses of a master key"),
            kms_call_duration: seconds(
                "grantex_vault_kms_call_duration_seconds",
                "What a use of a master key took, waiting and retries included",
            ),
            kms_breaker_open: level(
                "grantex_vault_kms_breaker_open",
                "Master keys that are not asked because they did not answer lately",
            ),
            audit_commit_duration: seconds(
                "grantex_vault_audit_commit_duration_seconds",
                "What it took to make an audit event durable",
            ),
            audit_batches: counter(
                "grantex_vault_audit_batches_total",
                "Commits of audit events",
            ),
            audit_batched_events: counter(
                "grantex_vault_audit_batched_events_total",
                "Audit events that became durable by those commits",
            ),
            audit_seals: counter(
                "grantex_vault_audit_seals_total",
                "Seals of audit events that this replica made",
            ),
            audit_sealed_events: counter(
                "grantex_vault_audit_sealed_events_total",
                "Audit events in those seals",
            ),
            audit_seal_failures: counter(
                "grantex_vault_audit_seal_failures_total",
                "Turns in which audit events could not be sealed",
            ),
            audit_failures: counter(
                "grantex_vault_audit_failures_total",
                "Audit events that could not be recorded",
            ),
            audit_backlog: level(
                "grantex_vault_audit_backlog",
                "Audit events that wait to be durable",
            ),
            db_pool_wait: seconds(
                "grantex_vault_db_pool_wait_seconds",
                "What it took to get a connection to Postgres",
            ),
            grant_tokens_rejected: counter(
                "grantex_vault_grant_tokens_rejected_total",
                "Grant tokens that were refused, by the check that they failed",
            ),
            rate_limited: counter(
                "grantex_vault_rate_limited_total",
                "Requests that a limit refused",
            ),
            shed: counter(
                "grantex_vault_shed_total",
                "Requests that were refused because too many were under way",
            ),
            tampered: counter(
                "grantex_vault_tampered_total",
                "Stored rows that did not open or hold what the vault never writes",
            ),
            meter,
            shown,
        }
    }

    /// What has not happened yet is 0, not unknown: an alert on the first one sees it grow.
    fn show_zeros(&self) {
        for counter in [
            &self.data_key_cache_hits,
            &self.data_key_cache_misses,
            &self.data_key_cache_evictions,
            &self.audit_batches,
            &self.audit_batched_events,
            &self.audit_seals,
            &self.audit_sealed_events,
            &self.audit_seal_failures,
            &self.audit_failures,
            &self.shed,
            &self.tampered,
        ] {
            counter.add(0, &[]);
        }
        for check in GrantCheck::ALL {
            self.grant_tokens_rejected
                .add(0, &[KeyValue::new("check", check.as_str())]);
        }
        for limit in Limit::ALL {
            self.rate_limited
                .add(0, &[KeyValue::new("limit", limit.as_str())]);
        }
        self.kms_breaker_open.add(0, &[]);
        self.audit_backlog.add(0, &[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::start(Resource::builder_empty().build(), |provider| provider)
    }

    #[test]
    fn what_is_counted_is_shown_under_its_whole_name() {
        let metrics = metrics();
        metrics.answered(
            Some(Verb::Exchange),
            Transport::Grpc,
            RequestOutcome::Ok,
            Duration::from_millis(3),
        );
        metrics.gauge(Gauge::JwksAge, || Some(7.5));
        let text = metrics.text();
        for line in [
            "grantex_vault_requests_total{outcome=\"ok\",transport=\"grpc\",verb=\"exchange\"} 1",
            "grantex_vault_request_duration_seconds_bucket{outcome=\"ok\",transport=\"grpc\",verb=\"exchange\",le=\"0.005\"} 1",
            "grantex_vault_jwks_age_seconds 7.5",
            "grantex_vault_tampered_total 0",
            "grantex_vault_kms_breaker_open 0",
            concat!(
                "grantex_vault_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            ),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn an_event_waits_until_it_is_dropped() {
        let metrics = metrics();
        let waits = metrics.audit_event_waits();
        assert!(metrics.text().contains("grantex_vault_audit_backlog 1\n"));
        drop(waits);
        assert!(metrics.text().contains("grantex_vault_audit_backlog 0\n"));
    }

    #[test]
    fn unobserved_metrics_show_nothing() {
        let metrics = Metrics::unobserved();
        metrics.shed();
        assert_eq!(metrics.text(), "");
    }
}
