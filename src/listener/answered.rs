//! What is counted and logged of a request.

use std::time::{Duration, Instant};

use http::Response;
use tracing::{Span, field};

use super::trace;
use crate::{
    metrics::{Metrics, RequestOutcome},
    model::request::{RejectedMessage, RequestContext, Transport, Verb},
    underway::{CallerKind, Underway},
};

/// A request that nothing was counted or logged of yet. Dropped like this it was abandoned: its client
/// went away, often because it would not wait longer, or we closed a connection that was to end. That
/// is to be seen on the dashboards too.
pub(super) struct Untold {
    pub(super) context: RequestContext,
    pub(super) verb: Option<Verb>,
    pub(super) started: Instant,
    pub(super) underway: Underway,
    pub(super) metrics: Metrics,
    pub(super) span: Span,
    pub(super) is_told: bool,
}

impl Untold {
    /// Counts an answer and writes its line in the log. Answers whether the caller was authenticated: a
    /// grant token that verified may be refused as revoked after that.
    pub(super) fn tell<B>(mut self, response: &Response<B>) -> bool {
        let status = status(response, self.context.transport);
        let outcome = match response.extensions().get() {
            Some(RejectedMessage) => RequestOutcome::BadRequest,
            None => outcome(status, self.context.transport),
        };
        self.write(status, outcome);
        let is_known = self.underway.caller() != CallerKind::Unknown;
        is_known && outcome != RequestOutcome::Unauthorized
    }

    /// `docs/logging.md` has the fields.
    fn write(&mut self, status: u16, outcome: RequestOutcome) {
        self.is_told = true;
        let Self {
            context, underway, ..
        } = self;
        let duration = self.started.elapsed();
        self.metrics
            .answered(self.verb, context.transport, outcome, duration);
        trace::end(&self.span, context.transport, status);
        tracing::info!(
            target: "grantex_vault::request",
            request_id = %context.id,
            trace_id = context.trace.map(field::display),
            transport = context.transport.as_str(),
            verb = self.verb.map_or("none", Verb::as_str),
            caller = underway.caller().as_str(),
            outcome = outcome.as_str(),
            status,
            duration_ms = milliseconds(duration),
            database_ms = milliseconds(underway.database_time()),
            kms_ms = milliseconds(underway.kms_time()),
            "request"
        );
    }
}

impl Drop for Untold {
    fn drop(&mut self) {
        if self.is_told {
            return;
        }
        // What nobody was sent: of HTTP there is no status for it, of gRPC there is CANCELLED.
        let status = match self.context.transport {
            Transport::Grpc => 1,
            Transport::Rest | Transport::CommandLine => 499,
        };
        self.write(status, RequestOutcome::Abandoned);
    }
}

/// Whole microseconds, as milliseconds.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The HTTP status, or the gRPC code; a gRPC answer without one among its headers has a message, so
/// it is a success.
fn status<B>(response: &Response<B>, transport: Transport) -> u16 {
    match transport {
        Transport::Rest | Transport::CommandLine => response.status().as_u16(),
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
        (Transport::Grpc, 4) => RequestOutcome::DeadlineExceeded,
        (_, _) => RequestOutcome::Internal,
    }
}
