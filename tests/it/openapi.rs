//! The description of the REST side: it is valid, and the server does what it says.

mod answers;

use std::collections::{BTreeMap, BTreeSet};

use grantex_vault::gateway::ROUTES;
use serde_json::{Value, json};

use crate::{
    annotations::stated_routes,
    harness::{Dev, Server, Via, instance_directory, python},
};
use answers::{draft, every_answer, is_not_made_here};

const PATH: &str = "/v1/vault/credentials";
const EVENTS: &str = "/v1/vault/audit-events";
const EXCHANGE: &str = "/v1/vault/credentials/exchange";

async fn document(server: &Server) -> Value {
    let nobody = server.client_with(Via::Rest, None);
    nobody.get_raw("/openapi.json").await.unwrap()
}

/// Path, method and operation of each.
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (path.clone(), method.to_uppercase(), operation))
    });
    operations.collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// The messages in the examples of an operation's error.
fn documented_messages(document: &Value, response: &Value) -> BTreeSet<String> {
    let component = text(&response["$ref"]).replacen('#', "", 1);
    let response = document.pointer(&component).expect("it leads somewhere");
    let examples = &response["content"]["application/json"]["examples"];
    let examples = examples.as_object().unwrap().values();
    examples
        .map(|example| text(&example["value"]["message"]))
        .collect()
}

#[tokio::test]
async fn every_answer_is_documented_and_everything_documented_is_answered() {
    let document = document(&Server::start().await).await;
    let answers = every_answer().await;
    for (path, method, operation) in operations(&document) {
        let id = text(&operation["operationId"]);
        for (status, response) in operation["responses"].as_object().unwrap() {
            let number: u16 = status.parse().unwrap();
            if is_not_made_here(&id, number) {
                continue;
            }
            let what = format!("{method} {path} {status}");
            assert!(answers.statuses(&id).contains(&number), "{what} was given");
            if number >= 400 {
                let documented = documented_messages(&document, response);
                assert_eq!(answers.messages(&id, number), documented, "{what}");
            }
        }
    }
    let all = json!({"document": document, "answers": answers.0});
    python("openapi/check.py", all.to_string()).await;
}

#[tokio::test]
async fn the_document_has_the_routes_that_are_served_by_the_names_of_grpc() {
    let server = Server::start().await;
    let document = document(&server).await;
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let documented = operations(&document);
    let routes: BTreeSet<_> = documented
        .iter()
        .map(|(path, method, _)| (&**method, &**path))
        .collect();
    assert_eq!(routes, ROUTES.into());
    let by_name = documented.iter().map(|(path, method, operation)| {
        let (first, rest) = operation["operationId"].as_str().unwrap().split_at(1);
        (
            format!("{}{rest}", first.to_uppercase()),
            (method.clone(), path.clone()),
        )
    });
    let by_name: BTreeMap<_, _> = by_name.collect();
    assert_eq!(by_name, stated_routes().into_iter().collect());
}

#[tokio::test]
async fn every_documented_field_is_one_that_is_read() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let (developer, agent) = (
        server.client(Via::Rest, &tenant.key),
        server.agent(Via::Rest, &tenant, "user"),
    );
    let document = document(&server).await;
    for (schema, client, path) in [
        ("StoreRequest", &developer, PATH),
        ("ExchangeRequest", &agent, EXCHANGE),
    ] {
        let schema = &document["components"]["schemas"][schema];
        let fields = schema["properties"].as_object().unwrap();
        for field in fields.keys() {
            let refused = client.post_raw(path, draft(field, &json!(7))).await;
            let message = refused.unwrap_err().message;
            assert!(
                message.starts_with(&format!("{field} must be ")),
                "{message}"
            );
        }
        assert!(fields.len() >= 2);
    }
    let of_list = ["principalId", "service", "pageSize", "pageToken"].as_slice();
    let of_events = [
        "principalId",
        "service",
        "credentialId",
        "grantId",
        "outcome",
        "from",
        "to",
        "pageSize",
        "pageToken",
    ]
    .as_slice();
    for (path, expected) in [(PATH, of_list), (EVENTS, of_events)] {
        let parameters = &document["paths"][path]["get"]["parameters"];
        let parameters = parameters.as_array().unwrap().iter();
        let in_query = parameters.filter(|parameter| parameter["in"] == "query");
        let names: Vec<_> = in_query.map(|parameter| text(&parameter["name"])).collect();
        assert_eq!(names, expected);
        for name in names {
            let twice = format!("{path}?{name}=1&{name}=1");
            let refused = developer.get_raw(&twice).await.unwrap_err();
            assert_eq!(refused.message, format!("{name} must be given once"));
        }
    }
}

#[tokio::test]
async fn schemathesis_finds_no_5xx_and_no_answer_that_is_not_documented() {
    let directory = instance_directory();
    // It fails to authenticate as often as it likes.
    let unlimited = [("GRANTEX_VAULT_LIMIT_FAILED_AUTH_PER_ADDRESS", "0")];
    let dev = Dev::start(directory.path(), &unlimited).await;
    python("openapi/fuzz.py", dev.instance.to_string()).await;
}
