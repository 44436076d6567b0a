//! Requests that are given up, connections that break and a server that stops while events wait.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use grantex_vault::grpc::pb::ExchangeCredentialRequest;
use reqwest::Method;
use serde_json::json;
use tokio::{net::TcpStream, task::JoinHandle};

use super::{Lock, released, until_waiting};
use crate::harness::{Client, Server, Setup, Tenant, Via, connect, until};

async fn with_a_credential() -> (Server, Tenant) {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    developer.store_token("user", "github", "secret").await;
    (server, tenant)
}

/// An exchange that goes on by itself; it is given up when it is aborted.
fn begin_exchange(agent: &Client<'_>) -> JoinHandle<()> {
    match agent.via {
        Via::Rest => {
            let request = agent
                .http(Method::POST, "/v1/vault/credentials/exchange")
                .json(&json!({"service": "github"}));
            tokio::spawn(async move { drop(request.send().await) })
        }
        Via::Grpc => {
            let service = "github".to_owned();
            let request = agent.request(ExchangeCredentialRequest { service });
            let mut client = agent.grpc();
            tokio::spawn(async move { drop(client.exchange_credential(request).await) })
        }
    }
}

/// Begins an exchange and gives it up while its event waits.
async fn abandon_exchange(server: &Server, agent: &Client<'_>) {
    let exchange = begin_exchange(agent);
    until_waiting(server, 1).await;
    exchange.abort();
    // The server has noticed.
    until_waiting(server, 0).await;
}

#[tokio::test]
async fn an_event_whose_client_went_away_is_written_nevertheless() {
    let (server, tenant) = with_a_credential().await;
    // The first of them is with Postgres, the second waits for that.
    for first in Via::BOTH {
        let before = released(&server.audit_events().await).len();
        let second = Via::BOTH[usize::from(first == Via::Rest)];
        let lock = Lock::take(&server).await;
        for via in [first, second] {
            abandon_exchange(&server, &server.agent(via, &tenant, "user")).await;
        }
        assert_eq!(released(&server.audit_events().await).len(), before);
        lock.release().await;
        until("both are written", async || {
            released(&server.audit_events().await).len() == before + 2
        })
        .await;
    }
    let counts = released(&server.audit_events().await);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
}

#[tokio::test]
async fn an_event_whose_caller_had_no_more_time_is_written_nevertheless() {
    let (server, tenant) = with_a_credential().await;
    let lock = Lock::take(&server).await;
    let agent = server.agent(Via::Grpc, &tenant, "user");
    let service = "github".to_owned();
    let mut request = agent.request(ExchangeCredentialRequest { service });
    request.set_timeout(Duration::from_secs(2));
    let mut client = agent.grpc();
    let exchanging = client.exchange_credential(request);
    let (answer, ()) = tokio::join!(exchanging, until_waiting(&server, 1));
    assert!(answer.is_err(), "its time was over");
    until_waiting(&server, 0).await;
    assert!(released(&server.audit_events().await).is_empty());
    lock.release().await;
    until("it is written", async || {
        released(&server.audit_events().await).len() == 1
    })
    .await;
}

