//! The five routes.

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
    problem::{Failure, Problem},
    query, wire,
};
use crate::{
    model::{
        bearer::{NoBearer, bearer},
        page::{CredentialFilter, PageSize, Position},
        request::RequestContext,
    },
    vault::{CredentialListing, KnownDeveloper, Paging, Vault, VaultError},
};

pub(super) async fn store(
    State(vault): State<Arc<Vault>>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    answer(&parts, async |context| {
        let caller = vault
            .known_developer(context, authorization(&parts))
            .await?;
        let draft = wire::draft(&body::read(&parts.headers, body).await?)?;
        let stored = vault.store(&caller, draft).await?;
        Ok(wire::json(StatusCode::CREATED, &wire::stored(&stored)))
    })
    .await
}

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
            return everything(vault, context, caller, filter).await;
        };
        let listing = vault.list(&caller, &filter, &paging).await?;
        Ok(wire::json(StatusCode::OK, &wire::page(&listing)))
    })
    .await
}

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

pub(super) async fn exchange(
    State(vault): State<Arc<Vault>>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    answer(&parts, async |context| {
        let agent = vault.known_agent(context, authorization(&parts)).await?;
        let service = wire::exchange_request(&body::read(&parts.headers, body).await?)?;
        let released = vault.exchange(&agent, &service).await?;
        Ok(wire::exchanged(released))
    })
    .await
}

/// Runs a call and turns its failure into a problem.
async fn answer(
    parts: &Parts,
    call: impl AsyncFnOnce(RequestContext) -> Result<Response, Failure>,
) -> Result<Response, Problem> {
    let context = context(parts);
    call(context)
        .await
        .map_err(|failure| Problem::of(failure, context))
}

/// A list without pages: everything, streamed, so that memory does not grow with the list. No
/// connection is held while the client reads; a failure after the first byte aborts the connection,
/// so that a truncated list never parses.
async fn everything(
    vault: Arc<Vault>,
    context: RequestContext,
    caller: KnownDeveloper,
    filter: CredentialFilter,
) -> Result<Response, Failure> {
    let all = Paging {
        size: Some(PageSize::MAX),
        token: None,
    };
    let first = vault.list(&caller, &filter, &all).await?;
    let start = ListPart::Page {
        listing: first,
        opens: true,
    };
    let parts = stream::try_unfold((vault, caller, filter, start), |rest| async {
        let (vault, caller, filter, part) = rest;
        let (listing, opens) = match part {
            ListPart::Page { listing, opens } => (listing, opens),
            ListPart::After(position) => {
                let size = PageSize::MAX;
                (
                    vault
                        .list_on(&caller, &filter, Some(position), size)
                        .await?,
                    false,
                )
            }
            ListPart::End => return Ok(None),
        };
        let bytes = wire::list_part(&listing, opens);
        let next = listing.next.map_or(ListPart::End, ListPart::After);
        Ok::<_, VaultError>(Some((bytes, (vault, caller, filter, next))))
    });
    Ok(wire::json_stream(Body::from_stream(parts.map_err(
        move |error| {
            error.log(context);
            std::io::Error::other(error.message())
        },
    ))))
}

/// Where a streamed list is.
enum ListPart {
    Page {
        listing: CredentialListing,
        opens: bool,
    },
    After(Position),
    End,
}

fn context(parts: &Parts) -> RequestContext {
    *parts
        .extensions
        .get()
        .expect("the listener gives every request its context")
}

fn authorization(parts: &Parts) -> Result<&str, NoBearer> {
    let values = parts.headers.get_all(AUTHORIZATION).iter();
    bearer(values.map(HeaderValue::as_bytes))
}
