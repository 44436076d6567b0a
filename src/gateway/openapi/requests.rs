//! What requests hold, for readers only: what is sent is read by the strict parser in `wire`.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::field;
use crate::model::{restrictions::MAX_ENTRIES, secret::MAX_TOKEN_BYTES};

/// A credential to store. Unknown fields are ignored; a key that stands twice is refused.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::gateway) struct StoreRequest<'a> {
    #[schema(value_type = field::PrincipalId)]
    pub(super) principal_id: &'a str,
    #[schema(value_type = field::ServiceName)]
    pub(super) service: &'a str,
    /// The upstream access token: 1 byte to 256 KiB of UTF-8, any Unicode.
    #[schema(min_length = 1, max_length = 262_144)]
    pub(super) access_token: &'a str,
    /// `oauth2` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<field::CredentialType>)]
    pub(super) credential_type: Option<&'a str>,
    /// The upstream refresh token, up to 256 KiB; empty means none. It never leaves the vault.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 262_144)]
    pub(super) refresh_token: Option<&'a str>,
    /// When the access token expires upstream, truncated to milliseconds; a past time is stored as
    /// it is. RFC 3339 with any offset, of the years 0001 to 9999 in UTC. Also taken: a time without
    /// an offset, which is UTC; a date alone, which is its midnight; a space for the `T`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub(super) token_expires_at: Option<&'a str>,
    /// The developer's own data: a JSON object of up to 64 KiB, nested at most 32 levels deep, itself
    /// the first, without NUL in its strings, its numbers finite doubles. It is not encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<field::Metadata>)]
    pub(super) metadata: Option<&'a RawValue>,
    /// Scopes of which a grant token must carry every one, beside one that permits the service. What
    /// stands twice is kept once; nothing is required when absent or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<field::RequiredScope>>, max_items = 64)]
    pub(super) required_scopes: Option<&'a [&'a str]>,
    /// Agents of which a grant token must name one. What stands twice is kept once; every agent is
    /// allowed when absent or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<field::AgentId>>, max_items = 64)]
    pub(super) allowed_agents: Option<&'a [&'a str]>,
}

/// Which service's credential to release. Unknown fields are ignored; a key that stands twice is
/// refused.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::gateway) struct ExchangeRequest<'a> {
    #[schema(value_type = field::ServiceName)]
    pub(super) service: &'a str,
    /// How the token is handed out: in the answer. There is no other way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<field::Delivery>)]
    pub(super) delivery: Option<&'a str>,
}

/// Which credentials to list, and whether in pages. A parameter may stand once.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[expect(dead_code, reason = "the parameters are read in `query`")]
pub(in crate::gateway) struct ListParameters {
    /// Only this principal's; an empty value matches nothing.
    #[param(example = "user_abc123")]
    principal_id: Option<String>,
    /// Only this service's, compared without ASCII case; an empty value matches nothing.
    #[param(example = "github")]
    service: Option<String>,
    /// How many to answer at most. Without it and without `pageToken` all are answered. A page may
    /// be shorter: go on while there is a `nextPageToken`.
    #[param(minimum = 1, maximum = 1000, example = 100)]
    page_size: Option<u16>,
    /// The `nextPageToken` of the page before, with the same filters. Without `pageSize` a page
    /// then has 100.
    page_token: Option<String>,
}

/// Which events to list. An event must match every filter; a parameter may stand once.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[expect(dead_code, reason = "the parameters are read in `query`")]
pub(in crate::gateway) struct EventParameters {
    /// Only events about this principal's credentials; what cannot be a principal, an empty value say,
    /// matches nothing.
    #[param(example = "user_abc123")]
    principal_id: Option<String>,
    /// Only events about this service, compared without ASCII case; what cannot be a service matches
    /// nothing.
    #[param(example = "github")]
    service: Option<String>,
    /// Only events about this credential; what cannot be the id of one matches nothing.
    #[param(example = "vc_01JR2XJ4Y8ZC5T9W3M6N7P0QRS")]
    credential_id: Option<String>,
    /// Only events of agents that asked with this grant; what cannot be a grant matches nothing.
    #[param(example = "grnt_01JR2X8K3V")]
    grant_id: Option<String>,
    /// Only events with this outcome.
    #[param(value_type = Option<field::Outcome>, example = "released")]
    outcome: Option<String>,
    /// Only events of this moment and later, truncated to milliseconds; written as `tokenExpiresAt` of
    /// a store is. A `+` in it is sent as `%2B`.
    #[param(format = DateTime, example = "2026-04-05T00:00:00Z")]
    from: Option<String>,
    /// Only events before this moment, written like `from`.
    #[param(format = DateTime, example = "2026-04-06T00:00:00Z")]
    to: Option<String>,
    /// How many to answer at most; 100 without it.
    #[param(minimum = 1, maximum = 1000, example = 100)]
    page_size: Option<u16>,
    /// The `nextPageToken` of the page before, with the same filters.
    page_token: Option<String>,
}

const _: () = assert!(MAX_TOKEN_BYTES == 262_144 && MAX_ENTRIES == 64);
