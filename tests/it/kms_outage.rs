//! A KMS in trouble under load, when it is back, and when the vault starts.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::{Answer, KeyState, Log, Server, Setup, Tenant, Trouble, Via, until};

/// The key of the fake, by its identity.
const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/one";
/// Unanswered calls that make the vault stop asking.
const OPENS_AFTER: usize = 5;
/// In which time a KMS that is back is found.
const LONGEST_COOL_OFF: Duration = Duration::from_secs(10);

/// A server whose exchanges all ask the KMS, with a credential to exchange.
async fn start(kms_timeout: &str) -> (Server, Tenant) {
    let setup = Setup::new()
        .with("GRANTEX_VAULT_KMS_TIMEOUT", kms_timeout)
        .without_data_keys();
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    developer.store_token("user", "github", "secret").await;
    (server, tenant)
}

async fn exchange(server: &Server, tenant: &Tenant, via: Via) -> Answer {
    let agent = server.agent(via, tenant, "user");
    agent.exchange("github").await
}

/// So many exchanges at once, over both transports.
async fn load(server: &Server, tenant: &Tenant, count: usize) -> Vec<Answer> {
    let one = |number: usize| exchange(server, tenant, Via::BOTH[number % 2]);
    join_all((0..count).map(one)).await
}

fn assert_unavailable(answer: Answer) {
    let refused = answer.unwrap_err();
    let message = "The vault's key management is unavailable";
    assert_eq!(refused.says(), (503, "UNAVAILABLE", message));
    assert_eq!(refused.retry_after, Some(1));
}

async fn health(server: &Server) -> &'static str {
    let mut health = HealthClient::new(server.channel.clone());
    let answer = health.check(HealthCheckRequest::default()).await;
    answer.unwrap().into_inner().status().as_str_name()
}

/// Lets the vault find out that nobody answers.
async fn break_down(server: &Server, tenant: &Tenant, trouble: Trouble) {
    server.kms.set_trouble(Some(trouble));
    for number in 0..OPENS_AFTER {
        assert_unavailable(exchange(server, tenant, Via::BOTH[number % 2]).await);
    }
}

#[tokio::test]
async fn during_an_outage_refusals_come_at_once_and_nobody_asks_the_kms() {
    for trouble in [Trouble::Unreachable, Trouble::TimedOut] {
        let (server, tenant) = start("20s").await;
        break_down(&server, &tenant, trouble).await;
        let asked = server.kms.calls();
        for answer in load(&server, &tenant, 200).await {
            assert_unavailable(answer);
        }
        let developer = server.client(Via::Grpc, &tenant.key);
        let fields = json!({"principalId": "user", "service": "slack", "accessToken": "new"});
        assert_unavailable(developer.store(fields).await);
        assert_eq!(server.kms.calls(), asked, "{trouble:?}");

        let mut took = Vec::new();
        for number in 0..20 {
            let started = Instant::now();
            assert_unavailable(exchange(&server, &tenant, Via::BOTH[number % 2]).await);
            took.push(started.elapsed());
        }
        took.sort();
        assert!(took[10] < Duration::from_millis(100), "{took:?}");
    }
}

