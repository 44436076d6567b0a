//! The errors that each operation answers.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses, ToSchema,
    openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder, example::ExampleBuilder},
};

use super::{examples, headers};
use crate::{gateway::problem::ProblemBody, vault::error::Kind};

/// An error answer: a component of the document.
pub(super) struct ErrorAnswer {
    name: &'static str,
    status: u16,
    code: &'static str,
    when: &'static str,
    messages: &'static [&'static str],
}

const METHOD_NOT_ALLOWED: &str = "METHOD_NOT_ALLOWED";

const NOT_AN_OBJECT: &str = "body must be a JSON object";
const SERVICE_NAME: &str =
    "service must be 1-64 characters and contain only letters, numbers, dot, underscore, or dash";
const DATABASE: &str = "The vault's database is unavailable";
const AUDIT: &str = "The vault's audit is unavailable";
const KEY_MANAGEMENT: &str = "The vault's key management is unavailable";
const ISSUER_KEYS: &str = "The issuer's verification keys are unavailable";

const INVALID_STORE: ErrorAnswer = of(
    Kind::InvalidArgument,
    "InvalidStore",
    "The body breaks a rule; the message names the field. Nothing was stored.",
    &[
        "principalId, service, and accessToken are required",
        SERVICE_NAME,
        "principalId must be at most 512 characters",
        "accessToken must be at most 262144 bytes",
        "tokenExpiresAt must be an RFC 3339 timestamp",
        "metadata must be an object",
        "requiredScopes must be an array of strings",
        "allowedAgents must have at most 64 entries",
        NOT_AN_OBJECT,
    ],
);
const INVALID_LIST: ErrorAnswer = of(
    Kind::InvalidArgument,
    "InvalidList",
    "The query breaks a rule; the message names the parameter.",
    &[
        "pageSize must be 1 to 1000",
        "pageToken is not one of this list",
        "service must be given once",
        "query must be UTF-8",
    ],
);
const INVALID_AUDIT_QUERY: ErrorAnswer = of(
    Kind::InvalidArgument,
    "InvalidAuditQuery",
    INVALID_LIST.when,
    &[
        "outcome must be one of released, stored, replaced, deleted, listed, read, denied, not_found, \
         failed, done, unchanged",
        "from must be an RFC 3339 timestamp",
        "to must be an RFC 3339 timestamp",
        "pageSize must be 1 to 1000",
        "pageToken is not one of this list",
        "service must be given once",
        "query must be UTF-8",
    ],
);
const INVALID_ID: ErrorAnswer = of(
    Kind::InvalidArgument,
    "InvalidId",
    "The id is not UTF-8. Any other text that is no id of a credential is a 404.",
    &["id must be UTF-8"],
);
const INVALID_EXCHANGE: ErrorAnswer = of(
    Kind::InvalidArgument,
    "InvalidExchange",
    "The body breaks a rule; the message names the field.",
    &[
        "service is required",
        SERVICE_NAME,
        "delivery must be \"token\": no other is supported",
        NOT_AN_OBJECT,
    ],
);
const NO_API_KEY: ErrorAnswer = of(
    Kind::Unauthenticated,
    "NoApiKey",
    "There is no API key, or one that is unknown, expired or revoked. Nothing of the body was read.",
    &["Missing or invalid Authorization header", "Invalid API key"],
);
const NO_GRANT_TOKEN: ErrorAnswer = of(
    Kind::Unauthenticated,
    "NoGrantToken",
    "There is no grant token, or one that is unknown, expired, revoked or forged.",
    &["Missing grant token", "Invalid or expired grant token"],
);
const OUT_OF_SCOPE: ErrorAnswer = of(
    Kind::PermissionDenied,
    "OutOfScope",
    "The grant has no scope for this service, or does not meet the restrictions of its credential.",
    &["Grant token is not scoped for github credential exchange"],
);
const NO_SUCH_CREDENTIAL: ErrorAnswer = of(
    Kind::NotFound,
    "NoSuchCredential",
    "The developer has no credential of this id. Another developer's is the same 404.",
    &["Credential not found"],
);
const NOTHING_TO_EXCHANGE: ErrorAnswer = of(
    Kind::NotFound,
    "NothingToExchange",
    "The principal has no credential for this service.",
    &["No credential found for this principal and service"],
);
const OTHER_METHOD: ErrorAnswer = ErrorAnswer {
    name: "OtherMethod",
    status: 405,
    code: METHOD_NOT_ALLOWED,
    when: "The path has no such method. `exchange` in the place of an id is another path.",
    messages: &["Method not allowed"],
};
const BODY_TOO_LARGE: ErrorAnswer = ErrorAnswer {
    name: "BodyTooLarge",
    status: 413,
    code: Kind::InvalidArgument.on_the_wire().0,
    when: "The body has more than 1 MiB.",
    messages: &["body must be at most 1048576 bytes"],
};
const NOT_JSON: ErrorAnswer = ErrorAnswer {
    name: "NotJson",
    status: 415,
    code: Kind::InvalidArgument.on_the_wire().0,
    when: "The body has another `Content-Type`, or a `Content-Encoding`.",
    messages: &[
        "Content-Type must be application/json",
        "Content-Encoding is not supported",
    ],
};
const RATE_LIMITED: ErrorAnswer = of(
    Kind::TooManyRequests,
    "RateLimited",
    "Too many requests of this caller, or too many failed authentications of its address. Try again after `Retry-After`.",
    &["Rate limit exceeded"],
);
const INTERNAL: ErrorAnswer = of(
    Kind::Internal,
    "Internal",
    "A stored row does not open, or is not what it says, or a fault of the vault. Its log has the rest.",
    &["An unexpected error occurred"],
);
const UNAVAILABLE: ErrorAnswer = of(
    Kind::Unavailable,
    "Unavailable",
    "What the call needs cannot be had now or took too long, or too many requests are under way. Try again after `Retry-After`.",
    &[DATABASE, AUDIT],
);
const STORE_UNAVAILABLE: ErrorAnswer = of(
    Kind::Unavailable,
    "StoreUnavailable",
    UNAVAILABLE.when,
    &[DATABASE, AUDIT, KEY_MANAGEMENT],
);
const EXCHANGE_UNAVAILABLE: ErrorAnswer = of(
    Kind::Unavailable,
    "ExchangeUnavailable",
    UNAVAILABLE.when,
    &[DATABASE, AUDIT, KEY_MANAGEMENT, ISSUER_KEYS],
);

