//! From a failure of the vault to a gRPC status with the details that the contract promises.

use http::Response;
use tonic::{Code, Status, body::Body};
use tonic_types::{ErrorDetails, StatusExt};

use super::MAX_REQUEST_BYTES;
use crate::{
    model::{
        invalid::InvalidInput,
        request::{Interruption, RequestContext},
    },
    operator::OperatorError,
    vault::{VaultError, error::RETRY_AFTER},
};

const DOMAIN: &str = "vault.grantex.dev";

/// The status of a failure.
pub(super) fn from_vault(error: &VaultError, request: RequestContext) -> Status {
    let (reason, _, code) = error.kind().on_the_wire();
    let mut details = details(reason, request);
    if let VaultError::InvalidInput(invalid) = error {
        add_violation(&mut details, invalid);
    }
    let retry_after = error.retry_after();
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    Status::with_error_details(Code::from_i32(code), error.message(), details)
}

/// The status of an operation that was not done.
pub(super) fn from_operator(error: &OperatorError, request: RequestContext) -> Status {
    let (reason, code, message) = match error {
        OperatorError::Unauthenticated => {
            let message = "Unknown operator".to_owned();
            ("UNAUTHORIZED", Code::Unauthenticated, message)
        }
        OperatorError::TooManyFailures(_) => {
            let message = sentence(error);
            ("RATE_LIMIT_EXCEEDED", Code::ResourceExhausted, message)
        }
        OperatorError::InvalidInput(invalid) => {
            let message = invalid.message.clone();
            ("BAD_REQUEST", Code::InvalidArgument, message)
        }
        OperatorError::NotFound(_) => ("NOT_FOUND", Code::NotFound, sentence(error)),
        OperatorError::PrimaryKey(_) | OperatorError::NeededKey(_) => (
            "FAILED_PRECONDITION",
            Code::FailedPrecondition,
            sentence(error),
        ),
        OperatorError::OtherAuthority => {
            let message = sentence(error);
            ("OTHER_AUTHORITY", Code::FailedPrecondition, message)
        }
        OperatorError::Database(_)
        | OperatorError::Audit(_)
        | OperatorError::MasterKey(_)
        | OperatorError::EarlierRequests => ("UNAVAILABLE", Code::Unavailable, sentence(error)),
    };
    let mut details = details(reason, request);
    if let OperatorError::InvalidInput(invalid) = error {
        add_violation(&mut details, invalid);
    }
    if let OperatorError::TooManyFailures(exceeded) = error {
        details.set_retry_info(Some(exceeded.retry_after));
    } else if code == Code::Unavailable {
        details.set_retry_info(Some(RETRY_AFTER));
    }
    Status::with_error_details(code, message, details)
}

/// The status of an operation that took too long.
pub(super) fn too_slow(request: RequestContext) -> Status {
    let message = "The request took too long";
    let details = details("DEADLINE_EXCEEDED", request);
    Status::with_error_details(Code::DeadlineExceeded, message, details)
}

/// The status of a message that is larger than what is read.
pub(super) fn too_large(request: RequestContext) -> Status {
    let message = format!("The message must be at most {MAX_REQUEST_BYTES} bytes");
    let details = details("BAD_REQUEST", request);
    Status::with_error_details(Code::OutOfRange, message, details)
}

/// The text of an operator's error is chosen by us, and says nothing of what caused it.
fn sentence(error: &OperatorError) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

fn details(reason: &str, request: RequestContext) -> ErrorDetails {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, std::collections::HashMap::new());
    details.set_request_info(request.id.to_string(), "");
    details
}

fn add_violation(details: &mut ErrorDetails, invalid: &InvalidInput) {
    details.add_bad_request_violation(snake_case(invalid.field), invalid.message.as_str());
}

/// What a request gets that no handler answers.
#[must_use]
pub fn interrupted(interruption: Interruption, request: RequestContext) -> Response<Body> {
    from_vault(&VaultError::Interrupted(interruption), request).into_http()
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
