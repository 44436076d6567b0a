//! Starting and stopping the real binary: `serve`.

use std::{collections::BTreeMap, fs, path::Path};

use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::harness::{Cluster, FakeIssuer, Process, instance_directory, print, run, until};

/// What `serve` needs, on a database of its own.
pub(crate) async fn settings(directory: &Path) -> BTreeMap<&'static str, String> {
    let keyring = directory.join("keyring.json");
    print(&["keyring", "create", keyring.to_str().unwrap()]);
    let jwks = directory.join("jwks.json");
    fs::write(
        &jwks,
        serde_json::json!({"keys": [FakeIssuer::start().key().jwk()]}).to_string(),
    )
    .unwrap();
    BTreeMap::from([
        ("DATABASE_URL", Cluster::shared().await.database().await),
        (
            "GRANTEX_VAULT_MASTER_KEY",
            format!("local:{}", keyring.display()),
        ),
        ("GRANTEX_VAULT_ISSUER", "https://issuer.test".to_owned()),
        ("GRANTEX_VAULT_JWKS_FILE", jwks.display().to_string()),
        ("GRANTEX_VAULT_HTTP_ADDR", "127.0.0.1:0".to_owned()),
        ("GRANTEX_VAULT_GRPC_ADDR", "127.0.0.1:0".to_owned()),
        ("GRANTEX_VAULT_ADMIN_ADDR", "127.0.0.1:0".to_owned()),
    ])
}

pub(crate) fn serve(settings: &BTreeMap<&'static str, String>) -> Process {
    let settings: Vec<_> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    Process::start(&["serve"], &settings)
}

/// A developer's API key, made through the command line of the same environment.
pub(crate) async fn api_key(database_url: &str) -> String {
    let settings = [("DATABASE_URL", database_url)];
    let said = |arguments: Vec<String>| async move {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut process = Process::start(&arguments, &settings);
        assert!(process.end().await.success(), "{}", process.log());
        until("it has printed", async || !process.output().is_empty()).await;
        process.output().trim().to_owned()
    };
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let developer = said(words("developer create --name Acme")).await;
    said(words(&format!("api-key create --developer {developer}"))).await
}

async fn health(grpc: &str) -> Option<ServingStatus> {
    let channel = Endpoint::from_shared(format!("http://{grpc}"))
        .unwrap()
        .connect()
        .await
        .ok()?;
    let request = HealthCheckRequest {
        service: "grantex.vault.v1.VaultService".to_owned(),
    };
    let answer = HealthClient::new(channel).check(request).await.ok()?;
    Some(answer.into_inner().status())
}

#[tokio::test]
async fn a_request_in_flight_at_sigterm_is_answered_and_the_exit_code_is_0() {
    let directory = instance_directory();
    let settings = settings(directory.path()).await;
    let mut vault = serve(&settings);
    let http = vault.logged_field("http").await;
    let key = api_key(&settings["DATABASE_URL"]).await;

    let body = r#"{"principalId":"p","service":"github","accessToken":"in flight"}"#;
    let mut connection = TcpStream::connect(&http).await.unwrap();
    let head = format!(
        "POST /v1/vault/credentials HTTP/1.1\r\nhost: vault\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    // It asks for the body, so it is in the middle of the request.
    let mut interim = [0; 25];
    connection.read_exact(&mut interim).await.unwrap();
    assert!(
        interim.starts_with(b"HTTP/1.1 100 "),
        "{}",
        String::from_utf8_lossy(&interim)
    );

    vault.signal(Signal::TERM);
    until("new connections are refused", async || {
        TcpStream::connect(&http).await.is_err()
    })
    .await;
    assert!(vault.ended().is_none(), "it waits for the request");
    connection.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(vault.end().await.code(), Some(0), "{}", vault.log());
}

#[tokio::test]
async fn while_draining_it_is_not_serving_but_still_accepts() {
    let directory = instance_directory();
    let mut settings = settings(directory.path()).await;
    settings.insert("GRANTEX_VAULT_DRAIN_DELAY", "1h".to_owned());
    let mut vault = serve(&settings);
    let (http, grpc) = (
        vault.logged_field("http").await,
        vault.logged_field("grpc").await,
    );
    assert_eq!(health(&grpc).await, Some(ServingStatus::Serving));

    vault.signal(Signal::TERM);
    let not_serving = Some(ServingStatus::NotServing);
    until("health says so", async || {
        health(&grpc).await == not_serving
    })
    .await;
    let answer = reqwest::get(format!("http://{http}/v1/vault/credentials"))
        .await
        .unwrap();
    assert_eq!(answer.status(), 401, "it still answers");
    let admin = vault.logged_field("admin").await;
    let probed = reqwest::get(format!("http://{admin}/readyz"))
        .await
        .unwrap();
    assert_eq!(probed.status(), 503);
    assert!(probed.text().await.unwrap().contains("\"draining\":true"));
    let probed = reqwest::get(format!("http://{admin}/livez")).await.unwrap();
    assert_eq!(probed.status(), 200);

    vault.signal(Signal::TERM);
    vault.end().await;
    assert!(
        vault.log().contains("by a second signal"),
        "{}",
        vault.log()
    );
}

#[tokio::test]
async fn an_unreachable_database_is_waited_for() {
    let directory = instance_directory();
    let mut settings = settings(directory.path()).await;
    let cluster = Cluster::start().await;
    settings.insert("DATABASE_URL", cluster.database().await);
    cluster.stop().await;
    let vault = serve(&settings);
    let (http, grpc) = (
        vault.logged_field("http").await,
        vault.logged_field("grpc").await,
    );
    assert_eq!(health(&grpc).await, Some(ServingStatus::NotServing));
    let key = "gx_live_0123456789";
    let list = || reqwest::Client::new().get(format!("http://{http}/v1/vault/credentials"));
    let answer = list().bearer_auth(key).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");

    cluster.start_again().await;
    until("it serves", async || {
        health(&grpc).await == Some(ServingStatus::Serving)
    })
    .await;
    assert_eq!(list().bearer_auth(key).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn an_empty_database_is_migrated_when_that_is_asked_for() {
    let directory = instance_directory();
    let mut settings = settings(directory.path()).await;
    settings.insert(
        "DATABASE_URL",
        Cluster::shared().await.empty_database().await,
    );
    let mut refused = serve(&settings);
    assert_eq!(refused.end().await.code(), Some(1));
    until("it says why", async || {
        refused.log().contains("grantex-vault migrate")
    })
    .await;

    settings.insert("GRANTEX_VAULT_MIGRATE", "true".to_owned());
    let vault = serve(&settings);
    let grpc = vault.logged_field("grpc").await;
    assert_eq!(health(&grpc).await, Some(ServingStatus::Serving));
}

#[test]
fn without_settings_it_names_all_that_is_required() {
    let output = run(&["serve"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    for name in [
        "DATABASE_URL",
        "GRANTEX_VAULT_MASTER_KEY",
        "GRANTEX_VAULT_ISSUER",
    ] {
        assert!(said.contains(&format!("{name} is required")), "{said}");
    }
}
