//! The issuer's keys come and go.

use std::time::Duration;

use serde_json::{Value, json};

use super::{COOLDOWN, Gate};
use crate::harness::SigningKey;

#[tokio::test]
async fn a_new_key_is_fetched_when_it_is_first_used() {
    let gate = Gate::open().await;
    let new = SigningKey::number(1);
    gate.server.issuer.publish(new.clone());
    let token = new.sign(&gate.claims());
    gate.refuses("asked a moment ago", &token).await;
    assert_eq!(gate.server.issuer.fetches(), 1);
    gate.server.clock.advance(COOLDOWN);
    gate.admits("fetched now", &token).await;
    assert_eq!(gate.server.issuer.fetches(), 2);
    gate.admits("the older key", &gate.token()).await;
    assert_eq!(gate.server.issuer.fetches(), 2);
}

#[tokio::test]
async fn kids_that_nobody_has_make_one_fetch_a_cooldown() {
    let gate = Gate::open().await;
    gate.server.clock.advance(COOLDOWN);
    for number in 0..20 {
        let unknown = gate.key().called(&format!("made-up-{number}"));
        gate.refuses("a made-up kid", &unknown.sign(&gate.claims()))
            .await;
    }
    assert_eq!(gate.server.issuer.fetches(), 2);
}

#[tokio::test]
async fn a_withdrawn_key_is_refused_after_the_next_refresh() {
    let gate = Gate::open().await;
    let (old, new) = (gate.key(), SigningKey::number(1));
    gate.server.issuer.publish(new.clone());
    gate.server.issuer.withdraw(&old.kid);
    gate.admits("not known yet", &old.sign(&gate.claims()))
        .await;
    gate.server.clock.advance(COOLDOWN);
    gate.admits("its successor", &new.sign(&gate.claims()))
        .await;
    gate.refuses("withdrawn", &old.sign(&gate.claims())).await;
}

#[tokio::test]
async fn a_kid_means_the_key_that_is_published_under_it_now() {
    let gate = Gate::open().await;
    let (old, new) = (gate.key(), SigningKey::number(1).called("key-0"));
    gate.server.issuer.withdraw(&old.kid);
    gate.server.issuer.publish(new.clone());
    gate.refuses("not known yet", &new.sign(&gate.claims()))
        .await;
    gate.server.clock.advance(COOLDOWN);
    let unknown = old.called("made-up").sign(&gate.claims());
    gate.refuses("what makes the vault ask", &unknown).await;
    gate.admits("the new key", &new.sign(&gate.claims())).await;
    gate.refuses("the old key", &old.sign(&gate.claims())).await;
}

#[tokio::test]
async fn without_the_issuer_known_keys_verify_for_a_day_and_others_are_unavailable() {
    let gate = Gate::open().await;
    let unavailable = (
        503,
        "UNAVAILABLE",
        "The issuer's verification keys are unavailable",
    );
    gate.server.issuer.fail();
    gate.server.clock.advance(Duration::from_hours(24));
    gate.admits("a known key", &gate.token()).await;
    let unknown = SigningKey::number(1).sign(&gate.claims());
    gate.answers(unavailable, "an unknown key", &unknown).await;
    gate.server.clock.advance(Duration::from_secs(1));
    gate.answers(unavailable, "a known key after a day", &gate.token())
        .await;
    gate.server.issuer.recover();
    gate.server.clock.advance(COOLDOWN);
    gate.admits("the issuer is back", &gate.token()).await;
}

/// The issuer's key under the `kid` of its number in the list, each spoiled in one member.
fn spoiled(key: &SigningKey) -> Vec<Value> {
    let members = [
        ("use", json!("enc")),
        ("use", json!("SIG")),
        ("use", json!(null)),
        ("alg", json!("RS512")),
        ("alg", json!("PS256")),
        ("alg", json!("rs256")),
        ("alg", json!(["RS256"])),
        ("kty", json!("EC")),
        ("kty", json!("oct")),
        ("kty", json!("rsa")),
        ("kty", json!(null)),
        ("key_ops", json!([])),
        ("key_ops", json!(["sign"])),
        ("key_ops", json!("verify")),
        ("n", json!(null)),
        ("n", json!("")),
        ("n", json!("not base64url!")),
        ("n", json!(format!("{}=", key.jwk()["n"].as_str().unwrap()))),
        ("e", json!(null)),
        ("e", json!(65537)),
    ];
    let spoil = |(number, (name, value)): (usize, (&str, Value))| {
        let mut jwk = key.called(&format!("spoiled-{number}")).jwk();
        jwk[name] = value;
        jwk
    };
    members.into_iter().enumerate().map(spoil).collect()
}

#[tokio::test]
async fn entries_of_the_key_set_that_are_of_no_use_are_skipped() {
    let gate = Gate::open().await;
    let key = gate.key();
    let spoiled = spoiled(&key);
    let mut entries = spoiled.clone();
    let plain = json!({"kty": "RSA", "kid": "plain", "n": key.jwk()["n"], "e": "AQAB"});
    let ops = json!({"kty": "RSA", "kid": "ops", "n": key.jwk()["n"], "e": "AQAB",
        "key_ops": ["sign", "verify"], "x5t": 7});
    entries.extend([json!(null), json!(7), json!([]), json!({}), plain, ops]);
    let document = json!({"keys": entries, "more": true}).to_string();
    gate.server.issuer.set_document(Some(&document));
    gate.server.clock.advance(COOLDOWN);
    for (number, entry) in spoiled.iter().enumerate() {
        let spoiled = key.called(&format!("spoiled-{number}"));
        gate.refuses(&entry.to_string(), &spoiled.sign(&gate.claims()))
            .await;
    }
    assert_eq!(gate.server.issuer.fetches(), 2);
    for kid in ["plain", "ops"] {
        gate.admits(kid, &key.called(kid).sign(&gate.claims()))
            .await;
    }
}

#[tokio::test]
async fn a_document_that_is_no_key_set_takes_no_key_away() {
    let gate = Gate::open().await;
    let unavailable = (
        503,
        "UNAVAILABLE",
        "The issuer's verification keys are unavailable",
    );
    let unknown = SigningKey::number(1).sign(&gate.claims());
    for document in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":null}"#,
        "<html>",
    ] {
        gate.server.issuer.set_document(Some(document));
        gate.server.clock.advance(COOLDOWN);
        gate.answers(unavailable, document, &unknown).await;
        gate.admits(document, &gate.token()).await;
    }
}
