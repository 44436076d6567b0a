//! Replicas share nothing but Postgres.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{Server, Setup, Via};

/// Three, on one database.
async fn three() -> [Server; 3] {
    let first = Setup::new().start().await;
    let second = Setup::new().beside(&first).start().await;
    let third = Setup::new().beside(&first).start().await;
    [first, second, third]
}

#[tokio::test]
async fn what_one_replica_acknowledged_every_other_knows_at_once() {
    let replicas = three().await;
    let tenant = replicas[0].tenant("acme").await;
    let token = replicas[0].grant(&tenant, "user", &["vault:github:exchange"]);
    for round in 0..12 {
        let at = |offset: usize| &replicas[(round + offset) % 3];
        let via = Via::BOTH[round % 2];
        let secret = format!("secret-{round}");
        let stored = at(0).client(via, &tenant.key);
        let stored = stored.store_token("user", "github", &secret).await;
        let id = stored["id"].as_str().unwrap();
        // Each has the data key of the round before in memory.
        for offset in 0..3 {
            let agent = at(offset).client(via, &token);
            let exchanged = agent.exchange("github").await.unwrap();
            assert_eq!(exchanged["accessToken"], secret);
        }
        assert!(at(1).client(via, &tenant.key).get(id).await.is_ok());
        if round % 3 == 2 {
            let deleted = at(2).client(via, &tenant.key).delete(id).await;
            assert!(deleted.is_ok());
            for offset in 0..3 {
                let agent = at(offset).client(via, &token);
                assert_eq!(agent.exchange("github").await.unwrap_err().status, 404);
            }
        }
    }
}

#[tokio::test]
async fn stores_of_one_credential_on_all_replicas_leave_one_that_opens() {
    let replicas = three().await;
    let tenant = replicas[0].tenant("acme").await;
    let token = replicas[0].grant(&tenant, "user", &["vault:github:exchange"]);
    let stores = (0..30).map(|number| {
        let replica = &replicas[number % 3];
        let client = replica.client(Via::BOTH[number % 2], &tenant.key);
        async move {
            let secret = format!("secret-{number}");
            client.store_token("user", "github", &secret).await["id"].to_string()
        }
    });
    let ids: HashSet<_> = join_all(stores).await.into_iter().collect();
    assert_eq!(ids.len(), 1, "it keeps its id");
    let mut seen = HashSet::new();
    for replica in &replicas {
        let exchanged = replica.client(Via::Grpc, &token).exchange("github").await;
        seen.insert(exchanged.unwrap()["accessToken"].to_string());
    }
    assert_eq!(seen.len(), 1, "all have the last one");
    let outcomes = replicas[0].outcomes().await;
    let recorded = outcomes.iter().filter(|event| event.starts_with("store"));
    assert_eq!(recorded.count(), 30);
}

#[tokio::test]
async fn a_replica_that_stops_takes_nobody_elses_requests_with_it() {
    let [first, second, third] = three().await;
    let tenant = first.tenant("acme").await;
    let client = first.client(Via::Rest, &tenant.key);
    client.store_token("user", "github", "secret").await;
    let token = first.grant(&tenant, "user", &["vault:github:exchange"]);
    let before = first.audit_events().await.len();
    let load = async |replica: &Server| {
        for round in 0..100 {
            let agent = replica.client(Via::BOTH[round % 2], &token);
            let exchanged = agent.exchange("github").await.unwrap();
            assert_eq!(exchanged["accessToken"], "secret");
        }
    };
    let stopping = async {
        let agent = third.client(Via::Rest, &token);
        agent.exchange("github").await.unwrap();
        third.stop().await;
    };
    tokio::join!(load(&first), load(&second), stopping);
    let events = first.audit_events().await;
    let released = events[before..].iter();
    let released = released.filter(|event| event["outcome"] == "released");
    assert_eq!(released.count(), 201, "each is on record once");
    let query = json!({"outcome": "released", "pageSize": 1000});
    let listed = second
        .client(Via::Grpc, &tenant.key)
        .audit_events(query)
        .await;
    let listed = listed.unwrap();
    assert_eq!(listed["events"].as_array().unwrap().len(), 201);
    second.clock.advance(Duration::from_secs(1));
}
