//! Credentials whose row is in memory from an exchange before: Postgres confirms them, or they are read
//! again.

use std::time::Duration;

use grantex_vault::{
    clock::Clock,
    model::{
        grant_state::GrantState,
        id::EventId,
        service_name::ServiceName,
        text::{DeveloperId, GrantId, PrincipalId, TokenId},
    },
    store::{
        Store,
        audit_events::{AuditEventRow, Tried},
        conditional_events::ConditionalEvent,
        exchanges::ExchangeQuery,
        precondition::Precondition,
        schema::Durability,
    },
};
use serde_json::{Value, json};

use crate::harness::{Client, Server, Tenant, Trouble, Via};

/// The secrets of these tests begin with it, and no event may hold it.
const CANARY: &str = "canary";
const AGENT: &str = "did:grantex:agent";
const CONFIRMED: &str = r#"grantex_vault_exchanges_total{cache="row_and_key",outcome="released"}"#;

/// A vault with a credential for GitHub in it.
async fn started() -> (Server, Tenant) {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    store(&server, &tenant, &json!({})).await;
    (server, tenant)
}

async fn store(server: &Server, tenant: &Tenant, members: &Value) {
    let mut fields = json!({
        "principalId": "user", "service": "github", "accessToken": CANARY,
        "metadata": {"role": "reader"}, "tokenExpiresAt": "2030-01-01T00:00:00Z",
    });
    let members = members.as_object().unwrap().clone();
    fields.as_object_mut().unwrap().extend(members);
    let stored = server.client(Via::Rest, &tenant.key).store(fields).await;
    stored.unwrap();
}

/// An agent whose token, grant and parent grant are named by a number.
fn agent(server: &Server, via: Via, number: usize) -> Client<'_> {
    let mut claims = server.claims("acme", "user", &["vault:github:exchange"]);
    for (claim, name) in [
        ("jti", "token"),
        ("grnt", "grant"),
        ("parentGrnt", "parent"),
    ] {
        claims[claim] = json!(format!("{name}-{number}"));
    }
    claims["agt"] = json!(AGENT);
    server.client(via, &server.issuer.key().sign(&claims))
}

/// Exchanges until the row is in memory.
async fn exchanged(agent: &Client<'_>) -> Value {
    agent.exchange("github").await.unwrap();
    agent.exchange("github").await.unwrap()
}

async fn confirmed(server: &Server) -> f64 {
    server.metric(CONFIRMED).await.unwrap_or_default()
}

/// How many events say that a secret was allowed to leave; none of all holds one.
async fn released(server: &Server) -> usize {
    let events = server.audit_events().await;
    assert!(!json!(events).to_string().contains(CANARY));
    let released = events.iter().filter(|event| event["outcome"] == "released");
    released.count()
}

#[tokio::test]
async fn an_exchange_after_the_first_is_confirmed_and_answers_and_records_the_same() {
    let (server, _) = started().await;
    let mut before = 0.0;
    for (number, via) in Via::BOTH.into_iter().enumerate() {
        let first = agent(&server, via, number)
            .exchange("GitHub")
            .await
            .unwrap();
        let second = agent(&server, via, number)
            .exchange("github")
            .await
            .unwrap();
        assert_eq!(first, second);
        assert_eq!(second["accessToken"], CANARY);
        // The first of all read the row; whoever asks, it is the same.
        let expected = if number == 0 { 1.0 } else { 2.0 };
        assert!((confirmed(&server).await - before - expected).abs() < 0.5);
        before = confirmed(&server).await;

        let mut events = server.audit_events().await.split_off(1 + 2 * number);
        assert_eq!(events.len(), 2);
        for event in &mut events {
            assert_eq!(event["caller"]["tokenId"], format!("token-{number}"));
            event["service"] = json!(event["service"].as_str().unwrap().to_lowercase());
            for own in ["id", "requestId"] {
                assert!(event.as_object_mut().unwrap().remove(own).is_some());
            }
        }
        assert_eq!(
            events[0], events[1],
            "but for the spelling that was asked with"
        );
    }
}

