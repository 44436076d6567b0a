//! The JSON of REST, to the byte.

use grantex_vault::clock::Clock;
use reqwest::Method;
use serde_json::Value;

use crate::harness::{Client, Server, Via};

#[tokio::test]
async fn over_rest_keys_stand_in_their_order_and_metadata_as_it_came() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    let body = r#"{ "unknown" : [1, {"x": null}], "metadata": { "z" : 1.50, "a": [ ], "é\u00e9\"" : "\ud83d\ude00",
        "big": 12345678901234567890, "nested": {"b": 1e2, "a": -0.0} }, "accessToken": "t",
        "service": "GitHub", "principalId": "user", "refreshToken": null, "tokenExpiresAt": null }"#;
    let stored = post(&developer, "/v1/vault/credentials", body).await;
    let (id, at) = (field(&stored, "id"), field(&stored, "createdAt"));
    assert_eq!(at, server.clock.now().to_string());
    assert_eq!(
        stored,
        format!(
            r#"{{"id":"{id}","principalId":"user","service":"GitHub","credentialType":"oauth2","createdAt":"{at}"}}"#
        )
    );
    let found = text(developer.http(Method::GET, &format!("/v1/vault/credentials/{id}"))).await;
    let start = format!(
        r#"{{"id":"{id}","principalId":"user","service":"GitHub","credentialType":"oauth2","tokenExpiresAt":null,"metadata":"#
    );
    let metadata = found
        .strip_prefix(&start)
        .expect("these keys in this order");
    let end = format!(r#","createdAt":"{at}","updatedAt":"{at}"}}"#);
    let metadata = metadata
        .strip_suffix(&end)
        .expect("these keys in this order");
    let keys: Vec<_> = ["\"z\"", "\"a\"", "éé", "\"big\"", "\"nested\"", "\"b\""]
        .map(|key| metadata.find(key).expect("the key is there"))
        .into();
    assert!(keys.is_sorted(), "{metadata}");
    let value: Value = serde_json::from_str(metadata).unwrap();
    assert_eq!(value["éé\""], "\u{1f600}");
    assert_eq!(value["z"].as_f64(), Some(1.5));
    assert_eq!(value["big"].as_f64(), Some(12_345_678_901_234_567_890.0));
    assert_eq!(value["nested"]["b"].as_f64(), Some(100.0));

    let listed = text(developer.http(Method::GET, "/v1/vault/credentials")).await;
    assert_eq!(listed, format!(r#"{{"credentials":[{found}]}}"#));

    let agent = server.agent(Via::Rest, &tenant, "user");
    let path = "/v1/vault/credentials/exchange";
    let exchanged = post(&agent, path, r#"{"service":"github","delivery":"token"}"#).await;
    assert_eq!(
        exchanged,
        format!(
            r#"{{"accessToken":"t","service":"GitHub","credentialType":"oauth2","tokenExpiresAt":null,"metadata":{metadata}}}"#
        )
    );
}

async fn post(client: &Client<'_>, path: &str, body: &'static str) -> String {
    let request = client.http(Method::POST, path);
    text(
        request
            .header("content-type", "application/json")
            .body(body),
    )
    .await
}

async fn text(request: reqwest::RequestBuilder) -> String {
    request.send().await.unwrap().text().await.unwrap()
}

fn field(body: &str, name: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    body[name].as_str().unwrap().to_owned()
}
