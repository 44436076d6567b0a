//! Migrating: once, by whoever comes first, and never backwards.

use futures_util::future::join_all;
use grantex_vault::{
    auth::api_key::Mode,
    clock::Clock,
    model::text::{GrantId, TokenId},
    operator::NewApiKey,
    store::schema::{self, Migrated, SCHEMA_VERSION, SchemaFault},
};
use refinery::Target;
use tokio::process::Command;

use super::{chain, check, parse};
use crate::harness::{Cluster, ISSUER, Server, Setup, Via, connect};

async fn migrate(url: &str) -> Result<Migrated, SchemaFault> {
    schema::migrate(&parse(url), None).await
}

/// As version 1 of the vault left it.
async fn migrate_to_version_1(url: &str) {
    mod all {
        refinery::embed_migrations!("src/store/migrations");
    }
    let mut client = connect(url).await;
    client.batch_execute("create schema vault").await.unwrap();
    let mut runner = all::migrations::runner().set_target(Target::Version(1));
    runner.set_migration_table_name("vault.schema_history");
    runner.run_async(&mut client).await.unwrap();
}

async fn execute(url: &str, sql: &str) {
    connect(url).await.batch_execute(sql).await.unwrap();
}

/// As a later version of the vault would leave it.
const NEWER: &str = "
    insert into vault.schema_history (version, name, applied_on, checksum)
    values (8, 'later', '2030-01-01T00:00:00Z', '1');
    update vault.schema_version set version = 8";

#[tokio::test]
async fn an_empty_database_is_migrated_once() {
    let url = Cluster::shared().await.empty_database().await;
    let first = migrate(&url).await.unwrap();
    assert_eq!((first.applied, first.version), (7, SCHEMA_VERSION));
    let second = migrate(&url).await.unwrap();
    assert_eq!((second.applied, second.version), (0, SCHEMA_VERSION));
    assert!(check(&url).await.is_ok());
}

#[tokio::test]
async fn events_of_version_1_stay_where_no_seal_covers_them() {
    const EVENT: &str = "insert into vault.audit_events (developer_id, id, occurred_at, verb,
            outcome, request_id, transport, peer)
        values ('acme', 'of-version-1', '2020-01-01', 'list', 'listed', 'r', 'rest', '127.0.0.1')";
    for (before, has_events) in [("", false), (EVENT, true)] {
        let url = Cluster::shared().await.empty_database().await;
        migrate_to_version_1(&url).await;
        let older = check(&url).await.unwrap_err();
        assert!(matches!(older, SchemaFault::Older(1)), "{older:?}");
        execute(&url, before).await;
        let migrated = migrate(&url).await.unwrap();
        assert_eq!((migrated.applied, migrated.version), (6, SCHEMA_VERSION));

        let server = Setup::new().with("DATABASE_URL", &url).start().await;
        let sql = "select to_regclass('vault.audit_events_v1') is not null";
        let kept: bool = server.sql().await.query_one(sql, &[]).await.unwrap().get(0);
        assert_eq!(kept, has_events);
        if has_events {
            let old = server.rows("audit_events_v1").await;
            assert_eq!(old.len(), 1);
            assert_eq!(old[0]["id"], "of-version-1");
            assert_eq!(old[0]["occurred_at"], "2020-01-01T00:00:00+00:00");
        }
        assert!(server.audit_events().await.is_empty());
        let tenant = server.tenant("acme").await;
        let developer = server.client(Via::Grpc, &tenant.key);
        developer.store_token("user", "github", "secret").await;
        assert_eq!(server.outcomes().await, ["store stored"]);
    }
}

#[tokio::test]
async fn migrating_again_keeps_what_is_stored() {
    let server = Setup::new().start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    let stored = developer.store_token("user", "github", "secret").await;
    migrate(&server.database_url).await.unwrap();
    let found = developer.get(stored["id"].as_str().unwrap()).await;
    assert_eq!(found.unwrap()["id"], stored["id"]);
}

