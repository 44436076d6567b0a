//! Nothing is stored under a retired master key.

use serde_json::json;

use crate::harness::{Server, Via};

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
