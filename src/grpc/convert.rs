//! Messages to the vault's nouns and back.

use std::{borrow::Cow, collections::BTreeMap};

use prost_types::{ListValue, Struct, Timestamp as PbTimestamp, Value, value::Kind};
use serde_json::Number;
use zeroize::Zeroizing;

use super::pb::{self, audit_event::Caller};
use crate::{
    model::{
        credential::{Credential, CredentialDraft},
        event_filter::{EventFilter, OutcomeName},
        invalid::InvalidInput,
        json::Json,
        metadata::Metadata,
        page::{CredentialFilter, PageSize},
        timestamp::Timestamp,
    },
    vault::{
        CredentialListing, EventListing, ExchangedCredential, ListedEvent, Paging, RecordedCaller,
        Released, StoredCredential,
    },
};

pub(super) fn draft(message: pb::StoreCredentialRequest) -> Result<CredentialDraft, InvalidInput> {
    let token_expires_at = moment("tokenExpiresAt", message.token_expires_at)?;
    Ok(CredentialDraft {
        principal_id: message.principal_id,
        service: message.service,
        access_token: Zeroizing::new(message.access_token),
        credential_type: message.credential_type,
        refresh_token: Zeroizing::new(message.refresh_token),
        token_expires_at,
        metadata: message.metadata.map(json_object).transpose()?,
        required_scopes: message.required_scopes,
        allowed_agents: message.allowed_agents,
    })
}

pub(super) fn stored(stored: &StoredCredential) -> pb::StoreCredentialResponse {
    pb::StoreCredentialResponse {
        id: stored.id.to_string(),
        principal_id: stored.principal_id.to_string(),
        service: stored.service.to_string(),
        credential_type: stored.credential_type.to_string(),
        created_at: Some(timestamp(stored.created_at)),
    }
}

pub(super) fn list_query(
    message: pb::ListCredentialsRequest,
) -> Result<(CredentialFilter, Paging), InvalidInput> {
    let paging = paging(message.page_size, message.page_token)?;
    let filter = CredentialFilter {
        principal_id: message.principal_id,
        service: message.service,
    };
    Ok((filter, paging))
}

pub(super) fn listing(listing: &CredentialListing) -> pb::ListCredentialsResponse {
    pb::ListCredentialsResponse {
        credentials: listing.credentials.iter().map(credential).collect(),
        next_page_token: listing.next_page_token.clone().unwrap_or_default(),
    }
}

pub(super) fn credential(credential: &Credential) -> pb::Credential {
    let restrictions = &credential.restrictions;
    let scopes = restrictions.required_scopes().iter();
    let agents = restrictions.allowed_agents().iter();
    pb::Credential {
        id: credential.id.to_string(),
        principal_id: credential.principal_id.to_string(),
        service: credential.service.to_string(),
        credential_type: credential.credential_type.to_string(),
        token_expires_at: credential.token_expires_at.map(timestamp),
        metadata: Some(metadata(&credential.metadata)),
        created_at: Some(timestamp(credential.created_at)),
        updated_at: Some(timestamp(credential.updated_at)),
        required_scopes: scopes.map(|scope| scope.as_str().to_owned()).collect(),
        allowed_agents: agents.map(ToString::to_string).collect(),
    }
}

/// One of the two places where a secret leaves the typed world; the other is the gateway's.
pub(super) fn exchanged(released: Released<ExchangedCredential>) -> pb::ExchangeCredentialResponse {
    let credential = released.into_inner();
    pb::ExchangeCredentialResponse {
        access_token: credential.access_token.expose().to_owned(),
        service: credential.service.to_string(),
        credential_type: credential.credential_type.to_string(),
        token_expires_at: credential.token_expires_at.map(timestamp),
        metadata: Some(metadata(&credential.metadata)),
    }
}

pub(super) fn audit_query(
    message: pb::ListAuditEventsRequest,
) -> Result<(EventFilter, Paging), InvalidInput> {
    let outcome = message.outcome.map(|text| {
        let name = OutcomeName::parse(&text);
        name.map_err(|fault| InvalidInput::breaks("outcome", fault))
    });
    let filter = EventFilter {
        principal_id: message.principal_id,
        service: message.service,
        credential_id: message.credential_id,
        grant_id: message.grant_id,
        outcome: outcome.transpose()?,
        from: moment("from", message.from)?,
        to: moment("to", message.to)?,
    };
    Ok((filter, paging(message.page_size, message.page_token)?))
}

pub(super) fn events(listing: EventListing) -> pb::ListAuditEventsResponse {
    pb::ListAuditEventsResponse {
        events: listing.events.into_iter().map(event).collect(),
        next_page_token: listing.next_page_token.unwrap_or_default(),
    }
}

