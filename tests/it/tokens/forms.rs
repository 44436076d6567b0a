//! The two forms of the claims, both algorithms, every type: judged by one table.

use serde_json::{Value, json};

use super::{Gate, replaced};
use crate::harness::SigningKey;

/// How the claims are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Short,
    Standard,
    BothAgreeing,
    BothDisagreeing,
}

const FORMS: [Form; 4] = [
    Form::Short,
    Form::Standard,
    Form::BothAgreeing,
    Form::BothDisagreeing,
];

const TYPES: [Option<&str>; 8] = [
    None,
    Some("JWT"),
    Some("jwt"),
    Some("at+jwt"),
    Some("AT+JWT"),
    Some("application/at+jwt"),
    Some("Application/AT+jwt"),
    Some("dpop+jwt"),
];

/// The table.
fn is_taken(form: Form, token_type: Option<&str>) -> bool {
    let token_type = token_type.map(str::to_ascii_lowercase);
    let is_access_token = matches!(token_type.as_deref(), Some("at+jwt" | "application/at+jwt"));
    let is_plain = matches!(token_type.as_deref(), None | Some("jwt"));
    match form {
        Form::Short => is_plain || is_access_token,
        Form::Standard | Form::BothAgreeing => is_access_token,
        Form::BothDisagreeing => false,
    }
}

fn claims(gate: &Gate, form: Form) -> Value {
    let (mut short, standard) = (gate.claims(), gate.standard_claims());
    match form {
        Form::Short => short,
        Form::Standard => standard,
        Form::BothAgreeing | Form::BothDisagreeing => {
            if form == Form::BothDisagreeing {
                short["dev"] = "globex".into();
            }
            short
                .as_object_mut()
                .unwrap()
                .extend(standard.as_object().unwrap().clone());
            short
        }
    }
}

#[tokio::test]
async fn every_algorithm_form_and_type_is_judged_by_the_table() {
    let gate = Gate::open().await;
    let elliptic = SigningKey::p256("elliptic");
    gate.publish(&elliptic);
    for key in [gate.key(), elliptic] {
        for form in FORMS {
            for token_type in TYPES {
                let typ = token_type.map(|text| json!(text).to_string());
                let header = replaced(&key.header(), "typ", typ.as_deref());
                let token = key.sign_raw(header, claims(&gate, form).to_string());
                let case = format!("{} {form:?} {token_type:?}", key.algorithm());
                gate.judges(is_taken(form, token_type), &case, &token).await;
            }
        }
    }
}

#[tokio::test]
async fn both_forms_leave_the_same_event_but_for_the_client() {
    let gate = Gate::open().await;
    let mut callers = Vec::new();
    for form in [Form::Short, Form::Standard, Form::BothAgreeing] {
        let mut claims = claims(&gate, form);
        claims["jti"] = "token-1".into();
        gate.admits(&format!("{form:?}"), &gate.access_token(&claims))
            .await;
        let events = gate.server.audit_events().await;
        callers.push(events.last().unwrap()["caller"].clone());
    }
    let caller = |client_id: Value| {
        json!({
            "agent": "did:grantex:agent", "issuer": "https://issuer.test", "clientId": client_id,
            "grantId": "grant-1", "tokenId": "token-1", "parentAgent": null, "parentGrantId": null,
            "delegationDepth": null, "delegation": [],
        })
    };
    assert_eq!(
        callers,
        [
            caller(json!(null)),
            caller(json!("ag_1")),
            caller(json!("ag_1"))
        ]
    );
}

#[tokio::test]
async fn without_the_claim_that_names_the_grant_only_the_short_form_counts() {
    let gate = Gate::open().await;
    let standard = gate.standard_claims();
    let unnamed = replaced(&standard, "urn:grantex:grant", None);
    let token = gate.access_token(&serde_json::from_str(&unnamed).unwrap());
    gate.refuses("no grant is named", &token).await;
    // What the short form does not know is not read there, whatever it is.
    let mut claims = gate.claims();
    for (name, value) in [
        ("scope", json!("vault:slack:exchange")),
        ("scope", json!(7)),
        ("client_id", json!(null)),
        ("act", json!("nobody")),
        ("authorization_details", json!({})),
    ] {
        claims[name] = value;
        gate.admits(name, &gate.key().sign(&claims)).await;
    }
}
