//! The verbs over HTTP; what every answer must carry is checked here, for all scenarios.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use super::{Answer, Client, Problem};

const PATH: &str = "/v1/vault/credentials";

impl Client<'_> {
    /// A request of this caller that is not sent yet.
    pub(crate) fn http(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.server.http_url);
        let request = self.server.http.request(method, url);
        match &self.authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        }
    }

    /// Posts a body of any content as JSON.
    pub(crate) async fn post_raw(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let request = self
            .http(Method::POST, path)
            .header("content-type", "application/json");
        answer(request.body(body).send().await.unwrap()).await
    }

    /// Gets a path of any content.
    pub(crate) async fn get_raw(&self, path: &str) -> Answer {
        send(self.http(Method::GET, path)).await
    }
}

pub(super) async fn store(client: &Client<'_>, fields: Value) -> Answer {
    let request = client.http(Method::POST, PATH).json(&fields);
    let response = request.send().await.unwrap();
    assert!(!response.status().is_success() || response.status() == 201);
    answer(response).await
}

pub(super) async fn list(client: &Client<'_>, query: Value) -> Answer {
    get_where(client, PATH, &query).await
}

pub(super) async fn audit_events(client: &Client<'_>, query: Value) -> Answer {
    get_where(client, "/v1/vault/audit-events", &query).await
}

async fn get_where(client: &Client<'_>, path: &str, query: &Value) -> Answer {
    let parameters = query.as_object().unwrap().iter().map(|(name, value)| {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        format!("{name}={}", encode(&value))
    });
    let query = parameters.collect::<Vec<_>>().join("&");
    send(client.http(Method::GET, &format!("{path}?{query}"))).await
}

pub(super) async fn get(client: &Client<'_>, id: &str) -> Answer {
    send(client.http(Method::GET, &format!("{PATH}/{}", encode(id)))).await
}

pub(super) async fn delete(client: &Client<'_>, id: &str) -> Answer {
    let request = client.http(Method::DELETE, &format!("{PATH}/{}", encode(id)));
    let response = request.send().await.unwrap();
    assert!(!response.status().is_success() || response.status() == 204);
    answer(response).await
}

pub(super) async fn exchange(client: &Client<'_>, service: &str) -> Answer {
    let path = format!("{PATH}/exchange");
    send(
        client
            .http(Method::POST, &path)
            .json(&json!({ "service": service })),
    )
    .await
}

async fn send(request: RequestBuilder) -> Answer {
    answer(request.send().await.expect("the server answers")).await
}

/// Reads an answer, and checks what the contract says of every one.
pub(crate) async fn answer(response: Response) -> Answer {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let header = |name: &str| {
        let values: Vec<_> = headers.get_all(name).iter().collect();
        assert!(values.len() <= 1, "{name} stands {} times", values.len());
        values
            .first()
            .map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(header("cache-control").as_deref(), Some("no-store"));
    assert_eq!(header("x-content-type-options").as_deref(), Some("nosniff"));
    let request_id = header("x-request-id").expect("every answer has a request id");
    assert!(uuid::Uuid::parse_str(&request_id).is_ok(), "{request_id}");
    let body = response.bytes().await.expect("the whole body arrives");
    if body.is_empty() {
        assert_eq!((status, header("content-type")), (204, None));
        return Ok(Value::Null);
    }
    assert_eq!(header("content-type").as_deref(), Some("application/json"));
    let body: Value = serde_json::from_slice(&body).expect("every body is JSON");
    if status < 400 {
        return Ok(body);
    }
    let retry_after = header("retry-after").map(|text| text.parse().expect("whole seconds"));
    assert_eq!(matches!(status, 429 | 503), retry_after.is_some());
    let challenge = header("www-authenticate");
    assert_eq!(challenge.as_deref(), (status == 401).then_some("Bearer"));
    let text = |name: &str| body[name].as_str().expect("a string").to_owned();
    let names: Vec<_> = body.as_object().unwrap().keys().collect();
    assert_eq!(names, ["message", "code", "requestId"]);
    assert_eq!(text("requestId"), request_id);
    Err(Problem {
        code: text("code"),
        message: text("message"),
        status,
        request_id,
        retry_after,
        field: None,
    })
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
