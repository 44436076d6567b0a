//! More than a replica can do is refused at once, and what takes too long is given up.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use grantex_vault::grpc::pb::ExchangeCredentialRequest;
use prost::Message;
use tokio::{net::TcpStream, time::timeout};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::{Server, Setup, Trouble, Via, until};

const MESSAGE: &str = "The vault has too many requests under way";

#[tokio::test]
async fn too_many_at_once_are_refused_at_once() {
    let setup = Setup::new()
        .with("GRANTEX_VAULT_MAX_IN_FLIGHT", "4")
        .with("GRANTEX_VAULT_KMS_TIMEOUT", "20s");
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    let clients = Via::BOTH.map(|via| server.client(via, &tenant.key));
    server.kms.set_trouble(Some(Trouble::Hangs));
    let storing = join_all((0..4).map(|number| {
        let client = clients[number % 2].clone();
        async move { client.store_token("user", "github", "secret").await }
    }));
    let meanwhile = async {
        until("all places are taken", async || server.kms.hanging() == 4).await;
        for client in &clients {
            let begun = Instant::now();
            let refused = client.list().await.unwrap_err();
            assert_eq!(refused.says(), (503, "UNAVAILABLE", MESSAGE));
            assert_eq!(refused.retry_after, Some(1));
            assert!(begun.elapsed() < Duration::from_secs(2), "at once");
        }
        assert_eq!(server.metric("grantex_vault_shed_total").await, Some(2.0));
        let mut health = HealthClient::new(server.channel.clone());
        assert!(health.check(HealthCheckRequest::default()).await.is_ok());
        server.kms.set_trouble(None);
    };
    tokio::join!(storing, meanwhile);
    assert!(clients[0].list().await.is_ok());
}

/// Exchanges over gRPC and allows 300 ms, as a client that does not watch the time itself; answers the
/// code.
async fn exchange_within_its_deadline(server: &Server, token: &str) -> String {
    let stream = TcpStream::connect(server.grpc_address()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let exchange = "/grantex.vault.v1.VaultService/ExchangeCredential";
    let request = http::Request::post(format!("http://vault{exchange}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {token}"))
        .header("grpc-timeout", "300m");
    let message = ExchangeCredentialRequest {
        service: "github".to_owned(),
    };
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let frame = [&[0], &length[..], &message].concat();
    let mut client = client.ready().await.unwrap();
    let (answer, mut body) = client
        .send_request(request.body(()).unwrap(), false)
        .unwrap();
    body.send_data(frame.into(), true).unwrap();
    let answer = answer.await.unwrap();
    let code = answer.headers().get("grpc-status");
    let code = code.expect("an error has its code among the headers");
    code.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_deadline_of_the_caller_ends_what_its_request_waits_for() {
    const DEADLINE_EXCEEDED: &str = "4";
    let setup = Setup::new()
        .without_data_keys()
        .with("GRANTEX_VAULT_KMS_TIMEOUT", "20s")
        .with("GRANTEX_VAULT_DB_POOL_SIZE", "2");
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    developer.store_token("user", "github", "secret").await;
    let token = server.grant(&tenant, "user", &["vault:github:exchange"]);

    server.kms.set_trouble(Some(Trouble::Hangs));
    let code = exchange_within_its_deadline(&server, &token).await;
    assert_eq!(code, DEADLINE_EXCEEDED);
    assert_eq!(server.kms.hanging(), 0, "the KMS is not waited for");
    server.kms.set_trouble(None);

    let mut lock = server.sql().await;
    let lock = lock.transaction().await.unwrap();
    let table = "lock table vault.credentials in access exclusive mode";
    lock.batch_execute(table).await.unwrap();
    let code = exchange_within_its_deadline(&server, &token).await;
    assert_eq!(code, DEADLINE_EXCEEDED);
    // Nobody else is given the connection that still waits for the lock.
    for _ in 0..4 {
        let begun = Instant::now();
        let unknown = server.client(Via::Rest, "gx_test_of_nobody_at_all");
        assert_eq!(unknown.list().await.unwrap_err().status, 401);
        assert!(begun.elapsed() < Duration::from_secs(2), "at once");
    }
    lock.rollback().await.unwrap();
    let counted = "grantex_vault_requests_total{outcome=\"deadline_exceeded\",\
                   transport=\"grpc\",verb=\"exchange\"}";
    assert_eq!(server.metric(counted).await, Some(2.0));
    let agent = server.client(Via::Grpc, &token);
    assert!(agent.exchange("github").await.is_ok());
}

#[tokio::test]
async fn a_request_whose_client_goes_away_is_counted_and_given_up() {
    let setup = Setup::new()
        .without_data_keys()
        .with("GRANTEX_VAULT_KMS_TIMEOUT", "20s");
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    developer.store_token("user", "github", "secret").await;
    server.kms.set_trouble(Some(Trouble::Hangs));
    for (via, name) in [(Via::Rest, "rest"), (Via::Grpc, "grpc")] {
        let agent = server.agent(via, &tenant, "user");
        let patience = Duration::from_millis(300);
        let given_up = timeout(patience, agent.exchange("github")).await;
        assert!(given_up.is_err(), "nobody answers");
        let counted = format!(
            "grantex_vault_requests_total{{outcome=\"abandoned\",transport=\"{name}\",\
             verb=\"exchange\"}}"
        );
        until("it is counted", async || {
            server.metric(&counted).await == Some(1.0)
        })
        .await;
        assert_eq!(server.kms.hanging(), 0, "nobody waits for the KMS");
    }
}

#[tokio::test]
async fn strangers_who_send_no_message_hold_no_place() {
    let setup = Setup::new().with("GRANTEX_VAULT_MAX_IN_FLIGHT", "4");
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    let stream = TcpStream::connect(server.grpc_address()).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut silent = Vec::new();
    for _ in 0..64 {
        client = client.ready().await.unwrap();
        let list = "http://vault/grantex.vault.v1.VaultService/ListCredentials";
        let request = http::Request::post(list).header("content-type", "application/grpc");
        let request = request.body(()).unwrap();
        silent.push(client.send_request(request, false).unwrap());
    }
    for via in [Via::Rest, Via::Grpc, Via::Rest, Via::Grpc] {
        assert!(server.client(via, &tenant.key).list().await.is_ok());
    }
    assert_eq!(server.metric("grantex_vault_shed_total").await, Some(0.0));
}
