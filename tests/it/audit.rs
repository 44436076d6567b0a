//! Every verb of a known caller leaves an event.

mod crashes;
mod group_commit;
mod hashes;
mod interrupted;
mod partitions;
mod standby;
mod unwritable;

use std::collections::BTreeMap;

use grantex_vault::clock::Clock;
use serde_json::{Value, json};

use crate::harness::{ISSUER, KeyState, Log, Server, Setup, Trouble, Via, until};

const UNAVAILABLE: &str = "The vault's audit is unavailable";
const BACKLOG: &str = "grantex_vault_audit_backlog";

/// A transaction that keeps events from being written. They can still be read.
struct Lock(tokio_postgres::Client);

impl Lock {
    async fn take(server: &Server) -> Self {
        let session = server.sql().await;
        let lock = "begin; lock table vault.audit_events in share row exclusive mode";
        session.batch_execute(lock).await.unwrap();
        Self(session)
    }

    async fn release(self) {
        self.0.batch_execute("rollback").await.unwrap();
    }
}

/// Waits until so many requests wait for their events.
async fn until_waiting(server: &Server, count: u32) {
    until("so many events wait", async || {
        server.metric(BACKLOG).await == Some(f64::from(count))
    })
    .await;
}

/// How often a secret was released on each token.
fn released(events: &[Value]) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for event in events.iter().filter(|event| event["outcome"] == "released") {
        let token = event["caller"]["tokenId"].as_str().unwrap();
        *counted.entry(token.to_owned()).or_default() += 1;
    }
    counted
}

/// What an event of a developer holds unless it says otherwise.
fn by_developer(server: &Server, via: Via, key_id: &str) -> Value {
    json!({
        "version": 1, "developerId": "acme", "reason": null, "principalId": "user",
        "service": "GitHub", "caller": {"apiKeyId": key_id}, "transport": transport(via),
        "peer": "127.0.0.1", "occurredAt": server.clock.now().to_string(),
    })
}

fn transport(via: Via) -> &'static str {
    match via {
        Via::Rest => "rest",
        Via::Grpc => "grpc",
    }
}

/// The newest event: its own id and that of its request are there, the rest is `expected`
/// with `changes`.
async fn assert_event(server: &Server, expected: &Value, changes: Value) {
    let mut found = server.audit_events().await.pop().expect("an event");
    let found = found.as_object_mut().unwrap();
    let id = found.remove("id").unwrap();
    assert_eq!(id.as_str().unwrap().len(), 26, "a ULID");
    let request = found.remove("requestId").unwrap();
    assert!(uuid::Uuid::parse_str(request.as_str().unwrap()).is_ok());
    // Its own test follows a trace.
    assert_eq!(found.remove("traceId"), Some(Value::Null));
    let mut expected = expected.clone();
    for (name, value) in changes.as_object().unwrap() {
        expected[name] = value.clone();
    }
    assert_eq!(Value::Object(found.clone()), expected);
}

#[tokio::test]
async fn a_developers_verbs_are_recorded_with_what_became_of_them() {
    for via in Via::BOTH {
        let server = Server::start().await;
        let tenant = server.tenant("acme").await;
        let developer = server.client(via, &tenant.key);
        let base = by_developer(&server, via, &tenant.key_id);

        let stored = developer.store_token("user", "GitHub", "secret").await;
        let id = stored["id"].as_str().unwrap();
        assert_event(
            &server,
            &base,
            json!({"verb": "store", "outcome": "stored", "credentialId": id}),
        )
        .await;
        developer.store_token("user", "GitHub", "secret").await;
        assert_event(
            &server,
            &base,
            json!({"verb": "store", "outcome": "replaced", "credentialId": id}),
        )
        .await;
        developer.get(id).await.unwrap();
        assert_event(
            &server,
            &base,
            json!({"verb": "get", "outcome": "read", "credentialId": id}),
        )
        .await;

        let listed = json!({"verb": "list", "outcome": "listed", "credentialId": null});
        let mut everything = listed.clone();
        everything["principalId"] = Value::Null;
        everything["service"] = Value::Null;
        developer.list().await.unwrap();
        assert_event(&server, &base, everything).await;
        developer
            .list_where(json!({"principalId": "user", "service": "GitHub"}))
            .await
            .unwrap();
        assert_event(&server, &base, listed).await;

        developer.delete(id).await.unwrap();
        assert_event(
            &server,
            &base,
            json!({"verb": "delete", "outcome": "deleted", "credentialId": id}),
        )
        .await;
        for verb in ["get", "delete"] {
            for (asked, recorded) in [(id, json!(id)), ("no id\n", Value::Null)] {
                let gone = if verb == "get" {
                    developer.get(asked).await
                } else {
                    developer.delete(asked).await
                };
                assert_eq!(gone.unwrap_err().status, 404);
                let changes = json!({
                    "verb": verb, "outcome": "not_found", "credentialId": recorded,
                    "principalId": null, "service": null,
                });
                assert_event(&server, &base, changes).await;
            }
        }
        server.kms.set_trouble(Some(Trouble::Denied));
        let fields = json!({"principalId": "user", "service": "GitHub", "accessToken": "secret"});
        assert_eq!(developer.store(fields).await.unwrap_err().status, 503);
        let changes = json!({
            "verb": "store", "outcome": "failed", "reason": "master_key_unavailable", "credentialId": null,
        });
        assert_event(&server, &base, changes).await;
        assert_eq!(server.audit_events().await.len(), 11);
    }
}

