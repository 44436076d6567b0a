//! What is gRPC's own: details of errors, paging, and what is unset.

use std::time::Duration;

use grantex_vault::grpc::pb;
use prost_types::{Struct, Timestamp};
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{Server, Trouble, Via, problem};

fn storable() -> pb::StoreCredentialRequest {
    pb::StoreCredentialRequest {
        principal_id: "user".to_owned(),
        service: "github".to_owned(),
        access_token: "secret".to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn an_error_says_its_kind_and_its_request() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Grpc, &tenant.key);
    let mine = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    let mut request = developer.request(pb::GetCredentialRequest { id: "x".to_owned() });
    request
        .metadata_mut()
        .insert("x-request-id", mine.parse().unwrap());
    let status = developer.grpc().get_credential(request).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "Credential not found")
    );
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(
        (&*info.reason, &*info.domain),
        ("NOT_FOUND", "vault.grantex.dev")
    );
    assert_eq!(details.request_info().unwrap().request_id, mine);
    assert!(details.retry_info().is_none() && details.bad_request().is_none());

    let mut request = developer.request(pb::ListCredentialsRequest::default());
    request
        .metadata_mut()
        .insert("x-request-id", mine.parse().unwrap());
    let listed = developer.grpc().list_credentials(request).await.unwrap();
    assert_eq!(listed.metadata().get("x-request-id").unwrap(), mine);
    let request = developer.request(pb::ListCredentialsRequest::default());
    let listed = developer.grpc().list_credentials(request).await.unwrap();
    let made = listed
        .metadata()
        .get("x-request-id")
        .unwrap()
        .to_str()
        .unwrap();
    assert!(uuid::Uuid::parse_str(made).is_ok(), "{made}");

    server.kms.set_trouble(Some(Trouble::Throttled));
    let request = developer.request(storable());
    let status = developer
        .grpc()
        .store_credential(request)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let retry = status.get_error_details().retry_info().unwrap().retry_delay;
    assert_eq!(retry, Some(Duration::from_secs(1)));
}

#[tokio::test]
async fn two_authorizations_are_none() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Grpc, &tenant.key);
    let mut request = developer.request(pb::ListCredentialsRequest::default());
    let second = format!("Bearer {}", tenant.key).parse().unwrap();
    request.metadata_mut().append("authorization", second);
    let refused = problem(
        &developer
            .grpc()
            .list_credentials(request)
            .await
            .unwrap_err(),
    );
    assert_eq!(
        refused.says(),
        (
            401,
            "UNAUTHORIZED",
            "Missing or invalid Authorization header"
        )
    );
}

#[tokio::test]
async fn a_page_has_100_unless_it_is_told_1_to_1000() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    server
        .execute(
            "insert into vault.credentials
             select 'acme', 'vc_' || lpad(i::text, 26, '0'), 'user', 's' || i, 's' || i, 'oauth2',
                '', null, '', 'none', null, '{}', now(), now()
             from generate_series(1, 1100) i",
        )
        .await;
    let developer = server.client(Via::Grpc, &tenant.key);
    for (page_size, count) in [(0, 100), (1, 1), (150, 150), (1000, 1000)] {
        let message = pb::ListCredentialsRequest {
            page_size,
            ..Default::default()
        };
        let page = developer
            .grpc()
            .list_credentials(developer.request(message))
            .await
            .unwrap();
        assert_eq!(page.get_ref().credentials.len(), count);
        assert!(!page.get_ref().next_page_token.is_empty());
    }
    for page_size in [-1, 1001, i32::MAX, i32::MIN] {
        let message = pb::ListCredentialsRequest {
            page_size,
            ..Default::default()
        };
        let refused = developer
            .grpc()
            .list_credentials(developer.request(message))
            .await;
        let refused = problem(&refused.unwrap_err());
        assert_eq!(
            refused.says(),
            (400, "BAD_REQUEST", "pageSize must be 1 to 1000")
        );
        assert_eq!(refused.field.as_deref(), Some("page_size"));
    }
}

#[tokio::test]
async fn an_unset_expiry_and_metadata_are_what_the_contract_says() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Grpc, &tenant.key);
    let request = developer.request(storable());
    let stored = developer
        .grpc()
        .store_credential(request)
        .await
        .unwrap()
        .into_inner();
    let request = developer.request(pb::GetCredentialRequest { id: stored.id });
    let found = developer
        .grpc()
        .get_credential(request)
        .await
        .unwrap()
        .into_inner();
    let found = found.credential.unwrap();
    assert_eq!(
        (found.token_expires_at, found.metadata),
        (None, Some(Struct::default()))
    );
    let expiry = Timestamp {
        seconds: -1,
        nanos: 999_999_999,
    };
    let message = pb::StoreCredentialRequest {
        token_expires_at: Some(expiry),
        ..storable()
    };
    developer
        .grpc()
        .store_credential(developer.request(message))
        .await
        .unwrap();
    let exchanged = server
        .agent(Via::Rest, &tenant, "user")
        .exchange("github")
        .await
        .unwrap();
    assert_eq!(exchanged["tokenExpiresAt"], "1969-12-31T23:59:59.999Z");
}

#[tokio::test]
async fn numbers_of_metadata_are_doubles() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let rest = server.client(Via::Rest, &tenant.key);
    let metadata = json!({"big": 12_345_678_901_234_567_890_u64, "e": 1e300, "small": 5e-324});
    let fields =
        json!({"principalId": "u", "service": "s", "accessToken": "t", "metadata": metadata});
    rest.store(fields).await.unwrap();
    let exchanged = server
        .agent(Via::Grpc, &tenant, "u")
        .exchange("s")
        .await
        .unwrap();
    for name in ["big", "e", "small"] {
        assert_eq!(
            exchanged["metadata"][name].as_f64(),
            metadata[name].as_f64()
        );
    }
}
