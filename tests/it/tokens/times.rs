//! The times: leeway of 30 seconds on both ends, to the second.

use std::time::Duration;

use super::{Gate, replaced};
use crate::harness::Setup;

/// The largest and the smallest second that every JSON reader agrees on.
const MAX_SECONDS: i64 = 1 << 53;

#[tokio::test]
async fn a_token_is_taken_until_30_seconds_after_its_expiry() {
    let gate = Gate::open().await;
    let now = gate.server.clock.seconds();
    for (expires_in, taken) in [
        (1, true),
        (0, true),
        (-29, true),
        (-30, false),
        (-31, false),
    ] {
        let claims = replaced(&gate.claims(), "iat", Some(&(now - 3600).to_string()));
        let claims = serde_json::from_str(&claims).unwrap();
        let expires = (now + expires_in).to_string();
        let token = gate.token_of(replaced(&claims, "exp", Some(&expires)));
        let case = format!("it expires in {expires_in} s");
        gate.judges(taken, &case, &token).await;
    }
}

#[tokio::test]
async fn a_token_is_taken_from_30_seconds_before_its_beginning() {
    let gate = Gate::open().await;
    let now = gate.server.clock.seconds();
    for (begins_in, taken) in [
        (-1, true),
        (0, true),
        (30, true),
        (31, false),
        (3600, false),
    ] {
        let token = gate.token_with("nbf", Some(&(now + begins_in).to_string()));
        let case = format!("it begins in {begins_in} s");
        gate.judges(taken, &case, &token).await;
    }
}

#[tokio::test]
async fn the_same_token_begins_and_expires_as_time_goes_by() {
    let gate = Gate::open().await;
    let mut claims = gate.claims();
    let now = gate.server.clock.seconds();
    claims["nbf"] = (now + 100).into();
    claims["exp"] = (now + 200).into();
    let token = gate.key().sign(&claims);
    let clock = &gate.server.clock;
    clock.advance(Duration::from_secs(69));
    gate.refuses("31 s too early", &token).await;
    clock.advance(Duration::from_secs(1));
    gate.admits("30 s too early", &token).await;
    clock.advance(Duration::from_secs(159));
    gate.admits("29 s too late", &token).await;
    clock.advance(Duration::from_secs(1));
    gate.refuses("30 s too late", &token).await;
}

#[tokio::test]
async fn the_time_of_issue_is_neither_ahead_of_us_nor_after_the_expiry() {
    let gate = Gate::open().await;
    let now = gate.server.clock.seconds();
    for (issued, taken) in [
        (now + 30, true),
        (now + 31, false),
        (now + 3600, false),
        (MAX_SECONDS, false),
        (now, true),
        (0, true),
        (-1, true),
        (-MAX_SECONDS, true),
    ] {
        let token = gate.token_with("iat", Some(&issued.to_string()));
        gate.judges(taken, &format!("iat {issued}"), &token).await;
    }
    for (issued_in, expires_in, taken) in
        [(0, 0, true), (1, 0, false), (20, 19, false), (20, 20, true)]
    {
        let claims = replaced(&gate.claims(), "iat", Some(&(now + issued_in).to_string()));
        let claims = serde_json::from_str(&claims).unwrap();
        let expires = (now + expires_in).to_string();
        let token = gate.token_of(replaced(&claims, "exp", Some(&expires)));
        let case = format!("issued in {issued_in} s, expires in {expires_in} s");
        gate.judges(taken, &case, &token).await;
    }
}

#[tokio::test]
async fn the_ends_of_time_are_no_trap() {
    let gate = Gate::open().await;
    for (claim, second, taken) in [
        ("exp", MAX_SECONDS, true),
        ("exp", MAX_SECONDS + 1, false),
        ("exp", i64::MAX, false),
        ("exp", 0, false),
        ("exp", -1, false),
        ("exp", -MAX_SECONDS, false),
        ("exp", i64::MIN, false),
        ("nbf", MAX_SECONDS, false),
        ("nbf", -1, true),
        ("nbf", -MAX_SECONDS, true),
        ("nbf", -MAX_SECONDS - 1, false),
        ("nbf", i64::MIN, false),
        ("iat", MAX_SECONDS + 1, false),
        ("iat", -MAX_SECONDS - 1, false),
    ] {
        let token = gate.token_with(claim, Some(&second.to_string()));
        let case = format!("{claim} {second}");
        gate.judges(taken, &case, &token).await;
    }
}

#[tokio::test]
async fn a_token_need_not_say_when_it_begins() {
    let gate = Gate::open().await;
    for raw in [None, Some("null")] {
        gate.admits(&format!("nbf {raw:?}"), &gate.token_with("nbf", raw))
            .await;
    }
}

#[tokio::test]
async fn a_token_that_lives_longer_than_it_may_is_refused_when_there_is_a_limit() {
    let setup = Setup::new().with("GRANTEX_VAULT_MAX_TOKEN_LIFETIME", "10m");
    let (limited, unlimited) = (Gate::open_with(setup).await, Gate::open().await);
    for (gate, limit) in [(&limited, Some(600)), (&unlimited, None)] {
        let now = gate.server.clock.seconds();
        for (from, to) in [
            (0, 600),
            (0, 601),
            (-500, 100),
            (-500, 101),
            (0, 86_400),
            (30, 630),
            (30, 631),
            (-1, 599),
            (-1, 600),
        ] {
            let claims = replaced(&gate.claims(), "iat", Some(&(now + from).to_string()));
            let claims = serde_json::from_str(&claims).unwrap();
            let token = gate.token_of(replaced(&claims, "exp", Some(&(now + to).to_string())));
            let fits = limit.is_none_or(|limit| to - from <= limit);
            gate.judges(fits, &format!("from {from} to {to} of {limit:?}"), &token)
                .await;
        }
    }
}
