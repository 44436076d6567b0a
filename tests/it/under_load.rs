//! Many at once, something that breaks in the middle, and stopping while requests are under way.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::harness::{Server, Setup, Trouble, Via, answer, until};

#[tokio::test]
async fn stores_at_once_for_one_place_make_one_credential_that_opens() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let store = async |number: usize| {
        let spelling = ["github", "GitHub", "GITHUB"][number % 3];
        let developer = server.client(Via::BOTH[number % 2], &tenant.key);
        let token = format!("token {spelling} {number}");
        let stored = developer.store_token("user", spelling, &token).await;
        (stored["id"].clone(), stored["createdAt"].clone())
    };
    let exchange = async |number: usize| {
        let agent = server.agent(Via::BOTH[number % 2], &tenant, "user");
        match agent.exchange("github").await {
            // Every part of the answer is of the same store.
            Ok(exchanged) => {
                let start = format!("token {} ", exchanged["service"].as_str().unwrap());
                let token = exchanged["accessToken"].as_str().unwrap();
                assert!(token.starts_with(&start), "{exchanged}");
            }
            Err(refused) => assert_eq!(refused.status, 404, "before the first store"),
        }
    };
    let storing = join_all((0..24).map(store));
    let (stored, _) = tokio::join!(storing, join_all((0..24).map(exchange)));
    let distinct: BTreeSet<String> = stored.iter().map(|pair| format!("{pair:?}")).collect();
    assert_eq!(distinct.len(), 1, "{distinct:?}");
    assert_eq!(server.rows("credentials").await.len(), 1);
    let outcomes = server.outcomes().await;
    let count = |wanted: &str| outcomes.iter().filter(|outcome| *outcome == wanted).count();
    assert_eq!((count("store stored"), count("store replaced")), (1, 23));
}

#[tokio::test]
async fn deletes_at_once_of_one_credential_succeed_once() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    let stored = developer.store_token("user", "github", "secret").await;
    let id = stored["id"].as_str().unwrap();
    let delete = async |number: usize| {
        let developer = server.client(Via::BOTH[number % 2], &tenant.key);
        developer.delete(id).await.map_err(|refused| refused.status)
    };
    let answers = join_all((0..12).map(delete)).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(
        answers.iter().filter(|answer| **answer == Err(404)).count(),
        11
    );
}

#[tokio::test]
async fn a_bug_is_an_internal_error_of_its_request_and_of_no_other() {
    let server = Setup::new().without_data_keys().start().await;
    let tenant = server.tenant("acme").await;
    server
        .client(Via::Rest, &tenant.key)
        .store_token("user", "github", "secret")
        .await;
    for via in Via::BOTH {
        server.kms.set_trouble(Some(Trouble::Panics));
        let broken = server
            .agent(via, &tenant, "user")
            .exchange("github")
            .await
            .unwrap_err();
        let message = "An unexpected error occurred";
        assert_eq!(broken.says(), (500, "INTERNAL_ERROR", message));
        server.kms.set_trouble(None);
        assert!(
            server
                .agent(via, &tenant, "user")
                .exchange("github")
                .await
                .is_ok()
        );
    }
}

#[tokio::test]
async fn what_is_under_way_is_answered_before_the_server_stops() {
    let server = Setup::new().without_data_keys().start().await;
    let tenant = server.tenant("acme").await;
    server
        .client(Via::Rest, &tenant.key)
        .store_token("user", "github", "secret")
        .await;
    let (kms, address) = (Arc::clone(&server.kms), server.http_url.clone());
    let address = address.strip_prefix("http://").unwrap();
    kms.set_trouble(Some(Trouble::Hangs));
    let agent = server.agent(Via::Rest, &tenant, "user");
    let request = agent
        .http(Method::POST, "/v1/vault/credentials/exchange")
        .json(&json!({"service": "github"}));
    let under_way = tokio::spawn(request.send());
    until("the exchange waits for the KMS", async || {
        kms.hanging() == 1
    })
    .await;
    let stopping = tokio::spawn(server.stop());
    until("nobody new is let in", async || {
        TcpStream::connect(address).await.is_err()
    })
    .await;
    assert!(!stopping.is_finished());
    kms.set_trouble(None);
    let exchanged: Value = answer(under_way.await.unwrap().unwrap()).await.unwrap();
    assert_eq!(exchanged["accessToken"], "secret");
    stopping.await.unwrap();
}
