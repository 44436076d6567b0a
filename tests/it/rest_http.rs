//! HTTP itself: which routes there are, and what every answer says.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Server, Via, answer, raw};

const PATH: &str = "/v1/vault/credentials";
const EXCHANGE: &str = "/v1/vault/credentials/exchange";
const EVENTS: &str = "/v1/vault/audit-events";

#[tokio::test]
async fn other_paths_are_404_and_other_methods_405_to_anyone() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let paths = [
        "/",
        "/v1",
        "/v1/vault",
        "/v1/vault/",
        "/v1/vault/credentials/",
        "/v1/vault/credentials/a/b",
        "/v1/vault/credentials/vc_1/",
        "/v1/vault//credentials",
        "//v1/vault/credentials",
        "/v1/vault/credentials/exchange/",
        "/V1/vault/credentials",
        "/v1/vault/Credentials",
        "/v1/vault/credentials//",
        "/v1/vault/credentials//exchange",
        "/v1/vault/credentials/.",
        "/v1/vault/credentials/..",
        "/v1/vault/./credentials",
        "/v1/vault/x/../credentials",
        "/v1/vault%2Fcredentials",
        "/v1/vault/credentials;x",
        "/v1/vault/audit-events/",
        "/v1/vault/audit-events/01",
        "/v1/vault/audit",
    ];
    let authorized = format!("Authorization: Bearer {}\r\n", tenant.key);
    for path in paths {
        for headers in ["", &authorized] {
            for method in ["GET", "POST", "DELETE", "OPTIONS", "PATCH"] {
                let request = format!(
                    "{method} {path} HTTP/1.1\r\nHost: v\r\n{headers}Connection: close\r\n\r\n"
                );
                let found = raw(&server, request).await;
                let code = found.json()["code"].clone();
                assert_eq!(
                    (found.status, code),
                    (404, json!("NOT_FOUND")),
                    "{method} {path}"
                );
                assert_eq!(found.header("allow"), None);
            }
        }
    }
    for (path, allowed) in [
        (PATH, vec!["GET", "HEAD", "POST"]),
        ("/v1/vault/credentials/vc_1", vec!["DELETE", "GET", "HEAD"]),
        (EXCHANGE, vec!["POST"]),
        (EVENTS, vec!["GET", "HEAD"]),
    ] {
        for method in [
            "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW",
        ] {
            if allowed.contains(&method) {
                continue;
            }
            for headers in ["", &authorized] {
                let request = format!(
                    "{method} {path} HTTP/1.1\r\nHost: v\r\n{headers}Connection: close\r\n\r\n"
                );
                let refused = raw(&server, request).await;
                let body = refused.json();
                assert_eq!(
                    (refused.status, &body["code"]),
                    (405, &json!("METHOD_NOT_ALLOWED")),
                    "{method} {path}"
                );
                let mut allow: Vec<_> = refused
                    .header("allow")
                    .unwrap()
                    .split(',')
                    .map(str::trim)
                    .collect();
                allow.sort_unstable();
                assert_eq!(allow, allowed, "{method} {path}");
            }
        }
    }
    let head = raw(
        &server,
        format!("HEAD {EXCHANGE} HTTP/1.1\r\nHost: v\r\nConnection: close\r\n\r\n"),
    )
    .await;
    assert_eq!((head.status, head.header("allow")), (405, Some("POST")));
    assert_eq!(server.audit_events().await.len(), 0);
}

#[tokio::test]
async fn every_error_has_one_shape_and_every_answer_the_fixed_headers() {
    let server = Server::start().await;
    let key = server.tenant("acme").await.key;
    for (request, status) in [
        ("GET /nowhere HTTP/1.1".to_owned(), 404),
        (format!("PUT {PATH} HTTP/1.1"), 405),
        (format!("GET {PATH} HTTP/1.1"), 401),
        (
            format!("POST {PATH} HTTP/1.1\r\nAuthorization: Bearer {key}"),
            415,
        ),
        (
            format!(
                "POST {PATH} HTTP/1.1\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json"
            ),
            400,
        ),
        (
            format!("GET {PATH}/x HTTP/1.1\r\nAuthorization: Bearer {key}"),
            404,
        ),
    ] {
        let request =
            format!("{request}\r\nHost: v\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let found = raw(&server, request).await;
        assert_eq!(found.status, status);
        assert_eq!(found.header("content-type"), Some("application/json"));
        assert_eq!(found.header("cache-control"), Some("no-store"));
        assert_eq!(found.header("x-content-type-options"), Some("nosniff"));
        let text = String::from_utf8(found.body.clone()).unwrap();
        let id = found.header("x-request-id").unwrap();
        assert!(text.starts_with("{\"message\":\""), "{text}");
        assert!(
            text.ends_with(&format!("\"requestId\":\"{id}\"}}")),
            "{text}"
        );
        assert!(
            !found
                .headers
                .iter()
                .any(|(name, _)| name.starts_with("access-control"))
        );
    }
}

#[tokio::test]
async fn a_callers_request_id_is_kept_when_it_is_one_uuid() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    let mine = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    for path in [PATH.to_owned(), format!("{PATH}/x"), "/nowhere".to_owned()] {
        let request = developer
            .http(Method::GET, &path)
            .header("x-request-id", mine);
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["x-request-id"], mine);
        if let Err(refused) = answer(response).await {
            assert_eq!(refused.request_id, mine);
        }
    }
    let events = server.audit_events().await;
    assert!(
        events.iter().all(|event| event["requestId"] == mine),
        "{events:?}"
    );
    for other in [
        "",
        "x",
        "67e5504410b1426f9247bb680e5fe0c8",
        "{67e55044-10b1-426f-9247-bb680e5fe0c8}",
    ] {
        let request = developer
            .http(Method::GET, PATH)
            .header("x-request-id", other);
        let made = request.send().await.unwrap().headers()["x-request-id"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(
            made != other && uuid::Uuid::parse_str(&made).is_ok(),
            "{other} became {made}"
        );
    }
    let twice = developer
        .http(Method::GET, PATH)
        .header("x-request-id", mine)
        .header("x-request-id", mine);
    assert_ne!(twice.send().await.unwrap().headers()["x-request-id"], mine);
}

