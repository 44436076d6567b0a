//! For how long revocations are remembered.

use std::time::Duration;

use grantex_vault::{clock::Clock, grpc::pb::admin::ListRevocationsRequest};
use serde_json::json;

use super::{Admin, Files, TOKEN, grant_of, operator, token_of};
use crate::harness::{Server, Setup, until};

/// Subject and expiry in seconds of what is revoked.
async fn remembered(operator: &mut Admin) -> Vec<(String, Option<i64>)> {
    let list = ListRevocationsRequest {
        developer_id: "acme".to_owned(),
        ..ListRevocationsRequest::default()
    };
    let listed = operator.list_revocations(list).await.unwrap().into_inner();
    let found = listed.revocations.into_iter();
    found
        .map(|found| (found.subject, found.expires_at.map(|at| at.seconds)))
        .collect()
}

async fn start(files: &Files, lifetime: &str) -> Server {
    let setup = files.setup();
    let setup = setup.with("GRANTEX_VAULT_MAX_TOKEN_LIFETIME", lifetime);
    let server = setup.start().await;
    server.tenant("acme").await;
    server
}

#[tokio::test]
async fn an_expiry_comes_from_the_token_or_from_the_longest_life_of_one() {
    let files = Files::with_token(TOKEN);
    for (lifetime, by_lifetime) in [("0", None), ("1h", Some(3600))] {
        let server = start(&files, lifetime).await;
        let mut operator = operator(&server);
        let now = server.clock.seconds();
        operator.revoke_grant(grant_of("acme", "a")).await.unwrap();
        operator
            .revoke_token(token_of("acme", "b", None))
            .await
            .unwrap();
        let known = token_of("acme", "c", Some(now + 60));
        operator.revoke_token(known).await.unwrap();
        assert_eq!(
            remembered(&mut operator).await,
            [
                ("a".to_owned(), None),
                ("b".to_owned(), by_lifetime.map(|seconds| now + seconds)),
                ("c".to_owned(), Some(now + 60)),
            ]
        );
    }
}

#[tokio::test]
async fn of_two_expiries_the_later_counts_and_none_is_the_latest() {
    let files = Files::with_token(TOKEN);
    let server = start(&files, "0").await;
    let mut operator = operator(&server);
    let now = server.clock.seconds();
    for (expiry, expected) in [
        (Some(60), Some(60)),
        (Some(30), Some(60)),
        (Some(90), Some(90)),
        (None, None),
        (Some(120), None),
    ] {
        let revoke = token_of("acme", "t", expiry.map(|after| now + after));
        operator.revoke_token(revoke).await.unwrap();
        let expected = expected.map(|after| now + after);
        assert_eq!(
            remembered(&mut operator).await,
            [("t".to_owned(), expected)]
        );
    }
    let since = &server.rows("revocations").await[0]["revoked_at"];
    assert_eq!(
        since.as_str().unwrap()[..19],
        server.clock.now().to_string()[..19]
    );
}

#[tokio::test]
async fn only_what_expired_an_hour_ago_is_forgotten() {
    let files = Files::with_token(TOKEN);
    let server = start(&files, "0").await;
    let mut operator = operator(&server);
    let now = server.clock.seconds();
    operator.revoke_grant(grant_of("acme", "a")).await.unwrap();
    operator
        .revoke_token(token_of("acme", "b", None))
        .await
        .unwrap();
    for (name, expiry) in [("c", now + 60), ("d", now + 120)] {
        let revoke = token_of("acme", name, Some(expiry));
        operator.revoke_token(revoke).await.unwrap();
    }
    server.clock.advance(Duration::from_secs(3600 + 61));
    let next = Setup::new().beside(&server).start().await;
    until("the expired one is forgotten", async || {
        next.rows("revocations").await.len() < 4
    })
    .await;
    let rows = next.rows("revocations").await;
    let left: Vec<_> = rows.iter().map(|row| &row["subject"]).collect();
    assert_eq!(left, [&json!("a"), &json!("b"), &json!("d")]);
}
