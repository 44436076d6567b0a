//! Nothing that is unauthenticated, and no body that arrives slowly, holds a permit that callers need.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::harness::{Problem, Server, Setup, Tenant, Trouble, Via, until};

/// Permits of the servers here.
const PERMITS: usize = 4;
/// Slow requests: many times as many.
const SLOW: usize = 64;

const OVER_SHARE: &str = "Too many requests of this caller are under way";
const FAILED: &str = "grantex_vault_rate_limited_total{limit=\"failed_auth_per_address\"}";

async fn start() -> (Server, Tenant) {
    let permits = PERMITS.to_string();
    let setup = Setup::new().with("GRANTEX_VAULT_MAX_IN_FLIGHT", &permits);
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    developer.store_token("user", "github", "secret").await;
    (server, tenant)
}

/// Every verb is served to another developer, over both transports, and nothing was shed.
async fn others_are_served(server: &Server) {
    let other = server.tenant("other").await;
    for via in Via::BOTH {
        let developer = server.client(via, &other.key);
        let stored = developer.store_token("user", "github", "secret").await;
        let id = stored["id"].as_str().unwrap();
        assert!(developer.list().await.is_ok(), "{via:?}");
        assert!(developer.get(id).await.is_ok(), "{via:?}");
        let agent = server.agent(via, &other, "user");
        assert!(agent.exchange("github").await.is_ok(), "{via:?}");
        let events = developer.audit_events(serde_json::json!({})).await;
        assert!(events.is_ok(), "{via:?}");
        assert!(developer.delete(id).await.is_ok(), "{via:?}");
    }
    assert_eq!(server.metric("grantex_vault_shed_total").await, Some(0.0));
}

