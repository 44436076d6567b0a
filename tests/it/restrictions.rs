//! Credentials that ask for more than a scope for their service.

mod at_rest;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Server, Setup, Tenant, Via};

/// The secret of these tests, and no refusal may hold it.
const CANARY: &str = "canary";
const AGENT: &str = "did:grantex:agent";
const PATH: &str = "/v1/vault/credentials";
const OUT_OF_SCOPE: &str = "Grant token is not scoped for github credential exchange";

/// With the wider scopes: what permits an exchange by its meaning must stand for no required scope.
fn setup() -> Setup {
    Setup::new().with("GRANTEX_VAULT_SCOPE_MODE", "compatible")
}

async fn started() -> (Server, Tenant) {
    of_tenant(setup().start().await).await
}

/// The same, where the KMS is asked for every exchange.
async fn asking_the_kms() -> (Server, Tenant) {
    of_tenant(setup().without_data_keys().start().await).await
}

async fn of_tenant(server: Server) -> (Server, Tenant) {
    let tenant = server.tenant("acme").await;
    (server, tenant)
}

/// What a developer stores, with members of its choice.
fn fields(members: &Value) -> Value {
    let mut fields = json!({"principalId": "alice", "service": "github", "accessToken": CANARY});
    let members = members.as_object().unwrap().clone();
    fields.as_object_mut().unwrap().extend(members);
    fields
}

/// An agent of this name with these scopes.
fn agent<'a>(server: &'a Server, via: Via, name: &str, scopes: &[&str]) -> Client<'a> {
    let mut claims = server.claims("acme", "alice", scopes);
    claims["agt"] = json!(name);
    server.client(via, &server.issuer.key().sign(&claims))
}

fn assert_refused(answer: Answer, what: &str) {
    let refused = answer.expect_err(what);
    assert_eq!(refused.says(), (403, "FORBIDDEN", OUT_OF_SCOPE), "{what}");
}

/// The last event says why, of which credential and of which agent.
async fn assert_denied(server: &Server, reason: &str, credential: &Value, what: &str) {
    let events = server.audit_events().await;
    let event = events.last().unwrap();
    let found = ["verb", "outcome", "reason"].map(|name| event[name].as_str().unwrap());
    assert_eq!(found, ["exchange", "denied", reason], "{what}");
    assert_eq!(&event["credentialId"], credential, "{what}");
    assert!(!event.to_string().contains(CANARY));
}

#[tokio::test]
async fn every_required_scope_must_be_among_those_of_the_token() {
    let (server, tenant) = asking_the_kms().await;
    for (required, scopes, is_met) in [
        (
            &["repo:write"][..],
            &["github:read", "repo:write"][..],
            true,
        ),
        (
            &["repo:write", "admin"],
            &["admin", "x", "github:*", "repo:write"],
            true,
        ),
        (
            &["repo:write", "admin"],
            &["github:read", "repo:write"],
            false,
        ),
        (&["repo:write", "admin"], &["github:read", "admin"], false),
        (&["Repo:Write"], &["github:read", "rEPO:wRITE"], true),
        (&["github:read"], &["GitHub:Read"], true),
        (&["github:read"], &["github:*"], false),
        (&["repo:write"], &["*"], false),
        (
            &["repo:write"],
            &["*", "repo:*", "vault:credentials:exchange"],
            false,
        ),
        (
            &["repo:write"],
            &["*", "repo", "repo:writer", " repo:write", "repo:write "],
            false,
        ),
        (&["*"], &["*"], true),
        (&["*"], &["github:read"], false),
        (&["é"], &["*", "É"], false),
    ] {
        for via in Via::BOTH {
            let what = format!("{required:?} of {scopes:?} over {via:?}");
            let developer = server.client(via, &tenant.key);
            let stored = developer
                .store(fields(&json!({"requiredScopes": required})))
                .await;
            let asked = server.kms.unwrapped();
            let answer = agent(&server, via, AGENT, scopes).exchange("github").await;
            if is_met {
                assert_eq!(answer.unwrap()["accessToken"], CANARY, "{what}");
                assert!(server.kms.unwrapped() > asked);
                continue;
            }
            assert_refused(answer, &what);
            assert_denied(&server, "out_of_scope", &stored.unwrap()["id"], &what).await;
            assert_eq!(server.kms.unwrapped(), asked, "nothing was opened: {what}");
        }
    }
}

