//! Grant tokens as text: one spelling, one reading, and a bound on their size.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use crate::harness::{Client, Server, SigningKey, Tenant, Via};

async fn with_a_credential() -> (Server, Tenant) {
    let server = Server::start().await;
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

#[tokio::test]
async fn json_that_two_readers_could_read_differently_is_refused() {
    let (server, _) = with_a_credential().await;
    let key = server.issuer.key();
    let (header, claims) = (
        key.header().to_string(),
        server.claims("acme", "user", &["*"]).to_string(),
    );
    let and = |json: &str, member: &str| format!("{{{member},{}", &json[1..]);
    let deep = |levels: usize| format!("\"x\":{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_token(&server, &key.sign_raw(&header, &claims), true, "unchanged").await;
    assert_token(
        &server,
        &key.sign_raw(&header, and(&claims, &deep(63))),
        true,
        "64 levels",
    )
    .await;
    for (header, claims, what) in [
        (header.clone(), and(&claims, r#""sub":"user""#), "sub twice"),
        (
            header.clone(),
            and(&claims, r#""\u0073ub":"user""#),
            "sub twice, once escaped",
        ),
        (header.clone(), and(&claims, r#""exp":1"#), "exp twice"),
        (header.clone(), and(&claims, &deep(64)), "65 levels"),
        (
            header.clone(),
            format!("\u{feff}{claims}"),
            "a byte-order mark",
        ),
        (header.clone(), format!("{claims}{{}}"), "more behind it"),
        (header.clone(), String::new(), "nothing"),
        (header.clone(), "null".to_owned(), "null"),
        (
            header.clone(),
            claims.replace("\"user\"", "\"\\ud800\""),
            "a lone surrogate",
        ),
        (
            and(&header, r#""alg":"RS256""#),
            claims.clone(),
            "alg twice",
        ),
        (
            and(&header, &format!(r#""kid":"{}""#, key.kid)),
            claims.clone(),
            "kid twice",
        ),
        (
            and(&header, &deep(64)),
            claims.clone(),
            "65 levels in the header",
        ),
        (
            format!("\u{feff}{header}"),
            claims.clone(),
            "a byte-order mark before the header",
        ),
    ] {
        assert_token(&server, &key.sign_raw(header, claims), false, what).await;
    }
    let mut bad_utf8 = claims.into_bytes();
    let at = bad_utf8
        .windows(4)
        .position(|four| four == b"user")
        .unwrap();
    bad_utf8[at] = 0xff;
    assert_token(
        &server,
        &key.sign_raw(&header, &bad_utf8),
        false,
        "bad UTF-8",
    )
    .await;
}

#[tokio::test]
async fn a_token_has_one_spelling() {
    let (server, _) = with_a_credential().await;
    let key = server.issuer.key();
    let token = key.sign(&server.claims("acme", "user", &["*"]));
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        panic!("{token}")
    };
    assert_token(&server, &token, true, "unchanged").await;
    let loose = key.sign_parts(header, &loose_bits(&server));
    for (altered, what) in [
        (format!("{token}="), "padding"),
        (format!("{header}.{payload}.{signature}."), "a fourth part"),
        (format!("{header}.{payload}"), "no signature"),
        (format!("{header}.{payload}."), "an empty signature"),
        (format!("{payload}.{header}.{signature}"), "parts swapped"),
        (
            format!("{header}.{payload}.{}", &signature[1..]),
            "a shorter signature",
        ),
        (
            format!("{header}.{payload}.AAAA{signature}"),
            "a longer signature",
        ),
        (
            key.sign_parts(&format!("{header}="), payload),
            "padding that was signed",
        ),
        (
            key.sign_parts(header, &format!("{payload}\u{e9}")),
            "another alphabet",
        ),
        (loose, "loose last bits"),
        (
            SigningKey::number(1)
                .called(&key.kid)
                .sign(&server.claims("acme", "user", &["*"])),
            "another key",
        ),
        (format!("{token} {token}"), "two tokens"),
        (
            format!(
                "{header}.{}.{signature}",
                URL_SAFE_NO_PAD.encode(server.claims("acme", "root", &["*"]).to_string())
            ),
            "another payload",
        ),
    ] {
        if altered.is_ascii() {
            assert_token(&server, &altered, false, what).await;
        }
    }
}

/// Valid claims whose last character carries bits that no byte has.
fn loose_bits(server: &Server) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut claims = server.claims("acme", "user", &["*"]).to_string();
    while claims.len().is_multiple_of(3) {
        claims.push(' ');
    }
    let mut encoded = URL_SAFE_NO_PAD.encode(claims).into_bytes();
    let last = encoded.pop().unwrap();
    let index = alphabet.iter().position(|one| *one == last).unwrap();
    encoded.push(alphabet[index | 1]);
    String::from_utf8(encoded).unwrap()
}

#[tokio::test]
async fn a_token_is_at_most_16_kib() {
    let (server, _) = with_a_credential().await;
    let key = server.issuer.key();
    let sized = |padding: usize| {
        let mut claims = server.claims("acme", "user", &["*"]);
        claims["padding"] = json!("x".repeat(padding));
        key.sign(&claims)
    };
    let fits = (0..13_000)
        .rev()
        .find(|padding| sized_len(&sized(0), *padding) <= 16 * 1024)
        .unwrap();
    let largest = sized(fits);
    assert!(
        (16 * 1024 - 4..=16 * 1024).contains(&largest.len()),
        "{}",
        largest.len()
    );
    assert_token(&server, &largest, true, "16 KiB").await;
    assert_token(&server, &sized(fits + 6), false, "more").await;
}

/// The length of a token whose payload has this much more.
fn sized_len(token: &str, padding: usize) -> usize {
    let payload = token.split('.').nth(1).unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(payload).unwrap().len() + padding;
    token.len() - payload.len() + (bytes * 4).div_ceil(3)
}
