//! The webhook of a Grantex auth service: `grant.revoked`, signed.

mod at_rest;
mod command_line;
mod signatures;

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use grantex_vault::{
    envelope::{Envelope, cache::DataKeyCache},
    metrics::Metrics,
    model::{secret::WebhookSecret, text::DeveloperId},
    store::authority::Authority,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use zeroize::Zeroizing;

use crate::harness::{Realm, Server, Setup, Tenant, Trouble, Via};

const SECRET: &str = "whsec_0123456789abcdef";

/// `sha256=` and the MAC in hexadecimal.
fn signature(secret: &str, message: &[u8]) -> String {
    let key = hmac::Key::new(HMAC_SHA256, secret.as_bytes());
    let mac = hmac::sign(&key, message);
    let hex: Vec<_> = mac
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256={}", hex.concat())
}

fn revoked(grant: &str) -> String {
    let data = json!({"grantId": grant, "cascade": true});
    let event = json!({"id": "evt_1", "type": "grant.revoked",
                       "createdAt": "2026-11-24T00:00:00Z", "data": data});
    event.to_string()
}

fn post(
    server: &Server,
    developer: &str,
    body: impl Into<reqwest::Body>,
) -> reqwest::RequestBuilder {
    let url = format!("{}/v1/webhooks/grantex/{developer}", server.http_url);
    let request = server.http.post(url).body(body);
    request.header("content-type", "application/json")
}

/// A webhook as Grantex sends it now: with both signatures.
fn signed(server: &Server, developer: &str, secret: &str, body: &str) -> reqwest::RequestBuilder {
    let at = server.clock.seconds().to_string();
    let message = format!("{at}.{body}");
    post(server, developer, body.to_owned())
        .header("X-Grantex-Timestamp", &at)
        .header(
            "X-Grantex-Signature-V2",
            signature(secret, message.as_bytes()),
        )
        .header("X-Grantex-Signature", signature(secret, body.as_bytes()))
}

/// Status and message of an answer.
async fn answer(request: reqwest::RequestBuilder) -> (u16, String) {
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert!(answer.headers().contains_key("x-request-id"));
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    let Ok(body) = serde_json::from_str::<Value>(&text) else {
        assert_eq!(text, "");
        return (status, String::new());
    };
    (status, body["message"].as_str().unwrap().to_owned())
}

async fn send(server: &Server, developer: &str, secret: &str, body: &str) -> (u16, String) {
    answer(signed(server, developer, secret, body)).await
}

fn done() -> (u16, String) {
    (204, String::new())
}

fn refused() -> (u16, String) {
    (401, "Invalid webhook signature".to_owned())
}

/// Sets a secret as an operator does.
async fn set_secret(server: &Server, developer: &str, secret: &str) {
    let (operations, by) = server.operations();
    let cache = DataKeyCache::new(
        None,
        0,
        Arc::clone(&server.clock) as _,
        Metrics::unobserved(),
    );
    let kms = Arc::clone(&server.kms) as _;
    let envelope = Envelope::new(kms, Duration::from_secs(3), cache, Metrics::unobserved());
    let developer = DeveloperId::parse(developer).unwrap();
    let secret = WebhookSecret::new(Zeroizing::new(secret.to_owned())).unwrap();
    let set = operations.set_webhook_secret(&by, &envelope, &developer, &secret);
    set.await.unwrap();
    server.clock.advance(Duration::from_millis(1));
}

/// A server with a developer that has a secret.
async fn start() -> (Server, Tenant) {
    start_with(Setup::new()).await
}

async fn start_with(setup: Setup) -> (Server, Tenant) {
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    set_secret(&server, "acme", SECRET).await;
    (server, tenant)
}

#[tokio::test]
async fn the_next_exchange_with_a_revoked_grant_is_a_401_on_every_replica_under_either_authority() {
    for authority in Realm::BOTH {
        let realm = Realm::start(authority).await;
        let server = &realm.server;
        let tenant = realm.tenant("acme").await;
        if authority == Authority::Grantex {
            // Operators of this test do not ask the authority; the row is what counts.
            server
                .execute("insert into vault.developers values ('acme', 'acme', now())")
                .await;
        }
        set_secret(server, "acme", SECRET).await;
        let replica = realm.replica(Setup::new()).start().await;
        let client = server.client(Via::Rest, &tenant.key);
        client.store_token("user", "github", "secret").await;
        let issued = realm.issued(&tenant, "user").await;
        let bystander = realm.issued(&tenant, "user").await;
        for via in Via::BOTH {
            for replica in [server, &replica] {
                let agent = replica.client(via, &issued.token);
                assert!(agent.exchange("github").await.is_ok());
            }
        }
        let body = revoked(issued.claim("grnt"));
        assert_eq!(send(&replica, "acme", SECRET, &body).await, done());
        for via in Via::BOTH {
            for replica in [server, &replica] {
                let agent = replica.client(via, &issued.token);
                assert_eq!(agent.exchange("github").await.unwrap_err().status, 401);
                let other = replica.client(via, &bystander.token);
                let same_grant = bystander.claim("grnt") == issued.claim("grnt");
                assert_eq!(other.exchange("github").await.is_err(), same_grant);
            }
        }
    }
}

#[tokio::test]
async fn what_was_delegated_from_a_revoked_grant_is_refused_too() {
    let (server, tenant) = start().await;
    let client = server.client(Via::Rest, &tenant.key);
    client.store_token("user", "github", "secret").await;
    let mut claims = server.claims("acme", "user", &["vault:github:exchange"]);
    claims["parentGrnt"] = json!("the-parent");
    claims["delegationDepth"] = json!(1);
    let token = server.issuer.key().sign(&claims);
    assert_eq!(
        send(&server, "acme", SECRET, &revoked("the-parent")).await,
        done()
    );
    for via in Via::BOTH {
        let refused = server.client(via, &token).exchange("github").await;
        assert_eq!(refused.unwrap_err().status, 401);
    }
}

#[tokio::test]
async fn applying_twice_changes_nothing_and_both_are_recorded() {
    let (server, tenant) = start().await;
    let body = revoked("the-grant");
    for _ in 0..2 {
        assert_eq!(send(&server, "acme", SECRET, &body).await, done());
        server.clock.advance(Duration::from_secs(1));
    }
    let rows = server.rows("revocations").await;
    let [row] = &rows[..] else {
        panic!("there is one: {rows:?}");
    };
    assert_eq!(row["subject"], "the-grant");
    assert_eq!(row["expires_at"], Value::Null);
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        let events = developer
            .audit_events(json!({"grantId": "the-grant"}))
            .await;
        let events = events.unwrap();
        let found: Vec<_> = events["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| {
                assert_eq!(event["caller"], json!({"webhookEventId": "evt_1"}));
                assert_eq!(event["verb"], "revoke_grant");
                event["outcome"].as_str().unwrap()
            })
            .collect();
        assert_eq!(found, ["unchanged", "done"]);
    }
}

