//! What stands behind a public listener: each request gets its context, its time, and its line in the
//! log. Permits are not taken here: nobody is known yet.

use std::{
    convert::Infallible,
    future::pending,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use ipnet::IpNet;
use tokio::{sync::Semaphore, time::timeout};
use tower::{Service, ServiceExt};
use tracing::{Instrument, field};
use uuid::Uuid;

use super::{Peer, answered::Untold, deadline, forwarded, trace};
use crate::{
    metrics::Metrics,
    model::request::{
        Allowance, Interruption, KnownCaller, RequestContext, Transport, Verb, parse_request_id,
    },
    underway::Underway,
};

/// Who fails to authenticate too often waits this long for each further refusal, so that whoever tries
/// one after the other is slow.
const REFUSAL_DELAY: Duration = Duration::from_secs(1);
/// How many of them wait; the others are refused at once.
const MAX_DELAYED: usize = 1000;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RATELIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// A transport as the listener needs it.
pub struct Door<S, B> {
    /// Which one.
    pub transport: Transport,
    /// What it shares with other doors.
    pub shared: Shared,
    /// What answers its requests.
    pub service: S,
    /// What a request asks for.
    pub verb_of: fn(&Method, &str) -> Option<Verb>,
    /// How traces call what a verb's requests go to: the route's template, or service and method.
    pub route_of: fn(Verb) -> Option<&'static str>,
    /// The answer to a request that no handler answers.
    pub interrupted: fn(Interruption, RequestContext) -> Response<B>,
}

/// What the doors of a server share; clones are the same.
#[derive(Clone)]
pub struct Shared {
    metrics: Metrics,
    trusted_proxies: Arc<[IpNet]>,
    delayed: Arc<Semaphore>,
}

// === impl Shared ===

impl Shared {
    /// Believes `trusted_proxies` when they say whose requests they bring.
    #[must_use]
    pub fn new(metrics: Metrics, trusted_proxies: Vec<IpNet>) -> Self {
        Self {
            metrics,
            trusted_proxies: trusted_proxies.into(),
            delayed: Arc::new(Semaphore::new(MAX_DELAYED)),
        }
    }

    async fn delay(&self) {
        if let Ok(_place) = self.delayed.try_acquire() {
            let _ = timeout(REFUSAL_DELAY, pending::<()>()).await;
        }
    }
}

// === impl Door ===

// Not derived: a body need not be `Clone`.
impl<S: Clone, B> Clone for Door<S, B> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            shared: self.shared.clone(),
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
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        Box::pin(self.clone().answer(request).map(Ok))
    }
}

impl<S, B> Door<S, B>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
{
    /// Gives a request its context, has it answered, and says so.
    async fn answer(self, mut request: Request<Incoming>) -> Response<B> {
        let started = Instant::now();
        let (shared, interrupted) = (self.shared.clone(), self.interrupted);
        let verb = (self.verb_of)(request.method(), request.uri().path());
        let (span, trace) = trace::begin(&request, self.transport, verb.and_then(self.route_of));
        let context = RequestContext {
            id: request_id(request.headers()),
            trace,
            transport: self.transport,
            peer: self.client_of(&request),
        };
        span.record("grantex.request_id", field::display(context.id));
        request.extensions_mut().insert(context);

        let underway = Underway::default();
        let untold = Untold {
            context,
            verb,
            started,
            underway: underway.clone(),
            metrics: shared.metrics.clone(),
            span: span.clone(),
            is_told: false,
        };
        let handling = underway.scope(self.handle(request));
        let handled = handling.instrument(span).await;
        let mut response = handled.unwrap_or_else(|why| interrupted(why, context));
        add_headers(response.headers_mut(), context.id, underway.allowance());
        if untold.tell(&response) {
            response.extensions_mut().insert(KnownCaller);
        }
        if underway.has_failed_too_often() {
            shared.delay().await;
        }
        response
    }

    /// Has a request answered in the time that it has.
    async fn handle(self, request: Request<Incoming>) -> Result<Response<B>, Interruption> {
        let (limit, at_its_end) = deadline::of(request.headers(), self.transport);
        let answering = AssertUnwindSafe(self.service.oneshot(request)).catch_unwind();
        match timeout(limit, answering).await {
            Ok(Ok(Ok(response))) => Ok(response),
            Ok(Err(_panic)) => Err(Interruption::Panicked),
            Err(_) => Err(at_its_end),
        }
    }

    fn client_of(&self, request: &Request<Incoming>) -> std::net::IpAddr {
        let Peer(peer) = peer_of(request);
        forwarded::client(peer.ip(), request.headers(), &self.shared.trusted_proxies)
    }
}

/// The context of a request that no door was given to, and that no proxy brings.
#[must_use]
pub fn context_of<B>(request: &Request<B>, transport: Transport) -> RequestContext {
    let Peer(peer) = peer_of(request);
    RequestContext {
        id: request_id(request.headers()),
        trace: None,
        transport,
        peer: peer.ip(),
    }
}

fn peer_of<B>(request: &Request<B>) -> Peer {
    let peer = request.extensions().get();
    *peer.expect("the listener names the peer of every request")
}

/// What every answer carries, whoever made it.
fn add_headers(headers: &mut HeaderMap, id: Uuid, allowance: Option<Allowance>) {
    let id = HeaderValue::try_from(id.to_string()).expect("a UUID is visible characters");
    headers.insert(X_REQUEST_ID, id);
    // All three or none, as integers: that is how the SDKs read them.
    if let Some(allowance) = allowance {
        let reset = allowance.full_in.as_millis().div_ceil(1000);
        headers.insert(X_RATELIMIT_LIMIT, allowance.limit.into());
        headers.insert(X_RATELIMIT_REMAINING, allowance.remaining.into());
        let reset = u64::try_from(reset).unwrap_or(u64::MAX);
        headers.insert(X_RATELIMIT_RESET, reset.into());
    }
}

/// The caller's own id when it sent one that can be kept, else a new one.
fn request_id(headers: &HeaderMap) -> Uuid {
    let mut values = headers.get_all(X_REQUEST_ID).iter();
    let only = values.next().filter(|_| values.next().is_none());
    let sent = only
        .and_then(|value| value.to_str().ok())
        .and_then(parse_request_id);
    sent.unwrap_or_else(|| uuid::Builder::from_random_bytes(rand::random()).into_uuid())
}
