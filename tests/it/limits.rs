//! Who asks too much is told so, and nobody else pays for it.

mod connections;
mod flood;
mod idle;
mod lists;
mod open_calls;
mod overload;
mod permits;

use std::time::Duration;

use serde_json::json;

use crate::harness::{Client, Server, Setup, Tenant, Via};

const DEVELOPER: &str = "GRANTEX_VAULT_LIMIT_REQUESTS_PER_DEVELOPER";
const GRANT: &str = "GRANTEX_VAULT_LIMIT_EXCHANGE_PER_GRANT";
const ADDRESS: &str = "GRANTEX_VAULT_LIMIT_FAILED_AUTH_PER_ADDRESS";
const PROXIES: &str = "GRANTEX_VAULT_TRUSTED_PROXIES";

const EXCEEDED: (u16, &str, &str) = (429, "RATE_LIMIT_EXCEEDED", "Rate limit exceeded");
const REFUSED: (u16, &str, &str) = (401, "UNAUTHORIZED", "Invalid API key");

async fn with(settings: &[(&str, &str)]) -> (Server, Tenant) {
    let set = |setup: Setup, (name, value): &(&str, &str)| setup.with(name, value);
    let server = settings.iter().fold(Setup::new(), set).start().await;
    let tenant = server.tenant("acme").await;
    (server, tenant)
}

/// What the three headers say of a list, over either transport.
async fn headers(server: &Server, via: Via, key: &str) -> [Option<String>; 3] {
    let names = [
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
    ];
    match via {
        Via::Rest => {
            let list = server
                .http
                .get(format!("{}/v1/vault/credentials", server.http_url));
            let answer = list.bearer_auth(key).send().await.unwrap();
            names.map(|name| {
                let value = answer.headers().get(name);
                value.map(|value| value.to_str().unwrap().to_owned())
            })
        }
        Via::Grpc => {
            let client = server.client(via, key);
            let list = client.request(grantex_vault::grpc::pb::ListCredentialsRequest::default());
            let metadata = match client.grpc().list_credentials(list).await {
                Ok(answer) => answer.metadata().clone(),
                Err(status) => status.metadata().clone(),
            };
            names.map(|name| {
                let value = metadata.get(name);
                value.map(|value| value.to_str().unwrap().to_owned())
            })
        }
    }
}

fn says(limit: &str, remaining: &str, reset: &str) -> [Option<String>; 3] {
    [limit, remaining, reset].map(|text| Some(text.to_owned()))
}

#[tokio::test]
async fn a_developer_has_one_budget_for_all_verbs_and_both_transports() {
    let (server, tenant) = with(&[(DEVELOPER, "4")]).await;
    let [rest, grpc] = Via::BOTH.map(|via| server.client(via, &tenant.key));
    rest.store_token("user", "github", "secret").await;
    assert!(grpc.list().await.is_ok());
    assert_eq!(rest.get("vc_no").await.unwrap_err().status, 404);
    assert_eq!(grpc.delete("vc_no").await.unwrap_err().status, 404);
    for client in [&rest, &grpc] {
        let refused = client.list().await.unwrap_err();
        assert_eq!(refused.says(), EXCEEDED);
        assert_eq!(refused.retry_after, Some(15));
    }
    let other = server.tenant("other").await;
    assert!(server.client(Via::Rest, &other.key).list().await.is_ok());
    server.clock.advance(Duration::from_secs(15));
    assert!(grpc.list().await.is_ok());
    assert_eq!(rest.list().await.unwrap_err().status, 429);
    let limited = "grantex_vault_rate_limited_total{limit=\"requests_per_developer\"}";
    assert_eq!(server.metric(limited).await, Some(3.0));
    let refusals = server.outcomes().await;
    assert_eq!(refusals.len(), 6, "a refusal leaves no event: {refusals:?}");
}

#[tokio::test]
async fn every_answer_to_who_is_known_says_what_is_left_in_whole_numbers() {
    let (server, tenant) = with(&[(DEVELOPER, "6")]).await;
    for (via, remaining, reset) in [
        (Via::Rest, "5", "10"),
        (Via::Grpc, "4", "20"),
        (Via::Rest, "3", "30"),
        (Via::Grpc, "2", "40"),
    ] {
        let said = headers(&server, via, &tenant.key).await;
        assert_eq!(said, says("6", remaining, reset));
    }
    for _ in 0..3 {
        let _ = server.client(Via::Rest, &tenant.key).list().await;
    }
    for via in Via::BOTH {
        let said = headers(&server, via, &tenant.key).await;
        assert_eq!(said, says("6", "0", "60"));
        let unknown = headers(&server, via, "gx_test_nobody_knows_this").await;
        assert_eq!(unknown, [None, None, None]);
    }
}

