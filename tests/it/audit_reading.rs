//! A developer reads its own events: every filter, whole pages, and nothing of anybody else.

mod pages;
mod plans;

use std::time::Duration;

use grantex_vault::{
    clock::Clock,
    model::{
        event_filter::OutcomeName,
        text::{DeveloperId, GrantId},
    },
};
use serde_json::{Value, json};

use crate::harness::{Client, KeyState, Server, Setup, Tenant, Trouble, Via, until};

const PATH: &str = "/v1/vault/audit-events";

/// A developer's events as they stand in the record, newest first, and as they are to be answered.
async fn recorded(server: &Server, developer: &str) -> Vec<Value> {
    let mut events = server.audit_events().await;
    events.retain(|event| event["developerId"] == developer);
    events.sort_by_key(|event| event["id"].to_string());
    events.reverse();
    for event in &mut events {
        let event = event.as_object_mut().unwrap();
        event.shift_remove("version");
        event.shift_remove("developerId");
    }
    events
}

/// What a query answers, of which nothing is left for another page.
async fn events(client: &Client<'_>, query: Value) -> Vec<Value> {
    let answer = client.audit_events(query).await.unwrap();
    assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    answer["events"].as_array().unwrap().clone()
}

/// Verbs of developers and agents, with every outcome, some milliseconds apart.
async fn history(server: &Server, tenant: &Tenant) {
    let tick = || server.clock.advance(Duration::from_millis(7));
    let developer = server.client(Via::Rest, &tenant.key);
    let mut ids = Vec::new();
    for principal in ["alice", "bob"] {
        for service in ["GitHub", "slack"] {
            let stored = developer.store_token(principal, service, "secret").await;
            ids.push(stored["id"].as_str().unwrap().to_owned());
            tick();
        }
    }
    developer.store_token("bob", "GITHUB", "secret").await;
    tick();
    developer.get(&ids[0]).await.unwrap();
    developer.get("vc_x").await.unwrap_err();
    tick();
    developer.list().await.unwrap();
    developer.delete(&ids[3]).await.unwrap();
    for (principal, grant) in [
        ("alice", "grant-a"),
        ("bob", "grant-b"),
        ("alice", "grant-c"),
    ] {
        let mut claims = server.claims(
            &tenant.id,
            principal,
            &["vault:github:exchange", "vault:slack:exchange"],
        );
        claims["grnt"] = json!(grant);
        claims["parentAgt"] = json!("did:grantex:parent");
        claims["delegationDepth"] = json!(1);
        let agent = server.client(Via::Grpc, &server.issuer.key().sign(&claims));
        agent.exchange("github").await.unwrap();
        tick();
        agent.exchange("linear").await.unwrap_err();
    }
    let disabled = Trouble::Keys(KeyState::Disabled);
    server.kms.set_trouble(Some(disabled));
    let agent = server.agent(Via::Rest, tenant, "alice");
    agent.exchange("github").await.unwrap_err();
    server.kms.set_trouble(None);
    tick();
    let (operations, operator) = server.operations();
    let developer = DeveloperId::parse(&tenant.id).unwrap();
    for changes in [true, false] {
        let grant = GrantId::parse("grant-a").unwrap();
        let revoked = operations.revoke_grant(&operator, &developer, grant);
        assert_eq!(revoked.await.unwrap(), changes);
        tick();
    }
}

#[tokio::test]
async fn an_event_is_answered_as_it_was_recorded_by_both_transports() {
    let server = Setup::new().without_data_keys().start().await;
    let tenant = server.tenant("acme").await;
    history(&server, &tenant).await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        let expected = recorded(&server, "acme").await;
        assert!(expected.len() > 15);
        assert_eq!(events(&developer, json!({})).await, expected);
    }
}

