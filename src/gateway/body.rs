//! Reading a JSON request body: its type, its size, its time.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::problem::Failure;
use crate::model::invalid::InvalidInput;

/// The largest body that is read.
const MAX_BYTES: usize = 1024 * 1024;
/// How long a client may take to send it.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Reads the body of a request. Its caller is known by now; nothing was read before.
///
/// A body of an unaccepted type or announced as too large is not read at all.
pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Failure> {
    read_at_most(headers, body, MAX_BYTES).await
}

/// The same for a body of another size.
pub(super) async fn read_at_most(
    headers: &HeaderMap,
    body: Body,
    max_bytes: usize,
) -> Result<Bytes, Failure> {
    check_headers(headers, max_bytes)?;
    let body = Limited::new(body, max_bytes);
    let read = tokio::time::timeout(TIMEOUT, body.collect()).await;
    let read = read.map_err(|_| InvalidInput::says("body", "body did not arrive in time"))?;
    read.map(http_body_util::Collected::to_bytes)
        .map_err(|error| {
            if error.is::<LengthLimitError>() {
                too_large(max_bytes)
            } else {
                InvalidInput::says("body", "body could not be read").into()
            }
        })
}

fn check_headers(headers: &HeaderMap, max_bytes: usize) -> Result<(), Failure> {
    let unsupported =
        |message: &'static str| Failure::Http(StatusCode::UNSUPPORTED_MEDIA_TYPE, message.into());
    let content_type = one(headers, &CONTENT_TYPE)
        .and_then(|value| value.split(';').next())
        .map(str::trim)
        .is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    if !content_type {
        return Err(unsupported("Content-Type must be application/json"));
    }
    let encoded = headers.contains_key(CONTENT_ENCODING)
        && !one(headers, &CONTENT_ENCODING)
            .is_some_and(|coding| coding.trim().eq_ignore_ascii_case("identity"));
    if encoded {
        return Err(unsupported("Content-Encoding is not supported"));
    }
    let length = one(headers, &CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > max_bytes as u64) {
        return Err(too_large(max_bytes));
    }
    Ok(())
}

/// The value of a header that stands once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn too_large(max_bytes: usize) -> Failure {
    let message = format!("body must be at most {max_bytes} bytes");
    Failure::Http(StatusCode::PAYLOAD_TOO_LARGE, message.into())
}
