//! Nothing is stored under a retired master key.

use grantex_vault::{
    model::sealed::MasterKeyId,
    store::{Store, master_keys::Retired, schema::Durability},
};
use serde_json::json;

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
        let store = Store::open(
            &server.database_url.parse().unwrap(),
            1,
            Durability::Required,
        )
        .unwrap();
        let id = MasterKeyId::new(KEY);
        let retiring = store.retire_master_key(&id);
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
        let (expected, marks) = if commits {
            (Retired::Needed, 0)
        } else {
            (Retired::Done, 1)
        };
        assert_eq!(retired.unwrap(), expected);
        assert_eq!(server.rows("master_keys").await.len(), marks);
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
        let store = Store::open(
            &server.database_url.parse().unwrap(),
            1,
            Durability::Required,
        )
        .unwrap();
        let retired = store
            .retire_master_key(&MasterKeyId::new(KEY))
            .await
            .unwrap();
        assert_eq!(retired, Retired::Needed);
        assert_eq!(server.rows("master_keys").await[0]["state"], state);
    }
}