#[tokio::test]
async fn over_rest_keys_stand_in_their_order() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let stored = server
        .client(Via::Rest, &tenant.key)
        .store_token("alice", "GitHub", "secret")
        .await;
    server.clock.advance(Duration::from_millis(1));
    let token = server.grant(&tenant, "alice", &["vault:github:exchange"]);
    let agent = server.client(Via::Grpc, &token);
    agent.exchange("GITHUB").await.unwrap();
    let [exchange, store] = &recorded(&server, "acme").await[..] else {
        panic!("there are two");
    };
    let developer = server.client(Via::Rest, &tenant.key);
    let found = developer.http(reqwest::Method::GET, PATH);
    let found = found.send().await.unwrap().text().await.unwrap();
    let (credential, at) = (&stored["id"], &store["occurredAt"]);
    let later = server.clock.now();
    let caller = &exchange["caller"];
    let expected = format!(
        r#"{{"events":[{{"id":{},"occurredAt":"{later}","verb":"exchange","outcome":"released","reason":null,"principalId":"alice","service":"GITHUB","credentialId":{credential},"caller":{{"agent":"did:grantex:agent","issuer":"https://issuer.test","clientId":null,"grantId":"grant-1","tokenId":{},"parentAgent":null,"parentGrantId":null,"delegationDepth":null,"delegation":[]}},"requestId":{},"traceId":null,"peer":"127.0.0.1","transport":"grpc"}},{{"id":{},"occurredAt":{at},"verb":"store","outcome":"stored","reason":null,"principalId":"alice","service":"GitHub","credentialId":{credential},"caller":{{"apiKeyId":"{}"}},"requestId":{},"traceId":null,"peer":"127.0.0.1","transport":"rest"}}]}}"#,
        exchange["id"],
        caller["tokenId"],
        exchange["requestId"],
        store["id"],
        tenant.key_id,
        store["requestId"],
    );
    assert_eq!(found, expected);
}

/// Whether an event matches a query, written down once more.
fn matches(event: &Value, query: &Value) -> bool {
    query.as_object().unwrap().iter().all(|(name, asked)| {
        let lower = |value: &Value| value.as_str().map(str::to_ascii_lowercase);
        match name.as_str() {
            "service" => lower(&event["service"]) == lower(asked),
            "grantId" => [&event["caller"]["grantId"], &event["subject"]].contains(&asked),
            "from" => event["occurredAt"].as_str() >= asked.as_str(),
            "to" => event["occurredAt"].as_str() < asked.as_str(),
            name => &event[name] == asked,
        }
    })
}

#[tokio::test]
async fn every_filter_answers_what_matches_it_and_together_they_narrow() {
    let server = Setup::new().without_data_keys().start().await;
    let tenant = server.tenant("acme").await;
    let start = server.clock.now().to_string();
    history(&server, &tenant).await;
    let all = recorded(&server, "acme").await;
    let credential = &all.iter().find(|event| event["outcome"] == "read").unwrap()["credentialId"];
    let (early, late) = (&all[all.len() - 3]["occurredAt"], &all[2]["occurredAt"]);
    let mut queries = vec![
        json!({"principalId": "alice"}),
        json!({"service": "gitHUB"}),
        json!({"credentialId": credential}),
        json!({"grantId": "grant-a"}),
        json!({"from": early}),
        json!({"to": early}),
        json!({"from": early, "to": late}),
        json!({"from": start}),
        json!({"principalId": "alice", "grantId": "grant-c", "outcome": "released"}),
        json!({"principalId": "bob", "service": "github", "from": early, "to": late}),
        json!({"principalId": "alice", "credentialId": credential, "outcome": "released",
               "from": start, "to": "9999-12-31T23:59:59.999Z"}),
    ];
    queries.extend(OutcomeName::ALL.map(|outcome| json!({"outcome": outcome.as_str()})));
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        for query in &queries {
            let mut expected = recorded(&server, "acme").await;
            let all = expected.len();
            expected.retain(|event| matches(event, query));
            assert!(!expected.is_empty(), "{query}");
            assert!(expected.len() < all || query.get("from").is_some());
            assert_eq!(events(&developer, query.clone()).await, expected, "{query}");
        }
    }
}