#[tokio::test]
async fn a_silent_kms_keeps_few_waiting_once_and_then_nobody() {
    let (server, tenant) = start("400ms").await;
    server.kms.set_trouble(Some(Trouble::Hangs));
    let before = server.kms.calls();
    for answer in load(&server, &tenant, 200).await {
        assert_unavailable(answer);
    }
    let asked = server.kms.calls() - before;
    // When the first of them were given up, their places were taken by as many.
    let most = 64 + OPENS_AFTER;
    assert!(asked <= most, "{asked} of 200 calls were made");

    let started = Instant::now();
    for answer in load(&server, &tenant, 100).await {
        assert_unavailable(answer);
    }
    assert_eq!(server.kms.calls() - before, asked, "none was made");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn after_a_cool_off_one_probe_asks_and_its_answer_ends_the_outage() {
    let (server, tenant) = start("20s").await;
    break_down(&server, &tenant, Trouble::Unreachable).await;
    server.kms.set_trouble(Some(Trouble::Hangs));
    let asked = server.kms.calls();
    server.clock.advance(LONGEST_COOL_OFF);
    let probing = exchange(&server, &tenant, Via::Grpc);
    let meanwhile = async {
        until("the probe waits", async || server.kms.hanging() == 1).await;
        for answer in load(&server, &tenant, 100).await {
            assert_unavailable(answer);
        }
        assert_eq!(server.kms.calls(), asked + 1, "no herd behind the probe");
        server.kms.set_trouble(None);
    };
    let (probed, ()) = tokio::join!(probing, meanwhile);
    assert_eq!(probed.unwrap()["accessToken"], "secret");
    for answer in load(&server, &tenant, 20).await {
        assert_eq!(answer.unwrap()["accessToken"], "secret");
    }
}

#[tokio::test]
async fn a_long_outage_costs_few_calls_and_recovery_takes_seconds() {
    let (server, tenant) = start("20s").await;
    break_down(&server, &tenant, Trouble::Unreachable).await;
    let asked = server.kms.calls();
    for _ in 0..60 {
        server.clock.advance(Duration::from_millis(500));
        assert_unavailable(exchange(&server, &tenant, Via::Rest).await);
    }
    let probes = server.kms.calls() - asked;
    assert!((3..=10).contains(&probes), "{probes} probes in 30 s");

    server.kms.set_trouble(None);
    server.clock.advance(LONGEST_COOL_OFF);
    for via in Via::BOTH {
        assert!(exchange(&server, &tenant, via).await.is_ok());
    }
}

#[tokio::test]
async fn refusals_of_the_kms_do_not_outlast_their_cause() {
    let (server, tenant) = start("20s").await;
    let refusals = KeyState::UNFIT.map(Trouble::Keys);
    for trouble in [Trouble::Denied, Trouble::Throttled, Trouble::NotConfigured]
        .into_iter()
        .chain(refusals)
    {
        server.kms.set_trouble(Some(trouble));
        for answer in load(&server, &tenant, 4 * OPENS_AFTER).await {
            assert_unavailable(answer);
        }
        server.kms.set_trouble(None);
        let exchanged = exchange(&server, &tenant, Via::Rest).await;
        assert!(exchanged.is_ok(), "{trouble:?}");
    }
}

#[tokio::test]
async fn slow_answers_are_answers() {
    let (server, tenant) = start("20s").await;
    let slow = Trouble::Slow(Duration::from_millis(50));
    server.kms.set_trouble(Some(slow));
    for answer in load(&server, &tenant, 4 * OPENS_AFTER).await {
        assert!(answer.is_ok());
    }
}

#[tokio::test]
async fn callers_who_hang_up_are_no_outage() {
    let (server, tenant) = start("20s").await;
    server.kms.set_trouble(Some(Trouble::Hangs));
    let url = format!("{}/v1/vault/credentials/exchange", server.http_url);
    for _ in 0..4 * OPENS_AFTER {
        let grant = server.grant(&tenant, "user", &["vault:github:exchange"]);
        let body = json!({"service": "github"});
        let request = server.http.post(&url).bearer_auth(grant).json(&body);
        let impatient = tokio::spawn(request.send());
        until("it waits", async || server.kms.hanging() == 1).await;
        impatient.abort();
        until("it is given up", async || server.kms.hanging() == 0).await;
    }
    server.kms.set_trouble(None);
    for via in Via::BOTH {
        assert!(exchange(&server, &tenant, via).await.is_ok());
    }
}

#[tokio::test]
async fn a_probe_that_panics_is_not_the_last() {
    let (server, tenant) = start("20s").await;
    break_down(&server, &tenant, Trouble::Unreachable).await;
    server.clock.advance(LONGEST_COOL_OFF);
    server.kms.set_trouble(Some(Trouble::Panics));
    let broken = exchange(&server, &tenant, Via::Rest).await;
    assert_eq!(broken.unwrap_err().status, 500);
    server.kms.set_trouble(None);
    assert!(exchange(&server, &tenant, Via::Rest).await.is_ok());
}

#[tokio::test]
async fn a_key_out_of_use_is_unavailable_until_it_is_back() {
    let (server, tenant) = start("20s").await;
    for state in KeyState::UNFIT {
        server.kms.set_key_state(KEY, state);
        for via in Via::BOTH {
            assert_unavailable(exchange(&server, &tenant, via).await);
        }
        server.kms.set_key_state(KEY, KeyState::Enabled);
        assert!(exchange(&server, &tenant, Via::Grpc).await.is_ok());
    }
}

#[tokio::test]
async fn the_log_says_what_is_wrong_and_when_calls_are_refused() {
    let (server, tenant) = start("200ms").await;
    let log = Log::keep();
    for (trouble, cause) in [
        (Trouble::NotConfigured, "but is not configured"),
        (Trouble::Denied, "the KMS denied the use"),
        (Trouble::Keys(KeyState::Disabled), "is disabled"),
        (
            Trouble::Keys(KeyState::PendingDeletion),
            "is pending deletion",
        ),
        (Trouble::Keys(KeyState::Missing), "there is no such"),
        (Trouble::Keys(KeyState::WrongUsage), "is not a symmetric"),
        (Trouble::Keys(KeyState::PendingImport), "is not ready"),
        (Trouble::Throttled, "throttled the call"),
        (Trouble::Unreachable, "the KMS did not answer: "),
        (Trouble::Hangs, "did not answer in time"),
    ] {
        server.kms.set_trouble(Some(trouble));
        for via in Via::BOTH {
            assert_unavailable(exchange(&server, &tenant, via).await);
            let said = log.take();
            assert!(said.contains(cause), "{trouble:?}: {said}");
            assert_eq!(said.matches("WARN").count(), 1, "once: {said}");
        }
    }
    break_down(&server, &tenant, Trouble::Unreachable).await;
    let said = log.take();
    assert_eq!(said.matches("calls are refused").count(), 1, "{said}");
    assert_unavailable(exchange(&server, &tenant, Via::Rest).await);
    assert!(log.take().contains("lately and is not asked"));
    server.kms.set_trouble(None);
    server.clock.advance(LONGEST_COOL_OFF);
    assert!(exchange(&server, &tenant, Via::Rest).await.is_ok());
    assert!(log.take().contains("the KMS answers again"));
}

#[tokio::test]
async fn a_key_that_cannot_be_used_refuses_the_start_and_is_named() {
    for state in KeyState::UNFIT {
        let setup = Setup::new();
        setup.kms.set_key_state(KEY, state);
        let refused = setup.try_start().await;
        let message = refused.err().expect("it does not start").to_string();
        let named = "GRANTEX_VAULT_MASTER_KEY names aws-kms:alias/the-fake-one, which cannot be";
        assert!(message.contains(named), "{state:?}: {message}");
    }
}

#[tokio::test]
async fn a_key_that_may_not_be_described_may_still_be_used() {
    let setup = Setup::new();
    setup.kms.set_trouble(Some(Trouble::Denied));
    let server = setup.start().await;
    assert_eq!(health(&server).await, "SERVING");
}

#[tokio::test]
async fn a_kms_that_cannot_be_reached_is_waited_for() {
    let start_in = async |trouble: Trouble| {
        let setup = Setup::new().with("GRANTEX_VAULT_KMS_TIMEOUT", "200ms");
        setup.kms.set_trouble(Some(trouble));
        let server = setup.start().await;
        assert_eq!(health(&server).await, "NOT_SERVING", "{trouble:?}");
        server.kms.set_trouble(None);
        until("health says so", async || {
            health(&server).await == "SERVING"
        })
        .await;
        let tenant = server.tenant("acme").await;
        let developer = server.client(Via::Rest, &tenant.key);
        developer.store_token("user", "github", "secret").await;
        assert!(exchange(&server, &tenant, Via::Grpc).await.is_ok());
    };
    join_all(
        [
            Trouble::Unreachable,
            Trouble::Throttled,
            Trouble::Hangs,
            Trouble::Keys(KeyState::PendingImport),
        ]
        .map(start_in),
    )
    .await;
}

#[tokio::test]
async fn a_key_that_turns_out_unfit_while_it_is_waited_for_is_waited_for_still() {
    let setup = Setup::new();
    setup.kms.set_trouble(Some(Trouble::Unreachable));
    let server = setup.start().await;
    let asked = server.kms.checks();
    server.kms.set_key_state(KEY, KeyState::Disabled);
    server.kms.set_trouble(None);
    until("it was asked again", async || server.kms.checks() > asked).await;
    assert_eq!(health(&server).await, "NOT_SERVING");
    server.kms.set_key_state(KEY, KeyState::Enabled);
    until("health says so", async || {
        health(&server).await == "SERVING"
    })
    .await;
}
