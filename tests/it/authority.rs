//! Every verb over both transports by the word of either authority: the vault's own tables, and those of
//! a Grantex auth service.

mod grantex;
mod locked_grants;
mod tables;

use grantex_vault::store::authority::Authority;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Realm, SigningKey, Tenant, Via};

const INVALID_KEY: (u16, &str, &str) = (401, "UNAUTHORIZED", "Invalid API key");
const INVALID_TOKEN: (u16, &str, &str) = (401, "UNAUTHORIZED", "Invalid or expired grant token");

/// What a developer can ask for about a credential, by name; the store is of another principal.
async fn asked_by_a_developer(developer: &Client<'_>, id: &str) -> [(&'static str, Answer); 5] {
    let fields = json!({"principalId": "other", "service": "github", "accessToken": "x"});
    [
        ("get", developer.get(id).await),
        ("list", developer.list().await),
        ("audit", developer.audit_events(json!({})).await),
        ("delete", developer.delete(id).await),
        ("store", developer.store(fields).await),
    ]
}

async fn two_tenants(realm: &Realm) -> [Tenant; 2] {
    [realm.tenant("acme").await, realm.tenant("globex").await]
}

fn members<'a>(answer: &'a Value, list: &str, member: &str) -> Vec<&'a str> {
    let items = answer[list].as_array().unwrap().iter();
    items.filter_map(|item| item[member].as_str()).collect()
}