#[tokio::test]
async fn a_store_that_is_given_up_ends_and_is_there_with_its_event_or_not_at_all() {
    // The statement is given up while it is prepared, on a connection that does not know it yet, and while
    // it writes.
    for (via, known) in [
        (Via::Rest, false),
        (Via::Rest, true),
        (Via::Grpc, false),
        (Via::Grpc, true),
    ] {
        let server = Setup::new()
            .with("GRANTEX_VAULT_DB_POOL_SIZE", "1")
            .start()
            .await;
        let tenant = server.tenant("acme").await;
        let developer = server.client(via, &tenant.key);
        if known {
            developer.store_token("user", "known", "secret").await;
        }
        let (lock, sql) = (Lock::take(&server).await, server.sql().await);
        let count = async |which: &str| {
            let sessions = format!(
                "select count(*) from pg_stat_activity where datname = current_database() and {which}"
            );
            sql.query_one(&sessions, &[])
                .await
                .unwrap()
                .get::<_, i64>(0)
        };
        let fields = json!({"principalId": "user", "service": "github", "accessToken": "given up"});
        let waits = until("it waits for the lock", async || {
            count("wait_event_type = 'Lock'").await > 0
        });
        tokio::select! {
            answer = developer.store(fields) => panic!("it is locked: {answer:?}"),
            () = waits => {}
        }
        // The server has noticed.
        let abandoned = format!(
            "grantex_vault_requests_total{{outcome=\"abandoned\",transport=\"{}\",verb=\"store\"}}",
            super::transport(via)
        );
        until("it is given up", async || {
            server.metric(&abandoned).await == Some(1.0)
        })
        .await;
        lock.release().await;
        until("no transaction is open", async || {
            count("state like 'idle in transaction%'").await == 0
                && count("wait_event_type = 'Lock'").await == 0
        })
        .await;
        developer.store_token("user", "slack", "secret").await;
        let stored = server.outcomes().await;
        assert!(stored.iter().all(|outcome| outcome == "store stored"));
        let rows = server.rows("credentials").await.len();
        assert_eq!(rows, stored.len(), "over {via:?}");
    }
}

#[tokio::test]
async fn what_waits_is_written_before_the_server_has_stopped() {
    let (server, tenant) = with_a_credential().await;
    let (url, address) = (server.database_url.clone(), server.http_address());
    let lock = Lock::take(&server).await;
    for via in [Via::Rest, Via::Grpc, Via::Rest] {
        abandon_exchange(&server, &server.agent(via, &tenant, "user")).await;
    }
    let stopping = tokio::spawn(server.stop());
    until("nobody new is let in", async || {
        TcpStream::connect(&address).await.is_err()
    })
    .await;
    assert!(!stopping.is_finished(), "it waits for Postgres");
    lock.release().await;
    stopping.await.unwrap();
    let released = "select from vault.audit_events where outcome = 'released'";
    let written = connect(&url).await.query(released, &[]).await.unwrap();
    assert_eq!(written.len(), 3);
}

#[tokio::test]
async fn a_server_stops_in_time_though_nothing_can_be_written() {
    let (server, tenant) = with_a_credential().await;
    let lock = Lock::take(&server).await;
    for via in Via::BOTH {
        abandon_exchange(&server, &server.agent(via, &tenant, "user")).await;
    }
    let since = Instant::now();
    server.stop().await;
    let took = since.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    lock.release().await;
}

/// The backend that waits to write events, if there is one.
async fn waiting_writer(sql: &tokio_postgres::Client) -> Option<i32> {
    const SQL: &str = "
        select pid from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'
            and query like '%insert into vault.audit_events%'";
    let found = sql.query_opt(SQL, &[]).await.unwrap();
    found.map(|row| row.get(0))
}

#[tokio::test]
async fn a_connection_that_is_lost_before_the_commit_is_replaced_and_no_event_is_written_twice() {
    let (server, _) = with_a_credential().await;
    let sql = server.sql().await;
    let mut expected = BTreeSet::new();
    for round in 0..10 {
        let claims = server.claims("acme", "user", &["vault:github:exchange"]);
        let token = server.issuer.key().sign(&claims);
        expected.insert(claims["jti"].as_str().unwrap().to_owned());
        let agent = server.client(Via::BOTH[round % 2], &token);
        let lock = Lock::take(&server).await;
        let meanwhile = async {
            let mut first = None;
            until("it is with Postgres", async || {
                first = waiting_writer(&sql).await;
                first.is_some()
            })
            .await;
            let terminate = "select pg_terminate_backend($1)";
            sql.execute(terminate, &[&first]).await.unwrap();
            until("it is there again", async || {
                let now = waiting_writer(&sql).await;
                now.is_some() && now != first
            })
            .await;
            lock.release().await;
        };
        let (answer, ()) = tokio::join!(agent.exchange("github"), meanwhile);
        assert_eq!(answer.unwrap()["accessToken"], "secret", "round {round}");
    }
    let written = released(&server.audit_events().await);
    let expected = expected.into_iter().map(|token| (token, 1));
    assert_eq!(written, expected.collect());
}
