//! What was acknowledged is on disk, whatever the server is told meanwhile.

use std::collections::BTreeMap;

use grantex_vault::{
    app::StartFault,
    store::schema::{Durability, SchemaFault, check_once},
};
use serde_json::json;
use tokio_postgres::Client;

use super::parse;
use crate::harness::{Cluster, Log, Server, Setup, Tenant, Via, connect, until};

/// Changes a setting of a cluster, and waits until sessions that begin now have it.
async fn reload(url: &str, name: &str, value: &str) {
    let sql = connect(url).await;
    let set = format!("alter system set {name} = '{value}'");
    sql.batch_execute(&set).await.unwrap();
    sql.batch_execute("select pg_reload_conf()").await.unwrap();
    until("the setting is read", async || {
        shown(&connect(url).await, name).await == value
    })
    .await;
}

async fn shown(sql: &Client, name: &str) -> String {
    let show = format!("show {name}");
    sql.query_one(&show, &[]).await.unwrap().get(0)
}

async fn served(setup: Setup, url: &str) -> (Server, Tenant) {
    let server = setup.with("DATABASE_URL", url).start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    developer.store_token("user", "github", "secret").await;
    (server, tenant)
}

#[tokio::test]
async fn what_is_answered_after_a_reload_that_switches_synchronous_commit_off_is_there_after_a_crash()
 {
    // Nothing else writes the log to disk before the crash.
    let cluster = Cluster::start_with(&["wal_writer_delay=10s"], &[]).await;
    let url = cluster.database().await;
    let (server, tenant) = served(Setup::new(), &url).await;
    let agents = Via::BOTH.map(|via| server.agent(via, &tenant, "user"));
    for agent in &agents {
        agent.exchange("github").await.unwrap();
    }
    reload(&url, "synchronous_commit", "off").await;
    let mut answered = BTreeMap::new();
    for round in 0..3 {
        for agent in &agents {
            agent.exchange("github").await.unwrap();
            assert_eq!(agent.exchange("linear").await.unwrap_err().status, 404);
        }
        let developer = server.client(Via::BOTH[round % 2], &tenant.key);
        let stored = developer
            .store_token("user", "slack", &round.to_string())
            .await;
        let id = stored["id"].as_str().unwrap().to_owned();
        if round == 1 {
            developer.delete(&id).await.unwrap();
        }
        answered.insert(id, round);
    }
    // At once: what a transaction after this one writes to disk takes those before it along.
    let agent = &agents[0];
    agent.exchange("github").await.unwrap();
    cluster.crash().await;
    cluster.start_again().await;
    let sql = connect(&url).await;
    let count = async |which: &str| {
        let count = format!("select count(*) from vault.audit_events where {which}");
        sql.query_one(&count, &[]).await.unwrap().get::<_, i64>(0)
    };
    assert_eq!(count("outcome = 'released'").await, 2 + 6 + 1);
    assert_eq!(count("outcome = 'not_found'").await, 6);
    assert_eq!(count("outcome in ('stored', 'replaced')").await, 4);
    assert_eq!(count("outcome = 'deleted'").await, 1);
    assert_eq!(answered.len(), 2);
}

#[tokio::test]
async fn a_server_that_stops_flushing_stops_releases_until_it_flushes_again() {
    let cluster = Cluster::start().await;
    let url = cluster.database().await;
    let (server, tenant) = served(Setup::new(), &url).await;
    let ready = async || {
        let asked = server.http.get(format!("{}/readyz", server.admin_url()));
        asked.send().await.unwrap().status() == 200
    };
    let stored = json!({"principalId": "user", "service": "github", "accessToken": "again"});
    for via in Via::BOTH {
        let agent = server.agent(via, &tenant, "user");
        let developer = server.client(via, &tenant.key);
        agent.exchange("github").await.unwrap();
        reload(&url, "fsync", "off").await;
        until("the server is not ready", async || !ready().await).await;
        // What is in memory and what is not, and changes.
        assert_eq!(agent.exchange("github").await.unwrap_err().status, 503);
        assert_eq!(agent.exchange("slack").await.unwrap_err().status, 503);
        assert_eq!(
            developer.store(stored.clone()).await.unwrap_err().status,
            503
        );
        assert_eq!(developer.list().await.unwrap_err().status, 503);
        reload(&url, "fsync", "on").await;
        until("the server is ready", async || ready().await).await;
        agent.exchange("github").await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_stops_flushing_is_seen_though_every_connection_is_in_use() {
    let cluster = Cluster::start().await;
    let url = cluster.database().await;
    let setup = Setup::new().with("GRANTEX_VAULT_DB_POOL_SIZE", "2");
    let (server, tenant) = served(setup, &url).await;
    let developer = server.client(Via::Rest, &tenant.key);
    let lock = connect(&url).await;
    let locks = "begin; lock table vault.credentials in share mode";
    lock.batch_execute(locks).await.unwrap();
    let fields = json!({"principalId": "user", "service": "github", "accessToken": "again"});
    let stores = async {
        loop {
            let again = (0..6).map(|_| developer.store(fields.clone()));
            futures_util::future::join_all(again).await;
        }
    };
    let seen = async {
        server.waiting_for_locks(2).await;
        reload(&url, "fsync", "off").await;
        until("nothing is released", async || {
            let agent = server.agent(Via::Grpc, &tenant, "user");
            agent.exchange("github").await.is_err()
        })
        .await;
        for via in Via::BOTH {
            let agent = server.agent(via, &tenant, "user");
            assert_eq!(agent.exchange("github").await.unwrap_err().status, 503);
        }
    };
    tokio::select! {
        () = stores => unreachable!("it does not end"),
        () = seen => {}
    }
    lock.batch_execute("commit").await.unwrap();
}

#[tokio::test]
async fn storage_that_is_durable_by_itself_is_taken_at_its_operators_word() {
    let cluster = Cluster::start_with(&["fsync=off", "full_page_writes=off"], &[]).await;
    let url = cluster.database().await;
    let durable = || Setup::new().with("GRANTEX_VAULT_STORAGE_IS_DURABLE", "true");
    let (server, tenant) = served(durable(), &url).await;
    for via in Via::BOTH {
        let agent = server.agent(via, &tenant, "user");
        agent.exchange("github").await.unwrap();
    }
    drop(server);
    // It says nothing of a table that a crash empties.
    let unlogged = "alter table vault.audit_events_default set unlogged";
    connect(&url).await.batch_execute(unlogged).await.unwrap();
    let started = durable().with("DATABASE_URL", &url).try_start().await;
    match started.err().expect("no server starts") {
        StartFault::Schema(fault) => {
            assert!(matches!(
                fault,
                SchemaFault::LosesWrites("an UNLOGGED table")
            ));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn pages_that_may_be_torn_are_warned_of_once_and_served() {
    let log = Log::keep();
    let cluster = Cluster::start_with(&["full_page_writes=off"], &[]).await;
    let url = cluster.database().await;
    assert!(check_once(&parse(&url), Durability::Required).await.is_ok());
    let (server, tenant) = served(Setup::new(), &url).await;
    server
        .agent(Via::Rest, &tenant, "user")
        .exchange("github")
        .await
        .unwrap();
    let mut logged = String::new();
    until("it was warned", async || {
        logged.push_str(&log.take());
        logged.contains("full_page_writes")
    })
    .await;
    assert_eq!(logged.matches("full_page_writes").count(), 1, "{logged}");
}