#[tokio::test]
async fn eight_runners_at_once_migrate_an_empty_database_once() {
    for _ in 0..3 {
        let url = Cluster::shared().await.empty_database().await;
        let runners = join_all((0..8).map(|_| migrate(&url))).await;
        let migrated = runners.into_iter().map(|outcome| outcome.unwrap());
        let applied: usize = migrated.map(|migrated| migrated.applied).sum();
        assert_eq!(applied, 7);
        assert!(check(&url).await.is_ok());
    }
}

#[tokio::test]
async fn eight_servers_that_start_at_once_on_an_empty_database_all_serve() {
    let url = Cluster::shared().await.empty_database().await;
    let start = || {
        let setup = Setup::new().with("DATABASE_URL", &url);
        setup.with("GRANTEX_VAULT_MIGRATE", "true").start()
    };
    let servers = join_all((0..8).map(|_| start())).await;
    let tenant = servers[0].tenant("acme").await;
    for server in &servers {
        let listed = server.client(Via::Grpc, &tenant.key).list().await;
        assert_eq!(listed.unwrap()["credentials"], serde_json::json!([]));
    }
}

#[tokio::test]
async fn a_newer_schema_is_left_as_it_is() {
    let url = Cluster::shared().await.database().await;
    execute(&url, NEWER).await;
    let migrated = migrate(&url).await.unwrap();
    assert_eq!((migrated.applied, migrated.version), (0, 8));
    let setup = Setup::new().with("DATABASE_URL", &url);
    let rolled_back = setup.with("GRANTEX_VAULT_MIGRATE", "true").start().await;
    rolled_back.tenant("acme").await;
}

#[tokio::test]
async fn an_applied_migration_that_is_not_ours_is_refused_for_what_it_is() {
    let url = Cluster::shared().await.database().await;
    execute(&url, "update vault.schema_history set checksum = '1'").await;
    let fault = migrate(&url).await.unwrap_err();
    assert!(
        matches!(fault, SchemaFault::Migration(_)),
        "{}",
        chain(&fault)
    );
    assert!(
        chain(&fault).contains("V1__vault_schema"),
        "{}",
        chain(&fault)
    );
}

#[tokio::test]
async fn a_role_that_may_not_migrate_is_told_so() {
    let cluster = Cluster::shared().await;
    let url = cluster.empty_database().await;
    let role = format!("bystander_{}", uuid::Uuid::new_v4().simple());
    execute(&url, &format!("create role {role} login")).await;
    let url = url.replace("user=postgres", &format!("user={role}"));
    let fault = migrate(&url).await.unwrap_err();
    assert!(matches!(fault, SchemaFault::Migration(_)), "{fault:?}");
    assert!(
        chain(&fault).contains("permission denied"),
        "{}",
        chain(&fault)
    );
    for arguments in [&["migrate"][..], &["serve", "--migrate", "true"]] {
        let said = complaint(&url, arguments).await;
        assert!(said.contains("permission denied"), "{arguments:?}: {said}");
    }
}

