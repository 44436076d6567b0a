//! The verbs over gRPC, turned into REST's shapes; what every error must carry is checked here.

use std::collections::BTreeMap;

use grantex_vault::{
    grpc::pb::{
        self, audit_event::Caller, audit_service_client::AuditServiceClient,
        vault_service_client::VaultServiceClient,
    },
    model::timestamp::Timestamp,
};
use prost_types::{ListValue, Struct, Timestamp as PbTimestamp, Value as PbValue, value::Kind};
use serde_json::{Map, Value, json};
use tonic::{Code, Request, Status, transport::Channel};
use tonic_types::StatusExt;

use super::{Answer, Client, Problem};

/// The largest answer that a test takes.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

impl Client<'_> {
    /// The generated client.
    pub(crate) fn grpc(&self) -> VaultServiceClient<Channel> {
        VaultServiceClient::new(self.server.channel.clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES)
            .max_encoding_message_size(MAX_ANSWER_BYTES)
    }

    /// The generated client of the audit record.
    pub(crate) fn audit_grpc(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.server.channel.clone())
    }

    /// A message of this caller.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(value) = &self.authorization {
            let value = value.parse().expect("visible characters");
            request.metadata_mut().insert("authorization", value);
        }
        request
    }
}

pub(super) async fn store(client: &Client<'_>, fields: Value) -> Answer {
    let request = client.request(store_request(&fields));
    let stored = client.grpc().store_credential(request).await;
    let stored = stored.map_err(|status| problem(&status))?.into_inner();
    Ok(json!({
        "id": stored.id,
        "principalId": stored.principal_id,
        "service": stored.service,
        "credentialType": stored.credential_type,
        "createdAt": timestamp(stored.created_at.as_ref()),
    }))
}

pub(super) async fn list(client: &Client<'_>, query: Value) -> Answer {
    let text = |name: &str| query[name].as_str().map(str::to_owned);
    let paged = query.get("pageSize").is_some() || query.get("pageToken").is_some();
    let mut message = pb::ListCredentialsRequest {
        principal_id: text("principalId"),
        service: text("service"),
        page_size: query["pageSize"]
            .as_i64()
            .map_or(0, |size| size.try_into().unwrap()),
        page_token: text("pageToken").unwrap_or_default(),
    };
    let mut credentials = Vec::new();
    loop {
        let request = client.request(message.clone());
        let page = client.grpc().list_credentials(request).await;
        let page = page.map_err(|status| problem(&status))?.into_inner();
        credentials.extend(page.credentials.iter().map(credential));
        let next = page.next_page_token;
        if next.is_empty() {
            return Ok(json!({ "credentials": credentials }));
        }
        if paged {
            return Ok(json!({ "credentials": credentials, "nextPageToken": next }));
        }
        // Without a page size REST answers everything.
        message.page_token = next;
    }
}

pub(super) async fn get(client: &Client<'_>, id: &str) -> Answer {
    let request = client.request(pb::GetCredentialRequest { id: id.to_owned() });
    let found = client.grpc().get_credential(request).await;
    let found = found.map_err(|status| problem(&status))?.into_inner();
    Ok(credential(&found.credential.expect("a credential")))
}

pub(super) async fn delete(client: &Client<'_>, id: &str) -> Answer {
    let request = client.request(pb::DeleteCredentialRequest { id: id.to_owned() });
    let deleted = client.grpc().delete_credential(request).await;
    deleted.map_err(|status| problem(&status))?;
    Ok(Value::Null)
}

pub(super) async fn exchange(client: &Client<'_>, service: &str) -> Answer {
    let service = service.to_owned();
    let request = client.request(pb::ExchangeCredentialRequest { service });
    let exchanged = client.grpc().exchange_credential(request).await;
    let exchanged = exchanged.map_err(|status| problem(&status))?.into_inner();
    Ok(json!({
        "accessToken": exchanged.access_token,
        "service": exchanged.service,
        "credentialType": exchanged.credential_type,
        "tokenExpiresAt": timestamp(exchanged.token_expires_at.as_ref()),
        "metadata": metadata(exchanged.metadata),
    }))
}

