//! The private listener: probes and metrics, for whoever can reach it, without credentials.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{health::Health, metrics::Metrics};

#[derive(Clone)]
struct Shown {
    health: Arc<Health>,
    metrics: Metrics,
}

/// Serves `/livez`, `/readyz`, `/metrics`, and beside them gRPC's health.
pub fn routes(health: Arc<Health>, metrics: Metrics, grpc_health: Router) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(Shown { health, metrics })
        .layer(middleware::map_response(async |mut response: Response| {
            let no_store = HeaderValue::from_static("no-store");
            response.headers_mut().insert(CACHE_CONTROL, no_store);
            response
        }))
        .merge(grpc_health)
}

/// That it answers is the answer: the runtime runs.
async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(shown): State<Shown>) -> (StatusCode, Json<impl serde::Serialize>) {
    let readiness = shown.health.readiness();
    let status = if readiness.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness))
}

async fn metrics_text(State(shown): State<Shown>) -> Response {
    let mut response = shown.metrics.text().into_response();
    let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, format);
    response
}
