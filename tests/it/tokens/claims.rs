//! The claims: all that are required, each of its type and within its bounds.

use serde_json::{Value, json};

use super::{Gate, NO_CREDENTIAL, extended};
use crate::harness::Setup;

const TEXTS: [&str; 5] = ["iss", "sub", "agt", "dev", "jti"];
const SECONDS: [&str; 2] = ["iat", "exp"];
const READ: [&str; 13] = [
    "iss",
    "sub",
    "agt",
    "dev",
    "scp",
    "jti",
    "grnt",
    "iat",
    "exp",
    "nbf",
    "aud",
    "parentAgt",
    "parentGrnt",
];

/// What is no string, as JSON.
const NO_STRINGS: [&str; 8] = ["0", "-1", "1.5", "true", "false", "[]", r#"["user"]"#, "{}"];

/// 2⁵³ is the largest number that a second may have; this is one more.
const TOO_LATE: &str = "9007199254740993";

/// What is no whole number of seconds within ±2⁵³, as JSON, although most of it is in the future.
const NO_SECONDS: [&str; 17] = [
    "1.0",
    "1e3",
    "1E3",
    "4102444800.0",
    "4102444800.5",
    "4.1024448e9",
    "true",
    "[]",
    "[4102444800]",
    "{}",
    r#""""#,
    r#""4102444800""#,
    r#""2100-01-01T00:00:00Z""#,
    "-9007199254740993",
    TOO_LATE,
    "18446744073709551615",
    "1e400",
];

fn text(text: &str) -> String {
    json!(text).to_string()
}

async fn refuse_all(claims: &[&str], values: impl IntoIterator<Item = Option<String>> + Clone) {
    let gate = Gate::open().await;
    for claim in claims {
        for raw in values.clone() {
            let token = gate.token_with(claim, raw.as_deref());
            gate.refuses(&format!("{claim} {raw:?}"), &token).await;
        }
    }
}

#[tokio::test]
async fn a_required_claim_must_be_there() {
    let required = [&TEXTS[..], &SECONDS, &["scp"]].concat();
    refuse_all(&required, [None, Some("null".to_owned())]).await;
}

#[tokio::test]
async fn a_text_claim_of_another_type_is_refused() {
    let texts = [&TEXTS[..], &["grnt"]].concat();
    refuse_all(&texts, NO_STRINGS.map(|raw| Some(raw.to_owned()))).await;
}

#[tokio::test]
async fn a_text_claim_that_is_empty_too_long_or_has_control_characters_is_refused() {
    let bad = [
        String::new(),
        "x".repeat(513),
        "é".repeat(513),
        "a\0b".to_owned(),
        "line\n".to_owned(),
        "\u{1f}".to_owned(),
        "\u{7f}".to_owned(),
        "\u{85}".to_owned(),
    ];
    let texts = [&TEXTS[..], &["grnt"]].concat();
    refuse_all(&texts, bad.map(|bad| Some(text(&bad)))).await;
}

#[tokio::test]
async fn text_claims_of_512_characters_are_taken() {
    let gate = Gate::open().await;
    for claim in ["agt", "jti", "grnt"] {
        for long in ["x".repeat(512), "é".repeat(512), " ~🔑".repeat(128)] {
            let token = gate.token_with(claim, Some(&text(&long)));
            gate.admits(&format!("{claim} of 512"), &token).await;
        }
    }
    for claim in ["sub", "dev"] {
        let token = gate.token_with(claim, Some(&text(&"é".repeat(512))));
        gate.answers(NO_CREDENTIAL, &format!("{claim} of 512"), &token)
            .await;
    }
}

#[tokio::test]
async fn a_lone_surrogate_in_a_claim_is_refused() {
    refuse_all(&["sub", "grnt"], [Some(r#""\ud800""#.to_owned())]).await;
}

#[tokio::test]
async fn an_issuer_other_than_the_configured_one_is_refused() {
    let others = [
        "https://issuer.test/",
        "https://ISSUER.test",
        "http://issuer.test",
        "https://issuer.test.example.com",
        "https://issuer.tes",
        " https://issuer.test",
    ];
    refuse_all(&["iss"], others.map(|other| Some(text(other)))).await;
}

#[tokio::test]
async fn principal_and_developer_are_compared_byte_for_byte() {
    let gate = Gate::open().await;
    for (claim, others) in [
        ("sub", ["User", " user", "user ", "us\u{200b}er"]),
        ("dev", ["Acme", " acme", "acme ", "globex"]),
    ] {
        for other in others {
            let token = gate.token_with(claim, Some(&text(other)));
            gate.answers(NO_CREDENTIAL, &format!("{claim} {other:?}"), &token)
                .await;
        }
    }
}

#[tokio::test]
async fn seconds_that_are_no_integers_within_two_to_the_53rd_are_refused() {
    let seconds = [&SECONDS[..], &["nbf"]].concat();
    Box::pin(refuse_all(
        &seconds,
        NO_SECONDS.map(|raw| Some(raw.to_owned())),
    ))
    .await;
}

#[tokio::test]
async fn scopes_must_be_an_array_of_strings_within_the_bounds() {
    let no_scopes = [
        r#""vault:github:exchange""#,
        "0",
        "true",
        "{}",
        r#"{"0":"vault:github:exchange"}"#,
        "[null]",
        r#"["vault:github:exchange",null]"#,
        r#"["vault:github:exchange",1]"#,
        r#"["vault:github:exchange",true]"#,
        r#"[["vault:github:exchange"]]"#,
        r#"[{"vault:github:exchange":1}]"#,
    ];
    let too_much = [
        json!(vec!["vault:github:exchange"; 257]),
        json!(["vault:github:exchange", "x".repeat(257)]),
        json!(["vault:github:exchange", "é".repeat(257)]),
    ];
    let raw = no_scopes.map(str::to_owned).into_iter();
    let raw = raw.chain(too_much.map(|scopes| scopes.to_string()));
    refuse_all(&["scp"], raw.map(Some).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn scopes_up_to_the_bounds_are_taken_and_those_that_cannot_match_do_not() {
    let gate = Gate::open().await;
    for scopes in [
        json!(vec!["vault:github:exchange"; 256]),
        json!(["x".repeat(256), "é".repeat(256), "vault:github:exchange"]),
        json!(["", "\u{0}", "vault:github:exchange"]),
    ] {
        let token = gate.token_with("scp", Some(&scopes.to_string()));
        gate.admits("within the bounds", &token).await;
    }
    let message = "Grant token is not scoped for github credential exchange";
    for scopes in [
        json!([]),
        json!([""]),
        json!(["\u{0}vault:github:exchange"]),
        json!(["vault:slack:exchange"]),
    ] {
        let token = gate.token_with("scp", Some(&scopes.to_string()));
        let case = format!("scopes {scopes}");
        gate.answers((403, "FORBIDDEN", message), &case, &token)
            .await;
    }
}

#[tokio::test]
async fn a_token_without_a_grant_id_is_a_grant_of_its_own() {
    let gate = Gate::open().await;
    for raw in [None, Some("null")] {
        let claims: Value = gate.claims();
        let token = gate.token_of(super::replaced(&claims, "grnt", raw));
        gate.admits(&format!("grnt {raw:?}"), &token).await;
        let events = gate.server.audit_events().await;
        let event = events.last().expect("the exchange was recorded");
        assert_eq!(event["caller"]["grantId"], claims["jti"], "grnt {raw:?}");
        assert_eq!(event["caller"]["tokenId"], claims["jti"], "grnt {raw:?}");
    }
}

#[tokio::test]
async fn a_claim_that_is_read_must_not_stand_twice() {
    let setup = Setup::new().with("GRANTEX_VAULT_AUDIENCE_MODE", "off");
    let gate = Gate::open_with(setup).await;
    let mut claims = gate.claims();
    for name in READ.iter().chain(&["delegationDepth"]) {
        // Both are good, and the same.
        let value = match *name {
            "nbf" => json!(0),
            "delegationDepth" => json!(1),
            "aud" | "parentAgt" | "parentGrnt" => json!("somebody"),
            _ => claims[name].clone(),
        };
        claims[name] = value.clone();
        let escaped = format!("\\u{:04x}{}", u32::from(name.as_bytes()[0]), &name[1..]);
        for spelling in [*name, &escaped] {
            let token = gate.token_of(extended(&claims, spelling, &value.to_string()));
            gate.refuses(&format!("{spelling} twice"), &token).await;
        }
    }
    gate.admits("each once", &gate.token_of(claims.to_string()))
        .await;
}

#[tokio::test]
async fn a_claim_that_is_not_read_may_stand_twice_and_be_anything() {
    let gate = Gate::open().await;
    for raw in ["null", "1.5", "\"\"", "[[]]", r#"{"a":{"a":1}}"#] {
        let once = extended(&gate.claims(), "extra", raw);
        let (rest, _) = once.rsplit_once('}').unwrap();
        let twice = format!("{rest},\"extra\":{raw},\"Sub\":{raw}}}");
        gate.admits(&format!("extra {raw}"), &gate.token_of(once))
            .await;
        gate.admits(&format!("extra {raw} twice"), &gate.token_of(twice))
            .await;
    }
}
