//! Error answers: one shape for all of them.

use std::{borrow::Cow, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::openapi::field;
use crate::{
    model::{
        invalid::InvalidInput,
        request::{Interruption, RequestContext},
    },
    vault::{VaultError, error::Kind},
};

/// Why a request is not answered as it hoped: the vault's reason, or one of HTTP's own.
pub(super) enum Failure {
    /// The vault's.
    Vault(VaultError),
    /// 404, 405, 413 or 415: of HTTP, not of the vault.
    Http(StatusCode, Cow<'static, str>),
}

/// An error answer.
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    request_id: Uuid,
    retry_after: Option<Duration>,
}

/// What every error says.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Problem)]
pub(super) struct ProblemBody<'a> {
    /// For people. Where a field breaks a rule, it names the field.
    #[schema(min_length = 1)]
    pub(super) message: &'a str,
    #[schema(value_type = field::ErrorCode)]
    pub(super) code: &'a str,
    /// The same as in the header `X-Request-Id`; the vault's log has it.
    #[schema(format = "uuid")]
    pub(super) request_id: String,
}

impl Problem {
    /// The answer to a failure, which is logged here, once, when somebody must act on it.
    pub(super) fn of(failure: Failure, request: RequestContext) -> Self {
        match failure {
            Failure::Vault(error) => {
                error.log(request);
                let (code, status, _) = error.kind().on_the_wire();
                Self {
                    status: StatusCode::from_u16(status).expect("the table has HTTP statuses"),
                    code,
                    message: error.message(),
                    request_id: request.id,
                    retry_after: error.retry_after(),
                }
            }
            Failure::Http(status, message) => {
                let code = match status {
                    StatusCode::NOT_FOUND => "NOT_FOUND",
                    StatusCode::METHOD_NOT_ALLOWED => "METHOD_NOT_ALLOWED",
                    _ => Kind::InvalidArgument.on_the_wire().0,
                };
                Self {
                    status,
                    code,
                    message: message.into_owned(),
                    request_id: request.id,
                    retry_after: None,
                }
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody {
            message: &self.message,
            code: self.code,
            request_id: self.request_id.to_string(),
        };
        let body = serde_json::to_vec(&body).expect("strings serialise");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(retry_after) = self.retry_after {
            // Whole seconds, which the SDKs parse as an integer, and not too few.
            let seconds = retry_after.as_millis().div_ceil(1000).max(1);
            let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A path that leads nowhere, whoever asks.
pub(super) async fn not_found(request: Request) -> Problem {
    nowhere(&request)
}

/// The same for a request of any body.
pub(super) fn nowhere<B>(request: &http::Request<B>) -> Problem {
    http_problem(request, StatusCode::NOT_FOUND, "Route not found")
}

/// A method that the path does not have, whoever asks.
pub(super) async fn method_not_allowed(request: Request) -> Problem {
    http_problem(
        &request,
        StatusCode::METHOD_NOT_ALLOWED,
        "Method not allowed",
    )
}

fn http_problem<B>(
    request: &http::Request<B>,
    status: StatusCode,
    message: &'static str,
) -> Problem {
    let context = request
        .extensions()
        .get()
        .expect("the listener gives every request its context");
    Problem::of(Failure::Http(status, message.into()), *context)
}

/// What a request gets that no handler answers.
#[must_use]
pub fn interrupted(interruption: Interruption, request: RequestContext) -> Response {
    let failure = VaultError::Interrupted(interruption).into();
    super::with_fixed_headers(Problem::of(failure, request).into_response())
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        Self::Vault(error)
    }
}

impl From<InvalidInput> for Failure {
    fn from(invalid: InvalidInput) -> Self {
        Self::Vault(invalid.into())
    }
}
