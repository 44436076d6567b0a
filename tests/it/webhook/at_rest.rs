//! Webhook secrets in the database: sealed, bound to their row, and wrapped like everything else.

use super::{SECRET, done, revoked, send, start};
use crate::harness::Via;

#[tokio::test]
async fn a_secret_is_nowhere_in_clear() {
    let (server, tenant) = start().await;
    let body = revoked("the-grant");
    send(&server, "acme", SECRET, &body).await;
    send(&server, "acme", "whsec_of_nobody_0123456", &body).await;
    let row = &server.rows("webhook_secrets").await[0];
    let hex = |text: &str| {
        let digits: Vec<_> = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        digits.concat()
    };
    let stored = row.to_string();
    assert!(
        !stored.contains(SECRET) && !stored.contains(&hex(SECRET)),
        "{stored}"
    );
    let events = serde_json::to_string(&server.audit_events().await).unwrap();
    assert!(!events.contains(SECRET));
    let metrics = server.http.get(format!("{}/metrics", server.admin_url()));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    assert!(!metrics.contains(SECRET));
    assert!(metrics.contains("verb=\"webhook\""), "they are counted");
    let refused = server.client(Via::Rest, SECRET).list().await.unwrap_err();
    assert_eq!(refused.status, 401, "it is no API key of {}", tenant.id);
}

#[tokio::test]
async fn a_secret_that_was_moved_or_changed_in_the_database_signs_nothing() {
    let (server, _) = start().await;
    server.tenant("globex").await;
    let body = revoked("the-grant");
    for change in [
        "update vault.webhook_secrets set developer_id = 'globex'",
        "update vault.webhook_secrets set developer_id = 'acme', id = '01ARZ3NDEKTSV4RRFFQ69G5FAV'",
        "update vault.webhook_secrets set secret = set_byte(secret, 20, get_byte(secret, 20) # 1)",
        "update vault.webhook_secrets set id = 'x'",
    ] {
        server.execute(change).await;
        for developer in ["acme", "globex"] {
            let (status, _) = send(&server, developer, SECRET, &body).await;
            let has_one = change.contains("globex") == (developer == "globex");
            assert_eq!(status, if has_one { 500 } else { 401 }, "{change}");
        }
    }
    assert_eq!(server.rows("revocations").await.len(), 0);
}

#[tokio::test]
async fn its_data_key_has_a_context_of_its_own() {
    let (server, _) = start().await;
    let body = revoked("the-grant");
    assert_eq!(send(&server, "acme", SECRET, &body).await, done());
    let wrapped = "update vault.credentials c set wrapped_key = s.wrapped_key
        from vault.webhook_secrets s";
    let tenant = server.tenant("globex").await;
    let client = server.client(Via::Rest, &tenant.key);
    client.store_token("user", "github", "secret").await;
    server.execute(wrapped).await;
    let refused = server
        .agent(Via::Grpc, &tenant, "user")
        .exchange("github")
        .await;
    assert_eq!(refused.unwrap_err().status, 500);
}
