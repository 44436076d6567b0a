//! The private listener: probes for whoever runs the vault, and the numbers on the dashboards.

use std::time::Duration;

use serde_json::Value;
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::{Cluster, Server, Setup, Trouble, Via, run, until};

async fn get(server: &Server, path: &str) -> (u16, String) {
    let answer = server.http.get(format!("{}{path}", server.admin_url()));
    let answer = answer.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn readyz(server: &Server) -> (u16, Value) {
    let (status, text) = get(server, "/readyz").await;
    (status, serde_json::from_str(&text).unwrap())
}

/// Waits until a check says this of itself, and answers what all of them say.
async fn until_check(server: &Server, check: &str, status: &str) -> (u16, Value) {
    until("the check says so", async || {
        readyz(server).await.1["checks"][check]["status"] == status
    })
    .await;
    readyz(server).await
}

/// What `grpc.health.v1` says on the admin listener.
async fn grpc_health(server: &Server) -> &'static str {
    let channel = Endpoint::from_shared(server.admin_url()).unwrap();
    let mut health = HealthClient::new(channel.connect_lazy());
    let answer = health.check(HealthCheckRequest::default()).await;
    answer.unwrap().into_inner().status().as_str_name()
}

#[tokio::test]
async fn a_server_that_has_all_it_needs_is_live_and_ready() {
    let server = Server::start().await;
    assert_eq!(get(&server, "/livez").await, (200, "ok\n".to_owned()));
    let (status, readiness) = readyz(&server).await;
    assert_eq!(status, 200, "{readiness}");
    assert_eq!(readiness["status"], "ok");
    assert_eq!(readiness["draining"], false);
    for check in ["database", "masterKeys", "issuerKeys", "audit"] {
        let found = &readiness["checks"][check];
        assert_eq!(found["status"], "ok", "{check}");
        assert!(found["ageSeconds"].is_number(), "{check}: {found}");
    }
    assert_eq!(grpc_health(&server).await, "SERVING");
}

#[tokio::test]
async fn it_serves_nothing_else_there_and_none_of_it_to_the_public() {
    let server = Server::start().await;
    for path in ["/", "/v1/vault/credentials", "/debug", "/livez/"] {
        assert_eq!(get(&server, path).await.0, 404, "{path}");
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        let public = server.http.get(format!("{}{path}", server.http_url));
        assert_eq!(public.send().await.unwrap().status(), 404, "{path}");
    }
}

#[tokio::test]
async fn without_postgres_it_is_degraded_and_after_the_grace_period_not_ready() {
    let cluster = Cluster::start().await;
    let server = Setup::new()
        .with("DATABASE_URL", &cluster.database().await)
        .start()
        .await;
    cluster.stop().await;
    let (status, readiness) = until_check(&server, "database", "degraded").await;
    assert_eq!(status, 200, "{readiness}");
    // What its end was answered with, or nobody.
    let says = readiness["checks"]["database"]["detail"].as_str().unwrap();
    let known = [
        "unreachable",
        "it is starting or stopping",
        "it is stopping",
    ];
    assert!(known.contains(&says), "{says}");
    server.clock.advance(Duration::from_secs(30));
    assert_eq!(readyz(&server).await.0, 503);
    until("health says so", async || {
        grpc_health(&server).await == "NOT_SERVING"
    })
    .await;
    cluster.start_again().await;
    assert_eq!(until_check(&server, "database", "ok").await.0, 200);
    until("health says so", async || {
        grpc_health(&server).await == "SERVING"
    })
    .await;
}

#[tokio::test]
async fn a_kms_that_was_never_there_is_waited_for() {
    let setup = Setup::new();
    setup.kms.set_trouble(Some(Trouble::Unreachable));
    let server = setup.start().await;
    let (status, readiness) = readyz(&server).await;
    assert_eq!(status, 503, "{readiness}");
    assert_eq!(readiness["checks"]["masterKeys"]["detail"], "unreachable");
    server.kms.set_trouble(None);
    assert_eq!(until_check(&server, "masterKeys", "ok").await.0, 200);
}

#[tokio::test]
async fn a_kms_that_goes_away_leaves_it_ready() {
    let server = Server::start().await;
    server.kms.set_trouble(Some(Trouble::Unreachable));
    let (status, readiness) = until_check(&server, "masterKeys", "degraded").await;
    assert_eq!((status, &readiness["status"]), (200, &"degraded".into()));
    assert_eq!(grpc_health(&server).await, "SERVING");
}

#[tokio::test]
async fn a_master_key_that_is_denied_later_is_degraded() {
    let server = Server::start().await;
    server.kms.set_trouble(Some(Trouble::Denied));
    let (status, readiness) = until_check(&server, "masterKeys", "degraded").await;
    assert_eq!(status, 200);
    assert_eq!(readiness["checks"]["masterKeys"]["detail"], "denied");
}

#[tokio::test]
async fn an_issuer_that_goes_away_leaves_it_ready() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    server.issuer.fail();
    server.clock.advance(Duration::from_secs(10));
    let claims = server.claims(&tenant.id, "user", &["vault:github:exchange"]);
    let token = server.issuer.key().called("unknown").sign(&claims);
    let refused = server.client(Via::Rest, &token).exchange("github").await;
    assert_eq!(refused.unwrap_err().status, 503);
    let (status, readiness) = until_check(&server, "issuerKeys", "degraded").await;
    assert_eq!((status, &readiness["status"]), (200, &"degraded".into()));
    server.issuer.recover();
    server.clock.advance(Duration::from_secs(10));
    assert_eq!(
        server
            .client(Via::Rest, &token)
            .exchange("x")
            .await
            .unwrap_err()
            .status,
        401
    );
    assert_eq!(until_check(&server, "issuerKeys", "ok").await.0, 200);
}

#[tokio::test]
async fn an_issuer_that_was_never_there_is_waited_for() {
    let setup = Setup::new();
    setup.issuer.fail();
    let server = setup.start().await;
    let (status, readiness) = readyz(&server).await;
    assert_eq!(status, 503, "{readiness}");
    assert_eq!(readiness["checks"]["issuerKeys"]["status"], "failed");
}

#[tokio::test]
async fn an_audit_that_fails_is_degraded_until_it_works_again() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    let lock = "alter table vault.audit_events add constraint full_up check (false) not valid";
    server.execute(lock).await;
    assert_eq!(developer.list().await.unwrap_err().status, 503);
    let (status, readiness) = readyz(&server).await;
    assert_eq!((status, &readiness["status"]), (200, &"degraded".into()));
    assert_eq!(readiness["checks"]["audit"]["status"], "degraded");
    let unlock = "alter table vault.audit_events drop constraint full_up";
    server.execute(unlock).await;
    assert!(developer.list().await.is_ok());
    assert_eq!(readyz(&server).await.1["checks"]["audit"]["status"], "ok");
}

#[tokio::test]
async fn the_health_command_says_what_readyz_says() {
    let server = Server::start().await;
    let address = server.admin_url();
    let address = address.strip_prefix("http://").unwrap().to_owned();
    let ask = async |arguments: &'static [&'static str]| {
        let address = address.clone();
        let asked = move || run(&[&["health", "--admin-addr", &address], arguments].concat());
        tokio::task::spawn_blocking(asked).await.unwrap()
    };
    let ready = ask(&[]).await;
    assert!(ready.status.success());
    assert!(String::from_utf8_lossy(&ready.stdout).contains("\"status\":\"ok\""));
    assert_eq!(ask(&["--live"]).await.stdout, b"ok\n");
    server.stop().await;
    let gone = ask(&[]).await;
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("no answer from"));
}