pub(super) async fn audit_events(client: &Client<'_>, query: Value) -> Answer {
    let text = |name: &str| query[name].as_str().map(str::to_owned);
    let message = pb::ListAuditEventsRequest {
        principal_id: text("principalId"),
        service: text("service"),
        credential_id: text("credentialId"),
        grant_id: text("grantId"),
        outcome: text("outcome"),
        from: text("from").map(|text| pb_timestamp(&text)),
        to: text("to").map(|text| pb_timestamp(&text)),
        page_size: query["pageSize"]
            .as_i64()
            .map_or(0, |size| size.try_into().unwrap()),
        page_token: text("pageToken").unwrap_or_default(),
    };
    let page = client.request(message);
    let page = client.audit_grpc().list_audit_events(page).await;
    let page = page.map_err(|status| problem(&status))?.into_inner();
    let mut answer = json!({"events": page.events.into_iter().map(event).collect::<Value>()});
    if !page.next_page_token.is_empty() {
        answer["nextPageToken"] = page.next_page_token.into();
    }
    Ok(answer)
}

fn event(event: pb::AuditEvent) -> Value {
    let caller = match event.caller.expect("somebody asked") {
        Caller::ApiKey(caller) => json!({"apiKeyId": caller.api_key_id}),
        Caller::Agent(caller) => json!({
            "agent": caller.agent,
            "issuer": caller.issuer,
            "clientId": caller.client_id,
            "grantId": caller.grant_id,
            "tokenId": caller.token_id,
            "parentAgent": caller.parent_agent,
            "parentGrantId": caller.parent_grant_id,
            "delegationDepth": caller.delegation_depth,
            "delegation": caller.delegation,
        }),
        Caller::Operator(caller) => json!({"operator": caller.operator}),
        Caller::Webhook(caller) => json!({"webhookEventId": caller.webhook_event_id}),
    };
    let mut shown = json!({
        "id": event.id,
        "occurredAt": timestamp(event.occurred_at.as_ref()),
        "verb": event.verb,
        "outcome": event.outcome,
        "reason": event.reason,
        "principalId": event.principal_id,
        "service": event.service,
        "credentialId": event.credential_id,
        "caller": caller,
        "requestId": event.request_id,
        "traceId": event.trace_id,
        "peer": event.peer,
        "transport": event.transport,
    });
    if let Some(subject) = event.subject {
        shown["subject"] = subject.into();
    }
    shown
}

/// Checks what the contract says of every error, and reads it.
pub(crate) fn problem(status: &Status) -> Problem {
    let details = status.get_error_details();
    let info = details.error_info().expect("every error has an ErrorInfo");
    assert_eq!(info.domain, "vault.grantex.dev");
    let request_id = details
        .request_info()
        .expect("every error has a RequestInfo");
    let request_id = request_id.request_id.clone();
    let sent = status.metadata().get("x-request-id");
    assert_eq!(sent.map(|id| id.to_str().unwrap()), Some(&*request_id));
    let retry_after = details.retry_info().and_then(|info| info.retry_delay);
    let retried = matches!(status.code(), Code::Unavailable | Code::ResourceExhausted);
    assert_eq!(retried, retry_after.is_some());
    let violations = details.bad_request();
    assert_eq!(status.code() == Code::InvalidArgument, violations.is_some());
    let http = match status.code() {
        Code::InvalidArgument => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::ResourceExhausted => 429,
        Code::Unavailable => 503,
        Code::Internal => 500,
        other => panic!("the contract knows no {other:?}: {status:?}"),
    };
    Problem {
        code: info.reason.clone(),
        message: status.message().to_owned(),
        status: http,
        request_id,
        retry_after: retry_after.map(|delay| delay.as_secs() + u64::from(delay.subsec_nanos() > 0)),
        field: violations.map(|violations| violations.field_violations[0].field.clone()),
    }
}

