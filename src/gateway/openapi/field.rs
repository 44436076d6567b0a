//! The fields of bodies, with the bounds that the model checks.

use std::borrow::Cow;

use serde_json::json;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type, schema::AdditionalProperties,
    },
};

use super::{examples, problems};
use crate::model::{event_filter::OutcomeName, id::credential_id_pattern, request, scope, text};

/// No character of Unicode's category Cc.
const NO_CONTROL_CHARACTERS: &str = r"^[^\u0000-\u001F\u007F-\u009F]*$";

/// A schema of its own name, which bodies refer to.
macro_rules! field {
    ($name:ident, $schema:expr) => {
        pub(in crate::gateway) enum $name {}

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                $schema.into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                stringify!($name).into()
            }
        }
    };
}

field!(
    CredentialId,
    string(
        "The credential's id: `vc_` and a ULID; one that was imported has kept its id, which may begin \
         with `vault_` or `cred_` instead."
    )
    .pattern(Some(credential_id_pattern!()))
    .examples([examples::ID, examples::IMPORTED_ID])
);

field!(
    PrincipalId,
    string("The end user whose credential this is. Compared byte for byte; never trimmed.")
        .min_length(Some(1))
        .max_length(Some(text::PrincipalId::MAX_CHARS))
        .pattern(Some(NO_CONTROL_CHARACTERS))
        .examples([examples::PRINCIPAL])
);

field!(
    ServiceName,
    string("The upstream service. Compared without ASCII case.")
        .min_length(Some(1))
        .max_length(Some(64))
        .pattern(Some("^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"))
        .examples([examples::SERVICE])
);

field!(
    CredentialType,
    string("What kind of credential it is; `oauth2` when the store did not say.")
        .min_length(Some(1))
        .max_length(Some(text::CredentialType::MAX_CHARS))
        .pattern(Some(NO_CONTROL_CHARACTERS))
        .examples(["oauth2", "api_key"])
);

field!(
    Timestamp,
    string("A moment in UTC, always with three decimals and `Z`.")
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .pattern(Some(
            r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$"
        ))
        .examples([examples::CREATED_AT])
);

field!(
    Metadata,
    ObjectBuilder::new()
        .description(Some(
            "The developer's own data, with the same keys in the same order as it was stored; `{}` \
             when the store did not say. It is not encrypted.",
        ))
        .additional_properties(Some(AdditionalProperties::FreeForm(true)))
        .examples([json!({"scopes": ["repo"]})])
);

field!(
    RequiredScope,
    string(
        "A scope. Compared without ASCII case, and to the letter: `*` stands for no other scope."
    )
    .min_length(Some(1))
    .max_length(Some(scope::RequiredScope::MAX_CHARS))
    .pattern(Some(NO_CONTROL_CHARACTERS))
    .examples([examples::REQUIRED_SCOPE])
);

field!(
    AgentId,
    string("An agent, as the claim `agt` names it. Compared byte for byte.")
        .min_length(Some(1))
        .max_length(Some(text::AgentId::MAX_CHARS))
        .pattern(Some(NO_CONTROL_CHARACTERS))
        .examples([examples::AGENT])
);

field!(
    Delivery,
    string("How a token is handed out.").enum_values(Some(["token"]))
);

field!(
    EventId,
    string("A ULID, whose time is `occurredAt`. Events are ordered by it.")
        .pattern(Some("^[0-7][0-9A-HJKMNP-TV-Z]{25}$"))
        .examples([examples::EVENT_ID])
);

field!(
    Verb,
    string("What was asked. New versions may have more of them.").enum_values(Some(verbs()))
);

field!(
    Outcome,
    string(
        "What became of it: `released`, an access token was allowed to leave, and whether it arrived \
         is not known; `stored`, `replaced` and `deleted`, of a credential; `listed` and `read`, \
         descriptions or events were allowed to leave; `denied`, the caller was refused; `not_found`, \
         there was no such credential; `failed`, the vault could not; `done` and `unchanged`, an \
         operation changed what it was to change, or found it so.",
    )
    .enum_values(Some(OutcomeName::ALL.map(OutcomeName::as_str)))
);

field!(
    Transport,
    string("Through which door the request came; operators have a command line beside.")
        .enum_values(Some([
            request::Transport::Grpc.as_str(),
            request::Transport::Rest.as_str(),
            request::Transport::CommandLine.as_str(),
        ]))
);

field!(
    ErrorCode,
    string("For programs: what kind of error it is.")
        .enum_values(Some(problems::codes()))
        .examples(["NOT_FOUND"])
);

/// What events say that was asked: by callers, and by operators.
fn verbs() -> impl Iterator<Item = &'static str> {
    let verbs = request::Verb::ALL.into_iter().map(request::Verb::as_str);
    let operations = request::Operation::ALL.into_iter();
    verbs.chain(operations.map(request::Operation::as_str))
}

fn string(description: &str) -> ObjectBuilder {
    let string = ObjectBuilder::new().schema_type(Type::String);
    string.description(Some(description))
}