#[tokio::test]
async fn a_grant_token_has_a_budget_of_its_own() {
    let (server, tenant) = with(&[(GRANT, "2")]).await;
    let developer = server.client(Via::Rest, &tenant.key);
    developer.store_token("user", "github", "secret").await;
    let scopes = ["vault:github:exchange", "vault:slack:exchange"];
    let token = server.grant(&tenant, "user", &scopes);
    let [rest, grpc] = Via::BOTH.map(|via| server.client(via, &token));
    assert!(rest.exchange("github").await.is_ok());
    assert_eq!(grpc.exchange("slack").await.unwrap_err().status, 404);
    for client in [&rest, &grpc] {
        let refused = client.exchange("github").await.unwrap_err();
        assert_eq!(refused.says(), EXCEEDED);
        assert_eq!(refused.retry_after, Some(30));
    }
    let another = server.agent(Via::Grpc, &tenant, "user");
    assert!(another.exchange("github").await.is_ok());
    server.clock.advance(Duration::from_secs(30));
    assert!(grpc.exchange("github").await.is_ok());
    assert!(developer.list().await.is_ok(), "it limits exchanges only");
}

#[tokio::test]
async fn made_up_tokens_share_the_budget_of_their_address_and_whoever_is_known_has_none_of_it() {
    let (server, tenant) = with(&[(ADDRESS, "3"), (GRANT, "1000")]).await;
    let stranger = |via, number: u32| server.client(via, &format!("gx_test_made_up_{number:04}"));
    for number in 0..2 {
        let refused = stranger(Via::Rest, number).list().await.unwrap_err();
        assert_eq!(refused.says(), REFUSED);
    }
    let forged = server.client(Via::Grpc, "a.b.c").exchange("github").await;
    assert_eq!(forged.unwrap_err().status, 401);
    let nothing = server.client_with(Via::Rest, None);
    for refused in [
        stranger(Via::Grpc, 3).list().await,
        server.client(Via::Rest, "a.b.c").exchange("github").await,
        nothing.list().await,
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.says(), EXCEEDED);
        assert_eq!(refused.retry_after, Some(20));
    }
    let developer = server.client(Via::Rest, &tenant.key);
    developer.store_token("user", "github", "secret").await;
    for via in Via::BOTH {
        assert!(
            server
                .agent(via, &tenant, "user")
                .exchange("github")
                .await
                .is_ok()
        );
    }
    server.clock.advance(Duration::from_mins(1));
    let refused = stranger(Via::Grpc, 4).list().await.unwrap_err();
    assert_eq!(refused.says(), REFUSED);
}

/// The status of a list with a made-up key that came by way of these addresses.
async fn forwarded(server: &Server, hops: &str) -> u16 {
    let list = server
        .http
        .get(format!("{}/v1/vault/credentials", server.http_url));
    let list = list.bearer_auth("gx_test_made_up_key");
    let answer = list.header("x-forwarded-for", hops).send().await.unwrap();
    answer.status().as_u16()
}

#[tokio::test]
async fn forwarded_addresses_are_believed_of_trusted_proxies_only() {
    let (server, _) = with(&[(ADDRESS, "1")]).await;
    assert_eq!(forwarded(&server, "203.0.113.1").await, 401);
    assert_eq!(forwarded(&server, "203.0.113.2").await, 429, "spoofed");

    let (server, tenant) = with(&[(ADDRESS, "1"), (PROXIES, "127.0.0.0/8, fd00::/8")]).await;
    for (hops, status) in [
        ("203.0.113.1", 401),
        ("203.0.113.2", 401),
        ("198.51.100.7, 203.0.113.1", 429),
        ("203.0.113.3, fd00::1", 401),
        ("203.0.113.3", 429),
        ("2001:db8:0:1::1", 401),
        ("2001:db8:0:1:2:3:4:5", 429),
        ("2001:db8:0:2::1", 401),
    ] {
        assert_eq!(forwarded(&server, hops).await, status, "{hops}");
    }
    // The audit says whose request it was, too.
    let store = server
        .http
        .post(format!("{}/v1/vault/credentials", server.http_url));
    let body = json!({"principalId": "user", "service": "github", "accessToken": "secret"});
    let store = store.bearer_auth(&tenant.key).json(&body);
    let stored = store.header("x-forwarded-for", "203.0.113.9").send().await;
    assert_eq!(stored.unwrap().status(), 201);
    assert_eq!(server.audit_events().await[0]["peer"], "203.0.113.9");
}

#[tokio::test]
async fn zero_is_no_limit_and_says_nothing() {
    let (server, tenant) = with(&[]).await;
    for via in Via::BOTH {
        let said = headers(&server, via, &tenant.key).await;
        assert_eq!(said, [None, None, None]);
    }
}

/// Asks until it is refused, at most so often.
async fn refused_after(client: &Client<'_>, most: u32) -> Option<u32> {
    for asked in 0..most {
        if client.list().await.is_err() {
            return Some(asked);
        }
    }
    None
}

#[tokio::test]
async fn who_waits_as_long_as_told_is_served() {
    let (server, tenant) = with(&[(DEVELOPER, "5")]).await;
    let client = server.client(Via::Rest, &tenant.key);
    assert_eq!(refused_after(&client, 10).await, Some(5));
    let refused = client.list().await.unwrap_err();
    let wait = refused.retry_after.expect("a refusal says how long");
    server.clock.advance(Duration::from_secs(wait));
    assert!(client.list().await.is_ok());
}