/// What the binary says when it does not succeed.
async fn complaint(database_url: &str, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_grantex-vault"))
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", database_url)
        .env("GRANTEX_VAULT_MASTER_KEY", "local:/nowhere")
        .env("GRANTEX_VAULT_ISSUER", ISSUER)
        .output()
        .await
        .expect("the binary runs");
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

/// A server that connects as a role of its own, on a database that was migrated for it.
async fn served_by(role: &str) -> Server {
    let cluster = Cluster::shared().await;
    let url = cluster.empty_database().await;
    let identifier = role.replace('"', "\"\"");
    execute(&url, &format!("create role \"{identifier}\" login")).await;
    let name = role.parse().unwrap();
    schema::migrate(&parse(&url), Some(&name)).await.unwrap();
    let as_role = url.replace(
        "user=postgres",
        &format!("user={}", role.replace('"', "%22")),
    );
    Setup::new().with("DATABASE_URL", &as_role).start().await
}

#[tokio::test]
async fn the_role_for_serving_may_serve_and_change_no_audit_event() {
    let role = "app\"of acme";
    let server = served_by(&role.replace(' ', "_")).await;
    let owner = server
        .database_url
        .replace("user=app%22of_acme", "user=postgres");
    let key = "gx_test_0123456789abcdef";
    execute(
        &owner,
        &format!(
            "insert into vault.developers values ('acme', 'acme', now());
             insert into vault.api_keys (hash, id, developer_id, label, prefix, created_at)
             values (sha256('{key}'), 'ak_01ARZ3NDEKTSV4RRFFQ69G5FAV', 'acme', '', '', '2020-01-01')"
        ),
    )
    .await;
    let tenant = crate::harness::Tenant {
        id: "acme".to_owned(),
        key: key.to_owned(),
        key_id: String::new(),
    };
    for via in Via::BOTH {
        let developer = server.client(via, key);
        let stored = developer.store_token("user", "github", "secret").await;
        let agent = server.agent(via, &tenant, "user");
        assert!(agent.exchange("github").await.is_ok());
        let id = stored["id"].as_str().unwrap();
        assert!(developer.get(id).await.is_ok());
        assert!(developer.list().await.is_ok());
        assert!(developer.delete(id).await.is_ok());
    }
    operate(&server).await;
    for refused in [
        "insert into vault.audit_events (developer_id, id, outcome, canonical, xid)
            values ('acme', 'x', 'read', '', '7')",
        "insert into vault.audit_events (developer_id, id, outcome, canonical, era)
            values ('acme', 'x', 'read', '', 7)",
        "update vault.audit_seals set entries = null",
        "delete from vault.audit_seals",
        "update vault.audit_events set outcome = 'listed'",
        "delete from vault.audit_events",
        "truncate vault.audit_events",
        "update vault.developers set name = 'another'",
        "insert into vault.webhook_secrets select * from vault.webhook_secrets",
        "update vault.master_keys set state = 'active'",
        "create table vault.mine ()",
    ] {
        let outcome = server.sql().await.batch_execute(refused).await;
        let code = outcome.unwrap_err().code().cloned();
        let denied = tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE;
        assert_eq!(code, Some(denied), "{refused}");
    }
}

/// Everything that operators do on their listener, with the rights of the role that serves.
async fn operate(server: &Server) {
    let (operations, by) = server.operations();
    let made = operations.create_developer(&by, "another").await.unwrap();
    let new = NewApiKey {
        developer: &made.id,
        label: "",
        mode: Mode::Test,
        expires_in: None,
    };
    let (_, key) = operations.create_api_key(&by, &new).await.unwrap();
    assert!(operations.revoke_api_key(&by, key.id).await.unwrap());
    for changed in [true, false] {
        let grant = GrantId::parse("g").unwrap();
        let revoked = operations.revoke_grant(&by, &made.id, grant).await;
        assert_eq!(revoked.unwrap(), changed);
        let token = TokenId::parse("t").unwrap();
        let at = Some(server.clock.now());
        let revoked = operations.revoke_token(&by, &made.id, token, at).await;
        assert_eq!(revoked.unwrap(), changed);
    }
    assert!(operations.suspend_developer(&by, &made.id).await.unwrap());
    assert!(operations.resume_developer(&by, &made.id).await.unwrap());
    assert_eq!(operations.delete_developer(&by, &made.id).await.unwrap(), 0);
}

#[tokio::test]
async fn a_role_that_does_not_exist_is_named() {
    let url = Cluster::shared().await.empty_database().await;
    let role = "nobody_here".parse().unwrap();
    let fault = schema::migrate(&parse(&url), Some(&role))
        .await
        .unwrap_err();
    assert!(chain(&fault).contains("nobody_here"), "{}", chain(&fault));
}

#[tokio::test]
async fn the_role_that_migrates_cannot_be_the_one_that_serves() {
    let url = Cluster::shared().await.empty_database().await;
    let create = "create role the_owner login;
        do $$ begin
            execute format('grant create on database %I to the_owner', current_database());
        end $$";
    execute(&url, create).await;
    let owner = parse(&url.replace("user=postgres", "user=the_owner"));
    let role = "the_owner".parse().unwrap();
    let fault = schema::migrate(&owner, Some(&role)).await.unwrap_err();
    assert!(
        chain(&fault).contains("serve as another role"),
        "{}",
        chain(&fault)
    );
    assert!(
        schema::migrate(&owner, None).await.is_ok(),
        "nothing was taken from it"
    );
}
