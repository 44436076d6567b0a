//! Every event is recorded with its hash, whichever statement records it.

use std::collections::BTreeSet;

use grantex_vault::model::id::EventId;
use serde_json::json;

use crate::harness::{Server, Setup, Via};

/// How many events there are, and of how many the hash is that of the bytes.
async fn hashed(server: &Server) -> (i64, i64) {
    let sql = "select count(*), count(*) filter (where hash = sha256(canonical))
        from vault.audit_events";
    let row = server.sql().await.query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn a_store_s_event_has_its_hash_like_every_other_whether_it_replaces_or_not() {
    for via in Via::BOTH {
        let server = Server::start().await;
        let other = Setup::new().beside(&server).start().await;
        let tenant = server.tenant("acme").await;
        let first = server
            .client(via, &tenant.key)
            .store_token("user", "github", "1")
            .await;
        // The other replica has not seen the id; this one has.
        for server in [&other, &server, &other] {
            let developer = server.client(via, &tenant.key);
            let again = developer.store_token("user", "GitHub", "2").await;
            assert_eq!(again["id"], first["id"]);
        }
        let developer = other.client(via, &tenant.key);
        developer
            .delete(first["id"].as_str().unwrap())
            .await
            .unwrap();
        // A new one, though the first replica believes to know the id.
        let anew = server
            .client(via, &tenant.key)
            .store_token("user", "github", "3")
            .await;
        assert_ne!(anew["id"], first["id"]);
        let again = developer.store_token("user", "github", "4").await;
        assert_eq!(again["id"], anew["id"]);
        let agent = server.agent(via, &tenant, "user");
        for _ in 0..2 {
            assert_eq!(agent.exchange("github").await.unwrap()["accessToken"], "4");
        }
        assert_eq!(hashed(&server).await, (9, 9));
        let events = server.audit_events().await;
        let said = events.iter().map(|event| {
            assert!(EventId::parse(event["id"].as_str().unwrap()).is_some());
            (event["outcome"].clone(), event["credentialId"].clone())
        });
        let (first, anew) = (&first["id"], &anew["id"]);
        let expected = [
            ("stored", first),
            ("replaced", first),
            ("replaced", first),
            ("replaced", first),
            ("deleted", first),
            ("stored", anew),
            ("replaced", anew),
            ("released", anew),
            ("released", anew),
        ];
        let expected = expected.map(|(outcome, id)| (json!(outcome), id.clone()));
        assert_eq!(said.collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn stores_at_once_for_one_place_keep_one_id_and_say_so() {
    let server = Server::start().await;
    let other = Setup::new().beside(&server).start().await;
    let tenant = server.tenant("acme").await;
    let clients: Vec<_> = (0..24)
        .map(|n| [&server, &other][n % 2].client(Via::BOTH[(n / 2) % 2], &tenant.key))
        .collect();
    let writes = clients
        .iter()
        .map(|client| client.store_token("user", "github", "t"));
    let answers = futures_util::future::join_all(writes).await;
    let ids: BTreeSet<_> = answers.iter().map(|one| one["id"].as_str()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(hashed(&server).await, (24, 24));
    let events = server.audit_events().await;
    assert!(
        events
            .iter()
            .all(|event| ids.contains(&event["credentialId"].as_str()))
    );
    let news = events.iter().filter(|event| event["outcome"] == "stored");
    assert_eq!(news.count(), 1);
}
