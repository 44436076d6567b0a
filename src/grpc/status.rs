//! From a failure of the vault to a gRPC status with the details that the contract promises.

use std::time::Duration;

use http::Response;
use tonic::{Code, Status, body::Body};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    model::request::RequestContext,
    vault::{
        VaultError,
        error::{Kind, RETRY_AFTER},
    },
};

const DOMAIN: &str = "vault.grantex.dev";

/// The status of a failure.
pub(super) fn from_vault(error: &VaultError, request: RequestContext) -> Status {
    let violation = match error {
        VaultError::InvalidInput(invalid) => Some((invalid.field, invalid.message.as_str())),
        _ => None,
    };
    let retry = (error.kind() == Kind::Unavailable).then_some(RETRY_AFTER);
    status(error.kind(), error.message(), request, violation, retry)
}

/// What a request gets that took longer than the server allows.
#[must_use]
pub fn timed_out(request: RequestContext) -> Response<Body> {
    let message = "The request took too long".to_owned();
    status(Kind::Unavailable, message, request, None, Some(RETRY_AFTER)).into_http()
}

/// What a request gets whose handler panicked.
#[must_use]
pub fn panicked(request: RequestContext) -> Response<Body> {
    let message = "An unexpected error occurred".to_owned();
    status(Kind::Internal, message, request, None, None).into_http()
}

fn status(
    kind: Kind,
    message: String,
    request: RequestContext,
    violation: Option<(&'static str, &str)>,
    retry: Option<Duration>,
) -> Status {
    let (reason, _, code) = kind.on_the_wire();
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, std::collections::HashMap::new());
    details.set_request_info(request.id.to_string(), "");
    if let Some((field, description)) = violation {
        details.add_bad_request_violation(snake_case(field), description);
    }
    if retry.is_some() {
        details.set_retry_info(retry);
    }
    Status::with_error_details(Code::from_i32(code), message, details)
}

/// The field's name in the message: REST says `principalId`, the message `principal_id`.
fn snake_case(field: &str) -> String {
    let mut name = String::with_capacity(field.len() + 2);
    for letter in field.chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}
