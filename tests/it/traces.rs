//! Traces, from the caller through database and KMS, and what must not be in them.

use std::collections::BTreeMap;

use grantex_vault::grpc::pb::{
    ExchangeCredentialRequest, vault_service_client::VaultServiceClient,
};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use serde_json::{Value, json};
use tonic::{Request, transport::Endpoint};

use crate::harness::{Collector, Dev, attributes, hex, instance_directory, print, until};

const CALLER: &str = "00f067aa0ba902b7";
const SECRET: &str = "canary-access-token-e5c1";
const REFRESH: &str = "canary-refresh-token-9a07";
const PRINCIPAL: &str = "canary-principal-77d2";

fn traceparent(trace: &str) -> String {
    format!("00-{trace}-{CALLER}-01")
}

/// A `dev` that sends what it has at once and asks its keyring for every data key.
async fn traced_dev(directory: &std::path::Path, endpoint: &str) -> Dev {
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "100"),
        ("GRANTEX_VAULT_DATA_KEY_CACHE_TTL", "0"),
    ];
    Dev::start(directory, &settings).await
}

async fn post(dev: &Dev, path: &str, key: &str, trace: &str, body: Value) -> reqwest::Response {
    let request = reqwest::Client::new().post(format!("{}{path}", dev.get("http")));
    let request = request
        .bearer_auth(key)
        .header("traceparent", traceparent(trace))
        .header("tracestate", "vendor=canary-state")
        .header("content-type", "application/json");
    request.body(body.to_string()).send().await.unwrap()
}

async fn store(dev: &Dev, trace: &str) {
    let body = json!({"principalId": PRINCIPAL, "service": "github", "accessToken": SECRET,
                      "refreshToken": REFRESH, "metadata": {"note": "canary-metadata-11f3"}});
    let stored = post(dev, "/v1/vault/credentials", dev.get("apiKey"), trace, body).await;
    assert_eq!(stored.status(), 201);
}

async fn exchange(dev: &Dev, grant: &str, trace: &str) -> u16 {
    let body = json!({"service": "github"});
    let path = "/v1/vault/credentials/exchange";
    post(dev, path, grant, trace, body).await.status().as_u16()
}

fn grant(directory: &str) -> String {
    let target = ["--data-dir", directory, "--principal", PRINCIPAL];
    print(&[&["grant", "mint", "--service", "github"], &target[..]].concat())
}

/// The spans of a trace, by name, once the one that ends last is there.
async fn trace(collector: &Collector, id: &str) -> BTreeMap<String, Span> {
    let is_server = |span: &Span| span.kind() == SpanKind::Server;
    until("the trace has arrived", async || {
        collector.spans(id).iter().any(is_server)
    })
    .await;
    let spans = collector.spans(id);
    let by_name = spans.into_iter().map(|span| (span.name.clone(), span));
    by_name.collect()
}

fn assert_child(spans: &BTreeMap<String, Span>, child: &str, parent: &str) {
    let span = |name| {
        spans
            .get(name)
            .unwrap_or_else(|| panic!("{name} in {:?}", spans.keys()))
    };
    assert_eq!(
        hex(&span(child).parent_span_id),
        hex(&span(parent).span_id),
        "{child} is a child of {parent}"
    );
}

fn assert_exchange(spans: &BTreeMap<String, Span>, request: &str) {
    assert_eq!(hex(&spans[request].parent_span_id), CALLER);
    assert_child(spans, "select vault.credentials", request);
    assert_child(spans, "kms unwrap", request);
    assert_child(spans, "audit commit", request);
    let database = attributes(&spans["select vault.credentials"]);
    assert_eq!(database["db.system.name"], "postgresql");
    assert_eq!(database["db.operation.name"], "select");
    assert_eq!(database["db.collection.name"], "vault.credentials");
    let kms = attributes(&spans["kms unwrap"]);
    assert_eq!(kms["grantex.kms.outcome"], "ok");
}

