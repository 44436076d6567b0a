//! The routes of credentials.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use futures_util::{TryStreamExt, stream};
use http::{HeaderValue, StatusCode, header::AUTHORIZATION, request::Parts};

use super::{
    body,
    openapi::{
        examples, problems,
        requests::{ExchangeRequest, ListParameters, StoreRequest},
    },
    problem::{Failure, Problem},
    query, wire,
};
use crate::{
    model::{
        bearer::{NoBearer, bearer},
        page::CredentialFilter,
        request::RequestContext,
    },
    vault::{KnownDeveloper, Vault, VaultError},
};

/// Store a credential
///
/// Replaces the one that this developer has for the same principal and service. A replaced credential
/// keeps its id and creation time; everything else is replaced, and what is left out goes back to its
/// default.
#[utoipa::path(
    post,
    path = "/v1/vault/credentials",
    operation_id = "storeCredential",
    tag = "Credentials",
    security(("apiKey" = [])),
    request_body(
        content = StoreRequest,
        description = "At most 1 MiB of UTF-8.",
        examples(
            ("least" = (summary = "What is required", value = json!(examples::least_to_store()))),
            ("all" = (summary = "Every field", value = json!(examples::all_to_store()))),
        ),
    ),
    responses(
        (
            status = 201,
            description = "It is stored, whether it is new or replaces one.",
            body = wire::StoredBody,
            example = examples::stored,
        ),
        problems::OfStore,
    ),
)]
pub(super) async fn store(
    State(vault): State<Arc<Vault>>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    answer(&parts, async |context| {
        let caller = vault
            .known_developer(context, authorization(&parts))
            .await?;
        let body = body::read(&vault, &caller, &parts.headers, body).await?;
        let draft = wire::draft(&body.bytes)?;
        let stored = vault.store(&caller, draft).await?;
        Ok(wire::json(StatusCode::CREATED, &wire::stored(&stored)))
    })
    .await
}

/// List credentials
///
/// Describes the developer's credentials, newest first. Never a token.
#[utoipa::path(
    get,
    path = "/v1/vault/credentials",
    operation_id = "listCredentials",
    tag = "Credentials",
    security(("apiKey" = [])),
    params(ListParameters),
    responses(
        (
            status = 200,
            description = "All credentials that match, or one page of them.",
            body = wire::PageBody,
            examples(
                ("all" = (summary = "All, or the last page", value = json!(examples::list()))),
                ("page" = (summary = "A page with more to come", value = json!(examples::page()))),
            ),
        ),
        problems::OfList,
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
        let (filter, paging) = query::list(parts.uri.query().unwrap_or_default())?;
        let Some(paging) = paging else {
            return everything(&vault, context, caller, filter).await;
        };
        let listing = vault.list(&caller, &filter, &paging).await?;
        Ok(wire::json(StatusCode::OK, &wire::page(&listing)))
    })
    .await
}

/// Describe a credential
///
/// Never its tokens.
#[utoipa::path(
    get,
    path = "/v1/vault/credentials/{id}",
    operation_id = "getCredential",
    tag = "Credentials",
    security(("apiKey" = [])),
    params(("id" = String, Path, description = "The credential's id.", example = examples::id)),
    responses(
        (
            status = 200,
            description = "Its description.",
            body = wire::CredentialBody,
            example = examples::credential,
        ),
        problems::OfOne,
    ),
)]
pub(super) async fn get(
    State(vault): State<Arc<Vault>>,
    parts: Parts,
) -> Result<Response, Problem> {
    answer(&parts, async |context| {
        let caller = vault
            .known_developer(context, authorization(&parts))
            .await?;
        let credential = vault.get(&caller, &query::id(parts.uri.path())?).await?;
        Ok(wire::json(StatusCode::OK, &wire::credential(&credential)))
    })
    .await
}

/// Delete a credential
///
/// For good: a later store for the same principal and service makes a new id. A body is ignored.
#[utoipa::path(
    delete,
    path = "/v1/vault/credentials/{id}",
    operation_id = "deleteCredential",
    tag = "Credentials",
    security(("apiKey" = [])),
    params(("id" = String, Path, description = "The credential's id.", example = examples::id)),
    responses((status = 204, description = "It is gone."), problems::OfOne),
)]
pub(super) async fn delete(
    State(vault): State<Arc<Vault>>,
    parts: Parts,
) -> Result<Response, Problem> {
    answer(&parts, async |context| {
        let caller = vault
            .known_developer(context, authorization(&parts))
            .await?;
        vault.delete(&caller, &query::id(parts.uri.path())?).await?;
        Ok(wire::no_content())
    })
    .await
}

/// Exchange a grant for an access token
///
/// Developer and principal come from the grant token. The refresh token never leaves the vault.
#[utoipa::path(
    post,
    path = "/v1/vault/credentials/exchange",
    operation_id = "exchangeCredential",
    tag = "Exchange",
    security(("grantToken" = [])),
    request_body(
        content = ExchangeRequest,
        description = "At most 1 MiB of UTF-8.",
        examples(
            ("service" = (summary = "What is required", value = json!(examples::to_exchange()))),
            ("delivery" = (
                summary = "Every field",
                value = json!(examples::to_exchange_for_the_token()),
            )),
        ),
    ),
    responses(
        (
            status = 200,
            description = "The access token. It is a secret: keep it out of logs.",
            body = wire::ExchangedBody,
            example = examples::exchanged,
        ),
        problems::OfExchange,
    ),
)]
pub(super) async fn exchange(
    State(vault): State<Arc<Vault>>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    answer(&parts, async |context| {
        let agent = vault.known_agent(context, authorization(&parts)).await?;
        let body = body::read(&vault, &agent, &parts.headers, body).await?;
        let service = wire::exchange_request(&body.bytes)?;
        let released = vault.exchange(&agent, &service).await?;
        Ok(wire::exchanged(released))
    })
    .await
}

/// Runs a call and turns its failure into a problem.
pub(super) async fn answer(
    parts: &Parts,
    call: impl AsyncFnOnce(RequestContext) -> Result<Response, Failure>,
) -> Result<Response, Problem> {
    let context = context(parts);
    call(context)
        .await
        .map_err(|failure| Problem::of(failure, context))
}

/// A list without pages: everything, streamed, so that memory does not grow with the list. No
/// connection is held while the client reads, only its permit; a failure after the first byte aborts
/// the connection, so that a truncated list never parses.
async fn everything(
    vault: &Arc<Vault>,
    context: RequestContext,
    caller: KnownDeveloper,
    filter: CredentialFilter,
) -> Result<Response, Failure> {
    let list = vault.whole_list(caller, filter).await?;
    let parts = stream::try_unfold((list, true), |(mut list, opens)| async move {
        let part = list.next_part().await?;
        let bytes = part.map(|part| wire::list_part(&part, opens));
        Ok::<_, VaultError>(bytes.map(|bytes| (bytes, (list, false))))
    });
    Ok(wire::json_stream(Body::from_stream(parts.map_err(
        move |error| {
            error.log(context);
            std::io::Error::other(error.message())
        },
    ))))
}

fn context(parts: &Parts) -> RequestContext {
    *parts
        .extensions
        .get()
        .expect("the listener gives every request its context")
}

pub(super) fn authorization(parts: &Parts) -> Result<&str, NoBearer> {
    let values = parts.headers.get_all(AUTHORIZATION).iter();
    bearer(values.map(HeaderValue::as_bytes))
}
