//! The JSON of requests and answers, keys in the documented order.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::openapi::field;
use crate::{
    model::{
        credential::{Credential, CredentialDraft},
        invalid::InvalidInput,
        json::{Json, JsonFault, Members, has_duplicates},
        metadata::{Metadata, MetadataFault},
        scope::RequiredScope,
        text::AgentId,
        timestamp::Timestamp,
    },
    vault::{CredentialListing, ExchangedCredential, Released, StoredCredential},
};

/// The fields of a store's body.
pub(super) const STORE_FIELDS: [&str; 9] = [
    "principalId",
    "service",
    "accessToken",
    "credentialType",
    "refreshToken",
    "tokenExpiresAt",
    "metadata",
    "requiredScopes",
    "allowedAgents",
];

/// The fields of an exchange's body.
pub(super) const EXCHANGE_FIELDS: [&str; 2] = ["service", "delivery"];

/// The body of a store.
pub(super) fn draft(body: &[u8]) -> Result<CredentialDraft, InvalidInput> {
    let members = members(body, &STORE_FIELDS)?;
    let expiry = text(&members, "tokenExpiresAt")?.map(|text| {
        Timestamp::parse(&text).map_err(|fault| InvalidInput::breaks("tokenExpiresAt", fault))
    });
    Ok(CredentialDraft {
        principal_id: text(&members, "principalId")?.unwrap_or_default(),
        service: text(&members, "service")?.unwrap_or_default(),
        access_token: Zeroizing::new(text(&members, "accessToken")?.unwrap_or_default()),
        credential_type: text(&members, "credentialType")?,
        refresh_token: Zeroizing::new(text(&members, "refreshToken")?.unwrap_or_default()),
        token_expires_at: expiry.transpose()?,
        metadata: parse_metadata(&members)?,
        required_scopes: texts(&members, "requiredScopes")?,
        allowed_agents: texts(&members, "allowedAgents")?,
    })
}

/// The body of an exchange: the service that is asked for.
pub(super) fn exchange_request(body: &[u8]) -> Result<String, InvalidInput> {
    let members = members(body, &EXCHANGE_FIELDS)?;
    // Never a raw token to a caller that asked for a reference.
    if text(&members, "delivery")?.is_some_and(|delivery| delivery != "token") {
        return Err(InvalidInput::breaks(
            "delivery",
            "must be \"token\": no other is supported",
        ));
    }
    // One that is absent is empty, which the vault refuses.
    Ok(text(&members, "service")?.unwrap_or_default())
}

/// What was stored.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StoredCredential)]
pub(super) struct StoredBody<'a> {
    /// The same as before when a credential was replaced.
    #[schema(value_type = field::CredentialId)]
    pub(super) id: String,
    #[schema(value_type = field::PrincipalId)]
    pub(super) principal_id: &'a str,
    /// As it was spelled in the request.
    #[schema(value_type = field::ServiceName)]
    pub(super) service: &'a str,
    #[schema(value_type = field::CredentialType)]
    pub(super) credential_type: &'a str,
    /// When the credential was first stored.
    #[schema(value_type = field::Timestamp)]
    pub(super) created_at: String,
}

pub(super) fn stored(stored: &StoredCredential) -> StoredBody<'_> {
    StoredBody {
        id: stored.id.to_string(),
        principal_id: stored.principal_id.as_str(),
        service: stored.service.as_str(),
        credential_type: stored.credential_type.as_str(),
        created_at: stored.created_at.to_string(),
    }
}

/// The description of a stored credential: everything but its tokens.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Credential)]
pub(super) struct CredentialBody<'a> {
    #[schema(value_type = field::CredentialId)]
    pub(super) id: String,
    #[schema(value_type = field::PrincipalId)]
    pub(super) principal_id: &'a str,
    /// In the spelling of its last store.
    #[schema(value_type = field::ServiceName)]
    pub(super) service: &'a str,
    #[schema(value_type = field::CredentialType)]
    pub(super) credential_type: &'a str,
    /// When the access token expires upstream; `null` when the store did not say.
    #[schema(value_type = Option<field::Timestamp>, required = true)]
    pub(super) token_expires_at: Option<String>,
    #[schema(value_type = field::Metadata)]
    pub(super) metadata: &'a RawValue,
    /// When the credential was first stored.
    #[schema(value_type = field::Timestamp)]
    pub(super) created_at: String,
    /// When it was last stored; equal to `createdAt` after the first store.
    #[schema(value_type = field::Timestamp)]
    pub(super) updated_at: String,
    /// The scopes that a grant token must carry beside one for the service; absent when the store named
    /// none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<field::RequiredScope>, required = false, min_items = 1, max_items = 64)]
    pub(super) required_scopes: Vec<&'a str>,
    /// The agents that may exchange it; absent when the store named none, and every agent may.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<field::AgentId>, required = false, min_items = 1, max_items = 64)]
    pub(super) allowed_agents: Vec<&'a str>,
}

pub(super) fn credential(credential: &Credential) -> CredentialBody<'_> {
    let restrictions = &credential.restrictions;
    let scopes = restrictions.required_scopes().iter();
    let agents = restrictions.allowed_agents().iter();
    CredentialBody {
        id: credential.id.to_string(),
        principal_id: credential.principal_id.as_str(),
        service: credential.service.as_str(),
        credential_type: credential.credential_type.as_str(),
        token_expires_at: credential.token_expires_at.map(|at| at.to_string()),
        metadata: metadata(&credential.metadata),
        created_at: credential.created_at.to_string(),
        updated_at: credential.updated_at.to_string(),
        required_scopes: scopes.map(RequiredScope::as_str).collect(),
        allowed_agents: agents.map(AgentId::as_str).collect(),
    }
}

