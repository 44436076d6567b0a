//! What REST takes in: every broken rule is a 400 that names the field, and nothing is stored.

use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use serde_json::{Value, json};

use crate::harness::{Server, Via};

const PATH: &str = "/v1/vault/credentials";
const EXCHANGE: &str = "/v1/vault/credentials/exchange";
const REQUIRED: &str = "principalId, service, and accessToken are required";
const SERVICE: &str =
    "service must be 1-64 characters and contain only letters, numbers, dot, underscore, or dash";

/// A body that can be stored, with one member changed.
fn with(name: &str, value: Value) -> String {
    let mut body = json!({"principalId": "user", "service": "github", "accessToken": "secret"});
    body[name] = value;
    body.to_string()
}

/// The same with a member that `serde_json` would not write.
fn with_raw(name: &str, value: &str) -> String {
    let rest = [
        ("principalId", "\"user\""),
        ("service", "\"github\""),
        ("accessToken", "\"t\""),
    ];
    let mut members = vec![format!("\"{name}\":{value}")];
    let others = rest.iter().filter(|(other, _)| *other != name);
    members.extend(others.map(|(name, value)| format!("\"{name}\":{value}")));
    format!("{{{}}}", members.join(","))
}

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

/// A body and what is said of it.
type Broken = (String, String);

fn broken_texts() -> Vec<Broken> {
    let mut table = vec![("{}".to_owned(), REQUIRED.to_owned())];
    for field in ["principalId", "service", "accessToken"] {
        table.push((with(field, json!(null)), REQUIRED.to_owned()));
        table.push((with(field, json!("")), REQUIRED.to_owned()));
    }
    let optional = ["refreshToken", "credentialType", "tokenExpiresAt"];
    for field in [["principalId", "service", "accessToken"], optional].concat() {
        for value in [
            json!(7),
            json!(true),
            json!([]),
            json!({}),
            json!(["a"]),
            json!(0),
        ] {
            table.push((with(field, value), format!("{field} must be a string")));
        }
        for value in [r#""\ud800""#, r#""\udc00\ud800""#, "1e999"] {
            table.push((with_raw(field, value), format!("{field} is not valid JSON")));
        }
    }
    for (field, most) in [("principalId", 512), ("credentialType", 64)] {
        let long = with(field, json!("é".repeat(most + 1)));
        table.push((long, format!("{field} must be at most {most} characters")));
        for control in ["\0", "a\nb", "\u{7f}", "\u{85}", "\u{9f}"] {
            let message = format!("{field} must not contain control characters");
            table.push((with(field, json!(control)), message));
        }
    }
    let empty = "credentialType must not be empty";
    table.push((with("credentialType", json!("")), empty.to_owned()));
    for service in [
        ".a",
        "-a",
        "_a",
        "a b",
        "a/b",
        "a\0",
        "ä",
        "\u{212a}",
        " a",
        "a ",
        "a:b",
        "*",
        &"a".repeat(65),
    ] {
        table.push((with("service", json!(service)), SERVICE.to_owned()));
    }
    table
}

fn broken_expiries() -> Vec<Broken> {
    let texts = [
        "",
        "soon",
        "1775390400",
        "2026-13-01",
        "2026-04-05T12:00Z",
        "0000-12-31",
        "10000-01-01",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "2026-04-05T12:00:00Z\u{0}",
    ];
    let message = "tokenExpiresAt must be an RFC 3339 timestamp";
    texts
        .map(|text| (with("tokenExpiresAt", json!(text)), message.to_owned()))
        .into()
}

