//! Requests that are no gRPC: refused before anything else of them is looked at.

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tonic::body::Body;

use super::status;
use crate::model::request::RequestContext;

const GRPC: &[u8] = b"application/grpc";

/// The answer to a request that is no gRPC, as the protocol has it (gRPC over HTTP/2, "Requests"): `405` unless
/// it is a POST, `415` for another type of content. A client of gRPC reads the status beside it.
pub(super) fn refusal<B>(request: &Request<B>, context: RequestContext) -> Option<Response<Body>> {
    if request.method() != Method::POST {
        let mut refused = status::not_a_call(context).into_http();
        *refused.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        let post = HeaderValue::from_static("POST");
        refused.headers_mut().insert(header::ALLOW, post);
        return Some(refused);
    }
    let content_type = request.headers().get(header::CONTENT_TYPE);
    if content_type.is_some_and(|value| is_grpc(value.as_bytes())) {
        return None;
    }
    let text = "The content-type must be application/grpc";
    let mut refused = status::invalid(context, "content-type", text).into_http();
    *refused.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Some(refused)
}

/// `application/grpc`, and what the message format or parameters add to that. `application/grpc-web` is
/// another protocol.
fn is_grpc(content_type: &[u8]) -> bool {
    let Some((begin, rest)) = content_type.split_at_checked(GRPC.len()) else {
        return false;
    };
    begin.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_grpc_may_name_its_format() {
        for (text, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/GRPC;charset=utf-8", true),
            ("application/grpc-web+proto", false),
            ("application/json", false),
            ("application/grpcx", false),
            ("", false),
        ] {
            assert_eq!(is_grpc(text.as_bytes()), expected, "{text}");
        }
    }
}