#[tokio::test]
async fn a_moment_divides_events_to_the_millisecond() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    let mut moments = Vec::new();
    for index in 0..3 {
        developer.store_token(&format!("p{index}"), "s", "t").await;
        moments.push(server.clock.now().to_string());
        server.clock.advance(Duration::from_millis(1));
    }
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        let of = async |mut query: Value| {
            query["outcome"] = json!("stored");
            let events = events(&developer, query).await;
            let principals = events.iter().map(|event| event["principalId"].as_str());
            principals
                .map(|id| id.unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let [first, second, third] = &moments[..] else {
            unreachable!("there are three");
        };
        assert_eq!(of(json!({"from": second})).await, ["p2", "p1"]);
        assert_eq!(of(json!({"to": second})).await, ["p0"]);
        assert_eq!(of(json!({"from": first, "to": third})).await, ["p1", "p0"]);
        assert!(of(json!({"from": second, "to": second})).await.is_empty());
        assert!(of(json!({"from": third, "to": first})).await.is_empty());
        let ever = json!({"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59.999Z"});
        assert_eq!(of(ever).await.len(), 3);
        let never = json!({"to": "1969-12-31T23:59:59.999Z"});
        assert!(of(never).await.is_empty());
    }
    // REST takes what a store takes.
    let developer = server.client(Via::Rest, &tenant.key);
    let today = &moments[0][..10];
    let answer = developer.audit_events(json!({"from": today})).await;
    assert!(answer.unwrap()["events"].as_array().unwrap().len() > 3);
}

#[tokio::test]
async fn what_no_event_can_have_matches_nothing() {
    let server = Setup::new().without_data_keys().start().await;
    let tenant = server.tenant("acme").await;
    history(&server, &tenant).await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        for name in ["principalId", "service", "credentialId", "grantId"] {
            for text in ["", "\0", "a\nb", &"x".repeat(600)] {
                let query = json!({name: text});
                assert!(
                    events(&developer, query).await.is_empty(),
                    "{name} {text:?}"
                );
            }
        }
        let narrowed = json!({"principalId": "alice", "service": "", "outcome": "released"});
        assert!(events(&developer, narrowed).await.is_empty());
    }
}

#[tokio::test]
async fn principals_that_begin_alike_are_told_apart() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    let principals = ["", "é", "ab"].map(|end| format!("{}{end}", "é".repeat(64)));
    for principal in &principals {
        developer.store_token(principal, "s", "t").await;
    }
    for principal in &principals {
        let query = json!({"principalId": principal, "outcome": "stored"});
        let found = events(&developer, query).await;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0]["principalId"], **principal);
    }
}

#[tokio::test]
async fn values_that_break_a_rule_are_refused_by_their_names_and_leave_no_event() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let outcomes = "outcome must be one of released, stored, replaced, deleted, listed, read, denied, not_found, failed, done, unchanged";
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        for (query, field, message) in [
            (json!({"outcome": ""}), "outcome", outcomes),
            (json!({"outcome": "Released"}), "outcome", outcomes),
            (json!({"outcome": "denied "}), "outcome", outcomes),
            (
                json!({"pageSize": 1001}),
                "page_size",
                "pageSize must be 1 to 1000",
            ),
            (
                json!({"pageSize": -1}),
                "page_size",
                "pageSize must be 1 to 1000",
            ),
        ] {
            let refused = developer.audit_events(query).await.unwrap_err();
            assert_eq!(refused.says(), (400, "BAD_REQUEST", message));
            assert_eq!(
                refused.field.as_deref(),
                (via == Via::Grpc).then_some(field)
            );
        }
    }
    let developer = server.client(Via::Rest, &tenant.key);
    for (query, message) in [
        ("from=", "from must be an RFC 3339 timestamp"),
        ("from=soon", "from must be an RFC 3339 timestamp"),
        ("to=1775390400", "to must be an RFC 3339 timestamp"),
        (
            "to=2026-04-05T12:00:00+02:00",
            "to must be an RFC 3339 timestamp",
        ),
        ("from=2026-04-05&from=2026-04-05", "from must be given once"),
        ("grantId=a&grantId=a", "grantId must be given once"),
        ("pageSize=0", "pageSize must be 1 to 1000"),
        ("x=%ff", "query must be UTF-8"),
    ] {
        let refused = developer.get_raw(&format!("{PATH}?{query}")).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.says(), (400, "BAD_REQUEST", message), "{query}");
    }
    let fine = "to=2026-04-05T12:00:00%2B02:00&from=2026-04-05&x=1&x=2&pageToken=";
    assert!(server.audit_events().await.is_empty());
    assert!(developer.get_raw(&format!("{PATH}?{fine}")).await.is_ok());
    moments_of_grpc_are_bounded(&server, &tenant).await;
}