/// Requests over HTTP/1 whose body is announced and never comes.
async fn half_requests(server: &Server, head: &str) -> Vec<TcpStream> {
    let open = async |_| {
        let mut stream = TcpStream::connect(server.http_address()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    };
    join_all((0..SLOW).map(open)).await
}

/// The beginning of a webhook of this moment, by somebody who has no secret.
fn half_webhook(server: &Server, length: usize) -> String {
    format!(
        "POST /v1/webhooks/grantex/acme HTTP/1.1\r\nhost: v\r\nconnection: close\r\n\
         x-grantex-timestamp: {}\r\nx-grantex-signature-v2: sha256={}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{{",
        server.clock.seconds(),
        "0".repeat(64),
    )
}

#[tokio::test]
async fn strangers_who_send_half_a_webhook_hold_no_permit() {
    let (server, _) = start().await;
    let held = half_requests(&server, &half_webhook(&server, 1000)).await;
    others_are_served(&server).await;
    drop(held);
}

/// Reads the answer to its end; the status is at its beginning.
async fn answer_of(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let read = timeout(Duration::from_secs(15), read).await;
    read.expect("it is answered in time").unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn whatever_ends_a_webhook_unauthenticated_is_charged_to_its_address() {
    let limit = "GRANTEX_VAULT_LIMIT_FAILED_AUTH_PER_ADDRESS";
    let json = "application/json";
    for (what, length, kind, leaves) in [
        ("a wrong signature", 1, json, false),
        ("another type", 1, "text/plain", false),
        ("too much", 70_000, json, false),
        ("no more of the body", 1000, json, false),
        ("it hangs up", 1000, json, true),
    ] {
        let server = Setup::new().with(limit, "1").start().await;
        let head = half_webhook(&server, length).replace(json, kind);
        // The first uses the budget up; the metric counts the second.
        for _ in 0..2 {
            let mut stream = TcpStream::connect(server.http_address()).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            if !leaves {
                answer_of(stream).await;
            }
        }
        until(&format!("{what} is charged"), async || {
            server.metric(FAILED).await == Some(1.0)
        })
        .await;
    }
}

#[tokio::test]
async fn slow_bodies_under_valid_tokens_hold_no_permit() {
    let (server, tenant) = start().await;
    let mut held = Vec::new();
    for principal in ["user", "user-2"] {
        let token = server.grant(&tenant, principal, &["*"]);
        let opening = format!(
            "POST /v1/vault/credentials/exchange HTTP/1.1\r\nhost: v\r\n\
             authorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             content-length: 100000\r\n\r\n{{"
        );
        held.extend(half_requests(&server, &opening).await);
    }
    let token = server.grant(&tenant, "user", &["*"]);
    let exchange = "/grantex.vault.v1.VaultService/ExchangeCredential";
    let held_streams = half_messages(&server, exchange, Some(&token)).await;
    others_are_served(&server).await;
    drop((held, held_streams));
}

/// Calls whose message never comes, on one connection.
async fn half_messages(
    server: &Server,
    path: &str,
    token: Option<&str>,
) -> Vec<(h2::client::ResponseFuture, h2::SendStream<bytes::Bytes>)> {
    let stream = TcpStream::connect(server.grpc_address()).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut held = Vec::new();
    for _ in 0..SLOW {
        client = client.ready().await.unwrap();
        let mut request = http::Request::post(format!("http://vault{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(()).unwrap();
        held.push(client.send_request(request, false).unwrap());
    }
    held
}

#[tokio::test]
async fn a_grpc_message_is_not_read_before_its_caller_is_known() {
    const UNAUTHENTICATED: &str = "16";
    let (server, _) = start().await;
    for call in [
        "VaultService/StoreCredential",
        "VaultService/ListCredentials",
        "VaultService/GetCredential",
        "VaultService/DeleteCredential",
        "VaultService/ExchangeCredential",
        "AuditService/ListAuditEvents",
    ] {
        let path = format!("/grantex.vault.v1.{call}");
        for token in [None, Some("gx_test_nobody_knows_this_key")] {
            for (answer, body) in half_messages(&server, &path, token).await {
                let answer = timeout(Duration::from_secs(5), answer).await;
                let answer = answer.expect("no message is waited for").unwrap();
                let code = answer.headers().get("grpc-status").unwrap();
                assert_eq!(code, UNAUTHENTICATED, "{call}");
                drop(body);
            }
        }
    }
}

/// Asks until it is refused for its share.
async fn refused_for_its_share(server: &Server, via: Via, tenant: &Tenant) -> Problem {
    let client = server.client(via, &tenant.key);
    let mut found = None;
    until("it is refused for its share", async || {
        found = client.list().await.err();
        found.as_ref().is_some_and(|refused| refused.status == 429)
    })
    .await;
    found.unwrap()
}

#[tokio::test]
async fn a_developer_over_its_share_is_refused_while_others_wait_and_only_then() {
    let setup = Setup::new()
        .with("GRANTEX_VAULT_MAX_IN_FLIGHT", &PERMITS.to_string())
        .with("GRANTEX_VAULT_MAX_IN_FLIGHT_PER_DEVELOPER", "2")
        .with("GRANTEX_VAULT_KMS_TIMEOUT", "20s");
    let server = setup.start().await;
    let [greedy, other] = [server.tenant("acme").await, server.tenant("other").await];
    server.kms.set_trouble(Some(Trouble::Hangs));
    let store = async |number: usize| {
        let client = server.client(Via::BOTH[number % 2], &greedy.key);
        client.store_token("user", "github", "secret").await
    };
    let storing = join_all((0..PERMITS).map(store));
    let meanwhile = async {
        // Nobody waits: it may have all of them, twice its share.
        until("all permits are taken", async || {
            server.kms.hanging() == PERMITS
        })
        .await;
        let alone = server.client(Via::Rest, &greedy.key).list().await;
        assert_eq!(alone.unwrap_err().status, 503);
        for via in Via::BOTH {
            let waiting = async {
                let client = server.client(via, &other.key);
                loop {
                    assert_eq!(client.list().await.unwrap_err().status, 503);
                }
            };
            tokio::select! {
                () = waiting => {}
                refused = refused_for_its_share(&server, via, &greedy) => {
                    assert_eq!(refused.says(), (429, "RATE_LIMIT_EXCEEDED", OVER_SHARE));
                    assert_eq!(refused.retry_after, Some(1));
                }
            }
        }
        server.kms.set_trouble(None);
    };
    tokio::join!(storing, meanwhile);
    let limited = "grantex_vault_rate_limited_total{limit=\"in_flight_per_developer\"}";
    assert!(server.metric(limited).await >= Some(2.0));
    for tenant in [&greedy, &other] {
        let listed = server.client(Via::Grpc, &tenant.key).list().await;
        assert!(listed.is_ok(), "{listed:?}");
    }
}