#[tokio::test]
async fn every_verb_works() {
    for authority in Realm::BOTH {
        let realm = Realm::start(authority).await;
        let tenant = realm.tenant("acme").await;
        for via in Via::BOTH {
            let developer = realm.server.client(via, &tenant.key);
            let stored = developer.store_token("user", "github", "secret").await;
            let id = stored["id"].as_str().unwrap();
            assert_eq!(developer.get(id).await.unwrap()["service"], "github");
            let listed = developer.list().await.unwrap();
            assert_eq!(members(&listed, "credentials", "id"), [id], "{authority:?}");
            let granted = realm.issued(&tenant, "user").await;
            let released = realm.agent(via, &granted).exchange("github").await;
            assert_eq!(
                released.unwrap()["accessToken"],
                "secret",
                "{authority:?} {via:?}"
            );
            assert_eq!(developer.delete(id).await.unwrap(), json!(null));
            let query = json!({"credentialId": id});
            let events = developer.audit_events(query).await.unwrap();
            let mut outcomes = members(&events, "events", "outcome");
            outcomes.sort_unstable();
            let expected = ["deleted", "read", "released", "stored"];
            assert_eq!(outcomes, expected, "{authority:?}");
            let key_id = match authority {
                Authority::Standalone => json!(tenant.key_id),
                // Its keys have no names.
                Authority::Grantex => json!(null),
            };
            for event in events["events"].as_array().unwrap() {
                let caller = &event["caller"];
                if event["verb"] == "exchange" {
                    assert_eq!(caller["tokenId"], granted.claims["jti"]);
                    assert_eq!(caller["grantId"], granted.claims["grnt"]);
                } else {
                    assert_eq!(*caller, json!({"apiKeyId": key_id}), "{authority:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn every_verb_is_refused_to_whom_nobody_knows() {
    for authority in Realm::BOTH {
        let realm = Realm::start(authority).await;
        let tenant = realm.tenant("acme").await;
        let owner = realm.server.client(Via::Rest, &tenant.key);
        let stored = owner.store_token("user", "github", "secret").await;
        let id = stored["id"].as_str().unwrap();
        let before = realm.server.audit_events().await;
        for via in Via::BOTH {
            let forged = SigningKey::number(1).called(&realm.server.issuer.key().kid);
            let forged = forged.sign(&realm.issued(&tenant, "user").await.claims);
            let stranger = "gx_live_0123456789abcdef0123456789abcdef";
            for key in [stranger, &format!("{}x", tenant.key), &forged] {
                let client = realm.server.client(via, key);
                for (verb, answer) in asked_by_a_developer(&client, id).await {
                    let refused = answer.expect_err(verb);
                    assert_eq!(refused.says(), INVALID_KEY, "{authority:?} {via:?} {verb}");
                }
            }
            for token in ["not.a.token", &forged, &tenant.key] {
                let agent = realm.server.client(via, token);
                let refused = agent.exchange("github").await.unwrap_err();
                assert_eq!(refused.says(), INVALID_TOKEN, "{authority:?} {via:?}");
            }
            for (verb, answer) in
                asked_by_a_developer(&realm.server.client_with(via, None), id).await
            {
                let message = "Missing or invalid Authorization header";
                let refused = answer.expect_err(verb);
                assert_eq!(refused.says(), (401, "UNAUTHORIZED", message), "{verb}");
            }
            let agent = realm.server.client_with(via, None);
            let refused = agent.exchange("github").await.unwrap_err();
            assert_eq!(refused.says(), (401, "UNAUTHORIZED", "Missing grant token"));
        }
        assert_eq!(realm.server.rows("credentials").await.len(), 1);
        assert_eq!(realm.server.audit_events().await, before, "{authority:?}");
    }
}

#[tokio::test]
async fn a_grant_token_is_no_api_key_of_its_developer() {
    for authority in Realm::BOTH {
        let realm = Realm::start(authority).await;
        let tenant = realm.tenant("acme").await;
        let granted = realm.issued(&tenant, "user").await;
        for via in Via::BOTH {
            for (verb, answer) in asked_by_a_developer(&realm.agent(via, &granted), "vc_x").await {
                assert_eq!(answer.expect_err(verb).says(), INVALID_KEY, "{authority:?}");
            }
        }
    }
}

#[tokio::test]
async fn tenants_stay_apart_in_every_verb() {
    for authority in Realm::BOTH {
        for via in Via::BOTH {
            let realm = Realm::start(authority).await;
            let [acme, globex] = two_tenants(&realm).await;
            let [mine, theirs] = [&acme, &globex].map(|one| realm.server.client(via, &one.key));
            let of_acme = mine.store_token("user", "github", "of acme").await;
            let id = of_acme["id"].as_str().unwrap();
            for missing in [theirs.get(id).await, theirs.delete(id).await] {
                let missing = missing.unwrap_err();
                assert_eq!(missing.says(), (404, "NOT_FOUND", "Credential not found"));
            }
            let listed = theirs.list().await.unwrap();
            assert_eq!(listed, json!({"credentials": []}), "{authority:?} {via:?}");
            let query = json!({"credentialId": id, "outcome": "stored"});
            let events = theirs.audit_events(query).await.unwrap();
            assert_eq!(events["events"], json!([]), "{authority:?} {via:?}");
            let agents = [
                realm.issued(&acme, "user").await,
                realm.issued(&globex, "user").await,
            ];
            let [agent, stranger] = agents.each_ref().map(|one| realm.agent(via, one));
            let message = "No credential found for this principal and service";
            let missing = stranger.exchange("github").await.unwrap_err();
            assert_eq!(missing.says(), (404, "NOT_FOUND", message));
            // The same principal and service of another developer is another credential.
            theirs.store_token("user", "github", "of globex").await;
            for (agent, secret) in [(agent, "of acme"), (stranger, "of globex")] {
                let released = agent.exchange("github").await.unwrap();
                assert_eq!(released["accessToken"], secret, "{authority:?} {via:?}");
            }
            mine.delete(id).await.unwrap();
            assert_eq!(mine.list().await.unwrap(), json!({"credentials": []}));
            let kept = theirs.list().await.unwrap();
            assert_eq!(members(&kept, "credentials", "service"), ["github"]);
        }
    }
}

#[tokio::test]
async fn a_revocation_in_the_vault_counts_whoever_is_asked() {
    for authority in Realm::BOTH {
        let realm = Realm::start(authority).await;
        let [acme, globex] = two_tenants(&realm).await;
        let developer = realm.server.client(Via::Rest, &acme.key);
        developer.store_token("user", "github", "secret").await;
        for via in Via::BOTH {
            for (kind, subject, by, status) in [
                ("token", "jti", &acme, 401),
                ("grant", "grnt", &acme, 401),
                ("grant", "parentGrnt", &acme, 401),
                ("grant", "jti", &acme, 200),
                ("token", "jti", &globex, 200),
                ("grant", "grnt", &globex, 200),
            ] {
                let mut claims = realm.claims(&acme, "user");
                claims["parentGrnt"] = json!(format!("parent of {}", claims["grnt"]));
                claims["delegationDepth"] = json!(1);
                let granted = realm.issue(claims).await;
                let agent = realm.agent(via, &granted);
                assert!(agent.exchange("github").await.is_ok());
                let insert = "insert into vault.revocations values ($1, $2, $3, now(), null)";
                let sql = realm.server.sql().await;
                let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                    [&by.id, &kind, &granted.claim(subject)];
                sql.execute(insert, &parameters).await.unwrap();
                let found = agent.exchange("github").await;
                let found = found.map_or_else(|refused| refused.status, |_| 200);
                assert_eq!(found, status, "{authority:?} {kind} {subject} by {}", by.id);
            }
        }
    }
}
