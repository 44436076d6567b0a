//! A database that answers and cannot serve is named as what it is: by `migrate`, at start, by the probes
//! and by `doctor`.

use std::{sync::Arc, time::Duration};

use grantex_vault::store::{
    diagnosis::diagnose,
    schema::{self, Durability, NoWrites, SchemaFault},
};
use serde_json::Value;
use uuid::Uuid;

use super::{chain, parse};
use crate::harness::{Cluster, Log, Server, Setup, Via, connect, until};

/// What the database's check says: its status and detail, and the status of `/readyz`.
async fn database(server: &Server) -> (u16, String, String) {
    let asked = server.http.get(format!("{}/readyz", server.admin_url()));
    let answer = asked.send().await.unwrap();
    let status = answer.status().as_u16();
    let found: Value = answer.json().await.unwrap();
    let check = &found["checks"]["database"];
    let text = |name: &str| check[name].as_str().unwrap_or_default().to_owned();
    (status, text("status"), text("detail"))
}

/// A role that serves a migrated database.
async fn of_a_role() -> (String, String, String) {
    let url = Cluster::shared().await.empty_database().await;
    let role = format!("serving_{}", Uuid::new_v4().simple());
    let create = format!("create role {role} login");
    connect(&url).await.batch_execute(&create).await.unwrap();
    let name = role.parse().unwrap();
    schema::migrate(&parse(&url), Some(&name)).await.unwrap();
    let as_role = url.replace("user=postgres", &format!("user={role}"));
    (url, role, as_role)
}

#[tokio::test]
async fn a_database_in_another_encoding_is_refused_by_all() {
    let cluster = Cluster::shared().await;
    let url = cluster.empty_database().await;
    let name = format!("latin_{}", Uuid::new_v4().simple());
    let create = format!("create database {name} encoding 'LATIN1' template template0");
    connect(&url).await.batch_execute(&create).await.unwrap();
    let path = url.split_once('?').unwrap().0.rsplit_once('/').unwrap().1;
    let url = url.replacen(path, &name, 1);
    let migrated = schema::migrate(&parse(&url), None).await;
    assert!(matches!(migrated, Err(SchemaFault::Encoding(encoding)) if encoding == "LATIN1"));
    let found = schema::check_once(&parse(&url), Durability::Required).await;
    assert!(found.is_err());
}

#[tokio::test]
async fn a_role_whose_transactions_are_read_only_is_told_so_wherever_one_looks() {
    let (url, role, as_role) = of_a_role().await;
    let owner = connect(&url).await;
    let set =
        |value: &str| format!("alter role {role} set default_transaction_read_only = {value}");
    let log = Log::keep();
    let server = Setup::new().with("DATABASE_URL", &as_role).start().await;
    let tenant = server.tenant("acme").await;
    owner.batch_execute(&set("on")).await.unwrap();
    let end =
        format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'");
    owner.batch_execute(&end).await.unwrap();

    let takes_no_writes = (200, "degraded".to_owned(), "takes no writes".to_owned());
    until("it is seen", async || {
        database(&server).await == takes_no_writes
    })
    .await;
    for via in Via::BOTH {
        let fields = serde_json::json!({"principalId": "u", "service": "x", "accessToken": "t"});
        let refused = server.client(via, &tenant.key).store(fields).await;
        assert_eq!(refused.unwrap_err().status, 503);
    }
    assert!(log.take().contains("read-only for this role"));
    let found = schema::check_once(&parse(&as_role), Durability::Required).await;
    assert!(matches!(
        found,
        Err(SchemaFault::TakesNoWrites(NoWrites::ReadOnly))
    ));
    let diagnosis = diagnose(&parse(&as_role), Durability::Required).await;
    let said = chain(&diagnosis.unwrap().schema.unwrap_err());
    assert!(said.contains("default_transaction_read_only"), "{said}");

    owner.batch_execute(&set("off")).await.unwrap();
    owner.batch_execute(&end).await.unwrap();
    until("it is well", async || database(&server).await.1 == "ok").await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        developer.store_token("user", "github", "secret").await;
    }
}

