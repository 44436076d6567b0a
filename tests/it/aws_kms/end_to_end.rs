//! The binary itself, its master key in KMS.

use std::process::Command;

use axum::{Router, http::StatusCode};
use serde_json::{Value, json};

use crate::harness::{Cluster, ISSUER, Moto, Process, SigningKey};

const BINARY: &str = env!("CARGO_BIN_EXE_grantex-vault");

/// Runs an operator's verb; answers what it printed.
fn operate(database_url: &str, arguments: &[&str]) -> String {
    let output = Command::new(BINARY)
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", database_url)
        .output()
        .expect("the binary runs");
    let printed = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}");
    printed.trim_end().to_owned()
}

async fn post(url: String, credentials: &str, body: Value) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(url).bearer_auth(credentials).json(&body);
    let answer = request.send().await.expect("the binary answers");
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn the_binary_stores_and_exchanges_with_its_master_key_in_kms() {
    let moto = Moto::shared().await;
    let arn = moto.master_key().await;
    let master_key = format!("aws-kms:{}", moto.alias(&arn).await);
    let database_url = Cluster::shared().await.empty_database().await;
    let directory = tempfile::tempdir().unwrap();
    let key_set = directory.path().join("jwks.json");
    let key = SigningKey::number(0);
    std::fs::write(&key_set, json!({"keys": [key.jwk()]}).to_string()).unwrap();
    let settings = [
        ("DATABASE_URL", &*database_url),
        ("GRANTEX_VAULT_MIGRATE", "true"),
        ("GRANTEX_VAULT_MASTER_KEY", &master_key),
        ("GRANTEX_VAULT_ISSUER", ISSUER),
        ("GRANTEX_VAULT_JWKS_FILE", key_set.to_str().unwrap()),
        ("GRANTEX_VAULT_HTTP_ADDR", "127.0.0.1:0"),
        ("GRANTEX_VAULT_GRPC_ADDR", "127.0.0.1:0"),
        ("GRANTEX_VAULT_ADMIN_ADDR", "127.0.0.1:0"),
    ];
    let environment = [&settings[..], &moto.environment()].concat();
    let vault = Process::start(&["serve"], &environment);
    let http = vault.logged_field("http").await;
    let url = format!("http://{http}/v1/vault/credentials");

    let developer = operate(&database_url, &["developer", "create", "--name", "Acme"]);
    let api_key = operate(
        &database_url,
        &["api-key", "create", "--developer", &developer],
    );
    let credential = json!({
        "principalId": "user", "service": "github", "accessToken": "gho_canary",
    });
    let (status, stored) = post(url.clone(), &api_key, credential).await;
    assert_eq!(status, 201, "{stored}");

    let now = stored["createdAt"].as_str().unwrap();
    let now = grantex_vault::model::timestamp::Timestamp::parse(now).unwrap();
    let grant = key.sign(&json!({
        "iss": ISSUER, "sub": "user", "agt": "did:grantex:agent", "dev": developer,
        "scp": ["vault:github:exchange"], "jti": "token-1",
        "iat": now.as_second(), "exp": now.as_second() + 600,
    }));
    let exchange = format!("{url}/exchange");
    let (status, exchanged) = post(exchange, &grant, json!({"service": "github"})).await;
    assert_eq!(status, 200, "{exchanged}");
    assert_eq!(exchanged["accessToken"], "gho_canary");

    let sql = crate::harness::connect(&database_url).await;
    let row = "select master_key from vault.credentials";
    let recorded: String = sql.query_one(row, &[]).await.unwrap().get(0);
    assert_eq!(recorded, arn, "the resolved key, not the alias");
    let said = [vault.output(), vault.log()].concat();
    assert!(!said.contains("canary"), "{said}");
}

#[tokio::test]
async fn the_binary_refuses_a_missing_key_and_names_it_with_its_setting() {
    let moto = Moto::shared().await;
    let good = format!("aws-kms:{}", moto.master_key().await);
    let missing = format!("aws-kms:alias/{}", uuid::Uuid::new_v4());
    for (primary, old, named) in [
        (&missing, "", "GRANTEX_VAULT_MASTER_KEY"),
        (&good, &*missing, "GRANTEX_VAULT_OLD_MASTER_KEYS"),
    ] {
        let output = Command::new(BINARY)
            .arg("serve")
            .env_clear()
            .envs(moto.environment())
            // Nobody is there, which alone would not end it.
            .env("DATABASE_URL", "postgres://vault@127.0.0.1:1/vault?sslmode=disable")
            .env("GRANTEX_VAULT_MASTER_KEY", primary)
            .env("GRANTEX_VAULT_OLD_MASTER_KEYS", old)
            .env("GRANTEX_VAULT_ISSUER", ISSUER)
            .output();
        let output = output.expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let complaint = format!("{named} names {missing}, which cannot be used: there is no such");
        assert!(said.contains(&complaint), "{said}");
    }
}

#[tokio::test]
async fn doctor_says_that_a_key_is_disabled_or_that_it_may_not_be_used() {
    let moto = Moto::shared().await;
    let arn = moto.master_key().await;
    let (_, id) = arn.split_once(":key/").unwrap();
    moto.kms().disable_key().key_id(id).send().await.unwrap();
    let denied = Router::new().fallback(async || {
        let denied = json!({"__type": "AccessDeniedException"}).to_string();
        (StatusCode::BAD_REQUEST, denied)
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, denied).await });
    for (endpoint, says) in [
        (&moto.url, "the master key is disabled"),
        (&elsewhere, "the KMS denied the use of the master key"),
    ] {
        let mut doctor = Command::new(BINARY);
        doctor
            .arg("doctor")
            .env_clear()
            .envs(moto.environment())
            .env("AWS_ENDPOINT_URL", endpoint)
            .env(
                "DATABASE_URL",
                "postgres://vault@127.0.0.1:1/vault?sslmode=disable",
            )
            .env("GRANTEX_VAULT_MASTER_KEY", format!("aws-kms:{arn}"))
            .env("GRANTEX_VAULT_ISSUER", ISSUER);
        let output = tokio::task::spawn_blocking(move || doctor.output()).await;
        let output = output.unwrap().expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(says), "{said}");
    }
}
