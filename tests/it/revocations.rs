//! A revoked grant releases nothing, from the moment its row is there.

mod interleavings;
mod long_lists;
mod under_way;

use serde_json::json;

use crate::harness::{Client, Server, Via};

async fn revoke(server: &Server, developer: &str, kind: &str, subject: &str) {
    let sql = format!(
        "truncate vault.revocations;
         insert into vault.revocations values ('{developer}', '{kind}', '{subject}', now(), null)"
    );
    server.execute(&sql).await;
}

async fn status(agent: &Client<'_>, service: &str) -> u16 {
    agent
        .exchange(service)
        .await
        .map_or_else(|refused| refused.status, |_| 200)
}

#[tokio::test]
async fn a_revoked_token_grant_or_parent_grant_is_a_401() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    server
        .client(Via::Rest, &tenant.key)
        .store_token("user", "github", "secret")
        .await;
    let mut claims = server.claims("acme", "user", &["vault:github:exchange"]);
    claims["jti"] = json!("the-token");
    claims["grnt"] = json!("the-grant");
    claims["parentGrnt"] = json!("the-parent");
    let token = server.issuer.key().sign(&claims);
    for via in Via::BOTH {
        let agent = server.client(via, &token);
        for (developer, kind, subject, expected) in [
            ("acme", "token", "the-token", 401),
            ("acme", "grant", "the-grant", 401),
            ("acme", "grant", "the-parent", 401),
            ("acme", "grant", "the-token", 200),
            ("acme", "token", "the-grant", 200),
            ("acme", "token", "the-parent", 200),
            ("acme", "grant", "The-Grant", 200),
            ("acme", "grant", "another", 200),
            ("globex", "grant", "the-grant", 200),
        ] {
            revoke(&server, developer, kind, subject).await;
            let found = status(&agent, "github").await;
            assert_eq!(found, expected, "{developer} {kind} {subject}");
        }
        revoke(&server, "acme", "grant", "the-grant").await;
        for service in ["github", "slack", "nothing"] {
            let refused = agent.exchange(service).await.unwrap_err();
            let message = "Invalid or expired grant token";
            assert_eq!(
                refused.says(),
                (401, "UNAUTHORIZED", message),
                "before scope and credential"
            );
        }
        let unnamed = agent.exchange("no service").await.unwrap_err();
        assert_eq!(unnamed.status, 400, "after the fields");
        server.execute("truncate vault.revocations").await;
        assert_eq!(status(&agent, "github").await, 200, "nothing is cached");
    }
}

#[tokio::test]
async fn a_token_without_a_grant_is_a_grant_of_its_own() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    server
        .client(Via::Rest, &tenant.key)
        .store_token("user", "github", "secret")
        .await;
    let mut claims = server.claims("acme", "user", &["vault:github:exchange"]);
    claims["jti"] = json!("the-token");
    claims.as_object_mut().unwrap().remove("grnt");
    let token = server.issuer.key().sign(&claims);
    for via in Via::BOTH {
        for kind in ["grant", "token"] {
            revoke(&server, "acme", kind, "the-token").await;
            assert_eq!(
                status(&server.client(via, &token), "github").await,
                401,
                "{kind}"
            );
        }
        server.execute("truncate vault.revocations").await;
        assert_eq!(status(&server.client(via, &token), "github").await, 200);
    }
}

#[tokio::test]
async fn a_revocation_holds_whatever_its_expiry_says() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    server
        .client(Via::Rest, &tenant.key)
        .store_token("user", "github", "secret")
        .await;
    let sql =
        "insert into vault.revocations values ('acme', 'grant', 'grant-1', now(), '2001-01-01')";
    server.execute(sql).await;
    for via in Via::BOTH {
        let agent = server.agent(via, &tenant, "user");
        assert_eq!(
            status(&agent, "github").await,
            401,
            "only pruning forgets it"
        );
    }
}
