//! More than a replica can do is refused at once, and what takes too long is given up.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use grantex_vault::grpc::pb::ExchangeCredentialRequest;
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

/// Exchanges over gRPC and allows so many milliseconds; answers once the server has given it up.
async fn exchange_within(server: &Server, token: &str, millis: u64) {
    let given_up = concat!(
        "grantex_vault_requests_total{outcome=\"deadline_exceeded\",",
        "transport=\"grpc\",verb=\"exchange\"}"
    );
    let before = server.metric(given_up).await.unwrap_or_default();
    let client = server.client(Via::Grpc, token);
    let mut request = client.request(ExchangeCredentialRequest {
        service: "github".to_owned(),
    });
    request.set_timeout(Duration::from_millis(millis));
    assert!(client.grpc().exchange_credential(request).await.is_err());
    until("the server has given it up", async || {
        server.metric(given_up).await == Some(before + 1.0)
    })
    .await;
}

#[tokio::test]
async fn a_deadline_of_the_caller_ends_what_its_request_waits_for() {
    let setup = Setup::new().with("GRANTEX_VAULT_KMS_TIMEOUT", "20s");
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    developer.store_token("user", "github", "secret").await;
    let token = server.grant(&tenant, "user", &["*"]);

    server.kms.set_trouble(Some(Trouble::Hangs));
    exchange_within(&server, &token, 300).await;
    assert_eq!(server.kms.hanging(), 0, "the KMS is not waited for");
    server.kms.set_trouble(None);

    let mut lock = server.sql().await;
    let lock = lock.transaction().await.unwrap();
    let table = "lock table vault.credentials in access exclusive mode";
    lock.batch_execute(table).await.unwrap();
    exchange_within(&server, &token, 300).await;
    lock.rollback().await.unwrap();
    let agent = server.client(Via::Grpc, &token);
    assert!(agent.exchange("github").await.is_ok());
}