/// All credentials that match, or one page of them, newest first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CredentialList)]
pub(super) struct PageBody<'a> {
    pub(super) credentials: Vec<CredentialBody<'a>>,
    /// The `pageToken` of the next page; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub(super) next_page_token: Option<&'a str>,
}

pub(super) fn page(listing: &CredentialListing) -> PageBody<'_> {
    PageBody {
        credentials: listing.credentials.iter().map(credential).collect(),
        next_page_token: listing.next_page_token.as_deref(),
    }
}

/// A part of a list that is written in one body: the first opens it, the last closes it.
pub(super) fn list_part(listing: &CredentialListing, opens: bool) -> Bytes {
    let mut bytes = Vec::new();
    let mut separator: &[u8] = if opens { b"{\"credentials\":[" } else { b"," };
    for item in &listing.credentials {
        bytes.extend_from_slice(separator);
        serde_json::to_writer(&mut bytes, &credential(item)).expect("strings serialise");
        separator = b",";
    }
    if listing.credentials.is_empty() && opens {
        bytes.extend_from_slice(separator);
    }
    if listing.next.is_none() {
        bytes.extend_from_slice(b"]}");
    }
    bytes.into()
}

/// A released credential. Its access token is a secret: keep it out of logs.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ExchangedCredential)]
pub(super) struct ExchangedBody<'a> {
    /// The upstream access token.
    #[schema(min_length = 1)]
    pub(super) access_token: &'a str,
    /// In the spelling of its last store.
    #[schema(value_type = field::ServiceName)]
    pub(super) service: &'a str,
    #[schema(value_type = field::CredentialType)]
    pub(super) credential_type: &'a str,
    /// When the access token expires upstream; `null` when the store did not say. An expired one is
    /// handed out as it is.
    #[schema(value_type = Option<field::Timestamp>, required = true)]
    pub(super) token_expires_at: Option<String>,
    #[schema(value_type = field::Metadata)]
    pub(super) metadata: &'a RawValue,
}

/// One of the two places where a secret leaves the typed world; the other is gRPC's.
pub(super) fn exchanged(released: Released<ExchangedCredential>) -> Response {
    let credential = released.into_inner();
    // Room for all of it, but for what must be escaped: growing would leave copies of the token behind.
    let room = credential.access_token.expose().len() + credential.metadata.as_str().len() + 512;
    let body = ExchangedBody {
        access_token: credential.access_token.expose(),
        service: credential.service.as_str(),
        credential_type: credential.credential_type.as_str(),
        token_expires_at: credential.token_expires_at.map(|at| at.to_string()),
        metadata: metadata(&credential.metadata),
    };
    json_within(room, StatusCode::OK, &body)
}

/// An answer with a JSON body.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    json_within(0, status, body)
}

/// The same, of about so many bytes.
fn json_within(room: usize, status: StatusCode, body: &impl Serialize) -> Response {
    let mut bytes = Vec::with_capacity(room);
    serde_json::to_writer(&mut bytes, body).expect("strings and parsed JSON serialise");
    let mut response = json_stream(Body::from(bytes));
    *response.status_mut() = status;
    response
}

/// A `200` whose JSON is already bytes.
pub(super) fn json_stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// `204`.
pub(super) fn no_content() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// The metadata as it is stored. The column is of type json, so that it parses.
fn metadata(metadata: &Metadata) -> &RawValue {
    let parsed = serde_json::from_str(metadata.as_str());
    parsed.unwrap_or_else(|_| serde_json::from_str("{}").expect("an empty object"))
}

/// Splits a body and checks what nobody asks for as strictly as the fields: a duplicate key is a
/// mistake wherever it stands.
fn members<'a>(body: &'a [u8], fields: &[&str]) -> Result<Members<'a>, InvalidInput> {
    let in_body = |fault: JsonFault| InvalidInput::breaks("body", fault);
    let members =
        Members::split(body).map_err(|_| InvalidInput::breaks("body", "must be a JSON object"))?;
    if has_duplicates(members.iter().map(|(name, _)| name)) {
        return Err(in_body(JsonFault::DuplicateKey));
    }
    for (_, raw) in members.iter().filter(|(name, _)| !fields.contains(name)) {
        Json::parse_member(raw).map_err(in_body)?;
    }
    Ok(members)
}

fn get(members: &Members<'_>, field: &'static str) -> Result<Option<Json>, InvalidInput> {
    members
        .get(field)
        .map_err(|fault| InvalidInput::breaks(field, fault))
}

/// What is too deep for any body is said to be too deep for metadata, whose bound is the lower one.
fn parse_metadata(members: &Members<'_>) -> Result<Option<Json>, InvalidInput> {
    members.get("metadata").map_err(|fault| match fault {
        JsonFault::TooDeep => InvalidInput::breaks("metadata", MetadataFault::TooDeep),
        fault => InvalidInput::breaks("metadata", fault),
    })
}

fn text(members: &Members<'_>, field: &'static str) -> Result<Option<String>, InvalidInput> {
    match get(members, field)? {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(_) => Err(InvalidInput::breaks(field, "must be a string")),
    }
}

fn texts(members: &Members<'_>, field: &'static str) -> Result<Vec<String>, InvalidInput> {
    let not_texts = || InvalidInput::breaks(field, "must be an array of strings");
    let text = |item| match item {
        Json::String(text) => Ok(text),
        _ => Err(not_texts()),
    };
    match get(members, field)? {
        None => Ok(Vec::new()),
        Some(Json::Array(items)) => items.into_iter().map(text).collect(),
        Some(_) => Err(not_texts()),
    }
}