fn event(listed: ListedEvent) -> pb::AuditEvent {
    let event = listed.recorded;
    let text = Cow::into_owned;
    pb::AuditEvent {
        id: text(event.id),
        occurred_at: Some(timestamp(listed.occurred_at)),
        verb: text(event.verb),
        outcome: text(event.outcome),
        reason: event.reason.map(text),
        principal_id: event.principal_id.map(text),
        service: event.service.map(text),
        credential_id: event.credential_id.map(text),
        caller: Some(match event.caller {
            RecordedCaller::Developer { api_key_id } => Caller::ApiKey(pb::ApiKeyCaller {
                api_key_id: api_key_id.as_deref().map(str::to_owned),
            }),
            RecordedCaller::Agent(agent) => Caller::Agent(pb::AgentCaller {
                agent: text(agent.agent),
                issuer: text(agent.issuer),
                client_id: agent.client_id.map(text),
                grant_id: text(agent.grant_id),
                token_id: text(agent.token_id),
                parent_agent: agent.parent_agent.map(text),
                parent_grant_id: agent.parent_grant_id.map(text),
                delegation_depth: agent.delegation_depth,
                delegation: agent.delegation.into_iter().map(text).collect(),
            }),
            RecordedCaller::Operator { operator } => Caller::Operator(pb::OperatorCaller {
                operator: text(operator),
            }),
            RecordedCaller::Webhook { webhook_event_id } => Caller::Webhook(pb::WebhookCaller {
                webhook_event_id: text(webhook_event_id),
            }),
        }),
        request_id: text(event.request_id),
        trace_id: event.trace_id.map(text),
        peer: text(event.peer),
        transport: text(event.transport),
        subject: event.subject.map(text),
    }
}

fn paging(size: i32, token: String) -> Result<Paging, InvalidInput> {
    let size = match size {
        0 => PageSize::DEFAULT,
        size => PageSize::new(size.into())
            .ok_or_else(|| InvalidInput::breaks("pageSize", "must be 1 to 1000"))?,
    };
    Ok(Paging {
        size: Some(size),
        token: Some(token),
    })
}

pub(super) fn moment(
    field: &'static str,
    at: Option<PbTimestamp>,
) -> Result<Option<Timestamp>, InvalidInput> {
    let moment = at.map(|at| {
        Timestamp::from_seconds_and_nanos(at.seconds, at.nanos)
            .map_err(|_| InvalidInput::breaks(field, "must be of the years 0001 to 9999"))
    });
    moment.transpose()
}

pub(super) fn timestamp(moment: Timestamp) -> PbTimestamp {
    PbTimestamp {
        seconds: moment.as_second(),
        nanos: moment.subsec_millis() * 1_000_000,
    }
}

/// prost bounds the nesting of what it decodes, so recursion here is bounded too.
fn json_object(fields: Struct) -> Result<Json, InvalidInput> {
    let members = fields
        .fields
        .into_iter()
        .map(|(key, value)| Ok((key, json_value(value)?)));
    members.collect::<Result<_, _>>().map(Json::Object)
}

fn json_value(value: Value) -> Result<Json, InvalidInput> {
    match value.kind {
        None => Err(InvalidInput::breaks(
            "metadata",
            "has a value without a kind",
        )),
        Some(Kind::NullValue(_)) => Ok(Json::Null),
        Some(Kind::BoolValue(flag)) => Ok(Json::Bool(flag)),
        Some(Kind::NumberValue(number)) => {
            let finite = Number::from_f64(number);
            finite.map(Json::Number).ok_or_else(|| {
                InvalidInput::breaks("metadata", "must not contain numbers that are not finite")
            })
        }
        Some(Kind::StringValue(text)) => Ok(Json::String(text)),
        Some(Kind::ListValue(list)) => list
            .values
            .into_iter()
            .map(json_value)
            .collect::<Result<_, _>>()
            .map(Json::Array),
        Some(Kind::StructValue(fields)) => json_object(fields),
    }
}

/// The metadata as a struct; empty when the column holds what the vault never writes, which only
/// the verbs that open an envelope can tell for sure.
fn metadata(metadata: &Metadata) -> Struct {
    let fields: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(metadata.as_str()).unwrap_or_default();
    pb_struct(fields)
}

fn pb_struct(fields: impl IntoIterator<Item = (String, serde_json::Value)>) -> Struct {
    Struct {
        fields: fields
            .into_iter()
            .map(|(key, value)| (key, pb_value(value)))
            .collect(),
    }
}

fn pb_value(value: serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(flag) => Kind::BoolValue(flag),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Array(items) => Kind::ListValue(ListValue {
            values: items.into_iter().map(pb_value).collect(),
        }),
        serde_json::Value::Object(members) => Kind::StructValue(pb_struct(members)),
    };
    Value { kind: Some(kind) }
}
