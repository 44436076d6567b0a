//! The verbs of credentials, as they are meant to be used.

use std::time::Duration;

use grantex_vault::clock::Clock;
use serde_json::json;

use crate::harness::{Server, Via};

#[tokio::test]
async fn a_stored_credential_comes_back_to_an_agent_with_a_grant() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        let principal = format!("user_{via:?}");
        let stored = developer
            .store(json!({
                "principalId": principal, "service": "github", "accessToken": "gho_secret",
                "credentialType": "api_key", "refreshToken": "ghr_secret",
                "tokenExpiresAt": "2026-04-05T12:00:00.123456+02:00",
                "metadata": {"team": "core", "n": 1.5, "deep": [null, true, {"a": -2}]},
            }))
            .await
            .unwrap();
        let id = stored["id"].as_str().unwrap();
        assert!(id.starts_with("vc_") && id.len() == 29, "{id}");
        let exchanged = server
            .agent(via, &tenant, &principal)
            .exchange("github")
            .await;
        assert_eq!(
            exchanged.unwrap(),
            json!({
                "accessToken": "gho_secret", "service": "github", "credentialType": "api_key",
                "tokenExpiresAt": "2026-04-05T10:00:00.123Z",
                "metadata": {"team": "core", "n": 1.5, "deep": [null, true, {"a": -2}]},
            })
        );
        let described = json!({
            "id": id, "principalId": principal, "service": "github", "credentialType": "api_key",
            "tokenExpiresAt": "2026-04-05T10:00:00.123Z",
            "metadata": {"team": "core", "n": 1.5, "deep": [null, true, {"a": -2}]},
            "createdAt": stored["createdAt"], "updatedAt": stored["createdAt"],
        });
        assert_eq!(developer.get(id).await.unwrap(), described);
        let listed = developer
            .list_where(json!({"principalId": principal}))
            .await;
        assert_eq!(listed.unwrap(), json!({"credentials": [described]}));
        assert_eq!(developer.delete(id).await.unwrap(), json!(null));
        for gone in [developer.get(id).await, developer.delete(id).await] {
            let gone = gone.unwrap_err();
            assert_eq!(gone.says(), (404, "NOT_FOUND", "Credential not found"));
        }
        let gone = server
            .agent(via, &tenant, &principal)
            .exchange("github")
            .await;
        assert_eq!(
            gone.unwrap_err().says(),
            (
                404,
                "NOT_FOUND",
                "No credential found for this principal and service"
            )
        );
    }
}

#[tokio::test]
async fn a_second_store_replaces_everything_but_id_and_creation() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        let principal = format!("user_{via:?}");
        let first = developer
            .store(json!({
                "principalId": principal, "service": "github", "accessToken": "one",
                "credentialType": "api_key", "refreshToken": "refresh",
                "tokenExpiresAt": "2030-01-01T00:00:00Z", "metadata": {"a": 1},
            }))
            .await
            .unwrap();
        server.clock.advance(Duration::from_millis(1500));
        let second = developer.store_token(&principal, "github", "two").await;
        assert_eq!(second["id"], first["id"]);
        assert_eq!(second["createdAt"], first["createdAt"]);
        assert_eq!(second["credentialType"], "oauth2");

        let now = developer.get(first["id"].as_str().unwrap()).await.unwrap();
        let updated_at = now["updatedAt"].as_str().unwrap();
        assert_eq!(updated_at, server.clock.now().to_string());
        assert_eq!(
            now,
            json!({
                "id": first["id"], "principalId": principal, "service": "github",
                "credentialType": "oauth2", "tokenExpiresAt": null, "metadata": {},
                "createdAt": first["createdAt"], "updatedAt": updated_at,
            })
        );
        let agent = server.agent(via, &tenant, &principal);
        assert_eq!(
            agent.exchange("github").await.unwrap(),
            json!({
                "accessToken": "two", "service": "github", "credentialType": "oauth2",
                "tokenExpiresAt": null, "metadata": {},
            })
        );
        let sql = "select refresh_token is null from vault.credentials where principal_id = $1";
        let row = server.sql().await.query_one(sql, &[&principal]).await;
        assert!(row.unwrap().get::<_, bool>(0), "the refresh token is gone");
    }
}

#[tokio::test]
async fn updated_at_moves_even_when_the_clock_stands_still() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    let first = developer.store_token("user", "github", "one").await;
    developer.store_token("user", "github", "two").await;
    let now = developer.get(first["id"].as_str().unwrap()).await.unwrap();
    assert_eq!(now["createdAt"], first["createdAt"]);
    assert!(
        now["updatedAt"].as_str() > now["createdAt"].as_str(),
        "{now}"
    );
}

#[tokio::test]
async fn a_replacing_store_does_not_move_a_credential_in_the_list() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        for service in ["one", "two", "three"] {
            developer.store_token("user", service, "token").await;
            server.clock.advance(Duration::from_millis(1));
        }
        developer.store_token("user", "One", "token").await;
        let listed = developer.list().await.unwrap();
        let services = listed["credentials"].as_array().unwrap().iter();
        let services: Vec<_> = services
            .map(|item| item["service"].as_str().unwrap())
            .collect();
        assert_eq!(services, ["three", "two", "One"]);
    }
}

