//! Whoever can write the database can neither move a credential nor change what goes out beside it.

use serde_json::Value;

use crate::harness::{Answer, Server, Setup, Tenant, Trouble, Via};

/// Every secret of these tests holds it, and no answer may.
const CANARY: &str = "canary";

/// Stores the same credential for two principals, two services and two developers.
async fn stored() -> (Server, Tenant, Tenant) {
    stored_in(Server::start().await).await
}

async fn stored_in(server: Server) -> (Server, Tenant, Tenant) {
    let (acme, globex) = (server.tenant("acme").await, server.tenant("globex").await);
    for (tenant, principal, service) in [
        (&acme, "alice", "github"),
        (&acme, "alice", "slack"),
        (&acme, "bob", "github"),
        (&globex, "alice", "github"),
    ] {
        let developer = server.client(Via::Rest, &tenant.key);
        let fields = serde_json::json!({
            "principalId": principal, "service": service, "metadata": {"role": "reader"},
            "accessToken": format!("{CANARY} {} {principal} {service}", tenant.id),
            "refreshToken": format!("{CANARY} refresh"), "tokenExpiresAt": "2030-01-01T00:00:00Z",
        });
        developer.store(fields).await.unwrap();
    }
    (server, acme, globex)
}

fn assert_shut(answer: Answer, what: &str) {
    let refused = answer.expect_err(what);
    let message = "An unexpected error occurred";
    assert_eq!(refused.says(), (500, "INTERNAL_ERROR", message), "{what}");
}

async fn assert_last_event(server: &Server, count: usize, reason: &str) {
    let events = server.audit_events().await;
    for event in events.iter().rev().take(count) {
        let found = ["verb", "outcome", "reason"].map(|name| event[name].as_str().unwrap());
        assert_eq!(found, ["exchange", "failed", reason]);
        assert!(event["credentialId"].is_string(), "{event}");
    }
    let recorded: Vec<_> = events.iter().map(Value::to_string).collect();
    assert!(!recorded.concat().contains(CANARY));
}

const ALICE: &str = "developer_id = 'acme' and principal_id = 'alice' and service_key = 'github'";

#[tokio::test]
async fn a_changed_column_keeps_the_credential_shut() {
    for change in [
        "service = 'GitHub'",
        "credential_type = 'api_key'",
        "token_expires_at = '2031-01-01T00:00:00Z'",
        "token_expires_at = token_expires_at + interval '1 millisecond'",
        "token_expires_at = null",
        r#"metadata = '{"role":"admin"}'"#,
        r#"metadata = '{"role": "reader"}'"#,
        "metadata = '{}'",
        "access_token = set_byte(access_token, 5, get_byte(access_token, 5) # 1)",
        "access_token = set_byte(access_token, 0, 2)",
        "access_token = set_byte(access_token, length(access_token) - 1, get_byte(access_token, length(access_token) - 1) # 128)",
        "access_token = substring(access_token for length(access_token) - 1)",
        "access_token = access_token || '\\x00'",
        "access_token = ''",
        "access_token = '\\x01'",
        "access_token = refresh_token",
        "wrapped_key = set_byte(wrapped_key, 20, get_byte(wrapped_key, 20) # 1)",
        "wrapped_key = set_byte(wrapped_key, 0, 0)",
        "wrapped_key = ''",
        "wrapped_key = substring(wrapped_key for 12)",
    ] {
        let (server, acme, _) = stored().await;
        server
            .execute(&format!(
                "update vault.credentials set {change} where {ALICE}"
            ))
            .await;
        for via in Via::BOTH {
            assert_shut(
                server.agent(via, &acme, "alice").exchange("github").await,
                change,
            );
        }
        assert_last_event(&server, 2, "does_not_open").await;
        let others = server
            .agent(Via::Rest, &acme, "alice")
            .exchange("slack")
            .await;
        assert!(others.is_ok(), "the row beside it still opens: {change}");
    }
}

#[tokio::test]
async fn ciphertext_of_another_row_keeps_the_credential_shut() {
    for other in [
        "developer_id = 'acme' and principal_id = 'alice' and service_key = 'slack'",
        "developer_id = 'acme' and principal_id = 'bob'",
        "developer_id = 'globex'",
    ] {
        for columns in [
            vec!["access_token"],
            vec!["wrapped_key"],
            vec!["access_token", "wrapped_key"],
            vec![
                "access_token",
                "refresh_token",
                "wrapped_key",
                "master_key",
                "metadata",
                "token_expires_at",
            ],
        ] {
            let (server, acme, _) = stored().await;
            let what = format!("{columns:?} of {other}");
            let set: Vec<_> = columns
                .iter()
                .map(|name| format!("{name} = o.{name}"))
                .collect();
            let sql = format!(
                "update vault.credentials c set {} from vault.credentials o
                 where c.id = (select id from vault.credentials where {ALICE})
                   and o.id = (select id from vault.credentials where {other})",
                set.join(", ")
            );
            server.execute(&sql).await;
            for via in Via::BOTH {
                assert_shut(
                    server.agent(via, &acme, "alice").exchange("github").await,
                    &what,
                );
            }
            assert_last_event(&server, 2, "does_not_open").await;
        }
    }
}

#[tokio::test]
async fn a_relabelled_row_opens_for_nobody() {
    for (label, principal, service) in [
        ("principal_id = 'mallory'", "mallory", "github"),
        ("service_key = 'evil'", "alice", "evil"),
        ("service_key = 'evil', service = 'evil'", "alice", "evil"),
        ("developer_id = 'initech'", "alice", "github"),
    ] {
        let (server, acme, _) = stored().await;
        let initech = server.tenant("initech").await;
        let tenant = if label.starts_with("developer_id") {
            &initech
        } else {
            &acme
        };
        server
            .execute(&format!(
                "update vault.credentials set {label} where {ALICE}"
            ))
            .await;
        for via in Via::BOTH {
            assert_shut(
                server.agent(via, tenant, principal).exchange(service).await,
                label,
            );
        }
        assert_last_event(&server, 2, "does_not_open").await;
    }
}

