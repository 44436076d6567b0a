//! From a failure of the vault to a gRPC status with the details that the contract promises.

use http::Response;
use tonic::{Code, Status, body::Body};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    model::request::{Interruption, RequestContext},
    vault::VaultError,
};

const DOMAIN: &str = "vault.grantex.dev";

/// The status of a failure.
pub(super) fn from_vault(error: &VaultError, request: RequestContext) -> Status {
    let (reason, _, code) = error.kind().on_the_wire();
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, std::collections::HashMap::new());
    details.set_request_info(request.id.to_string(), "");
    if let VaultError::InvalidInput(invalid) = error {
        details.add_bad_request_violation(snake_case(invalid.field), invalid.message.as_str());
    }
    let retry_after = error.retry_after();
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    Status::with_error_details(Code::from_i32(code), error.message(), details)
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
