//! The header: the algorithm of a known key, and nothing in it is followed.

use std::{io::ErrorKind, net::TcpListener};

use serde_json::{Value, json};

use super::{Gate, extended, replaced};
use crate::harness::SigningKey;

/// Refuses headers that would pass but for one member.
async fn refuse_all(member: &str, values: &[Option<&str>]) {
    let gate = Gate::open().await;
    let header = gate.key().header();
    for raw in values {
        let token = gate.token_under(replaced(&header, member, *raw));
        gate.refuses(&format!("{member} {raw:?}"), &token).await;
    }
}

#[tokio::test]
async fn only_the_algorithm_of_the_key_is_taken_whatever_the_signature_says() {
    let others = [
        None,
        Some("null"),
        Some(r#""""#),
        Some(r#""none""#),
        Some(r#""None""#),
        Some(r#""HS256""#),
        Some(r#""RS384""#),
        Some(r#""RS512""#),
        Some(r#""PS256""#),
        Some(r#""ES256""#),
        Some(r#""EdDSA""#),
        Some(r#""rs256""#),
        Some(r#""RS256 ""#),
        Some(r#"["RS256"]"#),
        Some("256"),
        Some("true"),
    ];
    refuse_all("alg", &others).await;
}

#[tokio::test]
async fn a_kid_must_be_there_and_name_a_key_of_the_issuer() {
    let others = [
        None,
        Some("null"),
        Some(r#""""#),
        Some("0"),
        Some("true"),
        Some(r#"["key-0"]"#),
        Some(r#"{"key-0":1}"#),
        Some(r#""key-1""#),
        Some(r#""KEY-0""#),
        Some(r#"" key-0""#),
        Some(r#""key-0\u0000""#),
        Some(r#""../key-0""#),
    ];
    refuse_all("kid", &others).await;
}

#[tokio::test]
async fn a_critical_extension_is_refused_in_any_form() {
    let forms = [
        "null",
        "[]",
        r#"["exp"]"#,
        r#"["b64"]"#,
        r#""exp""#,
        "{}",
        "false",
        "0",
    ];
    refuse_all("crit", &forms.map(Some)).await;
}

#[tokio::test]
async fn a_type_other_than_jwt_or_access_token_is_refused() {
    let others = [
        r#""""#,
        r#""JOSE""#,
        r#""at""#,
        r#""at+jwt ""#,
        r#""dpop+jwt""#,
        r#""application/jwt""#,
        r#""JWT ""#,
        r#"["JWT"]"#,
        "1",
        "true",
        "{}",
    ];
    refuse_all("typ", &others.map(Some)).await;
}

#[tokio::test]
async fn the_type_may_be_absent_or_jwt_in_any_case() {
    let gate = Gate::open().await;
    let header = gate.key().header();
    for raw in [
        None,
        Some("null"),
        Some(r#""JWT""#),
        Some(r#""jwt""#),
        Some(r#""Jwt""#),
    ] {
        let token = gate.token_under(replaced(&header, "typ", raw));
        gate.admits(&format!("typ {raw:?}"), &token).await;
    }
}

#[tokio::test]
async fn a_header_member_that_is_read_must_not_stand_twice() {
    let gate = Gate::open().await;
    let header = gate.key().header();
    for (name, raw) in [
        ("alg", r#""RS256""#),
        ("alg", r#""none""#),
        (r"\u0061lg", r#""RS256""#),
        ("typ", r#""JWT""#),
        ("kid", r#""key-0""#),
        ("kid", r#""key-1""#),
        (r"k\u0069d", r#""key-0""#),
        (r"cr\u0069t", "null"),
    ] {
        let token = gate.token_under(extended(&header, name, raw));
        gate.refuses(&format!("{name} {raw} as well"), &token).await;
    }
}

#[tokio::test]
async fn a_header_member_that_is_not_read_may_stand_twice_and_be_anything() {
    let gate = Gate::open().await;
    let header = gate.key().header();
    for name in [
        "cty", "zip", "jku", "x5u", "x5c", "x5t", "jwk", "b64", "ALG", "Kid",
    ] {
        for raw in ["null", "false", r#""DEF""#, r#"{"a":[1]}"#] {
            let once = extended(&header, name, raw);
            let twice = extended(&serde_json::from_str(&once).unwrap(), name, raw);
            gate.admits(&format!("{name} {raw}"), &gate.token_under(once))
                .await;
            gate.admits(&format!("{name} {raw} twice"), &gate.token_under(twice))
                .await;
        }
    }
}

/// A header that offers the attacker's own key in every way there is.
fn offering(key: &SigningKey, kid: &str, url: &str) -> Value {
    json!({
        "alg": "RS256", "typ": "JWT", "kid": kid, "jku": url, "x5u": url,
        "jwk": key.called(kid).jwk(), "x5c": ["MIIB"],
    })
}

#[tokio::test]
async fn keys_and_urls_that_a_token_offers_are_never_used() {
    let gate = Gate::open().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    let (issuer, attacker) = (gate.key(), SigningKey::number(1));
    let payload = gate.claims().to_string();
    for kid in ["key-0", "key-1"] {
        let header = offering(&attacker, kid, &url).to_string();
        let token = attacker.sign_raw(&header, &payload);
        gate.refuses(&format!("the attacker's key as {kid}"), &token)
            .await;
    }
    let foreign = replaced(&gate.claims(), "iss", Some(&json!(url).to_string()));
    let header = offering(&attacker, "key-0", &url).to_string();
    let token = issuer.sign_raw(&header, foreign);
    gate.refuses("an issuer that listens", &token).await;
    let token = issuer.sign_raw(&header, &payload);
    gate.admits("the issuer's key beside the offered one", &token)
        .await;

    // Whoever connected would wait to be accepted.
    let connected = listener.accept().map(|(_, peer)| peer);
    assert_eq!(connected.unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(gate.server.issuer.fetches(), 1);
}