#[tokio::test]
async fn two_rows_that_were_swapped_open_for_nobody() {
    let (server, acme, _) = stored().await;
    server
        .execute(
            "update vault.credentials set principal_id = 'x' where principal_id = 'bob';
             update vault.credentials set principal_id = 'bob' where developer_id = 'acme'
                and principal_id = 'alice' and service_key = 'github';
             update vault.credentials set principal_id = 'alice' where principal_id = 'x'",
        )
        .await;
    for via in Via::BOTH {
        for principal in ["alice", "bob"] {
            assert_shut(
                server.agent(via, &acme, principal).exchange("github").await,
                principal,
            );
        }
    }
    assert_last_event(&server, 4, "does_not_open").await;
}

#[tokio::test]
async fn a_recorded_master_key_that_is_not_configured_is_unavailable() {
    let (server, acme, _) = stored().await;
    server
        .execute(&format!(
            "update vault.credentials set master_key = 'arn:evil' where {ALICE}"
        ))
        .await;
    for via in Via::BOTH {
        let refused = server
            .agent(via, &acme, "alice")
            .exchange("github")
            .await
            .unwrap_err();
        assert_eq!((refused.status, &*refused.code), (503, "UNAVAILABLE"));
        assert!(!refused.message.contains("arn:"), "{}", refused.message);
    }
    assert_last_event(&server, 2, "master_key_unavailable").await;
}

#[tokio::test]
async fn a_data_key_under_another_configured_master_key_keeps_the_credential_shut() {
    let (server, acme, _) = stored().await;
    server
        .kms
        .add_primary("arn:aws:kms:eu-central-1:111122223333:key/two");
    let change = "master_key = 'arn:aws:kms:eu-central-1:111122223333:key/two'";
    server
        .execute(&format!(
            "update vault.credentials set {change} where {ALICE}"
        ))
        .await;
    for via in Via::BOTH {
        assert_shut(
            server.agent(via, &acme, "alice").exchange("github").await,
            change,
        );
    }
    assert_last_event(&server, 2, "does_not_open").await;
}

#[tokio::test]
async fn a_row_that_the_vault_never_writes_is_an_internal_error_for_every_reader() {
    for change in [
        "service = ''",
        "service = 'no service'",
        "credential_type = ''",
        "credential_type = repeat('x', 65)",
        "token_expires_at = 'infinity'",
        "token_expires_at = '12000-01-01'",
    ] {
        let (server, acme, _) = stored().await;
        server
            .execute(&format!(
                "update vault.credentials set {change} where {ALICE}"
            ))
            .await;
        let sql = format!("select id from vault.credentials where {ALICE}");
        let row = server.sql().await.query_one(&sql, &[]).await.unwrap();
        let id: String = row.get(0);
        for via in Via::BOTH {
            let developer = server.client(via, &acme.key);
            assert_shut(developer.get(&id).await, change);
            assert_shut(developer.list().await, change);
            assert_shut(
                server.agent(via, &acme, "alice").exchange("github").await,
                change,
            );
        }
        let outcomes = server.outcomes().await;
        let tail = &outcomes[outcomes.len() - 6..];
        let failed =
            ["get", "list", "exchange"].map(|verb| format!("{verb} failed inconsistent_row"));
        assert_eq!(tail, [failed.clone(), failed].concat(), "{change}");
    }
}

#[tokio::test]
async fn a_data_key_that_the_kms_calls_tampered_keeps_the_credential_shut() {
    let setup = Setup::new().without_data_keys();
    let (server, acme, _) = stored_in(setup.start().await).await;
    server.kms.set_trouble(Some(Trouble::Tampered));
    for via in Via::BOTH {
        assert_shut(
            server.agent(via, &acme, "alice").exchange("github").await,
            "the KMS says so",
        );
    }
    assert_last_event(&server, 2, "does_not_open").await;
}

#[tokio::test]
async fn a_store_over_a_row_that_was_changed_changes_nothing_and_its_event_cannot_be_forged() {
    let forged = r#"vc_x","outcome":"listed"#;
    for change in [
        format!("id = '{forged}'"),
        "id = lower(id)".into(),
        "id = id || E'\\n'".into(),
        "id = 'vc_8ZZZZZZZZZZZZZZZZZZZZZZZZZ'".into(),
        "id = replace(id, 'vc_', 'ak_')".into(),
        "id = replace(id, 'vc_', 'vault_vc_')".into(),
        "id = 'vault_8ZZZZZZZZZZZZZZZZZZZZZZZZZ'".into(),
        "created_at = 'infinity'".into(),
        "created_at = '-infinity'".into(),
    ] {
        let (server, acme, _) = stored().await;
        let sql = format!("update vault.credentials set {change} where {ALICE}");
        server.execute(&sql).await;
        let rows = server.rows("credentials").await;
        for via in Via::BOTH {
            let before = server.outcomes().await.len();
            let fields = serde_json::json!({
                "principalId": "alice", "service": "github", "accessToken": CANARY,
            });
            let answer = server.client(via, &acme.key).store(fields).await;
            assert_shut(answer, &change);
            let outcomes = server.outcomes().await;
            assert_eq!(
                outcomes[before..],
                ["store failed inconsistent_row"],
                "{change}"
            );
        }
        assert_eq!(server.rows("credentials").await, rows, "{change}");
    }
}
