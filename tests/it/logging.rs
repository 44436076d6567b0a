//! One line a request, whose fields `docs/logging.md` describes.

use serde_json::{Value, json};

use crate::harness::{Dev, instance_directory, until};

const DOCUMENT: &str = include_str!("../../docs/logging.md");

/// The fields that the document promises for the line of a request.
fn documented() -> Vec<&'static str> {
    let table = DOCUMENT.split("## The line of a request").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next()).collect()
}

/// The lines of requests so far.
fn lines(dev: &Dev) -> Vec<Value> {
    let log = dev.process.log();
    let lines = log.lines().map(|line| {
        let parsed: Result<Value, _> = serde_json::from_str(line);
        parsed.unwrap_or_else(|_| panic!("a line is an object: {line}"))
    });
    lines.filter(|line| line["message"] == "request").collect()
}

#[tokio::test]
async fn every_request_has_a_line_with_the_documented_fields() {
    let directory = instance_directory();
    let settings = [
        ("GRANTEX_VAULT_LOG_FORMAT", "json"),
        ("GRANTEX_VAULT_DATA_KEY_CACHE_TTL", "0"),
    ];
    let dev = Dev::start(directory.path(), &settings).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let post = |path: &str, key: &str, body: Value| {
        let request = reqwest::Client::new().post(format!("{}{path}", dev.get("http")));
        let request = request
            .bearer_auth(key)
            .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
            .header("content-type", "application/json");
        request.body(body.to_string()).send()
    };
    let body = json!({"principalId": dev.get("principalId"), "service": "github",
                      "accessToken": "secret-token"});
    let stored = post("/v1/vault/credentials", dev.get("apiKey"), body);
    let id = stored.await.unwrap().headers()["x-request-id"].clone();
    let exchange = "/v1/vault/credentials/exchange";
    let body = json!({"service": "github"});
    let token = dev.get("grantToken");
    assert_eq!(
        post(exchange, token, body.clone()).await.unwrap().status(),
        200
    );
    assert_eq!(post(exchange, "none", body).await.unwrap().status(), 401);

    until("there are three lines", async || lines(&dev).len() == 3).await;
    let lines = lines(&dev);
    for line in &lines {
        let found = line.as_object().unwrap();
        let mut found: Vec<&str> = found.keys().map(String::as_str).collect();
        let mut documented = documented();
        found.sort_unstable();
        documented.sort_unstable();
        assert_eq!(found, documented);
        assert_eq!(line["trace_id"], trace);
        assert_eq!(line["transport"], "rest");
        assert_eq!(line["target"], "grantex_vault::request");
        assert!(line["duration_ms"].as_f64().unwrap() > 0.0);
    }
    let [stored, exchanged, refused] = &lines[..] else {
        unreachable!("there are three");
    };
    assert_eq!(stored["request_id"], id.to_str().unwrap());
    for (line, verb, caller, outcome, status) in [
        (stored, "store", "developer", "ok", 201),
        (exchanged, "exchange", "agent", "ok", 200),
        (refused, "exchange", "unknown", "unauthorized", 401),
    ] {
        assert_eq!(line["verb"], verb);
        assert_eq!(line["caller"], caller);
        assert_eq!(line["outcome"], outcome);
        assert_eq!(line["status"], status);
    }
    for line in [stored, exchanged] {
        let part = |name: &str| line[name].as_f64().unwrap();
        assert!(part("database_ms") > 0.0 && part("kms_ms") > 0.0, "{line}");
        let parts = part("database_ms") + part("kms_ms");
        assert!(parts <= part("duration_ms"), "{line}");
    }
    assert!(!dev.process.log().contains("secret-token"));
}

#[tokio::test]
async fn without_a_collector_no_trace_begins_here() {
    let directory = instance_directory();
    let settings = [("GRANTEX_VAULT_LOG_FORMAT", "json"), ("RUST_LOG", "trace")];
    let dev = Dev::start(directory.path(), &settings).await;
    let list = format!("{}/v1/vault/credentials", dev.get("http"));
    let list = reqwest::Client::new().get(list);
    let listed = list.bearer_auth(dev.get("apiKey")).send().await.unwrap();
    assert_eq!(listed.status(), 200);
    until("there is a line", async || lines(&dev).len() == 1).await;
    let line = lines(&dev).remove(0);
    assert!(line.get("trace_id").is_none(), "{line}");
    assert!(line.get("span").is_none() && line.get("spans").is_none());
}
