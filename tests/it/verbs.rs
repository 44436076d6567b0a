//! The five verbs, as they are meant to be used.

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
