//! What stands behind a public listener: each request gets its context, its time, and its line in
//! the log.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use tokio::time::timeout;
use tower::{Service, ServiceExt};
use tracing::{Instrument, field};
use uuid::Uuid;

use super::{Peer, trace};
use crate::{
    metrics::{Metrics, RequestOutcome},
    model::request::{RequestContext, Transport, Verb, parse_request_id},
    underway::Underway,
};

/// No request takes longer until its answer begins.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(45);

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A transport as the listener needs it.
pub struct Door<S, B> {
    /// Which one.
    pub transport: Transport,
    /// What counts its requests.
    pub metrics: Metrics,
    /// What answers its requests.
    pub service: S,
    /// What a request asks for.
    pub verb_of: fn(&Method, &str) -> Option<Verb>,
    /// How traces call what a verb's requests go to: the route's template, or service and method.
    pub route_of: fn(Verb) -> &'static str,
    /// The answer to one that took too long.
    pub timed_out: fn(RequestContext) -> Response<B>,
    /// The answer to one whose handler panicked.
    pub panicked: fn(RequestContext) -> Response<B>,
}

// Not derived: a body need not be `Clone`.
impl<S: Clone, B> Clone for Door<S, B> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            metrics: self.metrics.clone(),
            ..*self
        }
    }
}

impl<S, B> Service<Request<Incoming>> for Door<S, B>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: 'static,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        Box::pin(answer(self.clone(), request).map(Ok))
    }
}

/// Gives a request its context, has it answered, and writes its line in the log.
async fn answer<S, B>(door: Door<S, B>, mut request: Request<Incoming>) -> Response<B>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
{
    let started = Instant::now();
    let Peer(peer) = *request
        .extensions()
        .get()
        .expect("the listener names the peer of every request");
    let verb = (door.verb_of)(request.method(), request.uri().path());
    let (span, trace) = trace::begin(&request, door.transport, verb.map(door.route_of));
    let context = RequestContext {
        id: request_id(&request),
        trace,
        transport: door.transport,
        peer,
    };
    span.record("grantex.request_id", field::display(context.id));
    request.extensions_mut().insert(context);

    let underway = Underway::default();
    let answering = underway.scope(door.service.oneshot(request));
    let answering = answering.instrument(span.clone());
    let answering = AssertUnwindSafe(answering).catch_unwind();
    let mut response = match timeout(REQUEST_TIMEOUT, answering).await {
        Ok(Ok(Ok(response))) => response,
        Ok(Err(_panic)) => (door.panicked)(context),
        Err(_elapsed) => (door.timed_out)(context),
    };
    let id = HeaderValue::try_from(context.id.to_string()).expect("a UUID is visible characters");
    response.headers_mut().insert(X_REQUEST_ID, id);
    let (status, duration) = (status(&response, context.transport), started.elapsed());
    let outcome = outcome(status, context.transport);
    trace::end(&span, context.transport, status);
    door.metrics
        .answered(verb, context.transport, outcome, duration);
    tracing::info!(
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
    response
}

/// Whole microseconds, as milliseconds.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The caller's own id when it sent one that can be kept, else a new one.
fn request_id(request: &Request<Incoming>) -> Uuid {
    let mut values = request.headers().get_all(X_REQUEST_ID).iter();
    let only = values.next().filter(|_| values.next().is_none());
    let sent = only
        .and_then(|value| value.to_str().ok())
        .and_then(parse_request_id);
    sent.unwrap_or_else(Uuid::new_v4)
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
