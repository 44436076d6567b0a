//! What gRPC serves beside the vault: health and reflection.

use tonic::{Code, Request, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::harness::{Server, Setup};

const VAULT: &str = "grantex.vault.v1.VaultService";
const AUDIT: &str = "grantex.vault.v1.AuditService";

#[tokio::test]
async fn health_is_served_to_anyone() {
    let server = Server::start().await;
    let mut health = HealthClient::new(server.channel.clone());
    for service in ["", VAULT, AUDIT] {
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

/// The services that reflection names.
pub(crate) async fn reflected(channel: Channel) -> Result<Vec<String>, tonic::Status> {
    reflected_to(channel, None).await
}

/// The same for who presents this.
pub(crate) async fn reflected_to(
    channel: Channel,
    authorization: Option<&str>,
) -> Result<Vec<String>, tonic::Status> {
    let mut reflection = ServerReflectionClient::new(channel);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let stream = tonic::codegen::tokio_stream::once(request);
    let mut request = Request::new(stream);
    if let Some(value) = authorization {
        let value = value.parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let answers = reflection.server_reflection_info(request).await?;
    let mut answers = answers.into_inner();
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
    let services = reflected(server.channel.clone()).await.unwrap();
    for service in [VAULT, AUDIT, "grpc.health.v1.Health"] {
        assert!(services.iter().any(|name| name == service), "{services:?}");
    }
    let setup = Setup::new().with("GRANTEX_VAULT_GRPC_REFLECTION", "false");
    let without = setup.start().await;
    assert_eq!(
        reflected(without.channel.clone()).await.unwrap_err().code(),
        Code::Unimplemented
    );
    let mut health = HealthClient::new(without.channel.clone());
    assert!(health.check(HealthCheckRequest::default()).await.is_ok());
}
