//! Several replicas: one seals at a time, and another one takes over.

use std::time::Duration;

use futures_util::future::join_all;

use super::{all_sealed, assert_whole, eager, exchange, seals, served};
use crate::harness::{Setup, until};

#[tokio::test]
async fn replicas_that_seal_at_once_make_one_chain() {
    let (first, tenant) = served(eager(Setup::new())).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut setup = eager(Setup::new()).with("DATABASE_URL", &first.database_url);
        // One issuer and one KMS for all.
        setup.issuer = first.issuer.clone();
        setup.kms = first.kms.clone();
        others.push(setup.start().await);
    }
    // The right to seal goes from one to the other all the time, until several have had it.
    let rights = until("several of them seal", async || {
        let taken = "update vault.audit_sealer set until = '-infinity'";
        first.execute(taken).await;
        join_all(others.iter().map(|server| exchange(server, &tenant, 1))).await;
        let mut makers = 0;
        for server in others.iter().chain([&first]) {
            let made = server.metric("grantex_vault_audit_seals_total").await;
            makers += usize::from(made.is_some_and(|made| made > 0.0));
        }
        makers > 1
    });
    let load = join_all(others.iter().map(|server| exchange(server, &tenant, 25)));
    tokio::join!(rights, load);
    all_sealed(&first).await;
    assert_whole(&first).await;
    let entries: usize = seals(&first)
        .await
        .iter()
        .map(|(_, entries)| entries.as_ref().unwrap().len())
        .sum();
    assert_eq!(entries, first.audit_events().await.len(), "none twice");
}

#[tokio::test]
async fn one_that_stops_lets_another_seal_at_once() {
    let (first, tenant) = served(eager(Setup::new())).await;
    all_sealed(&first).await;
    let mut setup = eager(Setup::new()).with("DATABASE_URL", &first.database_url);
    setup.issuer = first.issuer.clone();
    setup.kms = first.kms.clone();
    let second = setup.start().await;
    exchange(&second, &tenant, 3).await;
    first.stop().await;
    let begin = std::time::Instant::now();
    all_sealed(&second).await;
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "it did not wait for the time of the other"
    );
    assert_whole(&second).await;
}

#[tokio::test]
async fn when_one_is_killed_another_seals_after_a_while() {
    let (server, tenant) = served(eager(Setup::new())).await;
    all_sealed(&server).await;
    // It held the right when it was killed: nobody renews that.
    let held = "update vault.audit_sealer
        set holder = 'killed', until = clock_timestamp() + interval '700 milliseconds'";
    server.execute(held).await;
    let before = seals(&server).await.len();
    exchange(&server, &tenant, 3).await;
    until("another one seals", async || {
        seals(&server).await.len() > before
    })
    .await;
    all_sealed(&server).await;
    assert_whole(&server).await;
}
