//! The messages of gRPC: read before their request takes a place.
//!
//! gRPC learns who calls after the message has arrived. A stranger who sends none, or a part of one,
//! must not hold what callers that are known need.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::model::request::Interruption;

/// A message may take this long to arrive.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// What is read of one: the largest message and its prefix, and a little more, so that whoever decodes
/// it sees that it is too large.
const MAX_BYTES: usize = 1024 * 1024 + 1024;
/// Bytes of messages that are kept for requests of a replica; the next ones wait.
pub(super) const BUDGET_BYTES: usize = 64 * 1024 * 1024;

/// What a request brings: a body that arrives while it is read, or one that is whole.
#[derive(Debug)]
pub enum RequestBody {
    /// Of REST, which knows its caller before it reads.
    Arriving(Incoming),
    /// Of gRPC.
    Whole(Full<Bytes>),
}

/// Reads a message. What it takes of the budget is held with the permits.
pub(super) async fn read(
    body: Incoming,
    budget: &Semaphore,
) -> Result<(RequestBody, Vec<SemaphorePermit<'_>>), Interruption> {
    let read = timeout(MESSAGE_TIMEOUT, collect(body, budget)).await;
    let (bytes, permits) = read.map_err(|_| Interruption::TimedOut)?;
    Ok((RequestBody::Whole(Full::new(bytes.freeze())), permits))
}

async fn collect(mut body: Incoming, budget: &Semaphore) -> (BytesMut, Vec<SemaphorePermit<'_>>) {
    let (mut bytes, mut permits) = (BytesMut::new(), Vec::new());
    // A client that breaks off is answered nothing: what came of it does not decode.
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = u32::try_from(data.len()).expect("a frame has at most 16 MiB");
        let permit = budget.acquire_many(length).await;
        permits.push(permit.expect("the semaphore is never closed"));
        bytes.extend_from_slice(&data);
        if bytes.len() > MAX_BYTES {
            break;
        }
    }
    (bytes, permits)
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Arriving(body) => Pin::new(body).poll_frame(context),
            Self::Whole(body) => {
                let polled = Pin::new(body).poll_frame(context);
                polled.map_err(|never| match never {})
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Arriving(body) => body.is_end_stream(),
            Self::Whole(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Arriving(body) => body.size_hint(),
            Self::Whole(body) => body.size_hint(),
        }
    }
}
