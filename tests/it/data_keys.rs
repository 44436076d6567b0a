//! Data keys in memory: what they save, and that they end.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::Signal;

use crate::harness::{Dev, Server, Setup, Tenant, Trouble, Via, instance_directory, until};

/// Who has a credential under load: some whose data key is in memory when the KMS goes away, and the
/// others.
const PRINCIPALS: usize = WARM + COLD;
const WARM: usize = 20;
const COLD: usize = 15;

/// A vault that keeps data keys as it does by default.
fn caching() -> Setup {
    Setup::new()
}

/// Another vault over the same database and KMS, with nothing in memory.
async fn restarted(server: &Server) -> Server {
    caching().beside(server).start().await
}

async fn store(server: &Server, tenant: &Tenant, principals: usize) {
    let client = server.client(Via::Rest, &tenant.key);
    for number in 0..principals {
        client
            .store_token(
                &format!("user {number}"),
                "github",
                &format!("token {number}"),
            )
            .await;
    }
}

/// Exchanges the credentials of all principals once; every answer is that principal's token.
async fn exchange(server: &Server, via: Via, tenant: &Tenant, principals: usize) {
    let each = (0..principals).map(|number| async move {
        let agent = server.agent(via, tenant, &format!("user {number}"));
        let released = agent.exchange("github").await.unwrap();
        assert_eq!(released["accessToken"], format!("token {number}"));
    });
    join_all(each).await;
}

#[tokio::test]
async fn a_store_costs_one_kms_call_and_the_exchanges_after_it_none() {
    let server = caching().start().await;
    let tenant = server.tenant("dev_one").await;
    store(&server, &tenant, 10).await;
    assert_eq!((server.kms.generated(), server.kms.unwrapped()), (10, 0));
    for via in Via::BOTH {
        exchange(&server, via, &tenant, 10).await;
    }
    assert_eq!((server.kms.generated(), server.kms.unwrapped()), (10, 0));
}

#[tokio::test]
async fn ten_thousand_exchanges_of_a_hundred_credentials_cost_a_hundred_calls() {
    let first = caching().start().await;
    let tenant = first.tenant("dev_one").await;
    store(&first, &tenant, 100).await;
    let server = restarted(&first).await;
    for round in 0..100 {
        let via = if round % 2 == 0 { Via::Rest } else { Via::Grpc };
        exchange(&server, via, &tenant, 100).await;
    }
    assert_eq!(server.kms.unwrapped(), 100);
}

#[tokio::test]
async fn concurrent_exchanges_of_one_cold_credential_cost_one_call() {
    let first = caching().start().await;
    let tenant = first.tenant("dev_one").await;
    store(&first, &tenant, 1).await;
    let server = restarted(&first).await;
    server.kms.set_trouble(Some(Trouble::Hangs));
    let exchanges = join_all((0..40).map(|_| exchange(&server, Via::Grpc, &tenant, 1)));
    let answer = async {
        until("the KMS is asked", async || server.kms.hanging() == 1).await;
        server.kms.set_trouble(None);
    };
    tokio::join!(exchanges, answer);
    assert_eq!(server.kms.unwrapped(), 1);
}

#[tokio::test]
async fn while_the_kms_is_away_warm_credentials_are_exchanged_until_their_time_is_over() {
    let first = caching().start().await;
    let tenant = first.tenant("dev_one").await;
    store(&first, &tenant, 2).await;
    let server = restarted(&first).await;
    exchange(&server, Via::Rest, &tenant, 1).await;
    server.kms.set_trouble(Some(Trouble::Unreachable));
    for via in Via::BOTH {
        exchange(&server, via, &tenant, 1).await;
        let cold = server
            .agent(via, &tenant, "user 1")
            .exchange("github")
            .await;
        assert_eq!(cold.unwrap_err().says().0, 503);
    }
    server.clock.advance(Duration::from_mins(5));
    for via in Via::BOTH {
        let ended = server
            .agent(via, &tenant, "user 0")
            .exchange("github")
            .await;
        assert_eq!(ended.unwrap_err().says().0, 503);
    }
}

