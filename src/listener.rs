//! Accepting connections; the same for every door.
//!
//! Everything that a client could use up is bounded here: connections, their age, headers and the
//! time for them, streams, resets. `handshake` bounds the handshakes of TLS, `door` the requests.

mod answered;
pub mod connections;
mod deadline;
pub mod door;
mod forwarded;
mod handshake;
mod requests;
pub mod tls;
mod trace;

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tower::{Service, ServiceExt};

use crate::{model::certificate::ClientCertificate, shutdown::Shutdown};
use connections::{Connections, Owner};
use handshake::Handshakes;
use requests::Requests;
use tls::Tls;

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
    B: http_body::Body<Data = Bytes> + Send + 'static,
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
    B: http_body::Body<Data = Bytes> + Send + 'static,
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
    shutdown: Shutdown,
}

impl<S, B> Connection<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
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
                let certificate = tls::client_certificate(&stream);
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
            shutdown,
        } = self;
        let builder = builder(protocol);
        let used = AtomicBool::new(false);
        let (seen, counts) = (&used, requests.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            seen.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(Peer(peer));
            if let Some(certificate) = &certificate {
                request.extensions_mut().insert(certificate.clone());
            }
            let begun = counts.begin();
            let answering = service.clone().oneshot(request);
            async move {
                let _begun = begun;
                answering.await
            }
        });
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));

        let mut open_for = FIRST_REQUEST_TIMEOUT;
        loop {
            tokio::select! {
                // The client's side of a broken connection is not our failure.
                done = timeout(open_for, requests.pace(connection.as_mut())) => match done {
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
}

fn builder(protocol: Protocol) -> auto::Builder<TokioExecutor> {
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

fn age() -> Duration {
    let mut random = [0_u8; 1];
    getrandom::fill(&mut random).expect("the operating system has randomness");
    MAX_AGE + MAX_AGE / 5 * u32::from(random[0]) / 255
}