#[tokio::test]
async fn whatever_changes_a_row_is_seen_by_the_next_exchange() {
    for via in Via::BOTH {
        let (server, tenant) = started().await;
        let agent = agent(&server, via, 0);
        for round in 0..3 {
            exchanged(&agent).await;
            let secret = format!("{CANARY} of round {round}");
            store(
                &server,
                &tenant,
                &json!({"accessToken": secret, "service": "GitHub"}),
            )
            .await;
            let next = agent.exchange("github").await.unwrap();
            assert_eq!(next["accessToken"], secret);
            assert_eq!(next["service"], "GitHub");
        }
        exchanged(&agent).await;
        store(&server, &tenant, &json!({"allowedAgents": ["did:another"]})).await;
        assert_eq!(agent.exchange("github").await.unwrap_err().status, 403);
        store(&server, &tenant, &json!({})).await;

        exchanged(&agent).await;
        server.execute("delete from vault.credentials").await;
        for _ in 0..2 {
            assert_eq!(agent.exchange("github").await.unwrap_err().status, 404);
        }
        store(&server, &tenant, &json!({"accessToken": "another"})).await;
        let next = agent.exchange("github").await.unwrap();
        assert_eq!(next["accessToken"], "another");
        assert_eq!(released(&server).await, 14, "what was answered, once each");
    }
}

#[tokio::test]
async fn a_row_that_was_changed_in_the_database_releases_nothing() {
    for change in [
        "service = 'GitHub'",
        "token_expires_at = null",
        r#"metadata = '{"role": "admin"}'"#,
        "required_scopes = '{vault:github:exchange}'",
        "access_token = set_byte(access_token, 20, get_byte(access_token, 20) # 1)",
        "wrapped_key = set_byte(wrapped_key, 20, get_byte(wrapped_key, 20) # 1)",
        "wrapped_key = ''",
    ] {
        let (server, _) = started().await;
        for via in Via::BOTH {
            exchanged(&agent(&server, via, 0)).await;
        }
        let before = released(&server).await;
        let sql = format!("update vault.credentials set {change}");
        server.execute(&sql).await;
        for via in Via::BOTH {
            for _ in 0..2 {
                let refused = agent(&server, via, 0).exchange("github").await;
                assert_eq!(refused.unwrap_err().status, 500, "{change}");
            }
        }
        assert_eq!(released(&server).await, before, "{change}");
        let outcomes = server.outcomes().await;
        let last = outcomes.last().unwrap();
        assert_eq!(last, "exchange failed does_not_open", "{change}");
    }
}

#[tokio::test]
async fn what_is_revoked_is_refused_although_its_row_is_in_memory() {
    for via in Via::BOTH {
        let (server, _) = started().await;
        for (number, (kind, subject)) in [
            ("token", "token-0"),
            ("grant", "grant-1"),
            ("grant", "parent-2"),
            ("developer", ""),
        ]
        .into_iter()
        .enumerate()
        {
            let agent = agent(&server, via, number);
            exchanged(&agent).await;
            let before = released(&server).await;
            let sql = format!(
                "insert into vault.revocations values ('acme', '{kind}', '{subject}', now(), null)"
            );
            server.execute(&sql).await;
            for _ in 0..2 {
                let refused = agent.exchange("github").await.unwrap_err();
                assert_eq!(refused.status, 401, "{kind} {subject}");
            }
            let outcomes = server.outcomes().await;
            let last = &outcomes[outcomes.len() - 2..];
            assert_eq!(
                last, ["exchange denied grant_revoked"; 2],
                "{kind} {subject}"
            );
            assert_eq!(released(&server).await, before, "{kind} {subject}");
        }
    }
}

#[tokio::test]
async fn a_grant_is_refused_what_it_may_not_have_although_another_one_had_it() {
    let (server, tenant) = started().await;
    store(
        &server,
        &tenant,
        &json!({"requiredScopes": ["repo"], "allowedAgents": [AGENT]}),
    )
    .await;
    for via in Via::BOTH {
        let asking = |name: &str, principal: &str, scopes: &[&str]| {
            let mut claims = server.claims("acme", principal, scopes);
            claims["agt"] = json!(name);
            server.client(via, &server.issuer.key().sign(&claims))
        };
        exchanged(&asking(AGENT, "user", &["vault:github:exchange", "repo"])).await;
        let before = released(&server).await;
        for (name, principal, scopes, status, outcome) in [
            (
                AGENT,
                "user",
                &["vault:slack:exchange", "repo"],
                403,
                "denied out_of_scope",
            ),
            (
                AGENT,
                "user",
                &["vault:github:exchange", "repos"],
                403,
                "denied out_of_scope",
            ),
            (
                "did:other",
                "user",
                &["vault:github:exchange", "repo"],
                403,
                "denied agent_not_allowed",
            ),
            (
                AGENT,
                "other",
                &["vault:github:exchange", "repo"],
                404,
                "not_found",
            ),
        ] {
            let refused = asking(name, principal, scopes).exchange("github").await;
            assert_eq!(refused.unwrap_err().status, status, "{outcome}");
            let outcomes = server.outcomes().await;
            assert_eq!(outcomes.last().unwrap(), &format!("exchange {outcome}"));
        }
        assert_eq!(released(&server).await, before);
    }
}

