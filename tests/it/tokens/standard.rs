//! The standard claims: every one that is read, of its type and within its bounds, and the aliases
//! beside them.

use serde_json::{Value, json};

use super::{Gate, extended, replaced};
use crate::harness::Setup;

const GRANT: &str = "urn:grantex:grant";

/// What is no string, as JSON; `null` among it.
const NO_STRINGS: [&str; 8] = ["null", "0", "-1", "1.5", "true", "[]", r#"["x"]"#, "{}"];

/// A token of the standard claims but for one; `None` leaves it out.
fn token_with(gate: &Gate, claim: &str, raw: Option<&str>) -> String {
    let claims = replaced(&gate.standard_claims(), claim, raw);
    gate.access_token_of(claims)
}

/// The same but for one member of the claim that names the grant.
fn token_with_member(gate: &Gate, member: &str, raw: Option<&str>) -> String {
    let claims = gate.standard_claims();
    let grant = replaced(&claims[GRANT], member, raw);
    gate.access_token_of(replaced(&claims, GRANT, Some(&grant)))
}

fn text(text: &str) -> String {
    json!(text).to_string()
}

/// Texts that no identifier may be.
fn bad_texts() -> Vec<String> {
    let bad = ["", &"x".repeat(513), "a\0b", "line\n", "\u{85}"];
    bad.iter().map(|bad| text(bad)).collect()
}

#[tokio::test]
async fn a_required_claim_must_be_there() {
    let gate = Gate::open().await;
    for claim in ["iss", "sub", "jti", "iat", "exp", "scope", GRANT] {
        gate.refuses(claim, &token_with(&gate, claim, None)).await;
        gate.refuses(claim, &token_with(&gate, claim, Some("null")))
            .await;
    }
    for member in ["agent_did", "developer_id"] {
        gate.refuses(member, &token_with_member(&gate, member, None))
            .await;
        gate.refuses(member, &token_with_member(&gate, member, Some("null")))
            .await;
    }
}

#[tokio::test]
async fn what_is_optional_may_be_absent_but_not_null() {
    let gate = Gate::open().await;
    for claim in [
        "client_id",
        "aud",
        "nbf",
        "act",
        "authorization_details",
        "scp",
        "bdg",
        "cnf",
    ] {
        gate.admits(claim, &token_with(&gate, claim, None)).await;
        gate.refuses(claim, &token_with(&gate, claim, Some("null")))
            .await;
    }
    for alias in [
        "agt",
        "dev",
        "grnt",
        "scp",
        "parentAgt",
        "parentGrnt",
        "delegationDepth",
    ] {
        gate.refuses(alias, &token_with(&gate, alias, Some("null")))
            .await;
    }
    for member in ["grant_id", "parent_grant_id", "delegation_depth"] {
        gate.admits(member, &token_with_member(&gate, member, None))
            .await;
        gate.refuses(member, &token_with_member(&gate, member, Some("null")))
            .await;
    }
}

#[tokio::test]
async fn a_text_of_another_type_or_out_of_bounds_is_refused() {
    let gate = Gate::open().await;
    let no_texts = NO_STRINGS.map(str::to_owned).into_iter().chain(bad_texts());
    for raw in no_texts {
        for claim in ["iss", "sub", "jti", "client_id"] {
            gate.refuses(
                &format!("{claim} {raw}"),
                &token_with(&gate, claim, Some(&raw)),
            )
            .await;
        }
        for member in ["agent_did", "developer_id", "grant_id", "parent_grant_id"] {
            let token = token_with_member(&gate, member, Some(&raw));
            gate.refuses(&format!("{member} {raw}"), &token).await;
        }
    }
}

#[tokio::test]
async fn claims_that_are_ignored_must_still_be_of_their_type() {
    let gate = Gate::open().await;
    for raw in ["[]", r#"[{"type":"urn:grantex:tools:v1","x":null}]"#, "[7]"] {
        gate.admits(raw, &token_with(&gate, "authorization_details", Some(raw)))
            .await;
    }
    for raw in ["{}", "\"x\"", "1", "true"] {
        gate.refuses(raw, &token_with(&gate, "authorization_details", Some(raw)))
            .await;
    }
    for raw in ["null", "[]", "\"x\"", "1", "true"] {
        gate.refuses(raw, &token_with(&gate, GRANT, Some(raw)))
            .await;
    }
    gate.admits(
        "a member nobody knows",
        &token_with_member(&gate, "webauthn", Some("null")),
    )
    .await;
    gate.admits(
        "a claim nobody knows",
        &token_with(&gate, "urn:other", Some("null")),
    )
    .await;
    let deep = format!("{}{}", "[".repeat(64), "]".repeat(64));
    gate.refuses(
        "64 levels in the token",
        &token_with(&gate, "urn:other", Some(&deep)),
    )
    .await;
    gate.refuses(
        "64 levels",
        &token_with_member(&gate, "webauthn", Some(&deep)),
    )
    .await;
}

#[tokio::test]
async fn what_stands_twice_is_refused() {
    let gate = Gate::open().await;
    let mut claims = gate.standard_claims();
    claims["act"] = json!({"sub": "did:parent"});
    claims["authorization_details"] = json!([]);
    for name in [
        "iss",
        "sub",
        "jti",
        "iat",
        "exp",
        "scope",
        "client_id",
        "act",
        "authorization_details",
        GRANT,
    ] {
        let twice = extended(&claims, name, &claims[name].to_string());
        gate.refuses(name, &gate.access_token_of(twice)).await;
    }
    for member in ["agent_did", "developer_id", "grant_id"] {
        let grant = extended(&claims[GRANT], member, &claims[GRANT][member].to_string());
        let token = gate.access_token_of(replaced(&claims, GRANT, Some(&grant)));
        gate.refuses(member, &token).await;
    }
    gate.admits("each once", &gate.access_token(&claims)).await;
}

#[tokio::test]
async fn scopes_are_split_at_single_spaces_and_bounded() {
    let gate = Gate::open().await;
    let many = |count: usize| vec!["vault:github:exchange"; count].join(" ");
    for scope in [
        "vault:github:exchange".to_owned(),
        "repo vault:github:exchange".to_owned(),
        "a  vault:github:exchange ".to_owned(),
        format!("{} vault:github:exchange", "é".repeat(256)),
        many(256),
    ] {
        gate.admits(&scope, &token_with(&gate, "scope", Some(&text(&scope))))
            .await;
    }
    for scope in [
        many(257),
        format!("{} vault:github:exchange", "é".repeat(257)),
    ] {
        gate.refuses(&scope, &token_with(&gate, "scope", Some(&text(&scope))))
            .await;
    }
    for raw in ["[]", r#"["vault:github:exchange"]"#, "1", "true", "{}"] {
        gate.refuses(raw, &token_with(&gate, "scope", Some(raw)))
            .await;
    }
    let message = "Grant token is not scoped for github credential exchange";
    for scope in [
        "",
        " ",
        "vault:github:exchange\u{a0}",
        "vault:github:exchange\t",
        "*",
    ] {
        let token = token_with(&gate, "scope", Some(&text(scope)));
        gate.answers((403, "FORBIDDEN", message), scope, &token)
            .await;
    }
}

#[tokio::test]
async fn scopes_that_hold_white_space_come_in_the_list() {
    let gate = Gate::open().await;
    let listed = json!(["old scope", "vault:github:exchange"]).to_string();
    let mut claims = gate.standard_claims();
    claims.as_object_mut().unwrap().remove("scope");
    let token = gate.access_token_of(replaced(&claims, "scp", Some(&listed)));
    gate.admits("in scp alone", &token).await;
    let both = replaced(&gate.standard_claims(), "scp", Some(&listed));
    gate.refuses("scope says something else", &gate.access_token_of(both))
        .await;
}

/// `act` with so many actors, the last outermost.
fn actors(count: usize) -> Value {
    let nest = |inner: Value, number: usize| match inner {
        Value::Null => json!({"sub": format!("did:{number}")}),
        inner => json!({"sub": format!("did:{number}"), "act": inner, "iss": null}),
    };
    (1..=count).fold(Value::Null, nest)
}

#[tokio::test]
async fn delegation_is_read_from_act_and_recorded_first_to_last() {
    let setup = Setup::new().with("GRANTEX_VAULT_MAX_DELEGATION_DEPTH", "20");
    let gate = Gate::open_with(setup).await;
    for count in [1, 2, 10] {
        let mut claims = gate.standard_claims();
        claims["act"] = actors(count);
        claims[GRANT]["parent_grant_id"] = "grant-0".into();
        claims[GRANT]["delegation_depth"] = count.into();
        gate.admits("delegated", &gate.access_token(&claims)).await;
        let events = gate.server.audit_events().await;
        let caller = &events.last().unwrap()["caller"];
        let delegation: Vec<_> = (1..=count).map(|number| format!("did:{number}")).collect();
        assert_eq!(caller["delegation"], json!(delegation));
        assert_eq!(caller["parentAgent"], json!(delegation.last()));
        assert_eq!(caller["parentGrantId"], "grant-0");
        assert_eq!(caller["delegationDepth"], count);
    }
    let eleven = actors(11).to_string();
    gate.refuses("eleven actors", &token_with(&gate, "act", Some(&eleven)))
        .await;
    for raw in [
        "{}",
        "[]",
        "1",
        r#""did:1""#,
        r#"{"sub":null}"#,
        r#"{"sub":""}"#,
        r#"{"sub":7}"#,
        r#"{"sub":"did:1","act":null}"#,
        r#"{"sub":"did:1","act":{}}"#,
        r#"{"sub":"did:1","act":{"sub":1}}"#,
        r#"{"act":{"sub":"did:1"}}"#,
        r#"{"sub":"did:1","sub":"did:1"}"#,
    ] {
        gate.refuses(raw, &token_with(&gate, "act", Some(raw)))
            .await;
    }
    for raw in ["-1", "1.0", "\"1\"", "9007199254740993", "[]"] {
        let token = token_with_member(&gate, "delegation_depth", Some(raw));
        gate.refuses(raw, &token).await;
    }
}

#[tokio::test]
async fn the_depth_that_is_bounded_is_the_larger_of_what_is_claimed_and_named() {
    for (allowed, claimed, named, taken) in [
        ("1", 0, 1, true),
        ("1", 1, 0, true),
        ("1", 1, 1, true),
        ("1", 0, 2, false),
        ("1", 2, 0, false),
        ("2", 1, 2, true),
        ("2", 0, 3, false),
        ("0", 0, 0, true),
        ("0", 0, 1, false),
    ] {
        let setup = Setup::new().with("GRANTEX_VAULT_MAX_DELEGATION_DEPTH", allowed);
        let gate = Gate::open_with(setup).await;
        let mut claims = gate.standard_claims();
        claims[GRANT]["delegation_depth"] = claimed.into();
        if named > 0 {
            claims["act"] = actors(named);
        }
        let case = format!("{claimed} claimed, {named} named, {allowed} allowed");
        gate.judges(taken, &case, &gate.access_token(&claims)).await;
    }
}

#[tokio::test]
async fn an_alias_says_what_the_standard_claim_says_or_the_token_is_refused() {
    let gate = Gate::open().await;
    let mut claims = gate.standard_claims();
    claims["act"] = json!({"sub": "did:parent"});
    claims[GRANT]["parent_grant_id"] = "grant-0".into();
    claims[GRANT]["delegation_depth"] = 1.into();
    claims["scope"] = "repo vault:github:exchange".into();
    for (alias, same, others) in [
        (
            "agt",
            json!("did:grantex:agent"),
            [json!("did:other"), json!("did:grantex:Agent"), json!(7)],
        ),
        (
            "dev",
            json!("acme"),
            [json!("globex"), json!("Acme"), json!("")],
        ),
        (
            "grnt",
            json!("grant-1"),
            [json!("grant-0"), claims["jti"].clone(), json!([])],
        ),
        (
            "scp",
            json!(["repo", "vault:github:exchange"]),
            [
                json!(["vault:github:exchange", "repo"]),
                json!(["repo"]),
                json!("repo vault:github:exchange"),
            ],
        ),
        (
            "parentAgt",
            json!("did:parent"),
            [json!("did:grantex:agent"), json!("x"), json!(1)],
        ),
        (
            "parentGrnt",
            json!("grant-0"),
            [json!("grant-1"), json!("x"), json!(1)],
        ),
        (
            "delegationDepth",
            json!(1),
            [json!(0), json!(2), json!("1")],
        ),
    ] {
        let token =
            |raw: &Value| gate.access_token_of(replaced(&claims, alias, Some(&raw.to_string())));
        gate.admits(alias, &token(&same)).await;
        for other in others {
            gate.refuses(&format!("{alias} {other}"), &token(&other))
                .await;
        }
    }
    let alone = gate.standard_claims();
    for (alias, value) in [
        ("parentAgt", json!("x")),
        ("parentGrnt", json!("x")),
        ("delegationDepth", json!(1)),
    ] {
        let token = gate.access_token_of(replaced(&alone, alias, Some(&value.to_string())));
        gate.refuses(&format!("{alias} of what was not delegated"), &token)
            .await;
    }
}

#[tokio::test]
async fn without_a_grant_id_the_token_is_a_grant_of_its_own_and_its_alias_says_so() {
    let gate = Gate::open().await;
    let mut claims = gate.standard_claims();
    claims[GRANT].as_object_mut().unwrap().remove("grant_id");
    gate.admits("no grant id", &gate.access_token(&claims))
        .await;
    let events = gate.server.audit_events().await;
    assert_eq!(events.last().unwrap()["caller"]["grantId"], claims["jti"]);
    claims["grnt"] = "grant-1".into();
    gate.refuses("another alias", &gate.access_token(&claims))
        .await;
    claims["grnt"] = claims["jti"].clone();
    gate.admits("the same alias", &gate.access_token(&claims))
        .await;
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_key_is_refused_in_both_forms() {
    let gate = Gate::open().await;
    for raw in [
        r#"{"jkt":"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}"#,
        "{}",
        "null",
        "[]",
        "7",
    ] {
        gate.refuses(raw, &token_with(&gate, "cnf", Some(raw)))
            .await;
        gate.refuses(raw, &gate.token_with("cnf", Some(raw))).await;
    }
}

#[tokio::test]
async fn a_session_of_a_principal_is_no_grant() {
    let gate = Gate::open().await;
    for raw in [r#""principal_dashboard""#, r#""""#, "null", "1"] {
        gate.refuses(raw, &token_with(&gate, "purpose", Some(raw)))
            .await;
        gate.refuses(raw, &gate.token_with("purpose", Some(raw)))
            .await;
    }
    let now = gate.server.clock.seconds();
    let session = json!({
        "iss": "https://issuer.test", "sub": "user", "dev": "acme", "purpose": "principal_dashboard",
        "iat": now, "exp": now + 60,
    });
    let header = json!({"alg": "RS256", "kid": gate.key().kid}).to_string();
    gate.refuses(
        "as it is signed",
        &gate.key().sign_raw(header, session.to_string()),
    )
    .await;
}
