//! Databases that a server does not serve, and says why.

use grantex_vault::{
    app::StartFault,
    store::{
        DURABLY, Store,
        schema::{
            Durability,
            SchemaFault::{self, LosesWrites, Missing, Newer, Older},
        },
    },
};

use super::{chain, check, parse};
use crate::harness::{Cluster, Setup, Via, connect};

/// No server starts on it, no connection is made to it, and both say why.
async fn refuses(url: &str, expected: impl Fn(&SchemaFault) -> bool, says: &str) {
    let fault = check(url).await.expect_err(says);
    assert!(expected(&fault), "{fault:?}");
    assert!(fault.to_string().contains(says), "{fault}");
    let started = Setup::new().with("DATABASE_URL", url).try_start().await;
    match started.err().expect("no server starts") {
        StartFault::Schema(fault) => assert!(expected(&fault), "{fault:?}"),
        other => panic!("{other:?}"),
    }
    let store = Store::open(&parse(url), 1, Durability::Required).unwrap();
    let fault = store.connection().await.err().expect("no connection");
    assert!(chain(&fault).contains(says), "{}", chain(&fault));
}

async fn serves(url: &str) {
    let server = Setup::new().with("DATABASE_URL", url).start().await;
    let tenant = server.tenant("acme").await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        developer.store_token("user", "github", "secret").await;
        let exchanged = server.agent(via, &tenant, "user").exchange("github").await;
        assert_eq!(exchanged.unwrap()["accessToken"], "secret");
    }
}

/// A migrated database, changed.
async fn changed(sql: &str) -> String {
    let url = Cluster::shared().await.database().await;
    connect(&url).await.batch_execute(sql).await.unwrap();
    url
}

#[tokio::test]
async fn a_database_without_a_schema_is_refused() {
    let empty = Cluster::shared().await.empty_database().await;
    let truncated = changed("delete from vault.schema_version").await;
    let dropped = changed("drop table vault.schema_version").await;
    for url in [empty, truncated, dropped] {
        refuses(
            &url,
            |fault| matches!(fault, Missing),
            "grantex-vault migrate",
        )
        .await;
    }
}

#[tokio::test]
async fn an_older_schema_is_refused() {
    let url = changed("update vault.schema_version set version = 0, serves_from = 0").await;
    refuses(
        &url,
        |fault| matches!(fault, Older(0)),
        "grantex-vault migrate",
    )
    .await;
}

#[tokio::test]
async fn a_newer_schema_that_does_not_serve_this_server_is_refused() {
    let url = changed("update vault.schema_version set version = 9, serves_from = 8").await;
    refuses(&url, |fault| matches!(fault, Newer(9)), "update the server").await;
}

#[tokio::test]
async fn a_newer_schema_that_serves_this_server_is_served() {
    serves(&changed("update vault.schema_version set version = 8, serves_from = 2").await).await;
}

#[tokio::test]
async fn whatever_synchronous_commit_is_a_transaction_begins_with_what_is_safe() {
    let cluster = Cluster::shared().await;
    let url = cluster.database().await;
    let name = connect(&url).await;
    let name = name.query_one("select current_database()", &[]).await;
    let name: String = name.unwrap().get(0);
    let role = format!("hasty_{}", uuid::Uuid::new_v4().simple());
    let sql = format!(
        "alter database {name} set synchronous_commit = off;
         create role {role} login superuser; alter role {role} set synchronous_commit = off"
    );
    connect(&url).await.batch_execute(&sql).await.unwrap();
    let hasty = url.replace("user=postgres", &format!("user={role}"));
    serves(&url).await;
    for (url, value) in [
        (url.clone(), "on"),
        (hasty, "on"),
        (format!("{url}&options=-c%20synchronous_commit%3Doff"), "on"),
        (
            format!("{url}&options=-c%20synchronous_commit%3Dlocal"),
            "on",
        ),
        (
            format!("{url}&options=-c%20synchronous_commit%3Dremote_write"),
            "on",
        ),
        (
            format!("{url}&options=-c%20synchronous_commit%3Dremote_apply"),
            "remote_apply",
        ),
    ] {
        assert!(check(&url).await.is_ok());
        // What a transaction of the vault begins with.
        let sql = connect(&url).await;
        let begin = format!("begin; {DURABLY}");
        sql.batch_execute(&begin).await.unwrap();
        let row = sql.query_one("show synchronous_commit", &[]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), value, "{url}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_flush_is_refused() {
    let cluster = Cluster::start_with(&["fsync=off"], &[]).await;
    let url = cluster.database().await;
    refuses(&url, |fault| matches!(fault, LosesWrites(_)), "fsync=off").await;
}

#[tokio::test]
async fn a_table_that_a_crash_empties_is_refused() {
    let unlogged = changed("alter table vault.audit_events_default set unlogged").await;
    refuses(
        &unlogged,
        |fault| matches!(fault, LosesWrites(_)),
        "an UNLOGGED table",
    )
    .await;
}