/// The errors of an operation, as the macro of a handler takes them.
macro_rules! errors {
    ($name:ident, $($answer:ident),+) => {
        pub(in crate::gateway) enum $name {}

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                [$(&$answer),+].map(ErrorAnswer::reference).into()
            }
        }

        impl $name {
            const ALL: &[ErrorAnswer] = &[$($answer),+];
        }
    };
}

errors!(
    OfStore,
    INVALID_STORE,
    NO_API_KEY,
    BODY_TOO_LARGE,
    NOT_JSON,
    RATE_LIMITED,
    INTERNAL,
    STORE_UNAVAILABLE
);
errors!(
    OfList,
    INVALID_LIST,
    NO_API_KEY,
    RATE_LIMITED,
    INTERNAL,
    UNAVAILABLE
);
errors!(
    OfOne,
    INVALID_ID,
    NO_API_KEY,
    NO_SUCH_CREDENTIAL,
    OTHER_METHOD,
    RATE_LIMITED,
    INTERNAL,
    UNAVAILABLE
);
errors!(
    OfExchange,
    INVALID_EXCHANGE,
    NO_GRANT_TOKEN,
    OUT_OF_SCOPE,
    NOTHING_TO_EXCHANGE,
    BODY_TOO_LARGE,
    NOT_JSON,
    RATE_LIMITED,
    INTERNAL,
    EXCHANGE_UNAVAILABLE
);
errors!(
    OfAudit,
    INVALID_AUDIT_QUERY,
    NO_API_KEY,
    RATE_LIMITED,
    INTERNAL,
    UNAVAILABLE
);

const OPERATIONS: [&[ErrorAnswer]; 5] = [
    OfStore::ALL,
    OfList::ALL,
    OfOne::ALL,
    OfExchange::ALL,
    OfAudit::ALL,
];

/// All error answers, by their names.
pub(super) fn components() -> BTreeMap<String, RefOr<Response>> {
    let all = OPERATIONS.into_iter().flatten();
    all.map(|answer| (answer.name.to_owned(), answer.response().into()))
        .collect()
}

/// Every `code` that there is.
pub(super) fn codes() -> Vec<&'static str> {
    let mut codes = Vec::new();
    for answer in OPERATIONS.into_iter().flatten() {
        if !codes.contains(&answer.code) {
            codes.push(answer.code);
        }
    }
    codes
}

const fn of(
    kind: Kind,
    name: &'static str,
    when: &'static str,
    messages: &'static [&'static str],
) -> ErrorAnswer {
    let (code, status, _) = kind.on_the_wire();
    ErrorAnswer {
        name,
        status,
        code,
        when,
        messages,
    }
}

impl ErrorAnswer {
    fn reference(&self) -> (String, RefOr<Response>) {
        let reference = Ref::from_response_name(self.name);
        (self.status.to_string(), reference.into())
    }

    fn response(&self) -> Response {
        let examples = self.messages.iter().map(|message| {
            let body = examples::problem(self.code, message);
            (*message, ExampleBuilder::new().value(Some(body)).build())
        });
        let schema = Ref::from_schema_name(ProblemBody::name());
        let content = ContentBuilder::new().schema(Some(schema));
        let content = content.examples_from_iter(examples).build();
        let mut response = ResponseBuilder::new()
            .description(self.when)
            .content("application/json", content)
            .build();
        response.headers = headers::of_status(self.status);
        response
    }
}