/// A store as gRPC says it.
pub(crate) fn store_request(fields: &Value) -> pb::StoreCredentialRequest {
    let text = |name: &str| fields[name].as_str().map(str::to_owned);
    let texts = |name: &str| -> Vec<String> {
        let list = fields[name].as_array().into_iter().flatten();
        list.map(|text| text.as_str().expect("gRPC has texts only").to_owned())
            .collect()
    };
    let expiry = text("tokenExpiresAt").map(|text| pb_timestamp(&text));
    pb::StoreCredentialRequest {
        principal_id: text("principalId").unwrap_or_default(),
        service: text("service").unwrap_or_default(),
        access_token: text("accessToken").unwrap_or_default(),
        credential_type: text("credentialType"),
        refresh_token: text("refreshToken").unwrap_or_default(),
        token_expires_at: expiry,
        metadata: fields
            .get("metadata")
            .and_then(Value::as_object)
            .map(pb_struct),
        required_scopes: texts("requiredScopes"),
        allowed_agents: texts("allowedAgents"),
    }
}

fn pb_timestamp(text: &str) -> PbTimestamp {
    let moment = Timestamp::parse(text).expect("gRPC has no texts for times");
    PbTimestamp {
        seconds: moment.as_second(),
        nanos: moment.subsec_millis() * 1_000_000,
    }
}

fn credential(credential: &pb::Credential) -> Value {
    let mut described = json!({
        "id": credential.id,
        "principalId": credential.principal_id,
        "service": credential.service,
        "credentialType": credential.credential_type,
        "tokenExpiresAt": timestamp(credential.token_expires_at.as_ref()),
        "metadata": metadata(credential.metadata.clone()),
        "createdAt": timestamp(credential.created_at.as_ref()),
        "updatedAt": timestamp(credential.updated_at.as_ref()),
    });
    for (name, list) in [
        ("requiredScopes", &credential.required_scopes),
        ("allowedAgents", &credential.allowed_agents),
    ] {
        if !list.is_empty() {
            described[name] = json!(list);
        }
    }
    described
}

fn timestamp(moment: Option<&PbTimestamp>) -> Option<String> {
    let moment = moment?;
    let moment = Timestamp::from_seconds_and_nanos(moment.seconds, moment.nanos);
    Some(moment.unwrap().to_string())
}

fn pb_struct(members: &Map<String, Value>) -> Struct {
    let fields = members.iter();
    let fields: BTreeMap<_, _> = fields
        .map(|(key, value)| (key.clone(), pb_value(value)))
        .collect();
    Struct { fields }
}

fn pb_value(value: &Value) -> PbValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(pb_value).collect(),
        }),
        Value::Object(members) => Kind::StructValue(pb_struct(members)),
    };
    PbValue { kind: Some(kind) }
}

fn metadata(fields: Option<Struct>) -> Value {
    json_object(fields.expect("metadata is always there"))
}

fn json_object(fields: Struct) -> Value {
    let members = fields.fields.into_iter();
    Value::Object(
        members
            .map(|(key, value)| (key, json_value(value)))
            .collect(),
    )
}

fn json_value(value: PbValue) -> Value {
    match value.kind.expect("a value has a kind") {
        Kind::NullValue(_) => Value::Null,
        Kind::BoolValue(flag) => Value::Bool(flag),
        Kind::NumberValue(number) => json_number(number),
        Kind::StringValue(text) => Value::String(text),
        Kind::ListValue(list) => list.values.into_iter().map(json_value).collect(),
        Kind::StructValue(fields) => json_object(fields),
    }
}

/// A whole number as JSON writes one: 1, not 1.0.
fn json_number(number: f64) -> Value {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "compared with the original below"
    )]
    let whole = number as i64;
    #[expect(clippy::cast_precision_loss, reason = "that is what is compared")]
    let same = (whole as f64).to_bits() == number.to_bits();
    if same { json!(whole) } else { json!(number) }
}