#[tokio::test]
async fn it_is_remembered_as_long_as_a_token_can_live() {
    let setup = Setup::new().with("GRANTEX_VAULT_MAX_TOKEN_LIFETIME", "1h");
    let (server, _) = start_with(setup).await;
    send(&server, "acme", SECRET, &revoked("the-grant")).await;
    let row = &server.rows("revocations").await[0];
    let moment = |name: &str| {
        let text = row[name].as_str().unwrap();
        grantex_vault::model::timestamp::Timestamp::parse(text).unwrap()
    };
    let lives = moment("expires_at").since(moment("revoked_at"));
    assert_eq!(lives, Duration::from_hours(1));
}

#[tokio::test]
async fn other_events_are_none_of_the_vaults_business() {
    let (server, _) = start().await;
    for body in [
        json!({"id": "evt_1", "type": "grant.created", "data": {"grantId": "the-grant"}}),
        json!({"id": "evt_1", "type": "token.issued", "data": null}),
        json!({"id": "evt_1", "type": ""}),
    ] {
        let body = body.to_string();
        assert_eq!(send(&server, "acme", SECRET, &body).await, done(), "{body}");
    }
    assert_eq!(server.rows("revocations").await, Vec::<Value>::new());
    let recorded = server.outcomes().await;
    assert_eq!(recorded, ["set_webhook_secret done"]);
}

