//! Calls that anybody may make, or whose message is read before its caller is known: health,
//! reflection, and those of operators. Their streams are few, little of them is one address's, and
//! each ends by itself.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::body::Body as Answer;
use tower::{Layer, Service};

use super::status;
use crate::{
    model::{
        network::Network,
        request::{Interruption, RequestContext},
    },
    permits::{FairPermits, OverShare, Permit, Rules},
    vault::VaultError,
};

/// The largest message of health and reflection. There is nothing large to ask.
pub(super) const MAX_BYTES: usize = 4 * 1024;
/// Clients of a listener that watch health at once: one a connection, as clients of gRPC do, and for as
/// many connections as there are by default. Each takes some KiB.
const WATCHES: Rules = Rules {
    permits: 1024,
    share: 256,
    queue: 0,
    patience: Duration::ZERO,
    over_share: OverShare::IsRefused,
};
/// All other calls of a listener that are open at once.
const CALLS: Rules = Rules {
    permits: 256,
    share: 64,
    ..WATCHES
};
/// A message has this long to arrive.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that asks for descriptors asks one thing after the other, and is done.
const REFLECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// A client watches health for as long as it has a connection, which is half an hour, and watches
/// anew when it is ended.
const WATCH_TIMEOUT: Duration = Duration::from_mins(10);
/// Longer than any other call takes.
const CALL_TIMEOUT: Duration = Duration::from_mins(1);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Puts [`OpenCalls`] before a service.
#[derive(Clone)]
pub(super) struct OpenCallsLayer {
    watches: FairPermits,
    calls: FairPermits,
}

/// Bounds the calls of a service.
#[derive(Clone)]
pub(super) struct OpenCalls<S> {
    service: S,
    watches: FairPermits,
    calls: FairPermits,
}

/// How long the two directions of a call have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lifetimes {
    request: Duration,
    answer: Duration,
}

/// One direction of a call: a body that ends when its time is over.
pub(super) struct Timed<B> {
    body: B,
    end: Pin<Box<Sleep>>,
    at_its_end: AtItsEnd,
    request: RequestContext,
    _permit: Arc<Permit>,
}

enum AtItsEnd {
    /// The message that is awaited does not come.
    Fails,
    /// The answer says that it is over.
    Says,
    Over,
}

// === impl OpenCallsLayer ===

impl Default for OpenCallsLayer {
    fn default() -> Self {
        Self {
            watches: FairPermits::new(WATCHES),
            calls: FairPermits::new(CALLS),
        }
    }
}

impl<S> Layer<S> for OpenCallsLayer {
    type Service = OpenCalls<S>;

    fn layer(&self, service: S) -> OpenCalls<S> {
        let Self { watches, calls } = self.clone();
        OpenCalls {
            service,
            watches,
            calls,
        }
    }
}

// === impl OpenCalls ===

impl<S, B, A> Service<Request<B>> for OpenCalls<S>
where
    S: Service<Request<Timed<B>>, Response = Response<A>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
    A: Body<Data = Bytes> + Send + Unpin + 'static,
    A::Error: Into<BoxError>,
{
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let context: RequestContext = *request
            .extensions()
            .get()
            .expect("the listener gives every request its context");
        let lifetimes = Lifetimes::of(request.uri().path());
        // So that nobody keeps others from asking for health by watching it.
        let permits = match lifetimes.answer {
            WATCH_TIMEOUT => &self.watches,
            _ => &self.calls,
        };
        let Ok(permit) = permits.try_acquire_share(&Network::of(context.peer)) else {
            let error = VaultError::Interrupted(Interruption::OverShare);
            let refused = status::from_vault(&error, context).into_http();
            return Box::pin(async { Ok(refused) });
        };
        let permit = Arc::new(permit);
        let request = request.map(|body| Timed {
            body,
            end: Box::pin(sleep(lifetimes.request)),
            at_its_end: AtItsEnd::Fails,
            request: context,
            _permit: Arc::clone(&permit),
        });
        let answering = self.service.call(request);
        Box::pin(async move {
            let answer = answering.await?;
            Ok(answer.map(|body| {
                Answer::new(Timed {
                    body,
                    end: Box::pin(sleep(lifetimes.answer)),
                    at_its_end: AtItsEnd::Says,
                    request: context,
                    _permit: permit,
                })
            }))
        })
    }
}

// === impl Lifetimes ===

impl Lifetimes {
    fn of(path: &str) -> Self {
        let (request, answer) = if path.starts_with("/grpc.reflection.") {
            (REFLECTION_TIMEOUT, REFLECTION_TIMEOUT)
        } else if path.ends_with("/Watch") {
            (MESSAGE_TIMEOUT, WATCH_TIMEOUT)
        } else {
            (MESSAGE_TIMEOUT, CALL_TIMEOUT)
        };
        Self { request, answer }
    }
}

// === impl Timed ===

impl<B> Body for Timed<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let AtItsEnd::Over = this.at_its_end {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(this.end.as_mut().poll(context));
        match std::mem::replace(&mut this.at_its_end, AtItsEnd::Over) {
            AtItsEnd::Fails => {
                let error = VaultError::Interrupted(Interruption::TimedOut);
                // tonic answers a status as it is.
                let late = status::from_vault(&error, this.request);
                Poll::Ready(Some(Err(late.into())))
            }
            AtItsEnd::Says => {
                let mut trailers = HeaderMap::new();
                let text = "The stream has ended; ask again";
                let over = status::unavailable(this.request, text);
                let added = over.add_header(&mut trailers);
                Poll::Ready(added.is_ok().then(|| Ok(Frame::trailers(trailers))))
            }
            AtItsEnd::Over => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
