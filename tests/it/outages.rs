//! Postgres and the KMS gone, slow or silent: clear refusals, nothing held meanwhile, recovery by itself.

use std::time::{Duration, Instant};

use serde_json::json;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::{Answer, Cluster, Server, Setup, Tenant, Trouble, Via, connect, until};

const DATABASE: &str = "The vault's database is unavailable";
const AUDIT: &str = "The vault's audit is unavailable";
const KMS: &str = "The vault's key management is unavailable";

fn assert_unavailable(answer: Answer, message: &str) {
    let refused = answer.unwrap_err();
    assert_eq!(refused.says(), (503, "UNAVAILABLE", message));
    assert_eq!(refused.retry_after, Some(1));
}

/// All verbs, over both transports.
async fn every_verb(server: &Server, tenant: &Tenant) -> Vec<Answer> {
    let mut answers = Vec::new();
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        let fields = json!({"principalId": "user", "service": "slack", "accessToken": "new"});
        answers.push(developer.store(fields).await);
        answers.push(developer.list().await);
        answers.push(developer.get("vc_x").await);
        answers.push(developer.delete("vc_x").await);
        answers.push(server.agent(via, tenant, "user").exchange("github").await);
    }
    answers
}

async fn on_a_cluster_of_its_own() -> (Cluster, Server, Tenant) {
    let cluster = Cluster::start().await;
    let url = cluster.database().await;
    let server = Setup::new().with("DATABASE_URL", &url).start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    developer.store_token("user", "github", "secret").await;
    (cluster, server, tenant)
}

#[tokio::test]
async fn without_postgres_every_verb_is_unavailable_at_once_until_it_is_back() {
    let (cluster, server, tenant) = on_a_cluster_of_its_own().await;
    for crash in [false, true] {
        if crash {
            cluster.crash().await;
        } else {
            cluster.stop().await;
        }
        let started = Instant::now();
        for (number, answer) in every_verb(&server, &tenant).await.into_iter().enumerate() {
            // An exchange of what was exchanged before has nothing to ask but whether it is recorded.
            let recorded_only = crash && number % 5 == 4;
            assert_unavailable(answer, if recorded_only { AUDIT } else { DATABASE });
        }
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{:?}",
            started.elapsed()
        );
        cluster.start_again().await;
        for via in Via::BOTH {
            until("the vault has found Postgres again", async || {
                server.client(via, &tenant.key).list().await.is_ok()
            })
            .await;
            let exchanged = server.agent(via, &tenant, "user").exchange("github").await;
            assert_eq!(
                exchanged.unwrap()["accessToken"],
                "secret",
                "what was stored is there"
            );
        }
    }
}

#[tokio::test]
async fn a_server_starts_without_postgres_and_serves_when_it_comes() {
    let (cluster, first, tenant) = on_a_cluster_of_its_own().await;
    let (url, kms) = (first.database_url.clone(), first.kms.clone());
    first.stop().await;
    cluster.stop().await;
    let mut setup = Setup::new().with("DATABASE_URL", &url);
    setup.kms = kms;
    let server = setup.start().await;
    let health = async || {
        let mut health = HealthClient::new(server.channel.clone());
        let answer = health.check(HealthCheckRequest::default()).await;
        answer.unwrap().into_inner().status().as_str_name()
    };
    assert_eq!(health().await, "NOT_SERVING");
    for answer in every_verb(&server, &tenant).await {
        assert_unavailable(answer, DATABASE);
    }
    cluster.start_again().await;
    until("health says so", async || health().await == "SERVING").await;
    let exchanged = server
        .agent(Via::Grpc, &tenant, "user")
        .exchange("github")
        .await;
    assert_eq!(exchanged.unwrap()["accessToken"], "secret");
}

#[tokio::test]
async fn a_database_that_would_lose_writes_is_refused() {
    let cluster = Cluster::start().await;
    let url = cluster.database().await;
    let sql = "alter table vault.audit_events_default set unlogged";
    connect(&url).await.batch_execute(sql).await.unwrap();
    let refused = Setup::new().with("DATABASE_URL", &url).try_start().await;
    let message = refused.err().expect("it does not start").to_string();
    assert!(message.contains("an UNLOGGED table"), "{message}");

    let empty = cluster.empty_database().await;
    let refused = Setup::new().with("DATABASE_URL", &empty).try_start().await;
    let message = refused.err().expect("it does not start").to_string();
    assert!(message.contains("grantex-vault migrate"), "{message}");
    let migrating = Setup::new()
        .with("DATABASE_URL", &empty)
        .with("GRANTEX_VAULT_MIGRATE", "true");
    assert!(migrating.try_start().await.is_ok());
}

