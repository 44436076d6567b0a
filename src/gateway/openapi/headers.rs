//! The headers of answers, and the one of requests.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::openapi::{
    Header, HeaderBuilder, ObjectBuilder, Ref, RefOr, Required, Schema, SchemaFormat, Type,
    extensions::Extensions,
    path::{Parameter, ParameterBuilder, ParameterIn},
};

pub(super) const REQUEST_ID: &str = "X-Request-Id";
const CACHE_CONTROL: &str = "Cache-Control";
const CONTENT_TYPE_OPTIONS: &str = "X-Content-Type-Options";
const LIMIT: &str = "X-RateLimit-Limit";
const REMAINING: &str = "X-RateLimit-Remaining";
const RESET: &str = "X-RateLimit-Reset";
const CHALLENGE: &str = "WWW-Authenticate";
const ALLOW: &str = "Allow";
const RETRY_AFTER: &str = "Retry-After";

type Headers = BTreeMap<String, RefOr<Header>>;

/// The headers of an answer of this status, as references to the components.
pub(super) fn of_status(status: u16) -> Headers {
    let everywhere = [REQUEST_ID, CACHE_CONTROL, CONTENT_TYPE_OPTIONS];
    // Who calls is not known in a 401, and not asked in a 405.
    let limits: &[_] = match status {
        401 | 405 => &[],
        _ => &[LIMIT, REMAINING, RESET],
    };
    let own: &[_] = match status {
        401 => &[CHALLENGE],
        405 => &[ALLOW],
        429 | 503 => &[RETRY_AFTER],
        _ => &[],
    };
    let names = [&everywhere, limits, own].concat();
    let reference = |name| RefOr::Ref(Ref::new(format!("#/components/headers/{name}")));
    names
        .into_iter()
        .map(|name| (name.to_owned(), reference(name)))
        .collect()
}

/// All headers, by their names.
pub(super) fn components() -> Headers {
    let limited = "Where a rate limit applies";
    [
        (
            REQUEST_ID,
            always(
                "The request's id: the caller's own, else a new one.",
                string().format(Some(SchemaFormat::Custom("uuid".to_owned()))),
            ),
        ),
        (
            CACHE_CONTROL,
            always("Answers are not kept.", only("no-store")),
        ),
        (
            CONTENT_TYPE_OPTIONS,
            always("Answers are what they say.", only("nosniff")),
        ),
        (
            LIMIT,
            sometimes(&format!("{limited}: how many requests."), number(1)),
        ),
        (
            REMAINING,
            sometimes(&format!("{limited}: how many are left."), number(0)),
        ),
        (
            RESET,
            sometimes(
                &format!("{limited}: in how many seconds it is whole again."),
                number(0),
            ),
        ),
        (CHALLENGE, always("What is asked for.", only("Bearer"))),
        (
            ALLOW,
            always(
                "The methods that the path has.",
                string().examples(["POST"]),
            ),
        ),
        (
            RETRY_AFTER,
            always("After how many seconds to try again.", number(0)),
        ),
    ]
    .map(|(name, header)| (name.to_owned(), header.into()))
    .into()
}

/// The header of requests.
pub(super) fn request_id() -> Parameter {
    ParameterBuilder::new()
        .name(REQUEST_ID)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "The caller's own id of the request. It is kept when it is a UUID, else ignored.",
        ))
        .schema(Some(string()))
        .build()
}

fn always(description: &str, schema: impl Into<RefOr<Schema>>) -> Header {
    let mut header = sometimes(description, schema);
    // `required` is of OpenAPI, and utoipa has no field for it.
    header.extensions = Some(Extensions::from_iter([("required", Value::Bool(true))]));
    header
}

fn sometimes(description: &str, schema: impl Into<RefOr<Schema>>) -> Header {
    HeaderBuilder::new()
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn only(value: &str) -> ObjectBuilder {
    string().enum_values(Some([json!(value)]))
}

fn number(minimum: u32) -> ObjectBuilder {
    let number = ObjectBuilder::new().schema_type(Type::Integer);
    number.minimum(Some(minimum))
}
