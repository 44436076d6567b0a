//! Grant tokens: what the vault verifies, claim by claim, and the one message for all that it refuses.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Client, ISSUER, Server, Setup, SigningKey, Tenant, Via};

async fn with_a_credential(setup: Setup) -> (Server, Tenant) {
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    server
        .client(Via::Rest, &tenant.key)
        .store_token("user", "github", "secret")
        .await;
    (server, tenant)
}

/// Whether the token releases the credential; if not, it is the one 401.
async fn releases(client: &Client<'_>) -> bool {
    match client.exchange("github").await {
        Ok(exchanged) => exchanged["accessToken"] == "secret",
        Err(refused) => {
            let message = "Invalid or expired grant token";
            assert_eq!(refused.says(), (401, "UNAUTHORIZED", message));
            false
        }
    }
}

async fn assert_token(server: &Server, token: &str, good: bool, what: &str) {
    for via in Via::BOTH {
        let found = releases(&server.client(via, token)).await;
        assert_eq!(found, good, "{what} via {via:?}");
    }
}

/// Valid claims with one of them changed, or taken away with `null` in its place.
fn changed(server: &Server, name: &str, value: Value) -> Value {
    let mut claims = server.claims("acme", "user", &["*"]);
    claims[name] = value;
    claims
}

#[tokio::test]
async fn a_claim_is_there_and_of_its_type_and_size() {
    let (server, _) = with_a_credential(Setup::new()).await;
    let key = server.issuer.key();
    let long = "x".repeat(513);
    for name in ["iss", "sub", "agt", "dev", "jti", "grnt"] {
        for value in [
            json!(""),
            json!(1),
            json!(true),
            json!(["a"]),
            json!({}),
            json!("a\n"),
            json!("\0"),
            json!(long),
        ] {
            let claims = changed(&server, name, value);
            assert_token(&server, &key.sign(&claims), false, &claims.to_string()).await;
        }
    }
    for name in ["iss", "sub", "agt", "dev", "jti", "scp", "iat", "exp"] {
        let nothing = changed(&server, name, Value::Null);
        assert_token(&server, &key.sign(&nothing), false, &format!("{name} null")).await;
        let mut absent = nothing.clone();
        absent.as_object_mut().unwrap().remove(name);
        assert_token(&server, &key.sign(&absent), false, &format!("no {name}")).await;
    }
    let scopes = |others: usize| json!([vec!["x"; others], vec!["*"]].concat());
    for (name, value, good) in [
        ("grnt", Value::Null, true),
        ("nbf", Value::Null, true),
        ("aud", Value::Null, true),
        ("delegationDepth", Value::Null, true),
        ("agt", json!("é".repeat(512)), true),
        ("scp", json!("*"), false),
        ("scp", json!({"0": "*"}), false),
        ("scp", json!(["*", 1]), false),
        ("scp", json!(["*", null]), false),
        ("scp", json!(["*", "x".repeat(257)]), false),
        ("scp", json!(["*", "é".repeat(256)]), true),
        ("scp", scopes(256), false),
        ("scp", scopes(255), true),
        ("exp", json!("9999999999"), false),
        ("exp", json!(9_999_999_999.5), false),
        ("exp", json!(1e10), false),
        ("exp", json!((1_i64 << 53) + 1), false),
        ("exp", json!(1_i64 << 53), true),
        ("iat", json!("1"), false),
        ("iat", json!(1.5), false),
        ("iat", json!(-(1_i64 << 53)), true),
        ("iat", json!(1_i64 << 53), true),
        ("nbf", json!("1"), false),
        ("nbf", json!(1.0), false),
        ("aud", json!(1), false),
        ("aud", json!([]), false),
        ("aud", json!(["a", 1]), false),
        ("aud", json!("anything"), true),
        ("parentAgt", json!(1), false),
        ("parentGrnt", json!([]), false),
        ("parentGrnt", json!(""), false),
        ("delegationDepth", json!("1"), false),
        ("delegationDepth", json!(1.5), false),
        ("delegationDepth", json!(3), true),
        ("unknown", json!({"a": [1, {"b": null}]}), true),
    ] {
        let claims = changed(&server, name, value);
        let shown: String = claims.to_string().chars().take(300).collect();
        assert_token(&server, &key.sign(&claims), good, &shown).await;
    }
}

