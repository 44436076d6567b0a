//! The audience: none configured, one that tokens may leave out, one that they must name, none looked at.

use super::Gate;
use crate::harness::Setup;

/// What is neither a string nor an array of at least one.
const NO_AUDIENCES: [&str; 9] = [
    "[]",
    "0",
    "1.5",
    "true",
    "{}",
    "[null]",
    "[1]",
    r#"["vault",1]"#,
    r#"[["vault"]]"#,
];

/// In the short form.
const ABSENT: [Option<&str>; 2] = [None, Some("null")];
const MATCHING: [&str; 4] = [
    r#""vault""#,
    r#"["vault"]"#,
    r#"["other","vault"]"#,
    r#"["vault","vault"]"#,
];
const OTHERS: [&str; 7] = [
    r#""other""#,
    r#""Vault""#,
    r#""vault ""#,
    r#""vault,other""#,
    r#"["other"]"#,
    r#"["other","another"]"#,
    r#""*""#,
];

async fn gate(mode: &str) -> Gate {
    let setup = Setup::new()
        .with("GRANTEX_VAULT_AUDIENCE", "vault")
        .with("GRANTEX_VAULT_AUDIENCE_MODE", mode);
    Gate::open_with(setup).await
}

async fn admits_all(gate: &Gate, audiences: &[Option<&str>]) {
    for raw in audiences {
        let token = gate.token_with("aud", *raw);
        gate.admits(&format!("aud {raw:?}"), &token).await;
    }
}

async fn refuses_all(gate: &Gate, audiences: &[Option<&str>]) {
    for raw in audiences {
        let token = gate.token_with("aud", *raw);
        gate.refuses(&format!("aud {raw:?}"), &token).await;
    }
}

#[tokio::test]
async fn without_a_configured_audience_a_token_that_names_one_is_for_somebody_else() {
    let gate = Gate::open().await;
    admits_all(&gate, &ABSENT).await;
    refuses_all(&gate, &MATCHING.map(Some)).await;
    refuses_all(&gate, &OTHERS.map(Some)).await;
    refuses_all(&gate, &NO_AUDIENCES.map(Some)).await;
}

#[tokio::test]
async fn switched_off_any_audience_passes_that_is_one() {
    let off = Setup::new().with("GRANTEX_VAULT_AUDIENCE_MODE", "off");
    for gate in [Gate::open_with(off).await, gate("off").await] {
        admits_all(&gate, &ABSENT).await;
        admits_all(&gate, &MATCHING.map(Some)).await;
        admits_all(&gate, &OTHERS.map(Some)).await;
        refuses_all(&gate, &NO_AUDIENCES.map(Some)).await;
    }
}

#[tokio::test]
async fn the_standard_form_has_the_same_audiences_but_no_null() {
    for (mode, absent) in [("optional", true), ("require", false), ("off", true)] {
        let gate = gate(mode).await;
        let token = |raw| {
            let claims = gate.standard_claims();
            gate.access_token_of(super::replaced(&claims, "aud", raw))
        };
        gate.judges(absent, mode, &token(None)).await;
        gate.refuses(mode, &token(Some("null"))).await;
        for raw in MATCHING {
            gate.admits(raw, &token(Some(raw))).await;
        }
        for raw in OTHERS {
            gate.judges(mode == "off", raw, &token(Some(raw))).await;
        }
        for raw in NO_AUDIENCES {
            gate.refuses(raw, &token(Some(raw))).await;
        }
    }
}

#[tokio::test]
async fn an_optional_audience_may_be_absent_but_not_another() {
    let gate = gate("optional").await;
    admits_all(&gate, &ABSENT).await;
    admits_all(&gate, &MATCHING.map(Some)).await;
    refuses_all(&gate, &OTHERS.map(Some)).await;
    refuses_all(&gate, &NO_AUDIENCES.map(Some)).await;
}

#[tokio::test]
async fn a_required_audience_must_be_named() {
    let gate = gate("require").await;
    refuses_all(&gate, &ABSENT).await;
    admits_all(&gate, &MATCHING.map(Some)).await;
    refuses_all(&gate, &OTHERS.map(Some)).await;
    refuses_all(&gate, &NO_AUDIENCES.map(Some)).await;
}
