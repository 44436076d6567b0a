//! Logins of operators that fail: each is recorded, as many as their address may have.

use std::time::Duration;

use grantex_vault::grpc::pb::admin::ListDevelopersRequest;
use serde_json::Value;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{Files, TOKEN, channel, named, operator, presenting, recorded, refused, start};
use crate::{
    grpc_services::reflected_to,
    harness::{Cluster, Server, Via},
};

const LIMIT: &str = "GRANTEX_VAULT_LIMIT_FAILED_AUTH_PER_ADDRESS";

/// Asks as an operator with a token that nobody has.
async fn guess(server: &Server) -> Status {
    let mut stranger = presenting(
        channel(server),
        Some("Bearer a-guess-of-the-operators-token"),
    );
    let listed = stranger.list_developers(ListDevelopersRequest::default());
    listed.await.unwrap_err()
}

/// The events of failed logins.
async fn failed_logins(server: &Server) -> Vec<Value> {
    let mut events = server.audit_events().await;
    events.retain(|event| event["verb"] == "log_in");
    events
}

#[tokio::test]
async fn a_failed_login_leaves_an_event_that_says_from_where() {
    let (_files, server) = start().await;
    let status = guess(&server).await;
    assert_eq!(refused(&status).0, Code::Unauthenticated);
    let events = failed_logins(&server).await;
    assert_eq!(events.len(), 1, "{events:?}");
    let said = ["outcome", "reason", "transport", "peer", "developerId"].map(|key| &events[0][key]);
    assert_eq!(
        said,
        ["denied", "unknown_operator", "grpc", "127.0.0.1", ""]
    );
    assert_eq!(events[0]["caller"]["operator"], "unknown");
    let answered = status.metadata().get("x-request-id").unwrap();
    assert_eq!(events[0]["requestId"], answered.to_str().unwrap());

    let guessed = reflected_to(channel(&server), Some("Bearer another-guess-of-the-token")).await;
    assert_eq!(guessed.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(
        failed_logins(&server).await.len(),
        2,
        "reflection is no way around"
    );
    operator(&server)
        .create_developer(named("acme"))
        .await
        .unwrap();
    assert_eq!(
        failed_logins(&server).await.len(),
        2,
        "a login that succeeds is none"
    );
}

#[tokio::test]
async fn failed_logins_of_an_address_are_limited_and_what_the_limit_refuses_leaves_no_event() {
    let files = Files::with_token(TOKEN);
    let server = files.setup().with(LIMIT, "3").start().await;
    for _ in 0..3 {
        assert_eq!(refused(&guess(&server).await).0, Code::Unauthenticated);
    }
    for _ in 0..2 {
        let status = guess(&server).await;
        let expected = (Code::ResourceExhausted, "RATE_LIMIT_EXCEEDED".to_owned());
        assert_eq!(refused(&status), expected);
        let retry = status.get_details_retry_info().unwrap().retry_delay;
        assert_eq!(retry, Some(Duration::from_secs(20)));
    }
    assert_eq!(failed_logins(&server).await.len(), 3);
    let limited = "grantex_vault_rate_limited_total{limit=\"failed_operator_login_per_address\"}";
    assert_eq!(server.metric(limited).await, Some(2.0));
    let known = operator(&server).create_developer(named("acme")).await;
    known.expect("who is known is served meanwhile");
    server.clock.advance(Duration::from_secs(20));
    assert_eq!(refused(&guess(&server).await).0, Code::Unauthenticated);
    assert_eq!(failed_logins(&server).await.len(), 4);
}

#[tokio::test]
async fn failures_at_the_public_listeners_do_not_hide_those_of_operators() {
    let files = Files::with_token(TOKEN);
    let server = files.setup().with(LIMIT, "1").start().await;
    let stranger = server.client(Via::Rest, "gx_test_nobody_knows_this");
    assert_eq!(stranger.list().await.unwrap_err().status, 401);
    assert_eq!(stranger.list().await.unwrap_err().status, 429);
    assert_eq!(refused(&guess(&server).await).0, Code::Unauthenticated);
    assert_eq!(failed_logins(&server).await.len(), 1);
}

#[tokio::test]
async fn a_failed_login_that_cannot_be_recorded_is_answered_as_unavailable() {
    let cluster = Cluster::start().await;
    let files = Files::with_token(TOKEN);
    let setup = files
        .setup()
        .with("DATABASE_URL", &cluster.database().await);
    let server = setup.start().await;
    cluster.stop().await;
    assert_eq!(refused(&guess(&server).await).0, Code::Unavailable);
    cluster.start_again().await;
    assert_eq!(recorded(&server).await, [""; 0]);
}
