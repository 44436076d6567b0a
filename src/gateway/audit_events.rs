//! The route of the audit record.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use http::{StatusCode, request::Parts};

use super::{
    audit_wire,
    credentials::{answer, authorization},
    openapi::{examples, problems, requests::EventParameters},
    problem::Problem,
    query, wire,
};
use crate::vault::Vault;

/// List audit events
///
/// Which caller did what with the developer's credentials, newest first, always in pages. Reading is
/// itself recorded, with the verb `audit`; a page has everything that was recorded before it and not
/// its own event. An event is there once it is committed, which may be seconds after its `occurredAt`:
/// whoever asks for what is new asks from a little earlier than the last that it has.
///
/// `principalId`, `from` and `to` say where to look; what matches the other filters is
/// picked from there. A page ends when it is full, or at 512 KiB of events, or when 10,000 events were
/// looked at: it may be shorter than asked for, or empty. Go on while there is a `nextPageToken`.
#[utoipa::path(
    get,
    path = "/v1/vault/audit-events",
    operation_id = "listAuditEvents",
    tag = "Audit",
    security(("apiKey" = [])),
    params(EventParameters),
    responses(
        (
            status = 200,
            description = "One page of the events that match.",
            body = audit_wire::EventPageBody,
            examples(
                ("page" = (summary = "A page with more to come", value = json!(examples::events()))),
                ("last" = (summary = "The last page", value = json!(examples::last_events()))),
            ),
        ),
        problems::OfAudit,
    ),
)]
pub(super) async fn list(
    State(vault): State<Arc<Vault>>,
    parts: Parts,
) -> Result<Response, Problem> {
    answer(&parts, async |context| {
        let caller = vault
            .known_developer(context, authorization(&parts))
            .await?;
        let (filter, paging) = query::audit_events(parts.uri.query().unwrap_or_default())?;
        let listing = vault.audit_events(&caller, &filter, &paging).await?;
        Ok(wire::json(StatusCode::OK, &audit_wire::page(&listing)))
    })
    .await
}
