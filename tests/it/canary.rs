//! Secrets go where they belong and nowhere else: not into logs, not into the database, not into
//! error answers.

use grantex_vault::grpc::pb::{
    ExchangeCredentialRequest, StoreCredentialRequest, vault_service_client::VaultServiceClient,
};
use serde_json::json;
use tonic::{Request, transport::Endpoint};

use crate::harness::{Dev, connect, instance_directory, print};

const ACCESS: &str = "canary-access-7d0c";
const REFRESH: &str = "canary-refresh-7d0c";
const CANARY: &str = "canary";

/// Every verb over both transports, well and badly; answers the bodies of what was refused.
async fn exercise(dev: &Dev, grant: &str) -> String {
    let client = reqwest::Client::new();
    let base = format!("{}/v1/vault/credentials", dev.get("http"));
    let key = dev.get("apiKey");
    let post = |url: &str, bearer: &str, body: String| {
        let request = client
            .post(url)
            .bearer_auth(bearer)
            .header("content-type", "application/json");
        request.body(body).send()
    };
    let good = json!({
        "principalId": dev.get("principalId"), "service": "github",
        "accessToken": ACCESS, "refreshToken": REFRESH,
    });
    let stored = post(&base, key, good.to_string()).await.unwrap();
    let stored: serde_json::Value = stored.json().await.unwrap();
    let one = format!("{base}/{}", stored["id"].as_str().unwrap());
    let events = format!("{}/v1/vault/audit-events", dev.get("http"));
    for url in [&base, &one, &events] {
        let answer = client.get(url).bearer_auth(key).send().await.unwrap();
        assert!(!answer.text().await.unwrap().contains(CANARY), "{url}");
    }
    let exchange = format!("{base}/exchange");
    let answer = post(&exchange, grant, r#"{"service":"github"}"#.into())
        .await
        .unwrap();
    assert!(
        answer.text().await.unwrap().contains(ACCESS),
        "the one place where it belongs"
    );

    let mut refused = String::new();
    for (url, bearer, body) in [
        (
            &base,
            key,
            format!(r#"{{"principalId":"p","service":"{CANARY}!","accessToken":"{ACCESS}"}}"#),
        ),
        (&base, key, format!(r#"{{"accessToken":"{ACCESS}","#)),
        (
            &base,
            key,
            format!(r#"{{"accessToken":["{ACCESS}"],"principalId":"p","service":"s"}}"#),
        ),
        (
            &base,
            key,
            format!(
                r#"{{"principalId":"p","service":"s","accessToken":"{ACCESS}","tokenExpiresAt":"{CANARY}"}}"#
            ),
        ),
        (&base, "gx_live_canary_not_a_key", good.to_string()),
        (
            &exchange,
            "canary.not.a.token",
            r#"{"service":"github"}"#.into(),
        ),
        (
            &exchange,
            grant,
            format!(r#"{{"service":"github","delivery":"{CANARY}"}}"#),
        ),
    ] {
        let answer = post(url, bearer, body).await.unwrap();
        assert!(answer.status().is_client_error());
        refused.push_str(&answer.text().await.unwrap());
    }
    grpc(dev, grant).await;
    assert_eq!(
        client
            .delete(&one)
            .bearer_auth(key)
            .send()
            .await
            .unwrap()
            .status(),
        204
    );
    post(&base, key, good.to_string()).await.unwrap();
    refused
}

async fn grpc(dev: &Dev, grant: &str) {
    let endpoint = Endpoint::from_shared(format!("http://{}", dev.get("grpc"))).unwrap();
    let mut client = VaultServiceClient::new(endpoint.connect().await.unwrap());
    let mut store = Request::new(StoreCredentialRequest {
        principal_id: dev.get("principalId").to_owned(),
        service: "github".to_owned(),
        access_token: ACCESS.to_owned(),
        refresh_token: REFRESH.to_owned(),
        ..StoreCredentialRequest::default()
    });
    let bearer = |token: &str| format!("Bearer {token}").parse().unwrap();
    store
        .metadata_mut()
        .insert("authorization", bearer(dev.get("apiKey")));
    client.store_credential(store).await.unwrap();
    let mut exchange = Request::new(ExchangeCredentialRequest {
        service: "github".to_owned(),
    });
    exchange
        .metadata_mut()
        .insert("authorization", bearer(grant));
    let exchanged = client
        .exchange_credential(exchange)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(exchanged.access_token, ACCESS);
    assert!(!format!("{exchanged:?}").contains(CANARY));
}

/// Every row of every table, as text: bytes are shown in hex, so that is searched for too.
async fn dump(database_url: &str) -> String {
    let database = connect(database_url).await;
    let tables =
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname = 'vault'";
    let mut dump = String::new();
    for table in database.query(tables, &[]).await.unwrap() {
        let rows = format!("select t::text from {} t", table.get::<_, &str>(0));
        for row in database.query(&rows, &[]).await.unwrap() {
            dump.push_str(row.get(0));
            dump.push('\n');
        }
    }
    dump
}

fn hex(text: &str) -> String {
    text.bytes()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

#[tokio::test]
async fn secrets_are_in_no_log_no_table_and_no_error() {
    let directory = instance_directory();
    let dev = Dev::start(directory.path(), &[("RUST_LOG", "trace")]).await;
    let at = directory.path().to_str().unwrap();
    let mint = ["grant", "mint", "--service", "github", "--data-dir", at];
    let grant = print(&[&mint[..], &["--principal", dev.get("principalId")]].concat());
    let refused = exercise(&dev, &grant).await;
    assert!(!refused.contains(CANARY), "{refused}");

    let dump = dump(dev.get("databaseUrl")).await;
    assert!(dump.contains("github"), "the dump has the rows");
    let log = dev.process.log();
    assert!(
        log.contains("verb=\"exchange\""),
        "the log has the requests"
    );
    let key = dev.get("apiKey");
    for (name, secret) in [
        ("access", ACCESS),
        ("refresh", REFRESH),
        ("key", key),
        ("grant", &grant),
    ] {
        for shown in [secret.to_owned(), hex(secret)] {
            assert!(!log.contains(&shown), "the {name} secret is in the log");
            assert!(
                !dump.contains(&shown),
                "the {name} secret is in the database"
            );
        }
    }
    assert!(!log.contains(CANARY), "not even what was refused");
}

#[tokio::test]
async fn libraries_are_kept_quiet_unless_that_is_lifted_with_a_warning() {
    let directory = instance_directory();
    let trace = ("RUST_LOG", "trace");
    let quiet = Dev::start(directory.path(), &[trace]).await;
    let foreign =
        |log: &str| log.contains(" TRACE tokio_postgres") || log.contains("DEBUG tokio_postgres");
    assert!(!foreign(&quiet.process.log()), "{}", quiet.process.log());
    drop(quiet);
    let lifted = Dev::start(
        directory.path(),
        &[trace, ("GRANTEX_VAULT_LOG_FOREIGN", "true")],
    )
    .await;
    assert!(foreign(&lifted.process.log()));
    assert!(
        lifted
            .process
            .log()
            .contains("WARN grantex_vault::telemetry: GRANTEX_VAULT_LOG_FOREIGN")
    );
}
