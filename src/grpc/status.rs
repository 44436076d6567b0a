//! From a failure of the vault to a gRPC status with the details that the contract promises.

use http::Response;
use tonic::{Code, Status, body::Body, metadata::AsciiMetadataValue};
use tonic_types::{ErrorDetails, StatusExt};

use super::compression::{ACCEPTED, GRPC_ACCEPT_ENCODING};
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

/// The status of a message that is larger than what is read, or would be once it is decompressed.
pub(super) fn too_large(request: RequestContext) -> Status {
    with(
        Code::ResourceExhausted,
        "BAD_REQUEST",
        "The message is too large",
        request,
    )
}

/// The status of a message that cannot be decompressed or decoded; its code is what gRPC says of that.
pub(super) fn unreadable(request: RequestContext) -> Status {
    let message = "The message cannot be read";
    with(Code::Internal, "INTERNAL_ERROR", message, request)
}

/// The status of a message that is compressed by anything but gzip. It says what is taken.
pub(super) fn unsupported_encoding(request: RequestContext) -> Status {
    let mut status = unimplemented("The message must not be compressed but by gzip", request);
    let accepted = AsciiMetadataValue::from_static(ACCEPTED);
    status.metadata_mut().insert(GRPC_ACCEPT_ENCODING, accepted);
    status
}

/// The status of a call that has another number of messages than its method.
pub(super) fn not_one_message(request: RequestContext) -> Status {
    unimplemented("The call takes one message", request)
}

/// The status of a call that there is not.
pub(super) fn unknown_method(request: RequestContext) -> Status {
    unimplemented("Unknown service or method", request)
}

/// The status of a request by another method than POST.
pub(super) fn not_a_call(request: RequestContext) -> Status {
    unimplemented("A call is a POST", request)
}

/// The status of what health or reflection do not know.
pub(super) fn not_found(request: RequestContext) -> Status {
    with(Code::NotFound, "NOT_FOUND", "Not found", request)
}

/// The status of a request of which something breaks a rule.
pub(super) fn invalid(request: RequestContext, field: &str, message: &str) -> Status {
    let mut details = details("BAD_REQUEST", request);
    details.add_bad_request_violation(field, message);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// The status of what may be asked for again.
pub(super) fn unavailable(request: RequestContext, message: &str) -> Status {
    let mut details = details("UNAVAILABLE", request);
    details.set_retry_info(Some(RETRY_AFTER));
    Status::with_error_details(Code::Unavailable, message, details)
}

/// The status of what no library here is known to answer.
pub(super) fn unexpected(code: Code, request: RequestContext) -> Status {
    let message = "An unexpected error occurred";
    with(code, "INTERNAL_ERROR", message, request)
}

fn unimplemented(message: &str, request: RequestContext) -> Status {
    with(Code::Unimplemented, "UNIMPLEMENTED", message, request)
}

fn with(code: Code, reason: &str, message: &str, request: RequestContext) -> Status {
    Status::with_error_details(code, message, details(reason, request))
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
