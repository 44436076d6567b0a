//! Who calls: a known developer, a verified agent, or nobody.

use std::time::Duration;

use grantex_vault::{
    clock::Clock,
    model::{bearer::ApiKey, timestamp::Timestamp},
};
use reqwest::Method;
use serde_json::json;

use crate::harness::{Server, Via, answer};

const PATH: &str = "/v1/vault/credentials";
const EXCHANGE: &str = "/v1/vault/credentials/exchange";

#[tokio::test]
async fn an_api_key_is_known_or_it_is_a_401() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let no_header = "Missing or invalid Authorization header";
    for via in Via::BOTH {
        for scheme in ["Bearer ", "bearer ", "BEARER ", "BeArEr    "] {
            let client = server.client_with(via, Some(format!("{scheme}{}", tenant.key)));
            assert!(client.list().await.is_ok(), "{scheme}");
        }
        for (authorization, message) in [
            (None, no_header),
            (Some(tenant.key.clone()), no_header),
            (Some("Bearer".to_owned()), no_header),
            (Some("Bearer ".to_owned()), no_header),
            (Some(format!("Bearer:{}", tenant.key)), no_header),
            (Some(format!("Bearer\t{}", tenant.key)), no_header),
            (Some(format!("Basic {}", tenant.key)), no_header),
            (Some("Bearer gx_test_short".to_owned()), "Invalid API key"),
            (Some(format!("Bearer {}x", tenant.key)), "Invalid API key"),
            (
                Some(format!("Bearer {}", &tenant.key[1..])),
                "Invalid API key",
            ),
            (
                Some(format!("Bearer {} {}", tenant.key, tenant.key)),
                "Invalid API key",
            ),
            (Some(format!("Bearer {}, x", tenant.key)), "Invalid API key"),
            (
                Some(format!("Bearer {}", "k".repeat(15))),
                "Invalid API key",
            ),
            (
                Some(format!("Bearer {}", "k".repeat(16))),
                "Invalid API key",
            ),
            (
                Some(format!("Bearer {}", "k".repeat(513))),
                "Invalid API key",
            ),
        ] {
            let client = server.client_with(via, authorization.clone());
            for refused in [
                client.list().await,
                client.get("vc_x").await,
                client.delete("vc_x").await,
                client.store(json!({"principalId": 7})).await,
            ] {
                let refused = refused.unwrap_err();
                assert_eq!(
                    refused.says(),
                    (401, "UNAUTHORIZED", message),
                    "{authorization:?}"
                );
            }
        }
    }
    assert_eq!(server.rows("credentials").await.len(), 0);
}

#[tokio::test]
async fn any_visible_characters_can_be_a_key_until_it_expires_or_is_revoked() {
    let server = Server::start().await;
    let now = server.clock.now();
    let parse = |text: &str| ApiKey::parse(text).unwrap();
    let later = Timestamp::from_millisecond(now.as_millisecond() + 1000);
    let shortest = server
        .api_key("acme", &parse("!\"#$%&'()*+,-./~"), None, None)
        .await;
    let longest = server
        .api_key("acme", &parse(&"~".repeat(512)), None, None)
        .await;
    let revoked = server
        .api_key("acme", &parse(&"r".repeat(40)), None, Some(now))
        .await;
    let short_lived = server
        .api_key("acme", &parse(&"e".repeat(40)), later.ok(), None)
        .await;
    for via in Via::BOTH {
        for tenant in [&shortest, &longest] {
            assert!(server.client(via, &tenant.key).list().await.is_ok());
        }
        let refused = server.client(via, &revoked.key).list().await.unwrap_err();
        assert_eq!(refused.says(), (401, "UNAUTHORIZED", "Invalid API key"));
        assert!(server.client(via, &short_lived.key).list().await.is_ok());
    }
    server.clock.advance(Duration::from_secs(1));
    for via in Via::BOTH {
        let refused = server
            .client(via, &short_lived.key)
            .list()
            .await
            .unwrap_err();
        assert_eq!(refused.says(), (401, "UNAUTHORIZED", "Invalid API key"));
    }
}

#[tokio::test]
async fn an_exchange_without_a_bearer_token_says_so() {
    let server = Server::start().await;
    for via in Via::BOTH {
        for authorization in [None, Some("Basic eDp5"), Some("Bearer"), Some("Bearer ")] {
            let client = server.client_with(via, authorization.map(str::to_owned));
            let refused = client.exchange("github").await.unwrap_err();
            assert_eq!(refused.says(), (401, "UNAUTHORIZED", "Missing grant token"));
        }
        let refused = server
            .client(via, "not.a.token")
            .exchange("github")
            .await
            .unwrap_err();
        assert_eq!(
            refused.says(),
            (401, "UNAUTHORIZED", "Invalid or expired grant token")
        );
    }
}

#[tokio::test]
async fn two_authorization_headers_are_a_401() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    let second = format!("Bearer {}", tenant.key);
    for (request, message) in [
        (
            developer.http(Method::GET, PATH),
            "Missing or invalid Authorization header",
        ),
        (
            developer.http(Method::POST, EXCHANGE),
            "Missing grant token",
        ),
    ] {
        let request = request.header("authorization", &second);
        let refused = answer(request.send().await.unwrap()).await.unwrap_err();
        assert_eq!(refused.says(), (401, "UNAUTHORIZED", message));
    }
}
