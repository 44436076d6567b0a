//! What gRPC serves beside the vault: health and reflection.

use tonic::{Code, Request, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::{
    v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    },
    v1alpha,
};

use crate::harness::{Dev, Server, Setup, instance_directory};

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

#[tokio::test]
async fn dev_serves_reflection() {
    let directory = instance_directory();
    let dev = Dev::start(directory.path(), &[]).await;
    let address = format!("http://{}", dev.get("grpc"));
    let channel = Channel::from_shared(address).unwrap().connect_lazy();
    let services = reflected(channel).await.unwrap();
    assert!(services.iter().any(|name| name == VAULT), "{services:?}");
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
async fn reflection_is_served_in_both_versions_and_knows_both() {
    let setup = Setup::new().with("GRANTEX_VAULT_GRPC_REFLECTION", "true");
    let server = setup.start().await;
    let current = reflected(server.channel.clone()).await.unwrap();
    let former = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
    };
    let mut reflection =
        v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel.clone());
    let stream = tonic::codegen::tokio_stream::once(former);
    let answers = reflection.server_reflection_info(stream).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
        answer.message_response
    else {
        panic!("not a list: {answer:?}");
    };
    let former: Vec<_> = list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    assert_eq!(former, current);
    for version in ["v1", "v1alpha"] {
        let name = format!("grpc.reflection.{version}.ServerReflection");
        assert!(current.contains(&name), "{current:?}");
    }
}

#[tokio::test]
async fn reflection_is_served_only_if_it_is_switched_on() {
    let setup = Setup::new().with("GRANTEX_VAULT_GRPC_REFLECTION", "true");
    let server = setup.start().await;
    let services = reflected(server.channel.clone()).await.unwrap();
    for service in [VAULT, AUDIT, "grpc.health.v1.Health"] {
        assert!(services.iter().any(|name| name == service), "{services:?}");
    }
    let without = Server::start().await;
    assert_eq!(
        reflected(without.channel.clone()).await.unwrap_err().code(),
        Code::Unimplemented
    );
    let mut health = HealthClient::new(without.channel.clone());
    assert!(health.check(HealthCheckRequest::default()).await.is_ok());
}
