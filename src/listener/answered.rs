//! What is counted and logged of a request that was answered.

use std::time::Duration;

use http::Response;
use tracing::field;

use crate::{
    metrics::{Metrics, RequestOutcome},
    model::request::{RequestContext, Transport, Verb},
    underway::Underway,
};

/// Counts an answer and writes its line in the log; `docs/logging.md` has the fields. Answers the
/// status: that of HTTP, or the gRPC code.
pub(super) fn tell<B>(
    response: &Response<B>,
    context: RequestContext,
    verb: Option<Verb>,
    underway: &Underway,
    duration: Duration,
    metrics: &Metrics,
) -> u16 {
    let status = status(response, context.transport);
    let outcome = outcome(status, context.transport);
    metrics.answered(verb, context.transport, outcome, duration);
    tracing::info!(
        target: "grantex_vault::request",
        request_id = %context.id,
        trace_id = context.trace.map(field::display),
        transport = context.transport.as_str(),
        verb = verb.map_or("none", Verb::as_str),
        caller = underway.caller().as_str(),
        outcome = outcome.as_str(),
        status,
        duration_ms = milliseconds(duration),
        database_ms = milliseconds(underway.database_time()),
        kms_ms = milliseconds(underway.kms_time()),
        "request"
    );
    status
}

/// Whole microseconds, as milliseconds.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The HTTP status, or the gRPC code; a gRPC answer without one among its headers has a message, so
/// it is a success.
fn status<B>(response: &Response<B>, transport: Transport) -> u16 {
    match transport {
        Transport::Rest => response.status().as_u16(),
        Transport::Grpc => response
            .headers()
            .get("grpc-status")
            .and_then(|code| code.to_str().ok()?.parse().ok())
            .unwrap_or(0),
    }
}

/// What became of a request, by its HTTP status or its gRPC code (`google.rpc.Code`).
fn outcome(status: u16, transport: Transport) -> RequestOutcome {
    match (transport, status) {
        (Transport::Rest, 100..=399) | (Transport::Grpc, 0) => RequestOutcome::Ok,
        (Transport::Rest, 401) | (Transport::Grpc, 16) => RequestOutcome::Unauthorized,
        (Transport::Rest, 403) | (Transport::Grpc, 7) => RequestOutcome::Forbidden,
        (Transport::Rest, 404 | 405) | (Transport::Grpc, 5 | 12) => RequestOutcome::NotFound,
        (Transport::Rest, 429) | (Transport::Grpc, 8) => RequestOutcome::RateLimited,
        (Transport::Rest, 400..=499) | (Transport::Grpc, 3 | 11) => RequestOutcome::BadRequest,
        (Transport::Rest, 503) | (Transport::Grpc, 14) => RequestOutcome::Unavailable,
        (Transport::Grpc, 1 | 4) => RequestOutcome::DeadlineExceeded,
        (Transport::Rest | Transport::Grpc, _) => RequestOutcome::Internal,
    }
}