#[tokio::test]
async fn a_statement_that_does_not_answer_is_given_up_and_its_connection_with_it() {
    let setup = Setup::new().with("GRANTEX_VAULT_DB_POOL_SIZE", "2");
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    server
        .client(Via::Rest, &tenant.key)
        .store_token("user", "github", "secret")
        .await;
    let blocker = server.sql().await;
    blocker
        .batch_execute("begin; lock vault.credentials in access exclusive mode")
        .await
        .unwrap();
    let (rest, grpc) = (
        server.agent(Via::Rest, &tenant, "user"),
        server.agent(Via::Grpc, &tenant, "user"),
    );
    let answers = tokio::join!(rest.exchange("github"), grpc.exchange("github"));
    assert_unavailable(answers.0, DATABASE);
    assert_unavailable(answers.1, DATABASE);
    // The two connections of the pool wait for the lock still; new ones are made for what needs it not.
    for via in Via::BOTH {
        let refused = server
            .client(via, "gx_live_nobody_knows_this_key")
            .list()
            .await;
        assert_eq!(refused.unwrap_err().status, 401);
    }
    blocker.batch_execute("rollback").await.unwrap();
    assert_eq!(
        rest.exchange("github").await.unwrap()["accessToken"],
        "secret"
    );
}

#[tokio::test]
async fn every_trouble_of_the_kms_makes_the_vault_unavailable_and_nothing_else() {
    let server = Setup::new()
        .without_data_keys()
        .with("GRANTEX_VAULT_KMS_TIMEOUT", "200ms")
        .start()
        .await;
    let tenant = server.tenant("acme").await;
    let before = server
        .client(Via::Rest, &tenant.key)
        .store_token("user", "github", "secret")
        .await;
    let id = before["id"].as_str().unwrap();
    for trouble in Trouble::UNAVAILABLE {
        server.kms.set_trouble(Some(trouble));
        for via in Via::BOTH {
            let started = Instant::now();
            let developer = server.client(via, &tenant.key);
            let fields = json!({"principalId": "user", "service": "github", "accessToken": "lost"});
            assert_unavailable(developer.store(fields).await, KMS);
            assert_unavailable(
                server.agent(via, &tenant, "user").exchange("github").await,
                KMS,
            );
            assert!(
                started.elapsed() < Duration::from_secs(3),
                "{trouble:?} takes no longer"
            );
            assert!(developer.get(id).await.is_ok());
            assert!(developer.list().await.is_ok());
        }
        let outcomes = server.outcomes().await;
        let failed = "exchange failed master_key_unavailable";
        assert_eq!(
            outcomes.iter().rev().nth(2).map(String::as_str),
            Some(failed)
        );
        server.kms.set_trouble(None);
        let exchanged = server
            .agent(Via::Rest, &tenant, "user")
            .exchange("github")
            .await;
        assert_eq!(
            exchanged.unwrap()["accessToken"],
            "secret",
            "after {trouble:?}"
        );
    }
}

#[tokio::test]
async fn while_the_kms_is_silent_no_connection_is_held() {
    let setup = Setup::new()
        .without_data_keys()
        .with("GRANTEX_VAULT_DB_POOL_SIZE", "1")
        .with("GRANTEX_VAULT_KMS_TIMEOUT", "20s");
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    developer.store_token("user", "github", "secret").await;
    server.kms.set_trouble(Some(Trouble::Hangs));
    let (rest, grpc) = (
        server.agent(Via::Rest, &tenant, "user"),
        server.agent(Via::Grpc, &tenant, "user"),
    );
    let waiting = async {
        tokio::join!(
            rest.exchange("github"),
            grpc.exchange("github"),
            developer.store_token("user", "slack", "new"),
        )
    };
    let meanwhile = async {
        until("all three wait for the KMS", async || {
            server.kms.hanging() == 3
        })
        .await;
        for via in Via::BOTH {
            let started = Instant::now();
            assert!(server.client(via, &tenant.key).list().await.is_ok());
            assert!(started.elapsed() < Duration::from_secs(1));
        }
        server.kms.set_trouble(None);
    };
    let ((rest, grpc, stored), ()) = tokio::join!(waiting, meanwhile);
    assert_eq!(rest.unwrap()["accessToken"], "secret");
    assert_eq!(grpc.unwrap()["accessToken"], "secret");
    assert_eq!(stored["service"], "slack");
}

#[tokio::test]
async fn nothing_is_opened_for_a_grant_that_does_not_permit_it() {
    let server = Setup::new().without_data_keys().start().await;
    let tenant = server.tenant("acme").await;
    server
        .client(Via::Rest, &tenant.key)
        .store_token("user", "github", "secret")
        .await;
    for via in Via::BOTH {
        let scoped = server.client(via, &server.grant(&tenant, "user", &["slack:*"]));
        let refused = scoped.exchange("GitHub").await.unwrap_err();
        let message = "Grant token is not scoped for GitHub credential exchange";
        assert_eq!(refused.says(), (403, "FORBIDDEN", message));
        let other = server
            .agent(via, &tenant, "other")
            .exchange("github")
            .await
            .unwrap_err();
        assert_eq!(other.status, 404);
    }
    assert_eq!(server.kms.unwrapped(), 0);
}
