//! What is gRPC's own: details of errors, paging, health, reflection, and messages at their bounds.

use grantex_vault::grpc::pb;
use prost_types::{ListValue, Struct, Timestamp, Value as PbValue, value::Kind};
use serde_json::json;
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tonic_types::StatusExt;

use crate::harness::{Client, Problem, Server, Setup, Via, problem};

const VAULT: &str = "grantex.vault.v1.VaultService";

fn storable() -> pb::StoreCredentialRequest {
    pb::StoreCredentialRequest {
        principal_id: "user".to_owned(),
        service: "github".to_owned(),
        access_token: "secret".to_owned(),
        ..Default::default()
    }
}

fn metadata(kind: Option<Kind>) -> Struct {
    let fields = [("key".to_owned(), PbValue { kind })];
    Struct {
        fields: fields.into(),
    }
}

async fn refused(client: &Client<'_>, message: pb::StoreCredentialRequest) -> Problem {
    let request = client.request(message);
    problem(&client.grpc().store_credential(request).await.unwrap_err())
}

#[tokio::test]
async fn a_broken_rule_names_the_field_of_the_message() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Grpc, &tenant.key);
    let required = "principalId, service, and accessToken are required";
    let service = "service must be 1-64 characters and contain only letters, numbers, dot, underscore, or dash";
    let range = "tokenExpiresAt must be of the years 0001 to 9999";
    let finite = "metadata must not contain numbers that are not finite";
    let at = |seconds, nanos| Some(Timestamp { seconds, nanos });
    let large = "x".repeat(256 * 1024 + 1);
    for (field, message, change) in [
        (
            "principal_id",
            required,
            pb::StoreCredentialRequest {
                principal_id: String::new(),
                ..storable()
            },
        ),
        (
            "service",
            required,
            pb::StoreCredentialRequest {
                service: String::new(),
                ..storable()
            },
        ),
        (
            "access_token",
            required,
            pb::StoreCredentialRequest {
                access_token: String::new(),
                ..storable()
            },
        ),
        (
            "service",
            service,
            pb::StoreCredentialRequest {
                service: "git hub".to_owned(),
                ..storable()
            },
        ),
        (
            "principal_id",
            "principalId must not contain control characters",
            pb::StoreCredentialRequest {
                principal_id: "a\0".to_owned(),
                ..storable()
            },
        ),
        (
            "principal_id",
            "principalId must be at most 512 characters",
            pb::StoreCredentialRequest {
                principal_id: "é".repeat(513),
                ..storable()
            },
        ),
        (
            "credential_type",
            "credentialType must not be empty",
            pb::StoreCredentialRequest {
                credential_type: Some(String::new()),
                ..storable()
            },
        ),
        (
            "access_token",
            "accessToken must be at most 262144 bytes",
            pb::StoreCredentialRequest {
                access_token: large.clone(),
                ..storable()
            },
        ),
        (
            "refresh_token",
            "refreshToken must be at most 262144 bytes",
            pb::StoreCredentialRequest {
                refresh_token: large.clone(),
                ..storable()
            },
        ),
        (
            "token_expires_at",
            range,
            pb::StoreCredentialRequest {
                token_expires_at: at(253_402_300_800, 0),
                ..storable()
            },
        ),
        (
            "token_expires_at",
            range,
            pb::StoreCredentialRequest {
                token_expires_at: at(-62_135_596_801, 0),
                ..storable()
            },
        ),
        (
            "token_expires_at",
            range,
            pb::StoreCredentialRequest {
                token_expires_at: at(0, -1),
                ..storable()
            },
        ),
        (
            "token_expires_at",
            range,
            pb::StoreCredentialRequest {
                token_expires_at: at(0, 1_000_000_000),
                ..storable()
            },
        ),
        (
            "token_expires_at",
            range,
            pb::StoreCredentialRequest {
                token_expires_at: at(i64::MAX, 0),
                ..storable()
            },
        ),
        (
            "metadata",
            finite,
            pb::StoreCredentialRequest {
                metadata: Some(metadata(Some(Kind::NumberValue(f64::NAN)))),
                ..storable()
            },
        ),
        (
            "metadata",
            finite,
            pb::StoreCredentialRequest {
                metadata: Some(metadata(Some(Kind::NumberValue(f64::NEG_INFINITY)))),
                ..storable()
            },
        ),
        (
            "metadata",
            "metadata has a value without a kind",
            pb::StoreCredentialRequest {
                metadata: Some(metadata(None)),
                ..storable()
            },
        ),
        (
            "metadata",
            "metadata must not contain NUL characters",
            pb::StoreCredentialRequest {
                metadata: Some(metadata(Some(Kind::StringValue("\0".to_owned())))),
                ..storable()
            },
        ),
        (
            "metadata",
            "metadata must be at most 65536 bytes as JSON",
            pb::StoreCredentialRequest {
                metadata: Some(metadata(Some(Kind::StringValue("x".repeat(65_536))))),
                ..storable()
            },
        ),
    ] {
        let problem = refused(&developer, change).await;
        assert_eq!(problem.says(), (400, "BAD_REQUEST", message));
        assert_eq!(problem.field.as_deref(), Some(field), "{message}");
    }
    assert_eq!(server.rows("credentials").await.len(), 0);
    let agent = server.agent(Via::Grpc, &tenant, "user");
    let unnamed = agent.exchange("").await.unwrap_err();
    assert_eq!(
        (unnamed.status, unnamed.field.as_deref()),
        (400, Some("service"))
    );
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

    server
        .kms
        .set_trouble(Some(crate::harness::Trouble::Throttled));
    let request = developer.request(storable());
    let status = developer
        .grpc()
        .store_credential(request)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let retry = status.get_error_details().retry_info().unwrap().retry_delay;
    assert_eq!(retry, Some(std::time::Duration::from_secs(1)));
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

