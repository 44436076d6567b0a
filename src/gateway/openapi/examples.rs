//! The examples of the document, written by the types that write the real bodies.

use serde::Serialize;
use serde_json::{Value, value::RawValue};

use super::requests::{ExchangeRequest, StoreRequest};
use crate::gateway::{
    audit_wire::{
        AgentCallerBody, ApiKeyCallerBody, CallerBody, EventBody, EventPageBody,
        OperatorCallerBody, WebhookCallerBody,
    },
    problem::ProblemBody,
    wire::{CredentialBody, ExchangedBody, PageBody, StoredBody},
};

pub(super) const ID: &str = "vc_01JR2XJ4Y8ZC5T9W3M6N7P0QRS";
pub(super) const IMPORTED_ID: &str = "vault_01HXYZ4Y8ZC5T9W3M6N7P0QRSV";
pub(super) const PRINCIPAL: &str = "user_abc123";
pub(super) const SERVICE: &str = "github";
pub(super) const CREATED_AT: &str = "2026-04-05T12:00:00.000Z";
pub(super) const EVENT_ID: &str = "01JR2YB8G0ZC5T9W3M6N7P0QRS";
pub(super) const REQUIRED_SCOPE: &str = "repo:write";
pub(super) const AGENT: &str = "did:grantex:ag_01JR2X7Q";
const ISSUER: &str = "https://issuer.example.com";
const GRANT_ID: &str = "grnt_01JR2X8K3V";
const TYPE: &str = "oauth2";
const ACCESS_TOKEN: &str = "gho_example";
const EXPIRES_AT: &str = "2026-04-05T20:00:00.000Z";
const METADATA: &str = r#"{"scopes":["repo"]}"#;
const REQUEST_ID: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";
const NEXT_PAGE_TOKEN: &str = "MTc3NTM5MDQwMDAwMC52Y18wMUpSMlhKNFk4WkM1VDlXM002TjdQMFFSUy5h";

pub(in crate::gateway) fn id() -> Value {
    ID.into()
}

/// The fewest fields that can be stored.
pub(in crate::gateway) fn least_to_store() -> Value {
    json(&StoreRequest {
        principal_id: PRINCIPAL,
        service: SERVICE,
        access_token: ACCESS_TOKEN,
        credential_type: None,
        refresh_token: None,
        token_expires_at: None,
        metadata: None,
        required_scopes: None,
        allowed_agents: None,
    })
}

/// Every field that can be stored.
pub(in crate::gateway) fn all_to_store() -> Value {
    json(&StoreRequest {
        principal_id: PRINCIPAL,
        service: SERVICE,
        access_token: ACCESS_TOKEN,
        credential_type: Some(TYPE),
        refresh_token: Some("ghr_example"),
        token_expires_at: Some("2026-04-05T22:00:00+02:00"),
        metadata: Some(metadata()),
        required_scopes: Some(&[REQUIRED_SCOPE]),
        allowed_agents: Some(&[AGENT]),
    })
}

pub(in crate::gateway) fn stored() -> Value {
    json(&StoredBody {
        id: ID.to_owned(),
        principal_id: PRINCIPAL,
        service: SERVICE,
        credential_type: TYPE,
        created_at: CREATED_AT.to_owned(),
    })
}

pub(in crate::gateway) fn credential() -> Value {
    json(&described())
}

pub(in crate::gateway) fn list() -> Value {
    json(&PageBody {
        credentials: vec![described()],
        next_page_token: None,
    })
}

pub(in crate::gateway) fn page() -> Value {
    json(&PageBody {
        credentials: vec![described()],
        next_page_token: Some(NEXT_PAGE_TOKEN),
    })
}

pub(in crate::gateway) fn to_exchange() -> Value {
    json(&ExchangeRequest {
        service: SERVICE,
        delivery: None,
    })
}

pub(in crate::gateway) fn to_exchange_for_the_token() -> Value {
    json(&ExchangeRequest {
        service: SERVICE,
        delivery: Some("token"),
    })
}

pub(in crate::gateway) fn exchanged() -> Value {
    json(&ExchangedBody {
        access_token: ACCESS_TOKEN,
        service: SERVICE,
        credential_type: TYPE,
        token_expires_at: Some(EXPIRES_AT.to_owned()),
        metadata: metadata(),
    })
}

/// A page with an exchange.
pub(in crate::gateway) fn events() -> Value {
    let caller = CallerBody::Agent(AgentCallerBody {
        agent: AGENT,
        issuer: ISSUER,
        client_id: Some("ag_01JR2WQ8K7"),
        grant_id: GRANT_ID,
        token_id: "tok_01JR2XA1N0",
        parent_agent: None,
        parent_grant_id: None,
        delegation_depth: None,
        delegation: Vec::new(),
    });
    json(&EventPageBody {
        events: vec![event("exchange", "released", caller)],
        next_page_token: Some(NEXT_PAGE_TOKEN),
    })
}

/// The last page, with a store and revocations.
pub(in crate::gateway) fn last_events() -> Value {
    let caller = CallerBody::ApiKey(ApiKeyCallerBody {
        api_key_id: Some("ak_01JR2WZZZZZC5T9W3M6N7P0QRS"),
    });
    let operator = CallerBody::Operator(OperatorCallerBody { operator: "token" });
    let webhook = CallerBody::Webhook(WebhookCallerBody {
        webhook_event_id: "evt_01JR2X9F4M",
    });
    json(&EventPageBody {
        events: vec![
            event("store", "stored", caller),
            revocation("unchanged", operator),
            revocation("done", webhook),
        ],
        next_page_token: None,
    })
}

pub(super) fn problem(code: &str, message: &str) -> Value {
    json(&ProblemBody {
        message,
        code,
        request_id: REQUEST_ID.to_owned(),
    })
}

fn described() -> CredentialBody<'static> {
    CredentialBody {
        id: ID.to_owned(),
        principal_id: PRINCIPAL,
        service: SERVICE,
        credential_type: TYPE,
        token_expires_at: Some(EXPIRES_AT.to_owned()),
        metadata: metadata(),
        created_at: CREATED_AT.to_owned(),
        updated_at: CREATED_AT.to_owned(),
        required_scopes: vec![REQUIRED_SCOPE],
        allowed_agents: vec![AGENT],
    }
}

fn event<'a>(verb: &'a str, outcome: &'a str, caller: CallerBody<'a>) -> EventBody<'a> {
    EventBody {
        id: EVENT_ID,
        occurred_at: CREATED_AT,
        verb,
        outcome,
        reason: None,
        principal_id: Some(PRINCIPAL),
        service: Some(SERVICE),
        credential_id: Some(ID),
        caller,
        request_id: REQUEST_ID,
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736"),
        peer: "192.0.2.7",
        transport: "rest",
        subject: None,
    }
}

fn revocation<'a>(outcome: &'a str, caller: CallerBody<'a>) -> EventBody<'a> {
    EventBody {
        principal_id: None,
        service: None,
        credential_id: None,
        subject: Some(GRANT_ID),
        ..event("revoke_grant", outcome, caller)
    }
}

fn metadata() -> &'static RawValue {
    serde_json::from_str(METADATA).expect("it is JSON")
}

fn json(body: &impl Serialize) -> Value {
    serde_json::to_value(body).expect("strings and parsed JSON serialise")
}