#[tokio::test]
async fn a_trace_goes_from_its_caller_through_database_and_kms_and_holds_no_secret() {
    let (directory, collector) = (instance_directory(), Collector::start().await);
    let dev = traced_dev(directory.path(), &collector.endpoint()).await;
    let grant = grant(directory.path().to_str().unwrap());
    let [stored, rest, grpc, refused] =
        [1, 2, 3, 4].map(|number| format!("4bf92f3577b34da6a3ce929d0e0e473{number}"));

    store(&dev, &stored).await;
    let spans = trace(&collector, &stored).await;
    let request = "POST /v1/vault/credentials";
    assert_eq!(hex(&spans[request].parent_span_id), CALLER);
    for child in [
        "select vault.api_keys",
        "kms generate",
        "connect",
        "insert vault.credentials",
    ] {
        assert_child(&spans, child, request);
    }

    assert_eq!(exchange(&dev, &grant, &rest).await, 200);
    let spans = trace(&collector, &rest).await;
    let request = "POST /v1/vault/credentials/exchange";
    assert_exchange(&spans, request);
    let http = attributes(&spans[request]);
    assert_eq!(http["http.request.method"], "POST");
    assert_eq!(http["http.route"], "/v1/vault/credentials/exchange");
    assert_eq!(http["http.response.status_code"], "200");

    let address = format!("http://{}", dev.get("grpc"));
    let channel = Endpoint::from_shared(address).unwrap().connect_lazy();
    let mut message = Request::new(ExchangeCredentialRequest {
        service: "github".to_owned(),
    });
    let metadata = message.metadata_mut();
    metadata.insert("authorization", format!("Bearer {grant}").parse().unwrap());
    metadata.insert("traceparent", traceparent(&grpc).parse().unwrap());
    let mut client = VaultServiceClient::new(channel);
    let answer = client.exchange_credential(message);
    assert_eq!(answer.await.unwrap().into_inner().access_token, SECRET);
    let spans = trace(&collector, &grpc).await;
    let request = "grantex.vault.v1.VaultService/ExchangeCredential";
    assert_exchange(&spans, request);
    let rpc = attributes(&spans[request]);
    assert_eq!(rpc["rpc.system"], "grpc");
    assert_eq!(rpc["rpc.method"], "ExchangeCredential");
    assert_eq!(rpc["rpc.grpc.status_code"], "0");

    assert_eq!(exchange(&dev, "no token", &refused).await, 401);
    let spans = trace(&collector, &refused).await;
    let status = spans["POST /v1/vault/credentials/exchange"].status.as_ref();
    let failed = status.is_some_and(|status| status.code() == StatusCode::Error);
    assert!(!failed, "what a caller did wrong is no error of the server");

    until("metrics have arrived", async || {
        let names = collector.metric_names();
        names.contains(&"grantex_vault_exchanges_total".to_owned())
    })
    .await;
    let sent = collector.bytes();
    let sent = String::from_utf8_lossy(&sent);
    let (api_key, database) = (dev.get("apiKey"), dev.get("databaseUrl"));
    for canary in [
        SECRET,
        REFRESH,
        PRINCIPAL,
        "canary-metadata",
        "canary-state",
        api_key,
        &grant,
        database,
        "no token",
    ] {
        assert!(!sent.contains(canary), "{canary} was sent to the collector");
    }
    assert!(sent.contains("grantex-vault"), "the service has a name");
    assert!(sent.contains("fetch jwks"), "the issuer was asked");
}

#[tokio::test]
async fn a_collector_that_is_down_or_hangs_fails_no_request() {
    let (directory, hanging) = (instance_directory(), Collector::hanging().await);
    for endpoint in ["http://127.0.0.1:1", &hanging] {
        let mut dev = traced_dev(directory.path(), endpoint).await;
        let grant = grant(directory.path().to_str().unwrap());
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        store(&dev, id).await;
        for _ in 0..100 {
            assert_eq!(exchange(&dev, &grant, id).await, 200);
        }
        let complaint = "the collector does not take traces";
        until("the log says so", async || {
            dev.process.log().contains(complaint)
        })
        .await;
        dev.process.signal(rustix::process::Signal::TERM);
        assert_eq!(
            dev.process.end().await.code(),
            Some(0),
            "{}",
            dev.process.log()
        );
        assert_eq!(dev.process.log().matches(complaint).count(), 1, "once");
    }
}
