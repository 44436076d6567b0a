//! Accepting connections and giving each request its context; the same for both transports.
//!
//! Everything that a client could use up is bounded here: connections, their age, headers and the
//! time for them, streams, resets, and the time of a request.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tower::{Service, ServiceExt};
use uuid::Uuid;

use crate::{
    model::request::{RequestContext, Transport, Verb, parse_request_id},
    shutdown::Shutdown,
};

/// Connections of one listener; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 10_000;
/// A connection that has not made a request by then is closed.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// The time for a request's headers over HTTP/1, and so for an idle connection to come back. Longer
/// than the idle timeout of load balancers, which must be the first to close.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// A connection is asked to close after this long, and up to a fifth longer, so that load moves to
/// new replicas and connections of one moment do not all come back in one moment.
const MAX_AGE: Duration = Duration::from_mins(30);
/// What is still under way on a closing connection has this long to finish.
const CLOSING_GRACE: Duration = Duration::from_secs(30);
/// No request takes longer until its answer begins.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(45);
/// After an error of `accept` (no file descriptors, say) it is tried again.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// All headers of a request; the grant token, of 16 KiB at most, is among them.
const MAX_HEADER_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;
const MAX_CONCURRENT_STREAMS: u32 = 128;
/// Streams that were reset before we took them up: what a rapid reset attack piles up
/// (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A transport as the listener needs it.
pub struct Door<S, B> {
    /// Which one.
    pub transport: Transport,
    /// What answers its requests.
    pub service: S,
    /// What a request asks for.
    pub verb_of: fn(&Method, &str) -> Option<Verb>,
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
            ..*self
        }
    }
}

/// Serves a door until the shutdown begins. Connections that are open then finish what is under way
/// and are tracked by the shutdown.
pub async fn serve<S, B>(listener: TcpListener, door: Door<S, B>, shutdown: Shutdown)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (
                place.expect("the semaphore is never closed"),
                listener.accept().await,
            )
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = shutdown.closing.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(stream, peer, door.clone(), shutdown.clone());
                shutdown.tasks.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                let _ = timeout(ACCEPT_RETRY, shutdown.closing.cancelled()).await;
            }
        }
    }
}

async fn connection<S, B>(stream: TcpStream, peer: SocketAddr, door: Door<S, B>, shutdown: Shutdown)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // Without this a small answer waits for the client's delayed ACK: 48 ms.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let builder = builder(door.transport);
    let used = AtomicBool::new(false);
    let seen = &used;
    let service = service_fn(move |request| {
        seen.store(true, Ordering::Relaxed);
        answer(request, peer, door.clone())
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));

    let mut open_for = FIRST_REQUEST_TIMEOUT;
    loop {
        tokio::select! {
            // The client's side of a broken connection is not our failure.
            done = timeout(open_for, connection.as_mut()) => match done {
                Ok(_) => return,
                Err(_) if open_for == FIRST_REQUEST_TIMEOUT && used.load(Ordering::Relaxed) => {
                    open_for = age();
                }
                Err(_) => break,
            },
            () = shutdown.closing.cancelled() => break,
        }
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(CLOSING_GRACE, connection).await;
}

fn builder(transport: Transport) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).expect("64 KiB"))
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS);
    match transport {
        Transport::Grpc => builder.http2_only(),
        Transport::Rest => builder,
    }
}

fn age() -> Duration {
    let mut random = [0_u8; 1];
    getrandom::fill(&mut random).expect("the operating system has randomness");
    MAX_AGE + MAX_AGE / 5 * u32::from(random[0]) / 255
}

/// Gives a request its context, has it answered, and writes its line in the log.
async fn answer<S, B>(
    mut request: Request<Incoming>,
    peer: SocketAddr,
    door: Door<S, B>,
) -> Result<Response<B>, io::Error>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
{
    let started = Instant::now();
    let context = RequestContext {
        id: request_id(&request),
        transport: door.transport,
        peer,
    };
    let verb = (door.verb_of)(request.method(), request.uri().path());
    request.extensions_mut().insert(context);

    let answering = AssertUnwindSafe(door.service.oneshot(request)).catch_unwind();
    let mut response = match timeout(REQUEST_TIMEOUT, answering).await {
        Ok(Ok(Ok(response))) => response,
        Ok(Err(_panic)) => (door.panicked)(context),
        Err(_elapsed) => (door.timed_out)(context),
    };
    let id = HeaderValue::try_from(context.id.to_string()).expect("a UUID is visible characters");
    response.headers_mut().insert(X_REQUEST_ID, id);
    tracing::info!(
        request_id = %context.id,
        transport = context.transport.as_str(),
        verb = verb.map_or("none", Verb::as_str),
        status = status(&response, context.transport),
        duration_ms = milliseconds(started.elapsed()),
        "request"
    );
    Ok(response)
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
