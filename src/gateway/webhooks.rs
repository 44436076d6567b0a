//! The route that a Grantex auth service calls.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};
use http::{HeaderMap, HeaderValue};

use super::{body, credentials::answer, problem::Problem, query, wire};
use crate::vault::{SignatureHeaders, Vault};

/// Where a developer's webhooks go.
pub(super) const ROUTE: &str = "/v1/webhooks/grantex/{developerId}";
/// Its beginning.
pub(super) const PREFIX: &str = "/v1/webhooks/grantex/";

/// The largest body.
const MAX_BYTES: usize = 64 * 1024;

/// Takes a webhook: 204 when what it says is done, was done before, or is nothing to do.
pub(super) async fn grantex(
    State(vault): State<Arc<Vault>>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    answer(&parts, async |context| {
        let developer = query::id(parts.uri.path())?;
        let values = |name| values(&parts.headers, name);
        let headers = SignatureHeaders {
            v2: &values("x-grantex-signature-v2"),
            timestamp: &values("x-grantex-timestamp"),
            plain: &values("x-grantex-signature"),
        };
        let webhook = vault.unverified_webhook(context, &developer, &headers);
        let webhook = webhook.await?;
        body::check_headers(&parts.headers, MAX_BYTES)?;
        let body = webhook.read_body(body, MAX_BYTES).await;
        let body = body.map_err(|error| body::failure(error, MAX_BYTES))?;
        vault.grantex_webhook(webhook, &body).await?;
        Ok(wire::no_content())
    })
    .await
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    let values = headers.get_all(name).iter();
    values.map(HeaderValue::as_bytes).collect()
}
