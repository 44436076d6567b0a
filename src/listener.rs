//! Accepting connections; the same for every door.
//!
//! Everything that a client could use up is bounded here: connections, their age and idle time, headers
//! and the time for them, streams, resets. `handshake` bounds the handshakes of TLS, `door` the requests.

mod age;
mod answered;
pub mod connections;
mod deadline;
pub mod door;
mod forwarded;
mod handshake;
mod idle;
mod requests;
pub mod tls;
mod trace;

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::CONNECTION};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tower::{Service, ServiceExt};

use crate::{
    model::{certificate::ClientCertificate, request::KnownCaller},
    shutdown::Shutdown,
};
use age::{Age, max_age};
use connections::{Connections, Owner};
use handshake::Handshakes;
use idle::{Activity, GiveWay, IdleTimes, UnderWay};
use requests::Requests;
use tls::Tls;

/// What a connection may be idle for before HTTP/1 gives up on headers that do not end: a little longer
/// than `idle` lets it be, which closes it without a word in the log.
const HEADER_MARGIN: Duration = Duration::from_secs(15);
/// A closing connection has this long to end.
const CLOSING_GRACE: Duration = Duration::from_secs(30);
/// The same while requests are under way: longer than one has until its answer begins.
const BUSY_GRACE: Duration = Duration::from_mins(1);
/// After an error of `accept` (no file descriptors, say) it is tried again.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// All headers of a request; the grant token, of 16 KiB at most, is among them.
const MAX_HEADER_BYTES: usize = 32 * 1024;
const MAX_HEADERS: usize = 100;
const MAX_CONCURRENT_STREAMS: u32 = 128;
/// Streams that were reset before we took them up: what a rapid reset attack piles up
/// (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
/// What a client of HTTP/2 may send on a stream that nobody reads, and on all streams of a connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 128 * 1024;
/// What is kept of an answer to a stream whose client does not read, beside what is being written.
const MAX_SEND_BYTES: usize = 64 * 1024;
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2.
    Http,
    /// HTTP/2 only.
    Http2,
}

/// The other end of a connection. Every request has it among its extensions.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Serves in clear until the shutdown begins. Connections that are open then finish what is under
/// way and are tracked by the shutdown.
pub async fn serve<S, B>(
    listener: TcpListener,
    protocol: Protocol,
    service: S,
    connections: Connections,
    shutdown: Shutdown,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    serve_secured(listener, protocol, None, service, connections, shutdown).await;
}

/// The same, over TLS when there is one.
pub async fn serve_secured<S, B>(
    listener: TcpListener,
    protocol: Protocol,
    tls: Option<Arc<Tls>>,
    service: S,
    connections: Connections,
    shutdown: Shutdown,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.closing.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let owner = connections.owner_of(peer);
                let Some(of_address) = connections.count(owner) else {
                    tracing::debug!(%peer, "its address has its share of the connections");
                    continue;
                };
                let place = tokio::select! {
                    place = connections.place() => place,
                    () = shutdown.closing.cancelled() => return,
                };
                let connection = Connection {
                    peer,
                    protocol,
                    service: service.clone(),
                    requests: connections.requests.clone(),
                    idle_times: connections.idle_times,
                    give_way: connections.give_way.clone(),
                    shutdown: shutdown.clone(),
                };
                let handshakes = &connections.handshakes;
                let security = tls.clone().map(|tls| (tls, handshakes.clone(), owner));
                shutdown.tasks.spawn(async move {
                    connection.begin(stream, security).await;
                    drop((place, of_address));
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                let _ = timeout(ACCEPT_RETRY, shutdown.closing.cancelled()).await;
            }
        }
    }
}

/// A connection that was accepted.
struct Connection<S> {
    peer: SocketAddr,
    protocol: Protocol,
    service: S,
    requests: Requests,
    idle_times: IdleTimes,
    give_way: GiveWay,
    shutdown: Shutdown,
}

impl<S, B> Connection<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Makes the handshake if there is one to make, then serves. All of it is in the connection's
    /// own task: a handshake that goes wrong is nobody else's affair.
    async fn begin(self, stream: TcpStream, security: Option<(Arc<Tls>, Handshakes, Owner)>) {
        // Without this a small answer waits for the client's delayed ACK: 48 ms.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let Some((tls, handshakes, owner)) = security else {
            return self.serve(stream, None).await;
        };
        let handshake = handshakes.make(stream, owner, || tls.acceptor(self.protocol));
        let made = tokio::select! {
            made = handshake => made,
            () = self.shutdown.closing.cancelled() => return,
        };
        match made {
            // Boxed: connections in clear are then no larger for it.
            Ok(stream) => {
                let certificate = tls.client_certificate(&stream);
                Box::pin(self.serve(stream, certificate)).await;
            }
            Err(error) => {
                tracing::debug!(peer = %self.peer, %error, "a TLS handshake came to nothing");
            }
        }
    }

    async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        certificate: Option<ClientCertificate>,
    ) {
        let Self {
            peer,
            protocol,
            service,
            requests,
            idle_times,
            give_way,
            shutdown,
        } = self;
        let builder = builder(protocol, idle_times);
        let activity = Activity::begin();
        let age = Age::default();
        let (counted, counts, aging) = (&activity, requests.clone(), &age);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            if let Some(certificate) = &certificate {
                request.extensions_mut().insert(certificate.clone());
            }
            let asks_to_close = aging.is_told_by_answer(request.version());
            let (begun, under_way) = (counts.begin(), counted.request());
            let answering = service.clone().oneshot(request);
            async move {
                let _begun = begun;
                let answer = answering.await?;
                Ok::<_, Infallible>(answered(answer, under_way, asks_to_close))
            }
        });
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut idle = pin!(activity.is_over(idle_times, &give_way));
        let mut old = pin!(sleep(max_age()));
        loop {
            tokio::select! {
                // The client's side of a broken connection is not our failure.
                _ = requests.pace(connection.as_mut()) => return,
                () = &mut idle => break,
                () = &mut old, if !age.is_old() => if age.is_reached() {
                    break;
                },
                () = shutdown.closing.cancelled() => break,
            }
        }
        let grace = match activity.idle_for() {
            Some(_) => CLOSING_GRACE,
            None => BUSY_GRACE,
        };
        connection.as_mut().graceful_shutdown();
        let _ = timeout(grace, connection).await;
    }
}

/// An answer as it leaves: its request is under way to the end of its body.
fn answered<B>(
    mut answer: Response<B>,
    under_way: UnderWay,
    asks_to_close: bool,
) -> Response<idle::Tracked<B>> {
    if answer.extensions().get::<KnownCaller>().is_some() {
        under_way.is_of_known_caller();
    }
    if asks_to_close {
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(CONNECTION, close);
    }
    answer.map(|body| under_way.tracks(body))
}

fn builder(protocol: Protocol, idle_times: IdleTimes) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(idle_times.longest() + HEADER_MARGIN)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).expect("32 KiB"))
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(MAX_SEND_BYTES)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS);
    match protocol {
        Protocol::Http2 => builder.http2_only(),
        Protocol::Http => builder,
    }
}
