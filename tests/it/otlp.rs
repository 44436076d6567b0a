//! OpenTelemetry's variables: where traces and metrics go, how, and what is said of those without an
//! effect. A server without a database sends both too.

use std::{collections::BTreeMap, path::Path};

use tempfile::TempDir;

use crate::harness::{
    Authority, Collector, FREE_PORTS, Process, RecordingProxy, print, run_with, until,
};

/// What a server is started with that nobody answers; its issuer's keys are fetched at once, in a trace.
struct Sender {
    settings: BTreeMap<&'static str, String>,
    directory: TempDir,
}

impl Sender {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let keyring = directory.path().join("keyring.json").display().to_string();
        print(&["keyring", "create", &keyring]);
        let settings = [
            (
                "DATABASE_URL",
                "postgres://vault@127.0.0.1:1/vault?sslmode=disable".to_owned(),
            ),
            ("GRANTEX_VAULT_MASTER_KEY", format!("local:{keyring}")),
            ("GRANTEX_VAULT_ISSUER", "https://issuer.test".to_owned()),
            (
                "GRANTEX_VAULT_JWKS_URL",
                "http://127.0.0.1:1/jwks".to_owned(),
            ),
            ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
            ("OTEL_METRIC_EXPORT_INTERVAL", "100".to_owned()),
        ];
        Self {
            settings: BTreeMap::from(settings),
            directory,
        }
    }

    fn to(endpoint: &str) -> Self {
        Self::new().with("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.settings.insert(name, value.into());
        self
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn variables(&self) -> Vec<(&str, &str)> {
        let settings = self.settings.iter();
        settings.map(|(name, value)| (*name, &**value)).collect()
    }

    fn start(&self) -> Process {
        Process::start(&[&["serve"], &FREE_PORTS[..]].concat(), &self.variables())
    }

    /// What it says instead of starting.
    fn refusal(&self) -> String {
        let output = run_with(&["serve"], &self.variables());
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }
}

async fn both_arrive(collector: &Collector, process: &Process) {
    until("both have arrived", async || {
        collector.has() == (true, true)
    })
    .await;
    let log = process.log();
    assert!(!log.contains("is ignored"), "{log}");
}

#[tokio::test]
async fn telemetry_goes_by_http_with_headers_and_compressed_and_past_a_proxy() {
    let (collector, proxy) = (Collector::of_http().await, RecordingProxy::start().await);
    let sender = Sender::to(&format!("{}/", collector.endpoint()))
        .with("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        .with(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "x-of=both,authorization=Bearer%20canary",
        )
        .with("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "x-of=metrics")
        .with("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        .with("HTTP_PROXY", &proxy.url);
    let process = sender.start();
    both_arrive(&collector, &process).await;
    let headers = collector.headers();
    let of = |value: &str| headers.iter().find(|headers| headers["x-of"] == value);
    assert_eq!(of("both").unwrap()["authorization"], "Bearer canary");
    assert!(of("metrics").unwrap().get("authorization").is_none());
    assert!(
        headers
            .iter()
            .all(|headers| headers["content-encoding"] == "gzip")
    );
    assert_eq!(proxy.asked(), Vec::<String>::new());
    assert!(!process.log().contains("canary"));
    let sent = collector.bytes();
    let sent = String::from_utf8_lossy(&sent);
    assert!(sent.contains("grantex-vault") && !sent.contains("unknown_service"));
}

#[tokio::test]
async fn telemetry_goes_by_grpc_with_headers_compressed_under_a_name() {
    let collector = Collector::start().await;
    let sender = Sender::to(&collector.endpoint())
        .with("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-of=traces")
        .with("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        .with(
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=staging",
        )
        .with("OTEL_SERVICE_NAME", "vault-of-payments");
    let process = sender.start();
    both_arrive(&collector, &process).await;
    let headers = collector.headers();
    assert!(headers.iter().all(|headers| headers["x-of"] == "traces"));
    assert!(
        headers
            .iter()
            .all(|headers| headers["grpc-encoding"] == "gzip")
    );
    let sent = collector.bytes();
    let sent = String::from_utf8_lossy(&sent);
    assert!(sent.contains("vault-of-payments") && sent.contains("staging"));
}

#[tokio::test]
async fn each_signal_may_go_to_a_collector_of_its_own() {
    let (traces, metrics) = (Collector::of_http().await, Collector::start().await);
    let sender = Sender::to(&metrics.endpoint())
        .with("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
        .with(
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            format!("{}/v1/traces", traces.endpoint()),
        );
    let _process = sender.start();
    until("each has what is its own", async || {
        traces.has() == (true, false) && metrics.has() == (false, true)
    })
    .await;
}

#[tokio::test]
async fn what_is_switched_off_is_not_sent() {
    for (name, value, expected) in [
        ("OTEL_SDK_DISABLED", "true", (false, false)),
        ("OTEL_TRACES_EXPORTER", "none", (false, true)),
        ("OTEL_METRICS_EXPORTER", "none", (true, false)),
        ("OTEL_TRACES_SAMPLER", "always_off", (false, true)),
    ] {
        let collector = Collector::start().await;
        let sender = Sender::to(&collector.endpoint()).with(name, value);
        let mut process = sender.start();
        process.logged_field("http").await;
        if expected != (false, false) {
            until("the other has arrived", async || {
                collector.has() == expected
            })
            .await;
        }
        process.signal(rustix::process::Signal::TERM);
        assert!(process.end().await.success(), "{}", process.log());
        assert_eq!(collector.has(), expected, "{name}");
    }
}

#[tokio::test]
async fn a_collector_is_verified_and_shown_a_certificate_as_the_variables_say() {
    let (servers, clients) = (Authority::new("of servers"), Authority::new("of clients"));
    let (issued, ours) = (servers.issue(), clients.issue_client("vault"));
    let collector = Collector::secured(&issued, &clients).await;
    let sender = Sender::to(&collector.endpoint());
    let authorities = sender.file("ca.pem", &servers.pem());
    let certificate = sender.file("tls.crt", &ours.certificate);
    let key = sender.file("tls.key", &ours.key);
    let sender = sender
        .with("OTEL_EXPORTER_OTLP_CERTIFICATE", authorities)
        .with("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &certificate)
        .with("OTEL_EXPORTER_OTLP_CLIENT_KEY", key);
    let process = sender.start();
    both_arrive(&collector, &process).await;

    let untrusting = Collector::secured(&issued, &clients).await;
    let others = sender.file("others.pem", &Authority::new("another").pem());
    let sender = sender
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", untrusting.endpoint())
        .with("OTEL_EXPORTER_OTLP_CERTIFICATE", others);
    for protocol in ["grpc", "http/protobuf"] {
        let sender = Sender {
            settings: sender.settings.clone(),
            directory: tempfile::tempdir().unwrap(),
        };
        let process = sender.with("OTEL_EXPORTER_OTLP_PROTOCOL", protocol).start();
        until("it says so", async || {
            process.log().contains("the collector does not take traces")
        })
        .await;
    }
    assert_eq!(untrusting.has(), (false, false));
}

#[test]
fn files_that_cannot_be_used_are_refused_by_their_variable() {
    for protocol in ["grpc", "http/protobuf"] {
        let sender = Sender::to("https://collector.test")
            .with("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .with("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "/nowhere/ca.pem");
        let said = sender.refusal();
        let complaint =
            "OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE names /nowhere/ca.pem, which cannot be read";
        assert!(said.contains(complaint), "{protocol}: {said}");
        assert!(!Path::new("/nowhere").exists());
    }
}

#[tokio::test]
async fn a_collector_elsewhere_is_reached_through_the_proxy_by_both_protocols() {
    for (protocol, asked) in [
        ("grpc", "CONNECT collector.test:4317"),
        ("http/protobuf", "POST http://collector.test:4317/v1/traces"),
    ] {
        let proxy = RecordingProxy::start().await;
        let sender = Sender::to("http://collector.test:4317")
            .with("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .with("HTTP_PROXY", &proxy.url);
        let _process = sender.start();
        until("the proxy is asked", async || proxy.was_asked_for(asked)).await;

        let proxy = RecordingProxy::start().await;
        let sender = sender
            .with("HTTP_PROXY", &proxy.url)
            .with("NO_PROXY", "collector.test");
        let process = sender.start();
        until("it is tried directly", async || {
            process.log().contains("the collector does not take traces")
        })
        .await;
        assert_eq!(proxy.asked(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn variables_without_an_effect_are_named_in_the_log() {
    let collector = Collector::start().await;
    let sender = Sender::to(&collector.endpoint())
        .with("OTEL_TRACES_SAMPLER", "xray")
        .with("OTEL_EXPORTER_ZIPKIN_ENDPOINT", "http://canary");
    let process = sender.start();
    until("both have arrived", async || {
        collector.has() == (true, true)
    })
    .await;
    let log = process.log();
    for note in [
        "OTEL_TRACES_SAMPLER is ignored: there are always_on,",
        "OTEL_EXPORTER_ZIPKIN_ENDPOINT is ignored: it has no effect here",
    ] {
        assert!(log.contains(note), "{note} in {log}");
    }
    assert!(!log.contains("canary"), "{log}");
}
