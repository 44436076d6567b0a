//! Reading a JSON request body: its type, its size, its time.

use std::time::Duration;

use axum::body::Body;
use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
};

use super::problem::Failure;
use crate::{
    model::{invalid::InvalidInput, text::DeveloperId},
    vault::{BodyError, BodyLimits, ReadBody, Vault, VaultError},
};

/// The largest body that is read.
const MAX_BYTES: usize = 1024 * 1024;
/// How long a client may take to send it.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Reads the body of a request. Its caller is known by now; nothing was read before.
///
/// A body of an unaccepted type or announced as too large is not read at all.
pub(super) async fn read(
    vault: &Vault,
    caller: &impl AsRef<DeveloperId>,
    headers: &HeaderMap,
    body: Body,
) -> Result<ReadBody, Failure> {
    check_headers(headers, MAX_BYTES)?;
    let limits = BodyLimits {
        max_bytes: MAX_BYTES,
        time: TIMEOUT,
    };
    let read = vault.read_body(caller, body, limits).await;
    read.map_err(|error| failure(error, MAX_BYTES))
}

/// What is answered to a body that was not read.
pub(super) fn failure(error: BodyError, max_bytes: usize) -> Failure {
    let says = |message| InvalidInput::says("body", message).into();
    match error {
        BodyError::TooLarge => too_large(max_bytes),
        BodyError::Broken => says("body could not be read"),
        BodyError::TimedOut => says("body did not arrive in time"),
        BodyError::Interrupted(why) => VaultError::Interrupted(why).into(),
    }
}

/// Type, encoding and announced size of a body.
pub(super) fn check_headers(headers: &HeaderMap, max_bytes: usize) -> Result<(), Failure> {
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
