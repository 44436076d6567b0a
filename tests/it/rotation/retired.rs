//! Nothing is stored under a retired master key.

use grantex_vault::{
    model::sealed::MasterKeyId,
    operator::OperatorError,
    store::{Store, schema::Durability},
};
use serde_json::json;

use super::retire;
use crate::harness::{Server, Via, until};

const RETIRE: &str = "insert into vault.master_keys (id, state)
    values ('arn:aws:kms:eu-central-1:111122223333:key/one', 'retired')";

#[tokio::test]
async fn a_replica_that_still_wraps_with_a_retired_key_is_unavailable_and_stores_nothing() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    developer.store_token("user", "github", "before").await;
    server.execute(RETIRE).await;
    let before = server.rows("credentials").await;
    for via in Via::BOTH {
        for service in ["github", "slack"] {
            let fields = json!({"principalId": "user", "service": service, "accessToken": "after"});
            let refused = server.client(via, &tenant.key).store(fields).await;
            let message = "The vault's key management is unavailable";
            let refused = refused.expect_err("the key is retired");
            assert_eq!(refused.says(), (503, "UNAVAILABLE", message));
            assert_eq!(refused.retry_after, Some(1));
        }
        let exchanged = server.agent(via, &tenant, "user").exchange("github").await;
        assert_eq!(
            exchanged.unwrap()["accessToken"],
            "before",
            "it still reads"
        );
    }
    assert_eq!(server.rows("credentials").await, before);
    let outcomes = server.outcomes().await;
    let failed = "store failed master_key_unavailable";
    assert_eq!(outcomes.iter().filter(|said| *said == failed).count(), 4);
}

#[tokio::test]
async fn an_active_key_and_another_retired_one_do_not_stop_a_store() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    server
        .execute(
            "insert into vault.master_keys (id, state) values ('arn:other', 'retired'),
                ('arn:aws:kms:eu-central-1:111122223333:key/one', 'active')",
        )
        .await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        developer.store_token("user", "github", "secret").await;
    }
}

const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/one";

fn store(server: &Server) -> Store {
    let url = server.database_url.parse().unwrap();
    Store::open(&url, 1, Durability::Required).unwrap()
}

#[tokio::test]
async fn a_store_that_is_under_way_is_waited_for_before_its_key_is_retired() {
    for commits in [true, false] {
        let server = Server::start().await;
        let tenant = server.tenant("acme").await;
        let developer = server.client(Via::Rest, &tenant.key);
        developer.store_token("user", "github", "secret").await;
        server
            .execute("create table rows as table vault.credentials; delete from vault.credentials")
            .await;
        let writer = server.sql().await;
        writer
            .batch_execute("begin; insert into vault.credentials select * from rows")
            .await
            .unwrap();
        let store = store(&server);
        let (id, other) = (MasterKeyId::new(KEY), MasterKeyId::new("other"));
        let retiring = retire(&store, &other, &id);
        let ends = async {
            until("the key is marked", async || {
                server.rows("master_keys").await.len() == 1
            })
            .await;
            let fields = json!({"principalId": "user", "service": "slack", "accessToken": "late"});
            let refused = developer.store(fields).await.unwrap_err();
            assert_eq!(refused.status, 503, "a store that begins now sees the mark");
            let end = if commits { "commit" } else { "rollback" };
            writer.batch_execute(end).await.unwrap();
        };
        let (retired, ()) = tokio::join!(retiring, ends);
        let (marks, events) = if commits {
            assert!(matches!(retired, Err(OperatorError::NeededKey(_))));
            (0, &["done", "failed master_key_needed"][..])
        } else {
            retired.unwrap();
            (1, &["done"][..])
        };
        assert_eq!(server.rows("master_keys").await.len(), marks);
        let mut outcomes = server.outcomes().await;
        outcomes.retain(|outcome| outcome.starts_with("retire_master_key"));
        let expected = events
            .iter()
            .map(|event| format!("retire_master_key {event}"));
        assert_eq!(outcomes, expected.collect::<Vec<_>>());
        let recorded = server.audit_events().await;
        let mut retirements = recorded
            .iter()
            .filter(|event| event["verb"] == "retire_master_key");
        assert!(retirements.all(|event| event["subject"] == KEY));
    }
}

#[tokio::test]
async fn a_key_that_was_active_or_retired_before_is_that_again_when_it_is_needed() {
    for state in ["active", "retired"] {
        let server = Server::start().await;
        let tenant = server.tenant("acme").await;
        let developer = server.client(Via::Rest, &tenant.key);
        developer.store_token("user", "github", "secret").await;
        server
            .execute(&format!(
                "insert into vault.master_keys values ('{KEY}', '{state}')"
            ))
            .await;
        let (id, other) = (MasterKeyId::new(KEY), MasterKeyId::new("other"));
        let retired = retire(&store(&server), &other, &id).await;
        assert!(matches!(retired, Err(OperatorError::NeededKey(_))));
        assert_eq!(server.rows("master_keys").await[0]["state"], state);
    }
}
