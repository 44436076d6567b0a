//! Answers of a running server: every status of every operation.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::{EVENTS, EXCHANGE, PATH, text};
use crate::harness::{Client, Cluster, Server, Setup, Trouble, Via, raw};

/// Statuses that nothing here makes: a delete reads nothing that could be inconsistent.
pub(super) fn is_not_made_here(operation: &str, status: u16) -> bool {
    (operation, status) == ("deleteCredential", 500)
}

/// Answers by operation and status, as they came.
#[derive(Default)]
pub(super) struct Answers(pub(super) Vec<Value>);

impl Answers {
    async fn of(&mut self, operation: &str, status: u16, request: RequestBuilder) {
        let response = request.send().await.expect("the server answers");
        assert_eq!(response.status(), status, "{operation}");
        let headers = response.headers().iter();
        let headers =
            headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()));
        let headers = headers.collect();
        let body = response.bytes().await.unwrap();
        self.push(operation, status, &headers, &body);
    }

    fn push(
        &mut self,
        operation: &str,
        status: u16,
        headers: &BTreeMap<String, String>,
        body: &[u8],
    ) {
        let body = serde_json::from_slice(body).unwrap_or(Value::Null);
        self.0.push(json!({
            "operation": operation, "status": status, "headers": headers, "body": body,
        }));
    }

    /// The messages of one operation's errors of a status.
    pub(super) fn messages(&self, operation: &str, status: u16) -> BTreeSet<String> {
        let of_it = self.0.iter().filter(|answer| {
            (&answer["operation"], &answer["status"]) == (&json!(operation), &json!(status))
        });
        of_it
            .map(|answer| text(&answer["body"]["message"]))
            .collect()
    }

    pub(super) fn statuses(&self, operation: &str) -> BTreeSet<u16> {
        let of_it = self
            .0
            .iter()
            .filter(|answer| answer["operation"] == operation);
        of_it
            .filter_map(|answer| answer["status"].as_u64()?.try_into().ok())
            .collect()
    }
}

fn post(client: &Client<'_>, path: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
    let request = client.http(Method::POST, path).body(body);
    request.header("content-type", "application/json")
}

pub(super) fn draft(changed: &str, value: &Value) -> String {
    let mut body = json!({"principalId": "user", "service": "github", "accessToken": "secret"});
    body[changed] = value.clone();
    body.to_string()
}