#[tokio::test]
async fn head_answers_as_get_without_the_body() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    let stored = developer.store_token("user", "github", "t").await;
    let one = format!("{PATH}/{}", stored["id"].as_str().unwrap());
    for (path, status) in [
        (PATH, 200),
        (&*one, 200),
        (EVENTS, 200),
        ("/v1/vault/credentials/x", 404),
        ("/x", 404),
    ] {
        let head = developer.http(Method::HEAD, path).send().await.unwrap();
        let get = developer.http(Method::GET, path).send().await.unwrap();
        assert_eq!(
            (head.status().as_u16(), get.status().as_u16()),
            (status, status)
        );
        for name in ["content-type", "cache-control", "x-content-type-options"] {
            assert_eq!(head.headers().get(name), get.headers().get(name), "{path}");
        }
        assert!(head.headers().contains_key("x-request-id"));
        assert!(head.bytes().await.unwrap().is_empty());
    }
    let refused = server
        .client_with(Via::Rest, None)
        .http(Method::HEAD, PATH)
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");
}

#[tokio::test]
async fn get_and_delete_ignore_what_does_not_concern_them() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    let stored = developer.store_token("user", "github", "t").await;
    let path = format!("{PATH}/{}", stored["id"].as_str().unwrap());
    for (method, status) in [(Method::GET, 200), (Method::DELETE, 204)] {
        let request = developer
            .http(method, &path)
            .header("content-type", "text/plain")
            .header("content-encoding", "gzip")
            .header("accept", "text/html")
            .header("range", "bytes=0-1")
            .header("if-none-match", "*")
            .body("not json");
        assert_eq!(request.send().await.unwrap().status(), status);
    }
}

#[tokio::test]
async fn an_id_in_a_path_is_any_text() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    let stored = developer.store_token("user", "github", "t").await;
    let id = stored["id"].as_str().unwrap();
    let escaped = id.replacen('v', "%76", 1);
    assert_eq!(
        developer
            .get_raw(&format!("{PATH}/{escaped}"))
            .await
            .unwrap()["id"],
        id
    );
    for other in [
        "%00",
        "%20",
        "%zz",
        "100%",
        "a+b",
        "%2F",
        "%2e%2e%2fexchange",
        "'",
        "%F0%9F%98%80",
        "vc_",
        &id.to_lowercase(),
        &format!("{id}x"),
        &id[..28],
        &"x".repeat(8000),
    ] {
        for via in Via::BOTH {
            let missing = match via {
                Via::Rest => developer.get_raw(&format!("{PATH}/{other}")).await,
                Via::Grpc => server.client(via, &tenant.key).get(other).await,
            };
            let missing = missing.unwrap_err();
            assert_eq!(
                missing.says(),
                (404, "NOT_FOUND", "Credential not found"),
                "{other}"
            );
        }
    }
    let bad = developer.get_raw(&format!("{PATH}/%ff")).await.unwrap_err();
    assert_eq!(bad.says(), (400, "BAD_REQUEST", "id must be UTF-8"));
    let unknown = server
        .client_with(Via::Rest, None)
        .get_raw(&format!("{PATH}/%ff"))
        .await;
    assert_eq!(unknown.unwrap_err().status, 401);
}

#[tokio::test]
async fn a_request_target_of_any_form_is_routed_by_its_path() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    for (line, status) in [
        ("OPTIONS * HTTP/1.1", 404),
        (
            "GET http://elsewhere.test/v1/vault/credentials HTTP/1.1",
            200,
        ),
        ("GET http://elsewhere.test HTTP/1.1", 404),
        ("GET /v1/vault/credentials? HTTP/1.1", 200),
        ("GET /v1/vault/credentials HTTP/1.0", 200),
        ("GET /v1/vault/credentials/vc_%ff HTTP/1.0", 400),
        ("GET /\u{e9} HTTP/1.1", 404),
    ] {
        let authorization = format!("Authorization: Bearer {}", tenant.key);
        let request = format!("{line}\r\nHost: v\r\n{authorization}\r\nConnection: close\r\n\r\n");
        let found = raw(&server, request).await;
        assert_eq!(found.status, status, "{line}");
        assert!(found.header("x-request-id").is_some(), "{line}");
    }
}
