//! The OpenAPI document of the REST side, made from the types and the handlers that serve it.

pub(super) mod examples;
pub(super) mod field;
mod headers;
pub(super) mod problems;
pub(super) mod requests;

use utoipa::{
    Modify, OpenApi,
    openapi::{
        Components, Ref, RefOr, Response,
        path::{Operation, PathItem},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{audit_events, credentials, problem::ProblemBody};

const DESCRIPTION: &str = "\
Keeps the upstream credentials of end users and releases them to agents that hold a grant.

**Callers.** `Authorization: Bearer …` carries a developer's API key, or, for an exchange, a grant \
token. Unknown paths and methods are answered before it is asked who calls: `404` and `405`, in the \
shape of every error.

**Order of checks.** Authentication (401) before the body is read; then its type and size (415, 413) \
and its fields (400); then, on exchange, revocation (401), scope (403) and the credential (404).

**Lengths** count Unicode scalar values unless bytes are named. **Timestamps** in answers are UTC, \
always with three decimals and `Z`.

`HEAD` answers as `GET` without the body. What the HTTP library itself refuses (a header that is too \
large, say) may have no body. The same calls are served over gRPC: `grantex.vault.v1.VaultService` and \
`AuditService`.";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "grantex-vault",
        description = DESCRIPTION,
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/", description = "Where this document comes from")),
    tags(
        (name = "Credentials", description = "For the developer's backend, with an API key"),
        (name = "Exchange", description = "For agents, with a grant token"),
        (name = "Audit", description = "What became of the developer's credentials, with an API key"),
    ),
    paths(
        credentials::store,
        credentials::list,
        credentials::get,
        credentials::delete,
        credentials::exchange,
        audit_events::list,
    ),
    components(schemas(ProblemBody)),
    modifiers(&WhatAllHave),
)]
struct Document;

/// What is the same for all operations.
struct WhatAllHave;

/// The document, as JSON.
pub(super) fn document() -> String {
    let document = Document::openapi().to_pretty_json();
    document.expect("strings and numbers serialise")
}

impl Modify for WhatAllHave {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        fill(components);
        for path in document.paths.paths.values_mut() {
            operations(path).for_each(complete);
        }
    }
}

fn fill(components: &mut Components) {
    components.headers = headers::components();
    components.responses = problems::components();
    let parameter = headers::request_id();
    let name = headers::REQUEST_ID.to_owned();
    components.parameters.insert(name, parameter.into());
    components.security_schemes.extend([
        (
            "apiKey".to_owned(),
            bearer(
                "gx_live_… or gx_test_…",
                "An API key of the developer, as `grantex-vault api-key create` prints it.",
            ),
        ),
        (
            "grantToken".to_owned(),
            bearer(
                "JWT",
                "A grant token: a JWT of the configured issuer, signed with RS256 or ES256, of 16 KiB at \
                 most. Of type `at+jwt` it has the claims `iss sub jti iat exp client_id scope` and \
                 `urn:grantex:grant` with `agent_did` and `developer_id`; a token of an issuer before \
                 0.6 has `iss sub agt dev scp jti iat exp`. An exchange for service `s` needs the scope \
                 `vault:s:exchange`, compared without case. A vault with \
                 `GRANTEX_VAULT_SCOPE_MODE=compatible` also takes `*`, `s:*`, `s:read`, \
                 `s:credentials:read`, `vault:s:*`, `vault:s:read` and `vault:credentials:exchange`. \
                 A token that names an audience (`aud`) must name the vault's.",
            ),
        ),
    ]);
}

fn bearer(format: &str, description: &str) -> RefOr<SecurityScheme> {
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
    let scheme = scheme.bearer_format(format).description(Some(description));
    SecurityScheme::Http(scheme.build()).into()
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let operations = [&mut path.get, &mut path.post, &mut path.delete];
    operations.into_iter().flatten()
}

/// Adds the headers of the request and of successes; those of errors are there already.
fn complete(operation: &mut Operation) {
    let reference = Ref::new(format!("#/components/parameters/{}", headers::REQUEST_ID));
    let parameters = operation.parameters.get_or_insert_default();
    parameters.push(RefOr::Ref(reference));
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(Response { headers, .. }) = response {
            *headers = headers::of_status(status.parse().expect("each status is a number"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::gateway::wire::{EXCHANGE_FIELDS, STORE_FIELDS};

    /// The names of a schema's properties.
    fn fields(schema: &str) -> Vec<String> {
        let document: Value = serde_json::from_str(&document()).unwrap();
        let properties = &document["components"]["schemas"][schema]["properties"];
        properties.as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn the_fields_of_requests_are_those_that_the_parser_reads() {
        assert_eq!(fields("StoreRequest"), STORE_FIELDS);
        assert_eq!(fields("ExchangeRequest"), EXCHANGE_FIELDS);
    }

    #[test]
    fn the_examples_show_every_field_that_there_is() {
        let keys = |example: Value| {
            let keys: Vec<_> = example.as_object().unwrap().keys().cloned().collect();
            keys
        };
        for (schema, example) in [
            ("StoreRequest", examples::all_to_store()),
            ("ExchangeRequest", examples::to_exchange_for_the_token()),
            ("StoredCredential", examples::stored()),
            ("Credential", examples::credential()),
            ("CredentialList", examples::page()),
            ("ExchangedCredential", examples::exchanged()),
            ("AuditEventList", examples::events()),
            ("AuditEvent", examples::last_events()["events"][1].clone()),
            (
                "AgentCaller",
                examples::events()["events"][0]["caller"].clone(),
            ),
            (
                "ApiKeyCaller",
                examples::last_events()["events"][0]["caller"].clone(),
            ),
            (
                "OperatorCaller",
                examples::last_events()["events"][1]["caller"].clone(),
            ),
            (
                "WebhookCaller",
                examples::last_events()["events"][2]["caller"].clone(),
            ),
            (
                "Problem",
                examples::problem("NOT_FOUND", "Credential not found"),
            ),
        ] {
            assert_eq!(keys(example), fields(schema), "{schema}");
        }
    }
}