#[tokio::test]
async fn a_row_in_memory_does_not_outlast_its_data_key() {
    for via in Via::BOTH {
        let (server, _) = started().await;
        let agent = agent(&server, via, 0);
        exchanged(&agent).await;
        let (before, unwrapped) = (released(&server).await, server.kms.unwrapped());
        server.clock.advance(Duration::from_mins(6));
        server.kms.set_trouble(Some(Trouble::Unreachable));
        let refused = agent.exchange("github").await.unwrap_err();
        assert_eq!(refused.status, 503);
        assert_eq!(released(&server).await, before);
        server.kms.set_trouble(None);
        exchanged(&agent).await;
        assert!(server.kms.unwrapped() > unwrapped);
        assert_eq!(released(&server).await, before + 2);
    }
}

/// An event of an exchange that says no more than its number.
fn event(server: &Server, number: usize, only_if: Precondition) -> ConditionalEvent {
    let row = AuditEventRow {
        developer: Some(DeveloperId::parse("acme").unwrap()),
        id: EventId::make(server.clock.now()),
        principal: Some(PrincipalId::parse("user").unwrap()),
        service: Some(ServiceName::parse("github").unwrap().key().clone()),
        credential: None,
        grant: Some(GrantId::parse("grant-1").unwrap()),
        outcome: "released",
        canonical: json!({"number": number}).to_string().into_bytes(),
    };
    ConditionalEvent { row, only_if }
}

/// What holds of the credential as it is now.
async fn precondition(server: &Server, store: &Store) -> Precondition {
    let query = ExchangeQuery {
        developer: DeveloperId::parse("acme").unwrap(),
        principal: PrincipalId::parse("user").unwrap(),
        service: ServiceName::parse("github").unwrap().key().clone(),
        token: TokenId::parse("token-1").unwrap(),
        grant: GrantId::parse("grant-1").unwrap(),
        parent_grant: None,
        at: server.clock.now(),
    };
    let (row, state) = store.credential_for_exchange(query).await.unwrap();
    let row = row.unwrap();
    assert_eq!(state, GrantState::Live);
    Precondition {
        version: row.version,
        wrapped_key: row.data_key.bytes,
        token: TokenId::parse("token-1").unwrap(),
        parent_grant: None,
        at: server.clock.now(),
    }
}

#[tokio::test]
async fn events_are_appended_if_their_own_precondition_holds_and_again_once_only() {
    let (server, _) = started().await;
    let url = server.database_url.parse().unwrap();
    let store = Store::open(&url, 1, Durability::Required).unwrap();
    let holds = precondition(&server, &store).await;
    let other_key = Precondition {
        wrapped_key: b"another".to_vec(),
        ..holds.clone()
    };
    let revoked = Precondition {
        token: TokenId::parse("revoked").unwrap(),
        ..holds.clone()
    };
    let revoke = "insert into vault.revocations values ('acme', 'token', 'revoked', now(), null)";
    server.execute(revoke).await;
    let mut elsewhere = event(&server, 4, holds.clone());
    elsewhere.row.developer = Some(DeveloperId::parse("globex").unwrap());
    let events = [
        event(&server, 0, holds.clone()),
        event(&server, 1, other_key),
        event(&server, 2, revoked),
        event(&server, 3, holds.clone()),
        elsewhere,
    ];
    let append = async |events: &[ConditionalEvent], tried| {
        let there = store.append_conditional_events(events, tried).await;
        there.unwrap()
    };
    let first = append(&events[..3], Tried::Never).await;
    assert_eq!(first, [true, false, false]);

    // A connection that broke: some are there, some may be now.
    let again = append(&events, Tried::OutcomeUnknown).await;
    assert_eq!(again, [true, false, false, true, false]);

    server
        .execute("update vault.credentials set updated_at = updated_at")
        .await;
    let late = [event(&server, 5, holds)];
    let there = [&events[..], &late[..]].concat();
    let again = append(&there, Tried::OutcomeUnknown).await;
    assert_eq!(again, [true, false, false, true, false, false]);

    let revoke = "insert into vault.revocations values ('acme', 'grant', 'grant-1', now(), null)";
    server.execute(revoke).await;
    let again = append(&there, Tried::OutcomeUnknown).await;
    assert_eq!(again, [false; 6], "nothing leaves after a revocation");

    let events = server.audit_events().await.split_off(1);
    let numbers: Vec<_> = events.iter().map(|event| &event["number"]).collect();
    assert_eq!(numbers, [0, 3]);
}