fn broken_metadata() -> Vec<Broken> {
    let mut table = Vec::new();
    for value in [json!("{}"), json!([]), json!(1), json!(false)] {
        table.push((
            with("metadata", value),
            "metadata must be an object".to_owned(),
        ));
    }
    let nul = "metadata must not contain NUL characters";
    for value in [
        json!({"a": "\0"}),
        json!({"\0": 1}),
        json!({"a": [{"b": "x\0"}]}),
    ] {
        table.push((with("metadata", value), nul.to_owned()));
    }
    let large = json!({"a": "x".repeat(65536 - 7)});
    let too_large = "metadata must be at most 65536 bytes as JSON";
    table.push((with("metadata", large), too_large.to_owned()));
    let deep = format!(r#"{{"a":{}}}"#, nested(32));
    for (value, fault) in [
        (r#"{"a":1,"a":2}"#, "has a duplicate key"),
        (r#"{"a":[{"b":1,"b":1}]}"#, "has a duplicate key"),
        (r#"{"a":{"\u0062":1,"b":1}}"#, "has a duplicate key"),
        (r#"{"a":1e309}"#, "is not valid JSON"),
        (r#"{"a":-1e309}"#, "is not valid JSON"),
        (r#"{"a":"\ud83d"}"#, "is not valid JSON"),
        (r#"{"\udead":1}"#, "is not valid JSON"),
        (&deep, "must be nested at most 32 levels deep"),
    ] {
        table.push((with_raw("metadata", value), format!("metadata {fault}")));
    }
    table
}

fn broken_bodies() -> Vec<Broken> {
    let duplicate = "body has a duplicate key";
    let deep = "body is nested deeper than 64 levels";
    let mut table = vec![
        (with_raw("x", &nested(64)), deep.to_owned()),
        (with_raw("x", r#"{"a":1,"a":1}"#), duplicate.to_owned()),
    ];
    for name in ["principalId", "x", "\\u0073ervice"] {
        let once = with_raw(name, "\"user\"");
        let twice = once.replacen('{', &format!("{{\"{name}\":\"user\","), 1);
        table.push((twice, duplicate.to_owned()));
    }
    table
}

#[tokio::test]
async fn a_store_that_breaks_a_rule_names_the_field_and_stores_nothing() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    let table = [
        broken_texts(),
        broken_expiries(),
        broken_metadata(),
        broken_bodies(),
    ];
    for (body, message) in table.concat() {
        let shown: String = body.chars().take(120).collect();
        let refused = developer.post_raw(PATH, body).await.expect_err(&shown);
        assert_eq!(refused.says(), (400, "BAD_REQUEST", &*message), "{shown}");
    }
    assert_eq!(server.rows("credentials").await.len(), 0);
    assert_eq!(server.audit_events().await.len(), 0);
    assert_eq!(server.kms.generated(), 0);
}

#[tokio::test]
async fn what_is_just_within_the_rules_is_stored() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    for body in [
        with("principalId", json!("é".repeat(512))),
        with("service", json!("a".repeat(64))),
        with("service", json!("0.-_9")),
        with("credentialType", json!("\u{1f600}".repeat(64))),
        with("metadata", json!({"a": "x".repeat(65536 - 8)})),
        with_raw("metadata", &format!(r#"{{"a":{}}}"#, nested(31))),
        with_raw("x", &nested(63)),
        with_raw(
            "metadata",
            r#"{"":0,"a":-0.0,"b":1.7976931348623157e308,"c":5e-324,"d":1e-999}"#,
        ),
        with_raw("x", r#"{"\u0000":"\u0000"}"#),
        with_raw("X", "\"user\""),
        format!(" \t\r\n{}\n", with("credentialType", json!(null))),
        with("refreshToken", json!("")),
        with("metadata", json!(null)),
    ] {
        let shown: String = body.chars().take(120).collect();
        developer.post_raw(PATH, body).await.expect(&shown);
    }
}

#[tokio::test]
async fn what_is_no_json_object_is_refused() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    let agent = server.agent(Via::Rest, &tenant, "user");
    let bodies: [&[u8]; 22] = [
        b"",
        b" ",
        b"null",
        b"[]",
        b"[{}]",
        b"\"{}\"",
        b"1",
        b"true",
        b"{",
        b"}",
        b"{}{}",
        b"{},",
        b"{'a':1}",
        b"{\"a\"}",
        b"{\"a\":}",
        b"{\"a\":1,}",
        b"\xef\xbb\xbf{}",
        b"{\"a\":\"\xff\"}",
        b"\0",
        b"{\"a\":\"\0\"}",
        b"{\"a\":01}",
        b"\xfe\xff\0{\0}",
    ];
    for body in bodies {
        for (client, path) in [(&developer, PATH), (&agent, EXCHANGE)] {
            let refused = client.post_raw(path, body).await.unwrap_err();
            assert_eq!(
                refused.says(),
                (400, "BAD_REQUEST", "body must be a JSON object"),
                "{body:?}"
            );
        }
    }
    for deep in ["[", "{\"a\":"] {
        let body = format!("{{\"a\":{}", deep.repeat(200_000 / deep.len()));
        for (client, path) in [(&developer, PATH), (&agent, EXCHANGE)] {
            let refused = client.post_raw(path, body.clone()).await.unwrap_err();
            assert_eq!((refused.status, &*refused.code), (400, "BAD_REQUEST"));
        }
    }
}

#[tokio::test]
async fn an_exchange_that_breaks_a_rule_names_the_field() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    server
        .client(Via::Rest, &tenant.key)
        .store_token("user", "github", "secret")
        .await;
    let agent = server.agent(Via::Rest, &tenant, "user");
    let delivery = "delivery must be \"token\": no other is supported";
    for (body, message) in [
        ("{}", "service is required"),
        (r#"{"service":null}"#, "service is required"),
        (r#"{"service":""}"#, "service is required"),
        (r#"{"service":7}"#, "service must be a string"),
        (r#"{"service":["github"]}"#, "service must be a string"),
        (r#"{"service":"git hub"}"#, SERVICE),
        (r#"{"service":"github\u0000"}"#, SERVICE),
        (
            r#"{"service":"github","service":"github"}"#,
            "body has a duplicate key",
        ),
        (r#"{"service":"github","delivery":"reference"}"#, delivery),
        (r#"{"service":"github","delivery":"Token"}"#, delivery),
        (r#"{"service":"github","delivery":""}"#, delivery),
        (
            r#"{"service":"github","delivery":1}"#,
            "delivery must be a string",
        ),
    ] {
        let refused = agent.post_raw(EXCHANGE, body).await.unwrap_err();
        assert_eq!(refused.says(), (400, "BAD_REQUEST", message), "{body}");
    }
    for body in [
        r#"{"service":"github","delivery":"token"}"#,
        r#"{"delivery":null,"service":"github","x":[]}"#,
    ] {
        assert_eq!(
            agent.post_raw(EXCHANGE, body).await.unwrap()["accessToken"],
            "secret"
        );
    }
}

#[tokio::test]
async fn no_damaged_body_is_anything_but_stored_or_refused() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    let body = json!({
        "principalId": "user", "service": "github", "accessToken": "secret", "refreshToken": "r",
        "tokenExpiresAt": "2026-04-05T12:00:00.123+02:00", "metadata": {"a": [1.5e3, null, "\u{e9}"]},
    });
    let body = body.to_string().into_bytes();
    let damage = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    let mut runner = TestRunner::deterministic();
    for _ in 0..200 {
        let damage = damage.new_tree(&mut runner).unwrap().current();
        let mut damaged = body.clone();
        for (index, byte) in damage {
            damaged[index.index(body.len())] = byte;
        }
        if let Err(refused) = developer.post_raw(PATH, damaged.clone()).await {
            let shown = String::from_utf8_lossy(&damaged).into_owned();
            assert_eq!(
                (refused.status, &*refused.code),
                (400, "BAD_REQUEST"),
                "{shown}"
            );
        }
    }
}
