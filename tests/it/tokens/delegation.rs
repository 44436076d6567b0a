//! The claims of delegation: optional, recorded, and refused when they are of a wrong type.

use serde_json::json;

use super::{Gate, replaced};
use crate::harness::Setup;

#[tokio::test]
async fn delegation_claims_of_a_wrong_type_are_refused() {
    let gate = Gate::open().await;
    let (too_long, control) = (json!("x".repeat(513)), json!("a\u{0}b"));
    let (too_long, control) = (too_long.to_string(), control.to_string());
    let no_texts = [
        "\"\"", "0", "true", "[]", r#"["x"]"#, "{}", &too_long, &control,
    ];
    let no_depths = [
        "-1",
        "1.0",
        "1e0",
        "9007199254740993",
        "\"1\"",
        "true",
        "[]",
        "{}",
    ];
    for (claim, values) in [
        ("parentAgt", no_texts),
        ("parentGrnt", no_texts),
        ("delegationDepth", no_depths),
    ] {
        for raw in values {
            let token = gate.token_with(claim, Some(raw));
            gate.refuses(&format!("{claim} {raw}"), &token).await;
        }
    }
}

#[tokio::test]
async fn delegation_claims_may_be_null() {
    let gate = Gate::open().await;
    for claim in ["parentAgt", "parentGrnt", "delegationDepth"] {
        let token = gate.token_with(claim, Some("null"));
        gate.admits(&format!("{claim} null"), &token).await;
    }
}

#[tokio::test]
async fn delegation_is_recorded_with_the_exchange() {
    let setup = Setup::new().with("GRANTEX_VAULT_MAX_DELEGATION_DEPTH", "4294967295");
    let gate = Gate::open_with(setup).await;
    let long = "é".repeat(512);
    for (parent, depth) in [("did:grantex:parent", 0), (&long, i64::from(u32::MAX))] {
        let mut claims = gate.claims();
        claims["parentAgt"] = parent.into();
        claims["parentGrnt"] = "grant-0".into();
        let raw = i64::to_string(&depth);
        let token = gate.token_of(replaced(&claims, "delegationDepth", Some(&raw)));
        gate.admits("a delegated grant", &token).await;
        let events = gate.server.audit_events().await;
        let event = events.last().expect("the exchange was recorded");
        assert_eq!(event["caller"]["parentAgent"], *parent);
        assert_eq!(event["caller"]["parentGrantId"], "grant-0");
        assert_eq!(event["caller"]["delegationDepth"], depth);
    }
}

#[tokio::test]
async fn what_was_delegated_deeper_than_revocations_can_be_known_is_refused() {
    for (deepest, refused) in [(None, 2), (Some("0"), 1), (Some("3"), 4)] {
        let mut setup = Setup::new();
        if let Some(deepest) = deepest {
            setup = setup.with("GRANTEX_VAULT_MAX_DELEGATION_DEPTH", deepest);
        }
        let gate = Gate::open_with(setup).await;
        let of_depth = |depth: i64| gate.token_with("delegationDepth", Some(&depth.to_string()));
        gate.admits("not delegated", &gate.token()).await;
        gate.admits("as deep as it may be", &of_depth(refused - 1))
            .await;
        gate.refuses("deeper", &of_depth(refused)).await;
        gate.refuses("as deep as can be", &of_depth(1 << 53)).await;
    }
}