#[tokio::test]
async fn after_a_delete_a_store_makes_a_new_credential() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        let first = developer.store_token("user", "github", "one").await;
        developer
            .delete(first["id"].as_str().unwrap())
            .await
            .unwrap();
        server.clock.advance(Duration::from_secs(1));
        let second = developer.store_token("user", "github", "two").await;
        assert_ne!(second["id"], first["id"]);
        assert_ne!(second["createdAt"], first["createdAt"]);
        developer
            .delete(second["id"].as_str().unwrap())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn spellings_of_a_service_are_one_credential_that_opens_under_each() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        let principal = format!("user_{via:?}");
        let mut ids = Vec::new();
        for (spelling, token) in [("GitHub", "1"), ("gitHUB", "2"), ("github", "3")] {
            let stored = developer.store_token(&principal, spelling, token).await;
            assert_eq!(stored["service"], spelling);
            ids.push(stored["id"].clone());
            let token_of_grant = server.grant(&tenant, &principal, &["vault:GITHUB:exchange"]);
            let agent = server.client(via, &token_of_grant);
            for asked in ["github", "GitHub", "GITHUB"] {
                let exchanged = agent.exchange(asked).await.unwrap();
                assert_eq!(exchanged["accessToken"], token, "{spelling} as {asked}");
                assert_eq!(exchanged["service"], spelling);
            }
            let filter = json!({"principalId": principal, "service": "GITHUB"});
            let listed = developer.list_where(filter).await.unwrap();
            assert_eq!(listed["credentials"][0]["service"], spelling);
            assert_eq!(listed["credentials"].as_array().unwrap().len(), 1);
        }
        assert_eq!(ids[0], ids[1]);
        assert_eq!(ids[1], ids[2]);
    }
}

#[tokio::test]
async fn a_token_is_any_text_of_up_to_256_kib() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let (largest, emoji) = ("x".repeat(256 * 1024), "\u{1f511}".repeat(64 * 1024));
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        for token in [
            "a\0b",
            "\0",
            " ",
            "\n",
            "\"\\\u{7f}\u{85}\u{2028}\u{feff}\u{ffff}\u{10ffff}",
            "ключ",
            &largest,
            &emoji,
        ] {
            let fields = json!({
                "principalId": "user", "service": "x", "accessToken": token, "refreshToken": token,
            });
            developer.store(fields).await.unwrap();
            let exchanged = server.agent(via, &tenant, "user").exchange("x").await;
            assert!(
                exchanged.unwrap()["accessToken"] == *token,
                "{} bytes",
                token.len()
            );
        }
        for field in ["accessToken", "refreshToken"] {
            let mut fields = json!({"principalId": "user", "service": "x", "accessToken": "kept"});
            developer.store(fields.clone()).await.unwrap();
            fields["accessToken"] = json!("lost");
            fields[field] = json!(format!("{largest}x"));
            let refused = developer.store(fields).await.unwrap_err();
            let message = format!("{field} must be at most 262144 bytes");
            assert_eq!(refused.says(), (400, "BAD_REQUEST", &*message));
            let exchanged = server
                .agent(via, &tenant, "user")
                .exchange("x")
                .await
                .unwrap();
            assert_eq!(exchanged["accessToken"], "kept");
        }
    }
}

#[tokio::test]
async fn a_principal_is_compared_byte_for_byte() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let longest = "é".repeat(512);
    let principals = [
        "user",
        "User",
        " user",
        "user ",
        "e\u{301}",
        "\u{e9}",
        "a b+c&d=e%2F/?#",
        "\u{1f600}",
        "' or 1=1 --",
        "a\\b",
        "\u{200b}",
        &longest,
    ];
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        for principal in principals {
            developer
                .store_token(principal, "x", &format!("of {principal}"))
                .await;
        }
        for principal in principals {
            let exchanged = server.agent(via, &tenant, principal).exchange("x").await;
            assert_eq!(exchanged.unwrap()["accessToken"], format!("of {principal}"));
            let listed = developer
                .list_where(json!({"principalId": principal}))
                .await
                .unwrap();
            assert_eq!(
                listed["credentials"].as_array().unwrap().len(),
                1,
                "{principal}"
            );
            assert_eq!(listed["credentials"][0]["principalId"], principal);
        }
    }
}

#[tokio::test]
async fn an_expiry_takes_any_form_of_the_contract_and_a_past_one_is_kept() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    for (sent, kept) in [
        ("2026-04-05T12:00:00Z", "2026-04-05T12:00:00.000Z"),
        ("2026-04-05T12:00:00.9999999Z", "2026-04-05T12:00:00.999Z"),
        ("2026-04-05T12:00:00+05:30", "2026-04-05T06:30:00.000Z"),
        ("2026-04-05T12:00:00-23:59", "2026-04-06T11:59:00.000Z"),
        ("2026-04-05T12:00:00", "2026-04-05T12:00:00.000Z"),
        ("2026-04-05", "2026-04-05T00:00:00.000Z"),
        ("2026-04-05 12:00:00z", "2026-04-05T12:00:00.000Z"),
        ("2026-04-05t12:00:00.5z", "2026-04-05T12:00:00.500Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
        ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
    ] {
        let fields = json!({
            "principalId": "user", "service": "x", "accessToken": "t", "tokenExpiresAt": sent,
        });
        let id = developer.store(fields).await.unwrap()["id"].clone();
        for via in Via::BOTH {
            let exchanged = server
                .agent(via, &tenant, "user")
                .exchange("x")
                .await
                .unwrap();
            assert_eq!(exchanged["tokenExpiresAt"], kept, "{sent}");
            let found = server
                .client(via, &tenant.key)
                .get(id.as_str().unwrap())
                .await;
            assert_eq!(found.unwrap()["tokenExpiresAt"], kept, "{sent}");
        }
    }
}