#[tokio::test]
async fn an_agents_exchanges_are_recorded_whether_they_succeed_or_not() {
    for via in Via::BOTH {
        let setup = Setup::new()
            .without_data_keys()
            .with("GRANTEX_VAULT_MAX_DELEGATION_DEPTH", "2");
        let server = setup.start().await;
        let tenant = server.tenant("acme").await;
        let developer = server.client(Via::Rest, &tenant.key);
        let stored = developer.store_token("user", "github", "secret").await;
        let mut claims = server.claims(
            "acme",
            "user",
            &["vault:github:exchange", "vault:slack:exchange"],
        );
        claims["parentAgt"] = json!("did:grantex:parent");
        claims["parentGrnt"] = json!("grant-0");
        claims["delegationDepth"] = json!(2);
        let agent = server.client(via, &server.issuer.key().sign(&claims));
        let base = json!({
            "version": 1, "developerId": "acme", "verb": "exchange", "reason": null,
            "principalId": "user", "service": "GITHUB", "credentialId": stored["id"],
            "caller": {
                "agent": "did:grantex:agent", "issuer": ISSUER, "clientId": null,
                "grantId": "grant-1", "tokenId": claims["jti"],
                "parentAgent": "did:grantex:parent", "parentGrantId": "grant-0",
                "delegationDepth": 2, "delegation": ["did:grantex:parent"],
            },
            "transport": transport(via), "peer": "127.0.0.1",
            "occurredAt": server.clock.now().to_string(),
        });
        agent.exchange("GITHUB").await.unwrap();
        assert_event(&server, &base, json!({"outcome": "released"})).await;

        assert_eq!(agent.exchange("linear").await.unwrap_err().status, 403);
        let denied = json!({
            "outcome": "denied", "reason": "out_of_scope", "service": "linear", "credentialId": null,
        });
        assert_event(&server, &base, denied).await;
        assert_eq!(agent.exchange("slack").await.unwrap_err().status, 404);
        let missing = json!({"outcome": "not_found", "service": "slack", "credentialId": null});
        assert_event(&server, &base, missing).await;

        server
            .kms
            .set_trouble(Some(Trouble::Keys(KeyState::Disabled)));
        assert_eq!(agent.exchange("GITHUB").await.unwrap_err().status, 503);
        let failed = json!({"outcome": "failed", "reason": "master_key_unavailable"});
        assert_event(&server, &base, failed).await;
        server.kms.set_trouble(None);

        let revoke =
            "insert into vault.revocations values ('acme', 'grant', 'grant-1', now(), null)";
        server.execute(revoke).await;
        assert_eq!(agent.exchange("GITHUB").await.unwrap_err().status, 401);
        let revoked = json!({"outcome": "denied", "reason": "grant_revoked", "credentialId": null});
        assert_event(&server, &base, revoked).await;

        claims.as_object_mut().unwrap().remove("grnt");
        let agent = server.client(via, &server.issuer.key().sign(&claims));
        agent.exchange("GITHUB").await.unwrap();
        let mut caller = base["caller"].clone();
        caller["grantId"] = claims["jti"].clone();
        let released = json!({"outcome": "released", "caller": caller});
        assert_event(&server, &base, released).await;
        let all: Vec<_> = server
            .audit_events()
            .await
            .iter()
            .map(Value::to_string)
            .collect();
        assert!(!all.concat().contains("secret"));
    }
}

#[tokio::test]
async fn callers_that_nobody_knows_leave_no_event() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    server
        .client(Via::Rest, &tenant.key)
        .store_token("user", "github", "secret")
        .await;
    let forged = server.claims("acme", "user", &["vault:github:exchange"]);
    let forged = crate::harness::SigningKey::number(1)
        .called(&server.issuer.key().kid)
        .sign(&forged);
    for via in Via::BOTH {
        let stranger = server.client(via, "gx_live_nobody_knows_this_key");
        for refused in [
            stranger.list().await,
            stranger.get("x").await,
            stranger.delete("x").await,
        ] {
            assert_eq!(refused.unwrap_err().status, 401);
        }
        let agent = server.client(via, &forged);
        assert_eq!(agent.exchange("github").await.unwrap_err().status, 401);
    }
    assert_eq!(server.outcomes().await, ["store stored"]);
}

#[tokio::test]
async fn what_the_database_says_of_a_row_is_not_logged() {
    let log = Log::keep();
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let full_up = "alter table vault.audit_events add constraint full_up check (false) not valid";
    server.execute(full_up).await;
    let fields = json!({"principalId": "canary-principal", "service": "github",
                        "accessToken": "secret"});
    for via in Via::BOTH {
        let refused = server.client(via, &tenant.key).store(fields.clone()).await;
        assert_eq!(refused.unwrap_err().status, 503);
    }
    let logged = log.take();
    assert!(logged.contains("full_up"), "it says why: {logged}");
    assert!(!logged.contains("canary-principal"), "{logged}");
}
