//! The HTTP and JSON transport: the documented REST routes, in-process, over the same vault.

mod audit_events;
mod audit_wire;
mod body;
mod credentials;
mod docs;
mod openapi;
mod problem;
mod query;
mod webhooks;
mod wire;

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    Router,
    http::{
        HeaderValue, Method, Request,
        header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS},
    },
    response::{IntoResponse, Response},
    routing::{MethodRouter, delete, future::RouteFuture, get, post},
};
use bytes::Bytes;
use futures_util::future::{Either, FutureExt, Map, Ready, ready};
use tower::Service;

use crate::{model::request::Verb, vault::Vault};

pub use problem::interrupted;

type Route = (&'static str, MethodRouter<Arc<Vault>>);

/// The routes of the API: (method, path) of each, as the protobuf annotations state them. The webhook is
/// not among them: it is not for those who call the vault, and its form is its sender's.
pub const ROUTES: [(&str, &str); 6] = [
    ("POST", "/v1/vault/credentials"),
    ("GET", "/v1/vault/credentials"),
    ("GET", "/v1/vault/credentials/{id}"),
    ("DELETE", "/v1/vault/credentials/{id}"),
    ("POST", "/v1/vault/credentials/exchange"),
    ("GET", "/v1/vault/audit-events"),
];

/// The routes, and what holds for all of them, whoever answers; clones are the same.
///
/// It is no middleware of the router: that would box each request and each answer once more, and would
/// have `Allow` added to what is answered before the routes.
#[derive(Clone)]
pub struct Gateway(Router);

/// Serves the vault, its description when it is asked for, and what is to be served beside it.
pub fn routes(vault: Arc<Vault>, describe: bool, beside: Router) -> Gateway {
    let routes: [Route; 5] = [
        (
            "/v1/vault/credentials",
            post(credentials::store).get(credentials::list),
        ),
        (
            "/v1/vault/credentials/exchange",
            post(credentials::exchange),
        ),
        (
            "/v1/vault/credentials/{id}",
            get(credentials::get).merge(delete(credentials::delete)),
        ),
        ("/v1/vault/audit-events", get(audit_events::list)),
        (webhooks::ROUTE, post(webhooks::grantex)),
    ];
    let api = routes
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| {
            router.route(path, methods)
        })
        .with_state(vault)
        .merge(if describe {
            docs::routes()
        } else {
            Router::new()
        })
        .method_not_allowed_fallback(problem::method_not_allowed)
        .fallback(problem::not_found);
    Gateway(api.merge(beside))
}

impl<B> Service<Request<B>> for Gateway
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Map<Either<Ready<Answer>, RouteFuture<Infallible>>, fn(Answer) -> Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = if has_dot_segments(request.uri().path()) {
            Either::Left(ready(Ok(problem::nowhere(&request).into_response())))
        } else {
            Either::Right(self.0.call(request))
        };
        answer.map(|answer| answer.map(with_fixed_headers))
    }
}

type Answer = Result<Response, Infallible>;

/// Which verb a request asks for.
#[must_use]
pub fn verb_of(method: &Method, path: &str) -> Option<Verb> {
    if path == "/v1/vault/audit-events" {
        return matches!(*method, Method::GET | Method::HEAD).then_some(Verb::Audit);
    }
    if let Some(developer) = path.strip_prefix(webhooks::PREFIX) {
        let one = !developer.is_empty() && !developer.contains('/');
        return (one && *method == Method::POST).then_some(Verb::Webhook);
    }
    let rest = path.strip_prefix("/v1/vault/credentials")?;
    let one = rest.len() > 1 && rest.starts_with('/') && !rest[1..].contains('/');
    match (method, rest) {
        (&Method::POST, "") => Some(Verb::Store),
        (&Method::POST, "/exchange") => Some(Verb::Exchange),
        (&Method::GET | &Method::HEAD, "") => Some(Verb::List),
        (&Method::GET | &Method::HEAD, _) if one && rest != "/exchange" => Some(Verb::Get),
        (&Method::DELETE, _) if one && rest != "/exchange" => Some(Verb::Delete),
        _ => None,
    }
}

/// The template of a verb's path.
#[must_use]
pub fn route_of(verb: Verb) -> &'static str {
    match verb {
        Verb::Store | Verb::List => "/v1/vault/credentials",
        Verb::Get | Verb::Delete => "/v1/vault/credentials/{id}",
        Verb::Exchange => "/v1/vault/credentials/exchange",
        Verb::Audit => "/v1/vault/audit-events",
        Verb::Webhook => webhooks::ROUTE,
    }
}

/// Dot segments are other paths, for every method, though the route of one credential matches them.
fn has_dot_segments(path: &str) -> bool {
    path.split('/')
        .any(|segment| segment == "." || segment == "..")
}

/// What every answer carries, whoever makes it.
fn with_fixed_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