/// The request of each operation that succeeds, by its id.
fn good(
    developer: &Client<'_>,
    agent: &Client<'_>,
    id: &str,
) -> [(&'static str, RequestBuilder); 6] {
    let one = format!("{PATH}/{id}");
    [
        (
            "storeCredential",
            post(developer, PATH, draft("metadata", &json!({"a": [1]}))),
        ),
        ("listCredentials", developer.http(Method::GET, PATH)),
        ("getCredential", developer.http(Method::GET, &one)),
        (
            "exchangeCredential",
            post(agent, EXCHANGE, r#"{"service":"github"}"#),
        ),
        ("deleteCredential", developer.http(Method::DELETE, &one)),
        ("listAuditEvents", developer.http(Method::GET, EVENTS)),
    ]
}

async fn broken_input(answers: &mut Answers, developer: &Client<'_>, agent: &Client<'_>) {
    let stores = [
        "{}".to_owned(),
        "[]".to_owned(),
        draft("service", &json!("git hub")),
        draft("principalId", &json!("x".repeat(513))),
        draft("accessToken", &json!("x".repeat(262_145))),
        draft("tokenExpiresAt", &json!("soon")),
        draft("metadata", &json!([])),
        draft("requiredScopes", &json!("repo")),
        draft("allowedAgents", &json!(vec!["did:a"; 65])),
    ];
    for body in stores {
        answers
            .of("storeCredential", 400, post(developer, PATH, body))
            .await;
    }
    for query in ["pageSize=0", "pageToken=x", "service=a&service=a", "x=%ff"] {
        let request = developer.http(Method::GET, &format!("{PATH}?{query}"));
        answers.of("listCredentials", 400, request).await;
    }
    for query in [
        "outcome=x",
        "from=soon",
        "to=",
        "pageSize=0",
        "pageToken=x",
        "service=a&service=a",
        "x=%ff",
    ] {
        let request = developer.http(Method::GET, &format!("{EVENTS}?{query}"));
        answers.of("listAuditEvents", 400, request).await;
    }
    for (operation, method) in [
        ("getCredential", Method::GET),
        ("deleteCredential", Method::DELETE),
    ] {
        for (id, status) in [("%ff", 400), ("vc_x", 404), ("exchange", 405)] {
            let request = developer.http(method.clone(), &format!("{PATH}/{id}"));
            answers.of(operation, status, request).await;
        }
    }
    let exchanges = [
        "{}",
        "[]",
        r#"{"service":"git hub"}"#,
        r#"{"service":"github","delivery":"reference"}"#,
    ];
    for body in exchanges {
        answers
            .of("exchangeCredential", 400, post(agent, EXCHANGE, body))
            .await;
    }
    for (operation, client, path) in [
        ("storeCredential", developer, PATH),
        ("exchangeCredential", agent, EXCHANGE),
    ] {
        let plain = client.http(Method::POST, path).body("{}");
        answers.of(operation, 415, plain).await;
        let zipped = post(client, path, "{}").header("content-encoding", "gzip");
        answers.of(operation, 415, zipped).await;
        let authorization = client.authorization.as_deref().unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: v\r\nAuthorization: {authorization}\r\n\
             Content-Type: application/json\r\nContent-Length: 1048577\r\nConnection: close\r\n\r\n"
        );
        let refused = raw(client.server, request).await;
        answers.push(
            operation,
            refused.status,
            &refused.headers.into_iter().collect(),
            &refused.body,
        );
    }
}

async fn unknown_callers(answers: &mut Answers, server: &Server) {
    for authorization in [None, Some("Bearer nobody_knows_this_key".to_owned())] {
        let unknown = server.client_with(Via::Rest, authorization);
        for (operation, request) in good(&unknown, &unknown, "vc_x") {
            answers.of(operation, 401, request).await;
        }
    }
}

/// Every status of every operation, as far as a server can be made to give it.
pub(super) async fn every_answer() -> Answers {
    let cluster = Cluster::start().await;
    let url = cluster.database().await;
    let setup = Setup::new().without_data_keys();
    let server = setup.with("DATABASE_URL", &url).start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    let agent = server.agent(Via::Rest, &tenant, "user");
    let mut answers = Answers::default();
    unknown_callers(&mut answers, &server).await;
    broken_input(&mut answers, &developer, &agent).await;

    developer.store_token("other", "slack", "secret").await;
    let id = text(&developer.store_token("user", "github", "secret").await["id"]);
    let first_page = developer.http(Method::GET, &format!("{PATH}?pageSize=1"));
    answers.of("listCredentials", 200, first_page).await;
    let first_page = developer.http(Method::GET, &format!("{EVENTS}?pageSize=1"));
    answers.of("listAuditEvents", 200, first_page).await;
    for (operation, request) in good(&developer, &agent, &id) {
        let status = match operation {
            "storeCredential" => 201,
            "deleteCredential" => 204,
            _ => 200,
        };
        answers.of(operation, status, request).await;
    }
    let narrow = server.client(
        Via::Rest,
        &server.grant(&tenant, "user", &["vault:slack:exchange"]),
    );
    for (client, status) in [(&agent, 404), (&narrow, 403)] {
        let request = post(client, EXCHANGE, r#"{"service":"github"}"#);
        answers.of("exchangeCredential", status, request).await;
    }

    let id = text(&developer.store_token("user", "github", "secret").await["id"]);
    trouble(&mut answers, &developer, &agent, &id).await;
    cluster.stop().await;
    for (operation, request) in good(&developer, &agent, &id) {
        answers.of(operation, 503, request).await;
    }
    without_keys(&mut answers).await;
    over_budget(&mut answers).await;
    answers
}

/// A developer and an agent who ask more than once a minute.
async fn over_budget(answers: &mut Answers) {
    let server = Setup::new()
        .with("GRANTEX_VAULT_LIMIT_REQUESTS_PER_DEVELOPER", "1")
        .with("GRANTEX_VAULT_LIMIT_EXCHANGE_PER_GRANT", "1")
        .start()
        .await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    let agent = server.agent(Via::Rest, &tenant, "user");
    assert!(developer.list().await.is_ok());
    assert_eq!(agent.exchange("github").await.unwrap_err().status, 404);
    for (operation, request) in good(&developer, &agent, "vc_x") {
        answers.of(operation, 429, request).await;
    }
}

/// The KMS, the audit record and the rows in turn.
async fn trouble(answers: &mut Answers, developer: &Client<'_>, agent: &Client<'_>, id: &str) {
    const SEALS_OR_OPENS: [&str; 2] = ["storeCredential", "exchangeCredential"];
    const READS: [&str; 4] = [
        "listCredentials",
        "getCredential",
        "exchangeCredential",
        "listAuditEvents",
    ];
    let server = developer.server;
    let ask = async |answers: &mut Answers, operations: &[&str], status| {
        let requests = good(developer, agent, id).into_iter();
        for (operation, request) in requests.filter(|(name, _)| operations.contains(name)) {
            answers.of(operation, status, request).await;
        }
    };
    for (trouble, status) in [(Trouble::Denied, 503), (Trouble::Panics, 500)] {
        server.kms.set_trouble(Some(trouble));
        ask(answers, &SEALS_OR_OPENS, status).await;
    }
    server.kms.set_trouble(None);
    let audit = "alter table vault.audit_events";
    let full_up = format!("{audit} add constraint full_up check (false) not valid");
    server.execute(&full_up).await;
    let all = good(developer, agent, id).map(|(operation, _)| operation);
    ask(answers, &all, 503).await;
    let room_again = format!("{audit} drop constraint full_up");
    server.execute(&room_again).await;
    let inconsistent = "update vault.credentials set service = 'no service';
                        update vault.audit_events set canonical = ''";
    server.execute(inconsistent).await;
    ask(answers, &READS, 500).await;
}

/// An issuer whose keys cannot be had.
async fn without_keys(answers: &mut Answers) {
    let setup = Setup::new();
    setup.issuer.fail();
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    let agent = server.agent(Via::Rest, &tenant, "user");
    let request = post(&agent, EXCHANGE, r#"{"service":"github"}"#);
    answers.of("exchangeCredential", 503, request).await;
}
