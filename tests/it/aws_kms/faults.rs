//! What KMS answers, and what it fails to answer, decides who must act.

use std::{
    io::ErrorKind,
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, http::StatusCode};
use grantex_vault::{
    envelope::{
        aws_kms::AwsKms,
        kms::{Kms, KmsFault},
        master_keys::MasterKeys,
    },
    model::sealed::{MasterKeyId, WrappedKey},
};
use serde_json::json;

use super::{TIMEOUT, context};
use crate::harness::Moto;

const ARN: &str = "arn:aws:kms:eu-west-1:111122223333:key/one";
const OTHER_ARN: &str = "arn:aws:kms:eu-west-1:111122223333:key/two";

fn wrapped(master_key: &str) -> WrappedKey {
    WrappedKey {
        master_key: MasterKeyId::new(master_key),
        bytes: vec![1, 2, 3],
    }
}

/// A KMS that gives one answer to everything.
async fn answering(status: u16, body: String) -> AwsKms {
    let status = StatusCode::from_u16(status).unwrap();
    let answer = Router::new().fallback(async move || (status, body.clone()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // Ends with the test's runtime.
    tokio::spawn(async move { axum::serve(listener, answer).await });
    AwsKms::new(ARN, &Moto::config_of(&url), TIMEOUT)
}

fn kind(fault: &KmsFault) -> &'static str {
    match fault {
        KmsFault::NotConfigured(_) => "not configured",
        KmsFault::Denied(_) => "denied",
        KmsFault::Disabled(_) => "disabled",
        KmsFault::PendingDeletion(_) => "pending deletion",
        KmsFault::Missing(_) => "missing",
        KmsFault::WrongUsage(_) => "wrong usage",
        KmsFault::NotReady(_) => "not ready",
        KmsFault::Throttled(_) => "throttled",
        KmsFault::Unreachable(_) => "unreachable",
        KmsFault::TimedOut => "timed out",
        KmsFault::BreakerOpen => "breaker open",
        KmsFault::Overloaded => "overloaded",
        KmsFault::Tampered(_) => "tampered",
    }
}

#[tokio::test]
async fn each_error_of_kms_is_sorted_by_who_must_act() {
    for (code, status, generating, unwrapping) in [
        ("AccessDeniedException", 400, "denied", "denied"),
        ("UnrecognizedClientException", 400, "denied", "denied"),
        ("ExpiredTokenException", 400, "denied", "denied"),
        ("DisabledException", 400, "disabled", "disabled"),
        ("KMSInvalidStateException", 400, "not ready", "not ready"),
        ("NotFoundException", 400, "missing", "missing"),
        ("InvalidArnException", 400, "missing", "missing"),
        (
            "InvalidKeyUsageException",
            400,
            "wrong usage",
            "wrong usage",
        ),
        ("InvalidCiphertextException", 400, "unreachable", "tampered"),
        ("IncorrectKeyException", 400, "unreachable", "tampered"),
        ("LimitExceededException", 400, "throttled", "throttled"),
        ("SomethingNewException", 400, "unreachable", "unreachable"),
    ] {
        let body = json!({"__type": code, "message": "the test said so"}).to_string();
        let kms = answering(status, body).await;
        let fault = kms.generate(&context("acme", "user")).await.unwrap_err();
        assert_eq!(kind(&fault), generating, "{code} when generating");
        let fault = kms.unwrap(&wrapped(ARN), &context("acme", "user")).await;
        assert_eq!(
            kind(&fault.unwrap_err()),
            unwrapping,
            "{code} when unwrapping"
        );
    }
}

#[tokio::test]
async fn a_key_that_is_pending_deletion_is_told_from_other_wrong_states() {
    let message = "arn:aws:kms:eu-west-1:111122223333:key/one is pending deletion.";
    let body = json!({"__type": "KMSInvalidStateException", "message": message});
    let kms = answering(400, body.to_string()).await;
    let fault = kms.generate(&context("acme", "user")).await.unwrap_err();
    assert_eq!(kind(&fault), "pending deletion");
}

/// What DescribeKey answers of a key that is fit for use, but for one member.
fn described_with(member: &str, value: &str) -> String {
    let mut key = json!({
        "KeyId": "one", "Arn": ARN, "Enabled": true, "KeyState": "Enabled",
        "KeyUsage": "ENCRYPT_DECRYPT", "KeySpec": "SYMMETRIC_DEFAULT",
    });
    key[member] = value.into();
    json!({"KeyMetadata": key}).to_string()
}

#[tokio::test]
async fn a_check_tells_in_which_way_a_key_is_unfit() {
    for (member, value, expected) in [
        ("KeyState", "Disabled", "disabled"),
        ("KeyState", "PendingDeletion", "pending deletion"),
        ("KeyState", "PendingReplicaDeletion", "pending deletion"),
        ("KeyState", "PendingImport", "not ready"),
        ("KeyState", "Unavailable", "not ready"),
        ("KeyState", "Creating", "not ready"),
        ("KeyUsage", "SIGN_VERIFY", "wrong usage"),
        ("KeyUsage", "GENERATE_VERIFY_MAC", "wrong usage"),
        ("KeySpec", "RSA_2048", "wrong usage"),
    ] {
        let kms = answering(200, described_with(member, value)).await;
        assert_eq!(kind(&kms.check().await.unwrap_err()), expected, "{value}");
    }
    for (member, value) in [("KeyState", "Updating"), ("KeyState", "SomethingNew")] {
        let kms = answering(200, described_with(member, value)).await;
        assert_eq!(kms.check().await.unwrap().as_str(), ARN, "{value}");
    }
    let kms = answering(200, "{}".to_owned()).await;
    assert_eq!(kind(&kms.check().await.unwrap_err()), "unreachable");
}

#[tokio::test]
async fn throttling_and_failures_of_kms_are_temporary_after_the_last_try() {
    for (code, status, expected) in [
        ("ThrottlingException", 400, "throttled"),
        ("KMSInternalException", 500, "unreachable"),
    ] {
        let body = json!({"__type": code}).to_string();
        let kms = answering(status, body).await;
        let fault = kms.generate(&context("acme", "user")).await.unwrap_err();
        assert_eq!(kind(&fault), expected, "{code}");
    }
}

#[tokio::test]
async fn an_answer_without_its_parts_makes_no_sense() {
    for body in [
        "{}",
        r#"{"KeyId":"x"}"#,
        r#"{"Plaintext":"AAAA","CiphertextBlob":"AAAA"}"#,
    ] {
        let kms = answering(200, body.to_owned()).await;
        let fault = kms.generate(&context("acme", "user")).await.unwrap_err();
        assert_eq!(kind(&fault), "unreachable", "generate: {body}");
        let fault = kms.unwrap(&wrapped(ARN), &context("acme", "user")).await;
        assert_eq!(kind(&fault.unwrap_err()), "unreachable", "unwrap: {body}");
    }
}

#[tokio::test]
async fn a_data_key_of_another_length_is_not_used() {
    let short =
        json!({"KeyId": ARN, "CiphertextBlob": "AAAA", "Plaintext": "AAAAAAAAAAAAAAAAAAAAAA=="});
    let kms = answering(200, short.to_string()).await;
    let fault = kms.generate(&context("acme", "user")).await.unwrap_err();
    assert_eq!(kind(&fault), "unreachable");
}

/// A KMS that nobody may call.
struct Uncalled(TcpListener);

impl Uncalled {
    fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn kms(&self) -> AwsKms {
        let url = format!("http://{}", self.0.local_addr().unwrap());
        AwsKms::new(ARN, &Moto::config_of(&url), TIMEOUT)
    }

    /// Whoever connected would wait to be accepted.
    fn was_left_alone(&self) -> bool {
        let connected = self.0.accept().map(|(_, peer)| peer);
        connected.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

#[tokio::test]
async fn a_recorded_key_that_is_not_configured_is_refused_without_a_call() {
    let uncalled = Uncalled::listen();
    let kms = MasterKeys::new(Arc::new(uncalled.kms()), Vec::new());
    let context = context("acme", "user");
    for other in [OTHER_ARN, "alias/one", "one", "", "local:k/1"] {
        let fault = kms.unwrap(&wrapped(other), &context).await.unwrap_err();
        assert_eq!(kind(&fault), "not configured", "{other}");
        let fault = kms.rewrap(&wrapped(other), &context).await.unwrap_err();
        assert_eq!(kind(&fault), "not configured", "{other}");
    }
    assert!(uncalled.was_left_alone());
}

#[tokio::test]
async fn what_kms_would_not_even_look_at_is_tampering_without_a_call() {
    let uncalled = Uncalled::listen();
    let (kms, context) = (uncalled.kms(), context("acme", "user"));
    for bytes in [vec![], vec![1], vec![0, 2, 3], vec![2, 2, 3], vec![1; 6146]] {
        let length = bytes.len();
        let key = WrappedKey {
            bytes,
            ..wrapped(ARN)
        };
        let fault = kms.unwrap(&key, &context).await.unwrap_err();
        assert_eq!(kind(&fault), "tampered", "{length} bytes");
        let fault = kms.rewrap(&key, &context).await.unwrap_err();
        assert_eq!(kind(&fault), "tampered", "{length} bytes");
    }
    assert!(uncalled.was_left_alone());
}

#[tokio::test]
async fn a_kms_that_cannot_be_reached_is_given_up_in_time() {
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let timeout = Duration::from_millis(300);
    for address in [refusing.unwrap(), silent.local_addr().unwrap()] {
        let config = Moto::config_of(&format!("http://{address}"));
        let kms = AwsKms::new(ARN, &config, timeout);
        let start = Instant::now();
        let fault = kms.generate(&context("acme", "user")).await.unwrap_err();
        assert_eq!(kind(&fault), "unreachable", "{address}");
        let fault = kms.unwrap(&wrapped(ARN), &context("acme", "user")).await;
        assert_eq!(kind(&fault.unwrap_err()), "unreachable", "{address}");
        let took = start.elapsed();
        assert!(took < 10 * timeout, "two calls took {took:?}");
    }
}