#[tokio::test]
async fn times_have_thirty_seconds_of_leeway() {
    let (server, _) = with_a_credential(Setup::new()).await;
    let (key, now) = (server.issuer.key(), server.clock.seconds());
    for (name, at, good) in [
        ("exp", now + 1, true),
        ("exp", now, true),
        ("exp", now - 29, true),
        ("exp", now - 30, false),
        ("exp", now - 31, false),
        ("exp", 0, false),
        ("exp", -(1_i64 << 53), false),
        ("nbf", now, true),
        ("nbf", now + 30, true),
        ("nbf", now + 31, false),
        ("iat", now + 1000, true),
    ] {
        let claims = changed(&server, name, json!(at));
        assert_token(
            &server,
            &key.sign(&claims),
            good,
            &format!("{name} {}", at - now),
        )
        .await;
    }
    let token = key.sign(&server.claims("acme", "user", &["*"]));
    assert_token(&server, &token, true, "fresh").await;
    server.clock.advance(Duration::from_secs(3600 + 31));
    assert_token(&server, &token, false, "the same an hour later").await;
}

#[tokio::test]
async fn the_issuer_is_the_configured_one_to_the_letter() {
    let (server, _) = with_a_credential(Setup::new()).await;
    let key = server.issuer.key();
    for issuer in [
        format!("{ISSUER}/"),
        ISSUER.to_uppercase(),
        format!(" {ISSUER}"),
        "https://evil.test".to_owned(),
    ] {
        let claims = changed(&server, "iss", json!(issuer));
        assert_token(&server, &key.sign(&claims), false, &issuer).await;
    }
}

#[tokio::test]
async fn an_audience_is_checked_as_it_is_configured() {
    let optional = || Setup::new().with("GRANTEX_VAULT_AUDIENCE", "vault");
    let require = || optional().with("GRANTEX_VAULT_AUDIENCE_MODE", "require");
    for (setup, absent) in [(optional(), true), (require(), false)] {
        let (server, _) = with_a_credential(setup).await;
        for (audience, good) in [
            (Value::Null, absent),
            (json!("vault"), true),
            (json!(["other", "vault"]), true),
            (json!("Vault"), false),
            (json!("vault "), false),
            (json!(["other"]), false),
            (json!([]), false),
            (json!([["vault"]]), false),
        ] {
            let claims = changed(&server, "aud", audience);
            assert_token(
                &server,
                &server.issuer.key().sign(&claims),
                good,
                &claims.to_string(),
            )
            .await;
        }
    }
}

#[tokio::test]
async fn a_header_is_rs256_with_a_kid_and_nothing_critical() {
    let (server, _) = with_a_credential(Setup::new()).await;
    let key = server.issuer.key();
    let claims = server.claims("acme", "user", &["*"]).to_string();
    let kid = key.kid.clone();
    let jwk = SigningKey::number(1).jwk();
    for (header, good) in [
        (json!({"alg": "RS256", "kid": kid}), true),
        (json!({"alg": "RS256", "kid": kid, "typ": "jwt"}), true),
        (
            json!({"alg": "RS256", "kid": kid, "typ": "JwT", "cty": "x", "zip": "DEF"}),
            true,
        ),
        (
            json!({"alg": "RS256", "kid": kid, "jku": "http://127.0.0.1:1/", "x5u": "x", "jwk": jwk, "x5c": ["x"]}),
            true,
        ),
        (json!({"alg": "RS256", "kid": kid, "typ": "at+jwt"}), false),
        (json!({"alg": "RS256", "kid": kid, "typ": 1}), false),
        (json!({"alg": "RS256", "kid": kid, "crit": []}), false),
        (json!({"alg": "RS256", "kid": kid, "crit": null}), false),
        (
            json!({"alg": "RS256", "kid": kid, "crit": ["exp"], "exp": 1}),
            false,
        ),
        (json!({"alg": "RS256"}), false),
        (json!({"alg": "RS256", "kid": ""}), false),
        (json!({"alg": "RS256", "kid": 1}), false),
        (json!({"alg": "RS256", "kid": [kid]}), false),
        (json!({"kid": kid}), false),
        (json!({"alg": "none", "kid": kid}), false),
        (json!({"alg": "rs256", "kid": kid}), false),
        (json!({"alg": "RS384", "kid": kid}), false),
        (json!({"alg": "PS256", "kid": kid}), false),
        (json!({"alg": "HS256", "kid": kid}), false),
        (json!([]), false),
    ] {
        let token = key.sign_raw(header.to_string(), &claims);
        assert_token(&server, &token, good, &header.to_string()).await;
    }
}
