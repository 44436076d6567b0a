//! The description of the API as it is served: to anybody, from this host alone, or not at all.

use reqwest::{Method, Response};
use serde_json::json;

use crate::harness::{Server, Setup, Via, answer, raw};

const DOCUMENT: &str = "/openapi.json";
const PAGE: &str = "/docs/";

async fn get(server: &Server, path: &str) -> Response {
    let nobody = server.client_with(Via::Rest, None);
    nobody.http(Method::GET, path).send().await.unwrap()
}

#[tokio::test]
async fn anybody_may_read_the_description_and_nobody_may_do_anything_else_with_it() {
    let server = Server::start().await;
    let nobody = server.client_with(Via::Rest, None);
    for (path, content_type) in [
        (DOCUMENT, "application/json"),
        (PAGE, "text/html; charset=utf-8"),
        ("/docs/page.js", "text/javascript; charset=utf-8"),
        (
            "/docs/swagger-ui-bundle.js",
            "text/javascript; charset=utf-8",
        ),
        ("/docs/swagger-ui.css", "text/css; charset=utf-8"),
        ("/docs/favicon-32x32.png", "image/png"),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let found = nobody.http(method.clone(), path).send().await.unwrap();
            assert_eq!(found.status(), 200, "{path}");
            assert_eq!(found.headers()["content-type"], content_type);
            assert_eq!(found.headers()["cache-control"], "no-store");
            assert_eq!(found.headers()["x-content-type-options"], "nosniff");
            assert!(found.headers().contains_key("x-request-id"));
            let body = found.bytes().await.unwrap();
            assert_eq!(body.is_empty(), method == Method::HEAD, "{path}");
        }
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let refused = nobody.http(method, path).send().await.unwrap();
            assert_eq!(refused.headers()["allow"], "GET,HEAD", "{path}");
            let refused = answer(refused).await.unwrap_err();
            assert_eq!(
                refused.says(),
                (405, "METHOD_NOT_ALLOWED", "Method not allowed")
            );
        }
    }
    for path in [
        "/openapi.json/",
        "/openapi.yaml",
        "/docs//",
        "/docs/index.html",
        "/docs/swagger-initializer.js",
        "/docs/oauth2-redirect.html",
        "/docs/../openapi.json",
        "/docs/page.js/",
        "/docs/%2e%2e%2fopenapi.json",
        "/docs/%ff",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: v\r\nConnection: close\r\n\r\n");
        let found = raw(&server, request).await;
        assert_eq!(
            (found.status, &found.json()["code"]),
            (404, &json!("NOT_FOUND")),
            "{path}"
        );
    }
    let moved = raw(
        &server,
        "GET /docs HTTP/1.1\r\nHost: v\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(
        (moved.status, moved.header("location")),
        (308, Some("docs/"))
    );
}

#[tokio::test]
async fn the_page_loads_nothing_from_another_host() {
    let server = Server::start().await;
    let page = get(&server, PAGE).await;
    let policy = page.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    for directive in policy.split("; ") {
        let (name, sources) = directive.split_once(' ').unwrap();
        for source in sources.split(' ') {
            let ours = ["'none'", "'self'"].contains(&source);
            assert!(
                ours || (name, source) == ("img-src", "data:"),
                "{directive}"
            );
        }
    }
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    let page = page.text().await.unwrap();
    let script = get(&server, "/docs/page.js").await.text().await.unwrap();
    for text in [&page, &script] {
        assert!(!text.contains("//cdn") && !text.contains("://"), "{text}");
    }
    let links = ["src=\"", "href=\""]
        .iter()
        .flat_map(|mark| page.split(mark).skip(1));
    let links: Vec<_> = links.map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(links.len(), 5, "{links:?}");
    for link in links {
        let path = link
            .strip_prefix("..")
            .map_or_else(|| format!("{PAGE}{link}"), str::to_owned);
        assert_eq!(get(&server, &path).await.status(), 200, "{path}");
    }
    for setting in [
        "persistAuthorization: false",
        "validatorUrl: null",
        "url: '../openapi.json'",
    ] {
        assert!(script.contains(setting), "{script}");
    }
}

#[tokio::test]
async fn the_description_can_be_switched_off() {
    let setup = Setup::new().with("GRANTEX_VAULT_API_DOCS", "false");
    let server = setup.start().await;
    for path in [
        DOCUMENT,
        "/docs",
        PAGE,
        "/docs/page.js",
        "/docs/swagger-ui.css",
    ] {
        let missing = answer(get(&server, path).await).await.unwrap_err();
        assert_eq!(
            missing.says(),
            (404, "NOT_FOUND", "Route not found"),
            "{path}"
        );
    }
}