#[tokio::test]
async fn the_agent_must_be_an_allowed_one() {
    let (server, tenant) = asking_the_kms().await;
    for (allowed, name, is_met) in [
        (&[AGENT][..], AGENT, true),
        (&["did:other", AGENT], AGENT, true),
        (&["did:other"], AGENT, false),
        (&["DID:grantex:agent"], AGENT, false),
        (&["did:grantex:agent "], AGENT, false),
        (&["did:grantex:*", "*"], AGENT, false),
        (&["did:e\u{301}"], "did:\u{e9}", false),
    ] {
        for via in Via::BOTH {
            let what = format!("{name} of {allowed:?} over {via:?}");
            let developer = server.client(via, &tenant.key);
            let stored = developer
                .store(fields(&json!({"allowedAgents": allowed})))
                .await;
            let asked = server.kms.unwrapped();
            let answer = agent(&server, via, name, &["*"]).exchange("github").await;
            if is_met {
                assert_eq!(answer.unwrap()["accessToken"], CANARY, "{what}");
                continue;
            }
            assert_refused(answer, &what);
            assert_denied(&server, "agent_not_allowed", &stored.unwrap()["id"], &what).await;
            assert_eq!(server.kms.unwrapped(), asked, "nothing was opened: {what}");
        }
    }
}

#[tokio::test]
async fn an_agent_that_delegated_is_not_the_one_that_asks() {
    let (server, tenant) = started().await;
    let developer = server.client(Via::Rest, &tenant.key);
    let restricted = fields(&json!({"allowedAgents": ["did:parent"]}));
    developer.store(restricted).await.unwrap();
    let mut claims = server.claims("acme", "alice", &["*"]);
    claims["parentAgt"] = json!("did:parent");
    claims["parentGrnt"] = json!("grant-0");
    claims["delegationDepth"] = json!(1);
    let token = server.issuer.key().sign(&claims);
    for via in Via::BOTH {
        assert_refused(
            server.client(via, &token).exchange("github").await,
            "a child",
        );
    }
}

#[tokio::test]
async fn both_are_needed_and_scopes_are_looked_at_first() {
    let (server, tenant) = started().await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        let restricted = json!({"requiredScopes": ["repo"], "allowedAgents": [AGENT]});
        let stored = developer.store(fields(&restricted)).await.unwrap();
        for (name, scopes, reason) in [
            ("did:other", &["*"][..], "out_of_scope"),
            (AGENT, &["*"], "out_of_scope"),
            ("did:other", &["*", "repo"], "agent_not_allowed"),
        ] {
            assert_refused(
                agent(&server, via, name, scopes).exchange("github").await,
                reason,
            );
            assert_denied(&server, reason, &stored["id"], reason).await;
        }
        let met = agent(&server, via, AGENT, &["*", "repo"]);
        let released = met.exchange("github").await.unwrap();
        let keys: Vec<_> = released.as_object().unwrap().keys().cloned().collect();
        let answered = [
            "accessToken",
            "service",
            "credentialType",
            "tokenExpiresAt",
            "metadata",
        ];
        assert_eq!(
            keys, answered,
            "restrictions are none of an agent's business"
        );
    }
}

#[tokio::test]
async fn restrictions_are_looked_at_after_revocation_scope_and_existence() {
    let (server, tenant) = started().await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        let restricted = json!({"requiredScopes": ["repo"], "allowedAgents": ["did:other"]});
        developer.store(fields(&restricted)).await.unwrap();
        // Without a scope for the service nothing is said of the credential, not even its id.
        assert_refused(
            agent(&server, via, AGENT, &["repo"])
                .exchange("github")
                .await,
            "scope",
        );
        assert_denied(&server, "out_of_scope", &Value::Null, "scope").await;
        let nothing = agent(&server, via, AGENT, &["*"]).exchange("slack").await;
        assert_eq!(nothing.unwrap_err().status, 404);
        server
            .execute(
                "insert into vault.revocations values ('acme', 'grant', 'grant-1', now(), null)",
            )
            .await;
        let revoked = agent(&server, via, AGENT, &["*"]).exchange("github").await;
        assert_eq!(revoked.unwrap_err().status, 401);
        server.execute("truncate vault.revocations").await;
    }
}