async fn moments_of_grpc_are_bounded(server: &Server, tenant: &Tenant) {
    use grantex_vault::grpc::pb::ListAuditEventsRequest;
    use prost_types::Timestamp;
    let developer = server.client(Via::Grpc, &tenant.key);
    for (seconds, nanos, fine) in [
        (0, 999_999_999, true),
        (0, -1, false),
        (0, 1_000_000_000, false),
        (i64::MAX, 0, false),
        (253_402_300_800, 0, false),
    ] {
        let request = ListAuditEventsRequest {
            from: Some(Timestamp { seconds, nanos }),
            ..Default::default()
        };
        let request = developer.request(request);
        let answer = developer.audit_grpc().list_audit_events(request).await;
        assert_eq!(answer.is_ok(), fine, "{seconds} {nanos}");
        if let Err(status) = answer {
            let refused = crate::harness::problem(&status);
            assert_eq!(refused.message, "from must be of the years 0001 to 9999");
            assert_eq!(refused.field.as_deref(), Some("from"));
        }
    }
}

#[tokio::test]
async fn only_a_developer_may_read() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    for via in Via::BOTH {
        let agent = server.agent(via, &tenant, "alice");
        let nobody = server.client_with(via, None);
        for (stranger, message) in [
            (agent, "Invalid API key"),
            (nobody, "Missing or invalid Authorization header"),
        ] {
            // Who asks comes before what is asked.
            let refused = stranger.audit_events(json!({"outcome": "x"})).await;
            assert_eq!(refused.unwrap_err().says(), (401, "UNAUTHORIZED", message));
        }
    }
    assert!(server.audit_events().await.is_empty());
}

#[tokio::test]
async fn reading_is_counted_as_a_verb_of_its_own() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    for (via, name) in [(Via::Rest, "rest"), (Via::Grpc, "grpc")] {
        events(&server.client(via, &tenant.key), json!({})).await;
        let labels = format!("outcome=\"ok\",transport=\"{name}\",verb=\"audit\"");
        let counted = format!("grantex_vault_requests_total{{{labels}}}");
        until("the request is counted", async || {
            server.metric(&counted).await == Some(1.0)
        })
        .await;
    }
}

#[tokio::test]
async fn reading_takes_from_the_developers_budget() {
    let setup = Setup::new().with("GRANTEX_VAULT_LIMIT_REQUESTS_PER_DEVELOPER", "1");
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    let [rest, grpc] = Via::BOTH.map(|via| server.client(via, &tenant.key));
    assert!(rest.audit_events(json!({})).await.is_ok());
    assert_eq!(grpc.audit_events(json!({})).await.unwrap_err().status, 429);
    assert_eq!(rest.audit_events(json!({})).await.unwrap_err().status, 429);
}

