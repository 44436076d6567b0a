//! A request's body: its type, its size, and that it is not looked at before its sender is known.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, Client, Server, Via, answer, raw};

const PATH: &str = "/v1/vault/credentials";
const EXCHANGE: &str = "/v1/vault/credentials/exchange";
const MIB: usize = 1024 * 1024;

fn body() -> String {
    json!({"principalId": "user", "service": "github", "accessToken": "t"}).to_string()
}

async fn post(client: &Client<'_>, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = client.http(Method::POST, path).body(body());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(request.send().await.unwrap()).await
}

#[tokio::test]
async fn a_body_has_one_content_type_and_no_encoding() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    let agent = server.agent(Via::Rest, &tenant, "user");
    let json = ("content-type", "application/json");
    let accepted: [&[(&str, &str)]; 6] = [
        &[json],
        &[("content-type", "APPLICATION/Json")],
        &[("content-type", "application/json; charset=latin1")],
        &[("content-type", "application/json ;q=1")],
        &[json, ("content-encoding", "identity")],
        &[json, ("content-encoding", "Identity")],
    ];
    for headers in accepted {
        assert!(post(&developer, PATH, headers).await.is_ok(), "{headers:?}");
        assert!(post(&agent, EXCHANGE, headers).await.is_ok(), "{headers:?}");
    }
    let refused: [&[(&str, &str)]; 12] = [
        &[],
        &[("content-type", "")],
        &[("content-type", "text/plain")],
        &[("content-type", "text/json")],
        &[("content-type", "application/jsonp")],
        &[("content-type", "application/vnd.api+json")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("content-type", "application/json, application/json")],
        &[json, json],
        &[json, ("content-encoding", "gzip")],
        &[json, ("content-encoding", "identity, gzip")],
        &[
            json,
            ("content-encoding", "identity"),
            ("content-encoding", "identity"),
        ],
    ];
    let nobody = server.client_with(Via::Rest, None);
    for headers in refused {
        for (client, path) in [(&developer, PATH), (&agent, EXCHANGE)] {
            let refused = post(client, path, headers).await.unwrap_err();
            assert_eq!(
                (refused.status, &*refused.code),
                (415, "BAD_REQUEST"),
                "{headers:?}"
            );
            let unknown = post(&nobody, path, headers).await.unwrap_err();
            assert_eq!(unknown.status, 401, "who asks comes first");
        }
    }
}

#[tokio::test]
async fn a_body_is_at_most_one_mebibyte() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    let padded = |size: usize| format!("{}{}", " ".repeat(size - body().len()), body());
    assert!(developer.post_raw(PATH, padded(MIB)).await.is_ok());

    // Announced: answered before a byte of it, and before its type matters less.
    let head = |key: &str, kind: &str, framing: &str| {
        format!(
            "POST {PATH} HTTP/1.1\r\nHost: v\r\nAuthorization: Bearer {key}\r\nContent-Type: {kind}\r\n\
             {framing}\r\nConnection: close\r\n\r\n"
        )
    };
    let json = "application/json";
    let announced = format!("Content-Length: {}", MIB + 1);
    for (key, kind, status) in [
        (&*tenant.key, json, 413),
        (&*tenant.key, "text/plain", 415),
        ("nobody-knows-this-key", json, 401),
    ] {
        let refused = raw(&server, head(key, kind, &announced)).await;
        assert_eq!(refused.status, status);
    }
    let refused = raw(&server, head(&tenant.key, json, &announced))
        .await
        .json();
    assert_eq!(refused["code"], "BAD_REQUEST");
    assert_eq!(refused["message"], "body must be at most 1048576 bytes");

    // Not announced: read up to the limit and no further. The last chunk never comes.
    let head = head(&tenant.key, json, "Transfer-Encoding: chunked");
    let request = format!("{head}{:x}\r\n{}\r\n", MIB + 1, " ".repeat(MIB + 1));
    assert_eq!(raw(&server, request).await.status, 413);
    assert_eq!(server.outcomes().await, ["store stored"]);
}

#[tokio::test]
async fn who_asks_is_decided_before_a_body_is_read() {
    let server = Server::start().await;
    for path in [PATH, EXCHANGE] {
        // The body that is announced never comes.
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: v\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\
             Connection: close\r\n\r\n"
        );
        let refused = raw(&server, request).await;
        assert_eq!(refused.status, 401);
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    }
}
