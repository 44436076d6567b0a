//! A flood of callers that nobody knows.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::harness::{Client, Server, Setup, Via, until};

const ASKED: usize = 200;
const FLOODERS: usize = 32;
/// Of each flooder, so that the flood ends by itself.
const MOST: usize = 2_000;

/// The median time of an answer.
async fn median(client: &Client<'_>) -> Duration {
    let mut times = Vec::new();
    for _ in 0..ASKED {
        let begun = Instant::now();
        client.list().await.expect("whoever is known is served");
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times[ASKED / 2]
}

/// Many that ask one thing after the other, each with made-up keys.
fn flood(server: &Server) -> JoinSet<()> {
    let mut flooders = JoinSet::new();
    for flooder in 0..FLOODERS {
        let url = format!("{}/v1/vault/credentials", server.http_url);
        let http = server.http.clone();
        flooders.spawn(async move {
            for number in 0..MOST {
                let key = format!("gx_test_made_up_{flooder}_{number}");
                let _ = http.get(&url).bearer_auth(key).send().await;
            }
        });
    }
    flooders
}

#[tokio::test]
async fn a_flood_of_unknown_callers_does_not_slow_down_those_who_are_known() {
    let setup = Setup::new().with("GRANTEX_VAULT_LIMIT_FAILED_AUTH_PER_ADDRESS", "60");
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    let client = server.client(Via::Rest, &tenant.key);
    let before = median(&client).await;
    let mut flooders = flood(&server);
    let limited = "grantex_vault_rate_limited_total{limit=\"failed_auth_per_address\"}";
    until("the flood has used its budget up", async || {
        server.metric(limited).await >= Some(60.0)
    })
    .await;
    let during = median(&client).await;
    assert!(!flooders.is_empty(), "it goes on");
    flooders.abort_all();
    while flooders.join_next().await.is_some() {}
    // Other tests run beside this one: what is usual is what it takes before or afterwards.
    let usual = before.max(median(&client).await);
    assert!(during <= usual * 2, "{during:?} instead of {usual:?}");
}
