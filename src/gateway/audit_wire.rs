//! The JSON of audit events, keys in the documented order.

use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::field;
use crate::vault::{EventListing, ListedEvent, RecordedCaller};

/// One page of events, newest first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditEventList)]
pub(super) struct EventPageBody<'a> {
    pub(super) events: Vec<EventBody<'a>>,
    /// The `pageToken` of the next page; absent when there is none. There may be one after an empty
    /// page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub(super) next_page_token: Option<&'a str>,
}

/// One verb of one caller, as it was recorded.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditEvent)]
pub(super) struct EventBody<'a> {
    #[schema(value_type = field::EventId)]
    pub(super) id: &'a str,
    /// When the event was made.
    #[schema(value_type = field::Timestamp)]
    pub(super) occurred_at: &'a str,
    #[schema(value_type = field::Verb)]
    pub(super) verb: &'a str,
    #[schema(value_type = field::Outcome)]
    pub(super) outcome: &'a str,
    /// Why it was denied (`grant_revoked`, `out_of_scope`, `agent_not_allowed`) or failed
    /// (`master_key_unavailable`, `does_not_open`, `inconsistent_row`, `master_key_needed`); otherwise
    /// `null`.
    #[schema(required = true)]
    pub(super) reason: Option<&'a str>,
    /// Whose credential it was about, as far as it is known; of a list the principal that it was asked
    /// for.
    #[schema(value_type = Option<field::PrincipalId>, required = true)]
    pub(super) principal_id: Option<&'a str>,
    /// In the spelling of the caller or of the stored credential.
    #[schema(value_type = Option<field::ServiceName>, required = true)]
    pub(super) service: Option<&'a str>,
    /// Which credential, when there was one, or one was asked for.
    #[schema(value_type = Option<field::CredentialId>, required = true)]
    pub(super) credential_id: Option<&'a str>,
    /// Who asked. Callers that cannot be verified are not recorded.
    pub(super) caller: CallerBody<'a>,
    /// The request's id, as in `X-Request-Id` and in the vault's log.
    #[schema(format = "uuid")]
    pub(super) request_id: &'a str,
    /// The trace that the request was part of; `null` when there was none.
    #[schema(pattern = "^[0-9a-f]{32}$", required = true)]
    pub(super) trace_id: Option<&'a str>,
    /// The address that the request came from, or that a trusted proxy named.
    #[schema(min_length = 1)]
    pub(super) peer: &'a str,
    #[schema(value_type = field::Transport)]
    pub(super) transport: &'a str,
    /// What an operation was about: a grant, a token, an API key, a master key. Absent of everything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub(super) subject: Option<&'a str>,
}

/// Who asked.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Caller)]
pub(super) enum CallerBody<'a> {
    /// A developer.
    ApiKey(ApiKeyCallerBody<'a>),
    /// An agent.
    Agent(AgentCallerBody<'a>),
    /// An operator of the vault.
    Operator(OperatorCallerBody<'a>),
    /// The developer's Grantex auth service.
    Webhook(WebhookCallerBody<'a>),
}

/// A developer, by an API key.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApiKeyCaller)]
pub(super) struct ApiKeyCallerBody<'a> {
    /// Which key: `ak_` and a ULID. Never the key itself. `null` when developers are the word of another
    /// authority, which does not name their keys.
    #[schema(min_length = 1, required = true)]
    pub(super) api_key_id: Option<&'a str>,
}

/// An agent, by a grant token.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AgentCaller)]
pub(super) struct AgentCallerBody<'a> {
    /// The agent's DID.
    #[schema(min_length = 1)]
    pub(super) agent: &'a str,
    /// Who signed the token (claim `iss`).
    #[schema(min_length = 1)]
    pub(super) issuer: &'a str,
    /// The agent's client at the issuer (claim `client_id`); `null` when the token has the short form.
    #[schema(required = true)]
    pub(super) client_id: Option<&'a str>,
    /// The grant; the token's id when it named none.
    #[schema(min_length = 1)]
    pub(super) grant_id: &'a str,
    /// The token (claim `jti`).
    #[schema(min_length = 1)]
    pub(super) token_id: &'a str,
    /// The agent that delegated last.
    #[schema(required = true)]
    pub(super) parent_agent: Option<&'a str>,
    /// The grant that was delegated from.
    #[schema(required = true)]
    pub(super) parent_grant_id: Option<&'a str>,
    /// How many delegations deep, as the token claims.
    #[schema(required = true)]
    pub(super) delegation_depth: Option<i64>,
    /// The agents that delegated, first to last, as far as the token names them.
    pub(super) delegation: Vec<&'a str>,
}

/// An operator of the vault.
#[derive(Serialize, ToSchema)]
#[schema(as = OperatorCaller)]
pub(super) struct OperatorCallerBody<'a> {
    /// Which: `token`, the subject of a client certificate, or the user of a command line.
    #[schema(min_length = 1)]
    pub(super) operator: &'a str,
}

/// The developer's Grantex auth service, by a signed webhook.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookCaller)]
pub(super) struct WebhookCallerBody<'a> {
    /// The `id` of the webhook's event.
    #[schema(min_length = 1)]
    pub(super) webhook_event_id: &'a str,
}

pub(super) fn page(listing: &EventListing) -> EventPageBody<'_> {
    EventPageBody {
        events: listing.events.iter().map(event).collect(),
        next_page_token: listing.next_page_token.as_deref(),
    }
}

fn event(listed: &ListedEvent) -> EventBody<'_> {
    let event = &listed.recorded;
    EventBody {
        id: &event.id,
        occurred_at: &event.occurred_at,
        verb: &event.verb,
        outcome: &event.outcome,
        reason: event.reason.as_deref(),
        principal_id: event.principal_id.as_deref(),
        service: event.service.as_deref(),
        credential_id: event.credential_id.as_deref(),
        caller: caller(&event.caller),
        request_id: &event.request_id,
        trace_id: event.trace_id.as_deref(),
        peer: &event.peer,
        transport: &event.transport,
        subject: event.subject.as_deref(),
    }
}

fn caller<'a>(caller: &'a RecordedCaller<'_>) -> CallerBody<'a> {
    match caller {
        RecordedCaller::Developer { api_key_id } => {
            let api_key_id = api_key_id.as_deref();
            CallerBody::ApiKey(ApiKeyCallerBody { api_key_id })
        }
        RecordedCaller::Agent(agent) => CallerBody::Agent(AgentCallerBody {
            agent: &agent.agent,
            issuer: &agent.issuer,
            client_id: agent.client_id.as_deref(),
            grant_id: &agent.grant_id,
            token_id: &agent.token_id,
            parent_agent: agent.parent_agent.as_deref(),
            parent_grant_id: agent.parent_grant_id.as_deref(),
            delegation_depth: agent.delegation_depth,
            delegation: agent.delegation.iter().map(AsRef::as_ref).collect(),
        }),
        RecordedCaller::Operator { operator } => {
            CallerBody::Operator(OperatorCallerBody { operator })
        }
        RecordedCaller::Webhook { webhook_event_id } => {
            CallerBody::Webhook(WebhookCallerBody { webhook_event_id })
        }
    }
}