#[tokio::test]
async fn a_message_that_cannot_be_read_is_the_frameworks_error_whoever_sends_it() {
    let server = Server::start().await;
    let nobody = server.client_with(Via::Grpc, None);
    let large = pb::StoreCredentialRequest {
        access_token: "x".repeat(1024 * 1024),
        ..storable()
    };
    let refused = nobody.grpc().store_credential(large).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");

    // Deeper than any decoder of protobuf follows.
    let mut value = PbValue {
        kind: Some(Kind::NullValue(0)),
    };
    for _ in 0..200 {
        value = PbValue {
            kind: Some(Kind::ListValue(ListValue {
                values: vec![value],
            })),
        };
    }
    let deep = pb::StoreCredentialRequest {
        metadata: Some(metadata(value.kind)),
        ..storable()
    };
    let refused = nobody.grpc().store_credential(deep).await.unwrap_err();
    assert_ne!(refused.code(), Code::Unauthenticated, "{refused:?}");
    assert!(
        nobody
            .list()
            .await
            .is_err_and(|refused| refused.status == 401),
        "it goes on"
    );
}

#[tokio::test]
async fn health_is_served_to_anyone() {
    let server = Server::start().await;
    let mut health = HealthClient::new(server.channel.clone());
    for service in ["", VAULT] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status().as_str_name(), "SERVING");
    }
    let request = HealthCheckRequest {
        service: "other".to_owned(),
    };
    assert_eq!(
        health.check(request).await.unwrap_err().code(),
        Code::NotFound
    );
}

async fn reflected(server: &Server) -> Result<Vec<String>, tonic::Status> {
    let mut reflection = ServerReflectionClient::new(server.channel.clone());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let stream = tonic::codegen::tokio_stream::once(request);
    let mut answers = reflection
        .server_reflection_info(Request::new(stream))
        .await?
        .into_inner();
    let answer = answers.message().await?.unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else {
        panic!("not a list: {answer:?}");
    };
    Ok(list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect())
}

#[tokio::test]
async fn reflection_is_served_unless_it_is_switched_off() {
    let server = Server::start().await;
    let services = reflected(&server).await.unwrap();
    for service in [VAULT, "grpc.health.v1.Health"] {
        assert!(services.iter().any(|name| name == service), "{services:?}");
    }
    let setup = Setup::new().with("GRANTEX_VAULT_GRPC_REFLECTION", "false");
    let without = setup.start().await;
    assert_eq!(
        reflected(&without).await.unwrap_err().code(),
        Code::Unimplemented
    );
    let mut health = HealthClient::new(without.channel.clone());
    assert!(health.check(HealthCheckRequest::default()).await.is_ok());
}

#[test]
fn messages_with_secrets_do_not_show_them() {
    let store = pb::StoreCredentialRequest {
        access_token: "canary".to_owned(),
        refresh_token: "canary".to_owned(),
        principal_id: "canary".to_owned(),
        metadata: Some(metadata(Some(Kind::StringValue("canary".to_owned())))),
        ..storable()
    };
    let exchanged = pb::ExchangeCredentialResponse {
        access_token: "canary".to_owned(),
        ..Default::default()
    };
    let shown = format!("{store:?} {store:#?} {exchanged:?} {exchanged:#?}");
    assert!(!shown.contains("canary"), "{shown}");
}
