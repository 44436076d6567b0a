//! The description of the API as it is served: the document, and a page that shows it.

use std::{
    borrow::Cow,
    sync::{Arc, LazyLock},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY},
};

use super::{openapi, problem, wire};

/// What the page may load and do: nothing but what stands on this server. Swagger UI has its icons as
/// `data:` images.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The page and its script; the rest comes with Swagger UI.
const PAGE: &str = include_str!("docs/page.html");
const SCRIPT: &str = include_str!("docs/page.js");

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The files of Swagger UI that the page needs; the others are not served.
const ASSETS: [(&str, &str); 3] = [
    ("swagger-ui.css", "text/css; charset=utf-8"),
    ("swagger-ui-bundle.js", JAVASCRIPT),
    ("favicon-32x32.png", "image/png"),
];

/// Made when it is first asked for.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| openapi::document().into());

/// `/openapi.json`, and `/docs` with what belongs to it.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route(
            "/openapi.json",
            get(async || wire::json_stream(Body::from(DOCUMENT.clone()))),
        )
        .route("/docs", get(to_the_page))
        .route(
            "/docs/",
            get(async || file("text/html; charset=utf-8", PAGE.as_bytes())),
        )
        .route(
            "/docs/page.js",
            get(async || file(JAVASCRIPT, SCRIPT.as_bytes())),
        )
        .route("/docs/{asset}", get(asset))
}

/// The page's own links are relative to `/docs/`. So is this one, for a proxy that puts a prefix
/// before it.
async fn to_the_page() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    let location = HeaderValue::from_static("docs/");
    response.headers_mut().insert(LOCATION, location);
    response
}

async fn asset(request: Request) -> Response {
    let name = request.uri().path().strip_prefix("/docs/");
    let known = ASSETS.iter().find(|(known, _)| Some(*known) == name);
    let found = known.and_then(|(name, content_type)| {
        // It is asked for the file only: the page configures Swagger UI itself.
        let config = Arc::new(utoipa_swagger_ui::Config::default());
        let file = utoipa_swagger_ui::serve(name, config).ok().flatten()?;
        Some((*content_type, file.bytes))
    });
    match found {
        Some((content_type, Cow::Borrowed(bytes))) => file(content_type, bytes),
        Some((content_type, Cow::Owned(bytes))) => file(content_type, bytes),
        None => problem::not_found(request).await.into_response(),
    }
}

fn file(content_type: &'static str, content: impl Into<Body>) -> Response {
    let mut response = Response::new(content.into());
    let headers: [(HeaderName, HeaderValue); 3] = [
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    response.headers_mut().extend(headers);
    response
}
