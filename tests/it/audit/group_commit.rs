//! Requests that come together share commits, and nothing else: each has its own event and its own
//! answer.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use grantex_vault::{
    clock::Clock,
    model::{id::EventId, text::DeveloperId},
    store::{
        Store, StoreFault,
        audit_events::{AuditEventRow, Tried},
        schema::Durability,
    },
};
use serde_json::{Value, json};

use super::{Lock, UNAVAILABLE, released, until_waiting};
use crate::harness::{Client, Server, Tenant, Via};

const BATCHES: &str = "grantex_vault_audit_batches_total";
const BATCHED_EVENTS: &str = "grantex_vault_audit_batched_events_total";

async fn with_credentials_of(principals: &[&str]) -> (Server, Tenant) {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    for principal in principals {
        let token = format!("token of {principal}");
        developer.store_token(principal, "github", &token).await;
    }
    (server, tenant)
}

/// An agent with a token of its own, and the token's id.
fn agent<'a>(server: &'a Server, number: usize, principal: &str) -> (Client<'a>, String) {
    let claims = server.claims("acme", principal, &["vault:github:exchange"]);
    let token = server.issuer.key().sign(&claims);
    let id = claims["jti"].as_str().unwrap().to_owned();
    (server.client(Via::BOTH[number % 2], &token), id)
}

#[tokio::test]
async fn exchanges_at_once_share_commits_and_each_has_its_event() {
    const MANY: u32 = 64;
    let (server, _) = with_credentials_of(&["user"]).await;
    let agents: Vec<_> = (0..MANY as usize)
        .map(|number| agent(&server, number, "user"))
        .collect();
    let lock = Lock::take(&server).await;
    let exchanging = join_all(agents.iter().map(|(agent, _)| agent.exchange("github")));
    let meanwhile = async {
        until_waiting(&server, MANY).await;
        assert!(released(&server.audit_events().await).is_empty());
        lock.release().await;
    };
    let (answers, ()) = tokio::join!(exchanging, meanwhile);
    for answer in answers {
        assert_eq!(answer.unwrap()["accessToken"], "token of user");
    }
    let released = released(&server.audit_events().await);
    let expected = agents.into_iter().map(|(_, token)| (token, 1));
    assert_eq!(released, expected.collect());
    // The first of them alone or with some, and the rest.
    let batches = server.metric(BATCHES).await.unwrap();
    assert!((1.0..=2.0).contains(&batches), "{batches}");
    assert_eq!(
        server.metric(BATCHED_EVENTS).await,
        Some(f64::from(MANY)),
        "a store commits with its credential, in no batch"
    );
    let commits: BTreeSet<_> = server
        .rows("audit_events")
        .await
        .iter()
        .filter(|row| row["outcome"] == "released")
        .map(|row| row["xid"].to_string())
        .collect();
    assert!((1..=2).contains(&commits.len()), "{commits:?}");
    until_waiting(&server, 0).await;
}

#[tokio::test]
async fn an_event_that_does_not_fit_fails_alone() {
    const PRINCIPALS: [&str; 4] = ["alice", "mallory", "bob", "carol"];
    let (server, _) = with_credentials_of(&PRINCIPALS).await;
    server
        .execute(
            "alter table vault.audit_events add constraint no_mallory
                check (principal_id is distinct from 'mallory') not valid",
        )
        .await;
    let (first, first_token) = agent(&server, 0, "alice");
    let agents: Vec<_> = (0..PRINCIPALS.len() * 4)
        .map(|number| {
            let principal = PRINCIPALS[number / 2 % PRINCIPALS.len()];
            let (agent, token) = agent(&server, number, principal);
            (agent, token, principal)
        })
        .collect();
    let waiting = u32::try_from(agents.len()).unwrap() + 1;
    let lock = Lock::take(&server).await;
    // The first is being written while the others gather, so that they are one batch.
    let others = async {
        until_waiting(&server, 1).await;
        join_all(agents.iter().map(|(agent, ..)| agent.exchange("github"))).await
    };
    let release = async {
        until_waiting(&server, waiting).await;
        lock.release().await;
    };
    let (answered, answers, ()) = tokio::join!(first.exchange("github"), others, release);
    assert!(answered.is_ok());
    let mut expected = vec![first_token];
    let mut refused = 0;
    for (answer, (_, token, principal)) in answers.into_iter().zip(agents) {
        if principal == "mallory" {
            let problem = answer.unwrap_err();
            assert_eq!(problem.says(), (503, "UNAVAILABLE", UNAVAILABLE));
            refused += 1;
        } else {
            let token_of = format!("token of {principal}");
            assert_eq!(answer.unwrap()["accessToken"], token_of);
            expected.push(token);
        }
    }
    let released = released(&server.audit_events().await);
    let expected = expected.into_iter().map(|token| (token, 1));
    assert_eq!(released, expected.collect());
    let failures = server.metric("grantex_vault_audit_failures_total").await;
    assert_eq!(failures, Some(f64::from(refused)));
}

/// An event of a developer that says no more than its id.
fn event(server: &Server, text: &Value) -> AuditEventRow {
    AuditEventRow {
        developer: Some(DeveloperId::parse("acme").unwrap()),
        id: EventId::make(server.clock.now()),
        principal: None,
        service: None,
        credential: None,
        grant: None,
        outcome: "listed",
        canonical: text.to_string().into_bytes(),
    }
}

#[tokio::test]
async fn events_that_are_written_again_stay_as_they_are() {
    let server = Server::start().await;
    let url = server.database_url.parse().unwrap();
    let store = Store::open(&url, 1, Durability::Required).unwrap();
    let mut events: Vec<_> = (0..3).map(|n| event(&server, &json!(n))).collect();
    let append =
        async |events: &[AuditEventRow], tried| store.append_audit_events(events, tried).await;
    append(&events[..2], Tried::Never).await.unwrap();
    append(&events[..2], Tried::OutcomeUnknown).await.unwrap();
    let there = append(&events[..2], Tried::Never).await;
    assert!(matches!(there, Err(StoreFault::Refused(_))), "{there:?}");
    // One that has become another, and one that is new.
    events[0].canonical = b"\"forged\"".to_vec();
    append(&events[..], Tried::OutcomeUnknown).await.unwrap();
    assert_eq!(
        server.audit_events().await,
        [json!(0), json!(1), json!(2)],
        "in the order of their first commits"
    );
}

#[tokio::test]
async fn a_credential_and_the_event_of_its_store_are_of_one_transaction() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let sql = server.sql().await;
    // A first store and a second one over each: a connection that is new has no statements yet.
    for (via, service) in [
        (Via::Rest, "github"),
        (Via::Rest, "github"),
        (Via::Grpc, "github"),
        (Via::Grpc, "slack"),
    ] {
        let developer = server.client(via, &tenant.key);
        developer.store_token("user", service, "secret").await;
        let rows = sql
            .query(
                "select c.xmin::text, e.xid::text from vault.credentials c
                    join vault.audit_events e on e.credential_id = c.id
                    where c.service_key = $1 order by e.xid desc limit 1",
                &[&service],
            )
            .await
            .unwrap();
        let [credential, event] = [0, 1].map(|column| rows[0].get::<_, &str>(column));
        assert_eq!(credential, event, "{service} over {via:?}");
    }
}