#[tokio::test]
async fn absent_null_and_empty_restrict_nothing() {
    let (server, tenant) = started().await;
    for (via, members) in [
        (Via::Rest, json!({})),
        (
            Via::Rest,
            json!({"requiredScopes": null, "allowedAgents": null}),
        ),
        (
            Via::Rest,
            json!({"requiredScopes": [], "allowedAgents": []}),
        ),
        (Via::Grpc, json!({})),
    ] {
        let developer = server.client(via, &tenant.key);
        let stored = developer.store(fields(&members)).await.unwrap();
        let row = server.rows("credentials").await.remove(0);
        assert_eq!(row["required_scopes"], Value::Null, "{members}");
        assert_eq!(row["allowed_agents"], Value::Null, "{members}");
        for via in Via::BOTH {
            let developer = server.client(via, &tenant.key);
            let found = developer.get(stored["id"].as_str().unwrap()).await.unwrap();
            assert_eq!(found.as_object().unwrap().len(), 8, "{found}");
            let released = agent(&server, via, AGENT, &["*"]).exchange("github").await;
            assert_eq!(released.unwrap()["accessToken"], CANARY);
        }
    }
}

#[tokio::test]
async fn get_and_list_show_them_last_as_they_were_given_and_only_when_set() {
    let (server, tenant) = started().await;
    let rest = server.client(Via::Rest, &tenant.key);
    let scopes = ["Zeta", "alpha", "zeta", "*", "\u{1f511} \"x\""];
    for (members, end) in [
        (
            json!({"requiredScopes": scopes, "allowedAgents": ["did:b", "did:a", "did:b"]}),
            r#""requiredScopes":["Zeta","alpha","*","🔑 \"x\""],"allowedAgents":["did:b","did:a"]}"#,
        ),
        (
            json!({"requiredScopes": ["repo"]}),
            r#""requiredScopes":["repo"]}"#,
        ),
        (
            json!({"allowedAgents": ["did:a"]}),
            r#""allowedAgents":["did:a"]}"#,
        ),
        (json!({}), ""),
    ] {
        for via in Via::BOTH {
            let stored = server
                .client(via, &tenant.key)
                .store(fields(&members))
                .await;
            let stored = stored.unwrap();
            let (id, names) = (stored["id"].as_str().unwrap(), stored.as_object().unwrap());
            assert_eq!(names.len(), 5, "a store says nothing of them");
            let found = rest.http(Method::GET, &format!("{PATH}/{id}"));
            let found = found.send().await.unwrap().text().await.unwrap();
            let (_, last) = found.split_once(r#""updatedAt":""#).unwrap();
            let (_, rest_of_it) = last.split_once('"').unwrap();
            let expected = match end {
                "" => "}".to_owned(),
                end => format!(",{end}"),
            };
            assert_eq!(rest_of_it, expected);
            let listed = rest.http(Method::GET, PATH).send().await.unwrap();
            let listed = listed.text().await.unwrap();
            assert_eq!(listed, format!(r#"{{"credentials":[{found}]}}"#));
            let described: Value = serde_json::from_str(&found).unwrap();
            let grpc = server.client(Via::Grpc, &tenant.key);
            assert_eq!(grpc.get(id).await.unwrap(), described);
            assert_eq!(grpc.list().await.unwrap()["credentials"][0], described);
        }
    }
}

#[tokio::test]
async fn a_replacing_store_without_them_clears_them() {
    let (server, tenant) = started().await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        let restricted = json!({"requiredScopes": ["repo"], "allowedAgents": ["did:other"]});
        let first = developer.store(fields(&restricted)).await.unwrap();
        let asking = agent(&server, via, AGENT, &["*"]);
        assert_refused(asking.exchange("github").await, "restricted");
        let second = developer.store(fields(&json!({}))).await.unwrap();
        assert_eq!(first["id"], second["id"]);
        assert_eq!(
            asking.exchange("github").await.unwrap()["accessToken"],
            CANARY
        );
        let found = developer.get(second["id"].as_str().unwrap()).await.unwrap();
        assert_eq!(
            found.get("requiredScopes").or(found.get("allowedAgents")),
            None
        );
    }
}

#[tokio::test]
async fn a_broken_list_is_a_400_that_names_the_field_and_nothing_is_stored() {
    let (server, tenant) = started().await;
    let many: Vec<_> = (0..65).map(|number| number.to_string()).collect();
    for (field, snake, longest) in [
        ("requiredScopes", "required_scopes", 256),
        ("allowedAgents", "allowed_agents", 512),
    ] {
        let control = format!("{field} entries must not contain control characters");
        for (list, message) in [
            (json!(many), format!("{field} must have at most 64 entries")),
            (
                json!(vec!["same"; 65]),
                format!("{field} must have at most 64 entries"),
            ),
            (
                json!(["a", ""]),
                format!("{field} entries must not be empty"),
            ),
            (
                json!(["é".repeat(longest + 1)]),
                format!("{field} entries must be at most {longest} characters"),
            ),
            (json!(["a\0"]), control.clone()),
            (json!(["a", "b\nc"]), control.clone()),
            (json!(["\u{85}"]), control),
        ] {
            for via in Via::BOTH {
                let developer = server.client(via, &tenant.key);
                let refused = developer.store(fields(&json!({field: list}))).await;
                let refused = refused.unwrap_err();
                assert_eq!(refused.says(), (400, "BAD_REQUEST", &*message), "{via:?}");
                let named = (via == Via::Grpc).then_some(snake);
                assert_eq!(refused.field.as_deref(), named);
            }
        }
        let rest = server.client(Via::Rest, &tenant.key);
        for value in [
            json!("repo"),
            json!(7),
            json!(true),
            json!({}),
            json!({"0": "repo"}),
            json!([7]),
            json!(["repo", null]),
            json!([["repo"]]),
            json!([{"repo": true}]),
        ] {
            let refused = rest
                .store(fields(&json!({field: value})))
                .await
                .unwrap_err();
            let message = format!("{field} must be an array of strings");
            assert_eq!(refused.says(), (400, "BAD_REQUEST", &*message), "{value}");
        }
        for (raw, fault) in [
            (r#"["\ud800"]"#, "is not valid JSON"),
            (r#"["a"],"FIELD":["a"]"#, "has a duplicate key"),
        ] {
            let raw = raw.replace("FIELD", field);
            let fields = fields(&json!({})).to_string();
            let body = format!("{{\"{field}\":{raw},{}", &fields[1..]);
            let message = rest.post_raw(PATH, body).await.unwrap_err().message;
            assert!(message.ends_with(fault), "{message}");
        }
    }
    assert_eq!(server.rows("credentials").await.len(), 0);
}

#[tokio::test]
async fn as_many_and_as_long_ones_as_there_may_be_are_taken() {
    let (server, tenant) = started().await;
    let long = |number: usize, length: usize| format!("{number:02}{}", "п".repeat(length - 2));
    let scopes: Vec<_> = (0..64).map(|number| long(number, 256)).collect();
    let mut agents: Vec<_> = (0..63).map(|number| long(number, 512)).collect();
    agents.push(AGENT.to_owned());
    // More scopes than these do not fit a token of 16 KiB.
    let few: Vec<_> = (0..64).map(|number| format!("s{number}")).collect();
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        let restricted = json!({"requiredScopes": scopes, "allowedAgents": agents});
        let stored = developer.store(fields(&restricted)).await.unwrap();
        let found = developer.get(stored["id"].as_str().unwrap()).await.unwrap();
        assert_eq!(found["requiredScopes"], restricted["requiredScopes"]);
        assert_eq!(found["allowedAgents"], restricted["allowedAgents"]);
        let restricted = json!({"requiredScopes": few, "allowedAgents": agents});
        developer.store(fields(&restricted)).await.unwrap();
        let mut held: Vec<_> = few.iter().map(String::as_str).collect();
        held.push("github:read");
        let released = agent(&server, via, AGENT, &held).exchange("github").await;
        assert_eq!(released.unwrap()["accessToken"], CANARY);
    }
}