#[tokio::test]
async fn reading_is_recorded_and_what_was_asked_for_with_it() {
    for via in Via::BOTH {
        let server = Server::start().await;
        let tenant = server.tenant("acme").await;
        let developer = server.client(via, &tenant.key);
        assert!(events(&developer, json!({})).await.is_empty());
        server.clock.advance(Duration::from_millis(1));
        let id = "vc_01JR2XJ4Y8ZC5T9W3M6N7P0QRS";
        let query = json!({"principalId": "alice", "service": "GitHub", "credentialId": id});
        events(&developer, query).await;
        server.clock.advance(Duration::from_millis(1));
        let unnameable = json!({"principalId": "\0", "service": "", "credentialId": "x"});
        events(&developer, unnameable).await;
        server.clock.advance(Duration::from_millis(1));
        let found = events(&developer, json!({})).await;
        let about = found.iter().map(|event| {
            let caller = &event["caller"]["apiKeyId"];
            assert_eq!(
                (caller, &event["reason"]),
                (&json!(tenant.key_id), &Value::Null)
            );
            assert_eq!(
                (&event["verb"], &event["outcome"]),
                (&json!("audit"), &json!("listed"))
            );
            ["principalId", "service", "credentialId"].map(|name| event[name].clone())
        });
        let nothing = [Value::Null, Value::Null, Value::Null];
        let narrowed = [json!("alice"), json!("GitHub"), json!(id)];
        let expected = [nothing.clone(), narrowed, nothing];
        assert_eq!(about.collect::<Vec<_>>(), expected);
        assert_eq!(server.audit_events().await.len(), 4);
    }
}

#[tokio::test]
async fn without_a_record_of_it_nothing_is_read() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    developer.store_token("alice", "github", "secret").await;
    let full_up = "alter table vault.audit_events add constraint full_up check (false) not valid";
    server.execute(full_up).await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        // Whether or not there is something to read.
        for query in [json!({}), json!({"principalId": ""})] {
            let refused = developer.audit_events(query).await.unwrap_err();
            let message = "The vault's audit is unavailable";
            assert_eq!(refused.says(), (503, "UNAVAILABLE", message));
            assert_eq!(refused.retry_after, Some(1));
        }
    }
}

#[tokio::test]
async fn a_row_that_does_not_hold_its_event_is_never_shown() {
    let copied = "insert into vault.audit_events (developer_id, id, outcome, canonical)
        select 'globex', id, outcome, canonical from vault.audit_events
        where developer_id = 'acme' limit 1";
    let damages = [
        copied,
        "update vault.audit_events set developer_id = 'globex' where developer_id = 'acme'",
        "update vault.audit_events set id = overlay(id placing 'Z' from 26)
         where developer_id = 'globex'",
        "update vault.audit_events set canonical = canonical || ' ' where developer_id = 'globex'",
        "update vault.audit_events set canonical = '' where developer_id = 'globex'",
        "update vault.audit_events set canonical = convert_to(
             regexp_replace(convert_from(canonical, 'UTF8'), '\"occurredAt\":\"20', '\"occurredAt\":\"19'),
             'UTF8')",
        "update vault.audit_events set id = 'no id ' || id where developer_id = 'globex'",
    ];
    for damage in damages {
        let server = Server::start().await;
        let acme = server.tenant("acme").await;
        let globex = server.tenant("globex").await;
        for tenant in [&acme, &globex] {
            let developer = server.client(Via::Rest, &tenant.key);
            developer
                .store_token(&format!("of {}", tenant.id), "s", "t")
                .await;
            developer
                .store_token(&format!("of {}", tenant.id), "s", "t")
                .await;
        }
        server.execute(damage).await;
        for via in Via::BOTH {
            let developer = server.client(via, &globex.key);
            let before = server.metric("grantex_vault_tampered_total").await.unwrap();
            let refused = developer.audit_events(json!({})).await.unwrap_err();
            let message = "An unexpected error occurred";
            assert_eq!(refused.says(), (500, "INTERNAL_ERROR", message), "{damage}");
            let after = server.metric("grantex_vault_tampered_total").await.unwrap();
            assert!((after - before - 1.0).abs() < f64::EPSILON);
        }
        // Of its columns, because the events are damaged.
        let rows = server.rows("audit_events").await;
        let failed = rows.iter().filter(|row| row["outcome"] == "failed");
        assert_eq!(failed.count(), 2);
    }
}