#[tokio::test]
async fn a_signed_body_that_breaks_a_rule_is_a_400_that_names_the_field() {
    let (server, _) = start().await;
    let grant = |grant: Value| {
        json!({"id": "e", "type": "grant.revoked", "data": {"grantId": grant}}).to_string()
    };
    for (body, message) in [
        (String::new(), "body is not valid JSON"),
        ("[]".to_owned(), "body is not valid JSON"),
        ("{".to_owned(), "body is not valid JSON"),
        (
            r#"{"id":"a","id":"b","type":"x"}"#.to_owned(),
            "id has a duplicate key",
        ),
        (
            json!({"type": "grant.revoked"}).to_string(),
            "id is required",
        ),
        (
            json!({"id": 7, "type": "x"}).to_string(),
            "id must be a string",
        ),
        (
            json!({"id": "", "type": "x"}).to_string(),
            "id must not be empty",
        ),
        (json!({"id": "e"}).to_string(), "type is required"),
        (
            json!({"id": "e", "type": "grant.revoked"}).to_string(),
            "data must be an object",
        ),
        (grant(json!(null)), "data.grantId must be a string"),
        (grant(json!("")), "data.grantId must not be empty"),
        (
            grant(json!("x".repeat(513))),
            "data.grantId must be at most 512 characters",
        ),
    ] {
        let found = send(&server, "acme", SECRET, &body).await;
        assert_eq!(found, (400, message.to_owned()), "{body}");
    }
    assert_eq!(server.rows("revocations").await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_body_of_64_kib_is_taken_and_one_byte_more_is_not_read() {
    let (server, _) = start().await;
    let padded = |length: usize| {
        let body = revoked("the-grant");
        format!("{body}{}", " ".repeat(length - body.len()))
    };
    let most = padded(64 * 1024);
    assert_eq!(send(&server, "acme", SECRET, &most).await, done());
    let more = padded(64 * 1024 + 1);
    let too_large = (413, "body must be at most 65536 bytes".to_owned());
    assert_eq!(send(&server, "acme", SECRET, &more).await, too_large);
    let frame = http_body::Frame::data(bytes::Bytes::from(more.clone()));
    let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>(frame)]);
    let streamed = signed(&server, "acme", SECRET, &more);
    let chunks = http_body_util::StreamBody::new(chunks);
    let streamed = streamed.body(reqwest::Body::wrap(chunks));
    assert_eq!(answer(streamed).await, too_large);
    let typed = signed(&server, "acme", SECRET, &most).header("content-type", "text/plain");
    assert_eq!(answer(typed).await.0, 415);
}

#[tokio::test]
async fn it_is_posted_to_a_developer_and_nothing_else() {
    let (server, _) = start().await;
    let url = |path: &str| format!("{}/v1/webhooks/grantex{path}", server.http_url);
    for (method, path, status) in [
        ("GET", "/acme", 405),
        ("PUT", "/acme", 405),
        ("POST", "", 404),
        ("POST", "/", 404),
        ("POST", "/acme/", 404),
        ("POST", "/acme/x", 404),
        ("POST", "/..", 404),
        ("POST", "/%ff", 400),
    ] {
        let method = method.parse().unwrap();
        let request = server.http.request(method, url(path));
        assert_eq!(answer(request).await.0, status, "{path}");
    }
}

#[tokio::test]
async fn while_master_key_or_record_cannot_be_had_it_is_unavailable_and_nothing_is_revoked() {
    let (server, _) = start().await;
    server.kms.set_trouble(Some(Trouble::Unreachable));
    let body = revoked("the-grant");
    assert_eq!(send(&server, "acme", SECRET, &body).await.0, 503);
    server.kms.set_trouble(None);
    let closed = "alter table vault.audit_events add constraint closed check (false) not valid";
    server.execute(closed).await;
    assert_eq!(send(&server, "acme", SECRET, &body).await.0, 503);
    assert_eq!(server.rows("revocations").await, Vec::<Value>::new());
    server
        .execute("alter table vault.audit_events drop constraint closed")
        .await;
    assert_eq!(send(&server, "acme", SECRET, &body).await, done());
}
