//! Whose signature counts, and for how long.

use std::time::Duration;

use grantex_vault::model::text::DeveloperId;
use serde_json::Value;

use super::{
    SECRET, answer, done, post, refused, revoked, send, set_secret, signature, signed, start,
    start_with,
};
use crate::harness::{Server, Setup, Trouble, until};

/// The same webhook with headers of the test's own.
fn with(server: &Server, developer: &str, headers: &[(&str, &str)]) -> reqwest::RequestBuilder {
    let request = post(server, developer, revoked("the-grant"));
    headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    })
}

#[tokio::test]
async fn only_the_developers_own_secret_signs_and_an_unknown_developer_is_refused_alike() {
    let (server, _) = start().await;
    server.tenant("globex").await;
    set_secret(&server, "globex", "whsec_of_globex_0123456").await;
    server.tenant("initech").await;
    let body = revoked("the-grant");
    for (developer, secret) in [
        ("acme", "whsec_0123456789abcdeF"),
        ("acme", "whsec_of_globex_0123456"),
        ("globex", SECRET),
        ("initech", SECRET),
        ("nobody", SECRET),
        ("%00", SECRET),
        (&"x".repeat(513), SECRET),
    ] {
        assert_eq!(
            send(&server, developer, secret, &body).await,
            refused(),
            "{developer}"
        );
    }
    assert_eq!(server.rows("revocations").await, Vec::<Value>::new());
    assert_eq!(send(&server, "acme", SECRET, &body).await, done());
}

#[tokio::test]
async fn a_signature_covers_body_and_time() {
    let (server, _) = start().await;
    let at = server.clock.seconds();
    let body = revoked("the-grant");
    let sign = |at: i64, body: &str| signature(SECRET, format!("{at}.{body}").as_bytes());
    let now = at.to_string();
    let v2 = "x-grantex-signature-v2";
    let time = "x-grantex-timestamp";
    for headers in [
        &[][..],
        &[(v2, &*sign(at, &body))],
        &[(time, &*now)],
        &[(v2, &sign(at, &revoked("another"))), (time, &now)],
        &[(v2, &sign(at - 1, &body)), (time, &now)],
        &[(v2, &signature(SECRET, body.as_bytes())), (time, &now)],
        &[(v2, &sign(at, &body)), (v2, &sign(at, &body)), (time, &now)],
        &[(v2, &sign(at, &body)), (time, &now), (time, &now)],
        &[(v2, &sign(at, &body)[1..]), (time, &now)],
    ] {
        let request = with(&server, "acme", headers);
        assert_eq!(answer(request).await, refused(), "{headers:?}");
    }
    assert_eq!(server.rows("revocations").await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_webhook_is_good_for_five_minutes() {
    let (server, _) = start().await;
    let body = revoked("the-grant");
    let request = || signed(&server, "acme", SECRET, &body);
    let early = request();
    server.clock.advance(Duration::from_mins(5));
    assert_eq!(answer(early.try_clone().unwrap()).await, done());
    server.clock.advance(Duration::from_secs(1));
    assert_eq!(answer(early).await, refused());
    assert_eq!(answer(request()).await, done());
}

#[tokio::test]
async fn the_plain_signature_counts_where_it_is_allowed_and_the_other_is_absent() {
    let body = revoked("the-grant");
    let plain = signature(SECRET, body.as_bytes());
    for (allowed, expected) in [("false", refused()), ("true", done())] {
        let setup = Setup::new().with("GRANTEX_VAULT_WEBHOOK_ALLOW_LEGACY_SIGNATURE", allowed);
        let (server, _) = start_with(setup).await;
        let legacy = [("x-grantex-signature", &*plain)];
        assert_eq!(answer(with(&server, "acme", &legacy)).await, expected);
        let wrong = signature("another-secret-of-them", body.as_bytes());
        let wrong = [("x-grantex-signature", &*wrong)];
        assert_eq!(answer(with(&server, "acme", &wrong)).await, refused());
        // The better one is there and wrong.
        let both = [legacy[0], ("x-grantex-signature-v2", "sha256=00")];
        assert_eq!(answer(with(&server, "acme", &both)).await, refused());
        assert_eq!(send(&server, "acme", SECRET, &body).await, done());
    }
}

#[tokio::test]
async fn two_secrets_are_valid_at_once_and_a_third_drops_the_oldest() {
    let (server, _) = start().await;
    let secrets = [SECRET, "whsec_the_second_012345", "whsec_the_third_0123456"];
    let body = revoked("the-grant");
    set_secret(&server, "acme", secrets[1]).await;
    for secret in &secrets[..2] {
        assert_eq!(send(&server, "acme", secret, &body).await, done());
    }
    set_secret(&server, "acme", secrets[2]).await;
    assert_eq!(send(&server, "acme", secrets[0], &body).await, refused());
    for secret in &secrets[1..] {
        assert_eq!(send(&server, "acme", secret, &body).await, done());
    }
    assert_eq!(server.rows("webhook_secrets").await.len(), 2);
}

#[tokio::test]
async fn who_signs_wrongly_too_often_is_limited_by_address() {
    let setup = Setup::new().with("GRANTEX_VAULT_LIMIT_FAILED_AUTH_PER_ADDRESS", "3");
    let (server, _) = start_with(setup).await;
    let body = revoked("the-grant");
    let wrong = "whsec_of_nobody_0123456";
    for _ in 0..3 {
        assert_eq!(send(&server, "acme", wrong, &body).await, refused());
    }
    assert_eq!(send(&server, "acme", wrong, &body).await.0, 429);
    assert_eq!(
        send(&server, "acme", SECRET, &body).await,
        done(),
        "who is right is not"
    );
}

#[tokio::test]
async fn once_a_secret_is_removed_what_it_signed_revokes_nothing() {
    let (server, tenant) = start().await;
    let (operations, by) = server.operations();
    let developer = DeveloperId::parse(&tenant.id).unwrap();
    let listed = operations.webhook_secrets(&by, &developer).await.unwrap();
    let (server, body) = (&server, revoked("the-grant"));

    // One that had read the secret is waited for, and one that comes then finds none.
    let lock = server.sql().await;
    let locks = "begin; lock table vault.revocations in share mode";
    lock.batch_execute(locks).await.unwrap();
    let ends = async {
        server.waiting_for_locks(1).await;
        let removed = operations.remove_webhook_secret(&by, &developer, listed[0].id);
        let commits = async {
            server.waiting_for_locks(2).await;
            lock.batch_execute("commit").await.unwrap();
        };
        let (removed, ()) = tokio::join!(removed, commits);
        assert!(removed.unwrap());
    };
    let (first, ()) = tokio::join!(send(server, "acme", SECRET, &body), ends);
    assert_eq!(first, done());

    set_secret(server, "acme", SECRET).await;
    let before = server.rows("revocations").await;
    server.kms.set_trouble(Some(Trouble::Hangs));
    let removed = async {
        until("the secret is being opened", async || {
            server.kms.hanging() > 0
        })
        .await;
        let listed = operations.webhook_secrets(&by, &developer).await.unwrap();
        let removed = operations.remove_webhook_secret(&by, &developer, listed[0].id);
        assert!(removed.await.unwrap());
        server.kms.set_trouble(None);
    };
    let body = revoked("another");
    let (late, ()) = tokio::join!(send(server, "acme", SECRET, &body), removed);
    assert_eq!(late, refused());
    assert_eq!(server.rows("revocations").await, before);
}
