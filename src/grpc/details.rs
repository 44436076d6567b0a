//! The details that the contract promises of every error, for those that no call of ours has made:
//! tonic's, and those of health and reflection. Their texts are chosen here too.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{extract::Request, middleware::Next};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Response};
use http_body::{Body, Frame, SizeHint};
use tonic::{Code, Status, body::Body as Answer};

use super::{compression::GRPC_ACCEPT_ENCODING, protocol, status};
use crate::model::request::{RejectedMessage, RequestContext};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An answer whose trailers get the details.
struct Detailed<B> {
    body: B,
    request: RequestContext,
}

/// Refuses what is no gRPC, and has every error of a router carry its details.
pub(super) async fn of_router(request: Request, next: Next) -> Response<Answer> {
    let context = *request
        .extensions()
        .get()
        .expect("the listener gives every request its context");
    match protocol::refusal(&request, context) {
        Some(refused) => refused,
        None => completed(next.run(request).await, context),
    }
}

/// Has an answer carry its details if it is an error, whether that is known now or at its end.
pub(super) fn completed<B>(answer: Response<B>, request: RequestContext) -> Response<Answer>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let (mut head, body) = answer.into_parts();
    if let Some(Code::ResourceExhausted | Code::Internal) = complete(&mut head.headers, request) {
        head.extensions.insert(RejectedMessage);
    }
    let body = Answer::new(Detailed { body, request });
    Response::from_parts(head, body)
}

/// Replaces a status that lacks details by one of ours; answers its code if it did.
fn complete(headers: &mut HeaderMap, request: RequestContext) -> Option<Code> {
    let code = Code::from_bytes(headers.get(GRPC_STATUS)?.as_bytes());
    if code == Code::Ok || headers.contains_key(GRPC_DETAILS) {
        return None;
    }
    let about_encoding = headers.remove(GRPC_ACCEPT_ENCODING).is_some();
    let ours = if about_encoding {
        status::unsupported_encoding(request)
    } else {
        of_library(code, request)
    };
    headers.remove(GRPC_MESSAGE);
    ours.add_header(headers)
        .expect("our own texts and details are valid headers");
    Some(ours.code())
}

/// Our status in the place of a library's. Its code is kept where the libraries of other languages would
/// answer it too.
fn of_library(code: Code, request: RequestContext) -> Status {
    match code {
        // tonic's word for too large, and gRPC's.
        Code::OutOfRange | Code::ResourceExhausted => status::too_large(request),
        Code::Unimplemented => status::unknown_method(request),
        Code::NotFound => status::not_found(request),
        Code::InvalidArgument | Code::FailedPrecondition => {
            status::invalid(request, "message_request", "The message asks for nothing")
        }
        // What tonic says of a message that it cannot decode.
        Code::Internal => status::unreadable(request),
        Code::DeadlineExceeded => status::too_slow(request),
        Code::Unavailable | Code::Aborted => status::unavailable(request, "The call has ended"),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::DataLoss
        | Code::Unauthenticated => status::unexpected(code, request),
    }
}

// === impl Detailed ===

impl<B> Body for Detailed<B>
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
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(Into::into)?;
            Ok(match frame.into_trailers() {
                Ok(mut trailers) => {
                    complete(&mut trailers, this.request);
                    Frame::trailers(trailers)
                }
                Err(frame) => frame,
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