/// One second of load: everybody's credential at once over both transports. Those of the first
/// `warm` principals are exchanged, the others refused.
async fn load(server: &Server, tenant: &Tenant, warm: usize) {
    let each = (0..2 * PRINCIPALS).map(|number| async move {
        let (principal, via) = (number / 2, Via::BOTH[number % 2]);
        if principal < warm {
            let agent = server.agent(via, tenant, &format!("user {principal}"));
            let released = agent.exchange("github").await.unwrap();
            assert_eq!(released["accessToken"], format!("token {principal}"));
        } else {
            assert_refused(server, via, tenant, principal).await;
        }
    });
    join_all(each).await;
}

async fn assert_refused(server: &Server, via: Via, tenant: &Tenant, principal: usize) {
    let agent = server.agent(via, tenant, &format!("user {principal}"));
    let refused = agent.exchange("github").await.unwrap_err();
    assert_eq!((refused.status, refused.retry_after), (503, Some(1)));
}

#[tokio::test]
async fn half_a_minute_without_the_kms_under_load_fails_only_what_is_cold_and_no_herd_follows() {
    for trouble in [Trouble::Unreachable, Trouble::Hangs] {
        let first = caching().start().await;
        let tenant = first.tenant("dev_one").await;
        store(&first, &tenant, PRINCIPALS).await;
        let setup = caching().with("GRANTEX_VAULT_KMS_TIMEOUT", "300ms");
        let server = setup.beside(&first).start().await;
        exchange(&server, Via::Rest, &tenant, WARM).await;
        // Ten seconds on, the warm keys are due to be asked for again.
        server.clock.advance(Duration::from_secs(230));

        server.kms.set_trouble(Some(trouble));
        let before = server.kms.calls();
        load(&server, &tenant, WARM).await;
        let asked = server.kms.calls() - before;
        assert!(asked <= 2 * COLD, "{trouble:?}: {asked} until it knew");
        let mut took = Vec::new();
        for _ in 0..30 {
            server.clock.advance(Duration::from_secs(1));
            load(&server, &tenant, WARM).await;
            let started = Instant::now();
            assert_refused(&server, Via::Rest, &tenant, WARM).await;
            took.push(started.elapsed());
        }
        took.sort();
        assert!(took[15] < Duration::from_millis(100), "{took:?}");
        let probes = server.kms.calls() - before - asked;
        assert!((3..=10).contains(&probes), "{trouble:?}: {probes} in 30 s");

        server.kms.set_trouble(None);
        let before = server.kms.calls();
        let mut seconds = 0;
        let recovered = async || {
            let agent = server.agent(Via::Grpc, &tenant, &format!("user {WARM}"));
            agent.exchange("github").await.is_ok()
        };
        while !recovered().await {
            server.clock.advance(Duration::from_secs(1));
            seconds += 1;
        }
        assert!(seconds <= 10, "{trouble:?}: {seconds} s");
        for _ in 0..20 {
            load(&server, &tenant, PRINCIPALS).await;
            server.clock.advance(Duration::from_secs(3));
        }
        let asked = server.kms.calls() - before;
        // The warm keys' time was over meanwhile, but for one that may have been asked for before.
        assert!(
            (PRINCIPALS - 1..=PRINCIPALS).contains(&asked),
            "{trouble:?}: {asked} calls for {PRINCIPALS} keys"
        );
    }
}

#[tokio::test]
async fn a_hot_key_is_asked_for_again_before_its_time_is_over() {
    let server = caching().start().await;
    let tenant = server.tenant("dev_one").await;
    store(&server, &tenant, 1).await;
    for _ in 0..3 {
        let asked = server.kms.unwrapped();
        server.clock.advance(Duration::from_mins(4));
        exchange(&server, Via::Rest, &tenant, 1).await;
        until("it was asked for", async || {
            server.kms.unwrapped() == asked + 1
        })
        .await;
    }
}

#[tokio::test]
async fn switched_off_every_exchange_asks() {
    let server = caching().without_data_keys().start().await;
    let tenant = server.tenant("dev_one").await;
    store(&server, &tenant, 1).await;
    for asked in 1..4 {
        exchange(&server, Via::Rest, &tenant, 1).await;
        assert_eq!(server.kms.unwrapped(), asked);
    }
}

#[tokio::test]
async fn a_hangup_has_all_keys_forgotten_and_ends_nothing() {
    let directory = instance_directory();
    let mut dev = Dev::start(directory.path(), &[]).await;
    dev.process.signal(Signal::HUP);
    until("it says so", async || {
        dev.process.log().contains("are forgotten")
    })
    .await;
    assert!(dev.process.ended().is_none());
}