#[tokio::test]
async fn a_privilege_or_a_function_that_is_taken_away_is_named() {
    let (url, role, as_role) = of_a_role().await;
    let owner = connect(&url).await;
    let log = Log::keep();
    let server = Setup::new().with("DATABASE_URL", &as_role).start().await;
    for (take, give, named) in [
        (
            format!("revoke insert on vault.credentials from {role}"),
            format!("grant insert on vault.credentials to {role}"),
            "insert vault.credentials",
        ),
        (
            format!("revoke execute on function vault.make_audit_partitions(text) from {role}"),
            format!("grant execute on function vault.make_audit_partitions(text) to {role}"),
            "execute vault.make_audit_partitions(text)",
        ),
    ] {
        owner.batch_execute(&take).await.unwrap();
        let lacks = "its role lacks a privilege".to_owned();
        let degraded = (200, "degraded".to_owned(), lacks);
        until("it is seen", async || database(&server).await == degraded).await;
        let said = log.take();
        assert!(said.contains(named), "{said}");
        let diagnosis = diagnose(&parse(&as_role), Durability::Required).await;
        assert_eq!(diagnosis.unwrap().missing, [named]);
        owner.batch_execute(&give).await.unwrap();
        until("it is well", async || database(&server).await.1 == "ok").await;
    }
}

#[tokio::test]
async fn statements_that_are_cancelled_and_a_login_that_is_refused_are_named() {
    let (url, role, as_role) = of_a_role().await;
    let owner = connect(&url).await;
    let server = Setup::new().with("DATABASE_URL", &as_role).start().await;
    let end =
        format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'");
    for (change, back, named) in [
        (
            format!("alter role {role} nologin"),
            format!("alter role {role} login"),
            "it refuses our login",
        ),
        (
            format!("alter role {role} connection limit 0"),
            format!("alter role {role} connection limit -1"),
            "it has no connection left",
        ),
        (
            format!("alter role {role} set statement_timeout = '1ms'"),
            format!("alter role {role} reset statement_timeout"),
            "statement",
        ),
    ] {
        owner.batch_execute(&change).await.unwrap();
        owner.batch_execute(&end).await.unwrap();
        // A statement that is quick enough is not cancelled, and the next one is.
        until("it is seen", async || {
            database(&server).await.2.contains(named)
        })
        .await;
        owner.batch_execute(&back).await.unwrap();
        owner.batch_execute(&end).await.unwrap();
        until("it is well", async || database(&server).await.1 == "ok").await;
    }
}

#[tokio::test]
async fn a_short_time_for_statements_is_named_by_who_looks() {
    let (url, role, as_role) = of_a_role().await;
    let owner = connect(&url).await;
    let short = format!("alter role {role} set statement_timeout = '300ms'");
    owner.batch_execute(&short).await.unwrap();
    let server = Setup::new().with("DATABASE_URL", &as_role).start().await;
    let says = "its statement_timeout is too short".to_owned();
    let degraded = (200, "degraded".to_owned(), says);
    until("it is seen", async || database(&server).await == degraded).await;
    let diagnosis = diagnose(&parse(&as_role), Durability::Required).await;
    let limit = diagnosis.unwrap().statement_timeout;
    assert_eq!(limit, Duration::from_millis(300));
}

#[tokio::test]
async fn a_clock_that_differs_from_the_databases_is_named() {
    let url = Cluster::shared().await.database().await;
    let mut setup = Setup::new().with("DATABASE_URL", &url);
    setup.clock.advance(Duration::from_hours(1));
    setup.world = Some(Arc::clone(&setup.clock) as _);
    let server = setup.start().await;
    let differs = "its clock and the one here differ".to_owned();
    let degraded = (200, "degraded".to_owned(), differs);
    until("it is seen", async || database(&server).await == degraded).await;
}

#[tokio::test]
async fn a_full_disk_is_found_by_who_looks_and_leaves_nothing_behind() {
    let cluster = Cluster::start().await;
    let url = cluster.database().await;
    let room = async || {
        let diagnosis = diagnose(&parse(&url), Durability::Required).await;
        diagnosis.unwrap().no_room.map(|fault| fault.reason())
    };
    assert_eq!(room().await, None);
    // Half a page more: Postgres finds that a write was short, as it does on a full disk.
    cluster.limit_files(Some(512 * 1024 + 4096)).await;
    assert_eq!(room().await, Some("its disk is full"));
    cluster.limit_files(None).await;
    assert_eq!(room().await, None);
}

#[tokio::test]
async fn a_schema_that_a_dba_made_is_used() {
    let url = Cluster::shared().await.empty_database().await;
    let role = format!("migrating_{}", Uuid::new_v4().simple());
    let made = format!("create role {role} login; create schema vault authorization {role}");
    connect(&url).await.batch_execute(&made).await.unwrap();
    let as_role = url.replace("user=postgres", &format!("user={role}"));
    for applied in [true, false] {
        let migrated = schema::migrate(&parse(&as_role), None).await.unwrap();
        assert_eq!(migrated.applied > 0, applied);
    }
}
