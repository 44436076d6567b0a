//! Who keeps the vault from the grants of the auth service holds up exchanges, and nobody else.

use grantex_vault::store::authority::Authority;

use super::asked_by_a_developer;
use crate::harness::{Client, Realm, Tenant, Via, connect, until};

/// A realm with a credential that was exchanged already, so that the next exchange is confirmed by the
/// statement that records it.
async fn exchanged(via: Via) -> (Realm, Tenant, String) {
    let realm = Realm::start(Authority::Grantex).await;
    let tenant = realm.tenant("acme").await;
    let developer = realm.server.client(via, &tenant.key);
    developer.store_token("user", "github", "secret").await;
    let granted = realm.issued(&tenant, "user").await;
    let exchanged = realm.agent(via, &granted).exchange("github").await;
    assert_eq!(exchanged.unwrap()["accessToken"], "secret");
    (realm, tenant, granted.token)
}

/// What a developer may ask for is answered, and recorded: once as it was, once for what is not there.
async fn everything_else_works(developer: &Client<'_>) {
    let stored = developer.store_token("third", "github", "secret").await;
    let id = stored["id"].as_str().unwrap();
    for (verb, answer) in asked_by_a_developer(developer, id).await {
        assert!(answer.is_ok(), "{verb}: {answer:?}");
    }
    assert_eq!(developer.get(id).await.unwrap_err().status, 404);
}

#[tokio::test]
async fn a_lock_on_the_grants_holds_up_no_event_but_those_of_exchanges() {
    for via in Via::BOTH {
        let (realm, tenant, token) = exchanged(via).await;
        let url = &realm.server.database_url;
        let (lock, sql) = (connect(url).await, connect(url).await);
        let locked = "begin; lock table public.grants in access exclusive mode";
        lock.batch_execute(locked).await.unwrap();
        let agent = realm.server.client(via, &token);
        let others = async {
            until("the exchange waits for the lock", async || {
                let waiting = "select count(*) from pg_stat_activity
                    where datname = current_database() and wait_event_type = 'Lock'";
                sql.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) > 0
            })
            .await;
            everything_else_works(&realm.server.client(via, &tenant.key)).await;
            lock.batch_execute("rollback").await.unwrap();
        };
        let (exchanged, ()) = tokio::join!(agent.exchange("github"), others);
        assert_eq!(exchanged.unwrap()["accessToken"], "secret");
        let outcomes = realm.server.outcomes().await;
        assert_eq!(
            outcomes.last().unwrap(),
            "exchange released",
            "after whatever was asked while it waited: {outcomes:?}"
        );
    }
}

#[tokio::test]
async fn grants_that_may_not_be_read_fail_no_event_but_those_of_exchanges() {
    for via in Via::BOTH {
        let (realm, tenant, token) = exchanged(via).await;
        let sql = connect(&realm.server.database_url).await;
        let gone = "alter table public.grants rename to gone";
        sql.batch_execute(gone).await.unwrap();
        let agent = realm.server.client(via, &token);
        let developer = realm.server.client(via, &tenant.key);
        let exchanges = async {
            for _ in 0..20 {
                let refused = agent.exchange("github").await.unwrap_err();
                assert_eq!((refused.status, &refused.code[..]), (503, "UNAVAILABLE"));
            }
        };
        let others = async {
            for _ in 0..10 {
                everything_else_works(&developer).await;
            }
        };
        tokio::join!(exchanges, others);
        let back = "alter table public.gone rename to grants";
        sql.batch_execute(back).await.unwrap();
        assert_eq!(
            agent.exchange("github").await.unwrap()["accessToken"],
            "secret"
        );
    }
}
