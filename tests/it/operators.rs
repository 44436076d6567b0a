//! What operators do, on their listener and at the command line.

mod access;
mod calls;
mod certificates;
mod command_line;
mod forgetting;
mod logins;
mod recorded;

use std::fs;

use grantex_vault::grpc::pb::admin::{
    CreateApiKeyRequest, CreateDeveloperRequest, RevokeGrantRequest, RevokeTokenRequest,
    admin_service_client::AdminServiceClient,
};
use prost_types::Timestamp;
use tempfile::TempDir;
use tonic::{
    Code, Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

use crate::harness::{Server, Setup};

const TOKEN: &str = "an-operators-token-of-enough-characters";

/// What an operator presents, if anything.
#[derive(Clone)]
struct Presents(Option<String>);

type Admin = AdminServiceClient<InterceptedService<Channel, Presents>>;

impl Interceptor for Presents {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            let value = value.parse().expect("visible characters");
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

/// Files that settings name.
struct Files(TempDir);

impl Files {
    fn with_token(token: &str) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write_token(token);
        files
    }

    fn token_path(&self) -> String {
        self.0.path().join("token").display().to_string()
    }

    fn write_token(&self, token: &str) {
        fs::write(self.token_path(), format!("{token}\n")).unwrap();
    }

    fn setup(&self) -> Setup {
        Setup::new()
            .with("GRANTEX_VAULT_OPERATOR_ADDR", "127.0.0.1:0")
            .with("GRANTEX_VAULT_OPERATOR_TOKEN_FILE", &self.token_path())
            .with("GRANTEX_VAULT_GRPC_REFLECTION", "true")
    }
}

/// A server whose operators have a token.
async fn start() -> (Files, Server) {
    let files = Files::with_token(TOKEN);
    let server = files.setup().start().await;
    (files, server)
}

fn presenting(channel: Channel, authorization: Option<&str>) -> Admin {
    let presents = Presents(authorization.map(str::to_owned));
    AdminServiceClient::with_interceptor(channel, presents)
}

fn channel(server: &Server) -> Channel {
    let endpoint = Endpoint::from_shared(server.operator_url()).unwrap();
    endpoint.connect_lazy()
}

/// The operator with the right token.
fn operator(server: &Server) -> Admin {
    presenting(channel(server), Some(&format!("Bearer {TOKEN}")))
}

/// Code and reason of a refusal, which carries what the contract says.
fn refused(status: &Status) -> (Code, String) {
    let details = status.get_error_details();
    let info = details.error_info().expect("every error has an ErrorInfo");
    assert_eq!(info.domain, "vault.grantex.dev");
    let request = details.request_info().expect("and a RequestInfo");
    let sent = status.metadata().get("x-request-id").unwrap();
    assert_eq!(sent.to_str().unwrap(), request.request_id);
    let retried = details.retry_info().is_some();
    let may_retry = [Code::Unavailable, Code::ResourceExhausted].contains(&status.code());
    assert_eq!(retried, may_retry);
    let violations = details.bad_request().is_some();
    assert_eq!(violations, status.code() == Code::InvalidArgument);
    (status.code(), info.reason.clone())
}

fn named(name: &str) -> CreateDeveloperRequest {
    CreateDeveloperRequest {
        name: name.to_owned(),
    }
}

fn key_of(developer: &str) -> CreateApiKeyRequest {
    CreateApiKeyRequest {
        developer_id: developer.to_owned(),
        ..CreateApiKeyRequest::default()
    }
}

fn grant_of(developer: &str, grant: &str) -> RevokeGrantRequest {
    RevokeGrantRequest {
        developer_id: developer.to_owned(),
        grant_id: grant.to_owned(),
    }
}

fn token_of(developer: &str, token: &str, expires_at: Option<i64>) -> RevokeTokenRequest {
    RevokeTokenRequest {
        developer_id: developer.to_owned(),
        token_id: token.to_owned(),
        expires_at: expires_at.map(|seconds| Timestamp { seconds, nanos: 0 }),
    }
}

/// What each operation left in the record: `create_developer done`, with the subject if it has one.
async fn recorded(server: &Server) -> Vec<String> {
    let events = server.audit_events().await;
    let operations = events
        .iter()
        .filter(|event| event["caller"].get("operator").is_some())
        .filter(|event| event["verb"] != "log_in");
    let text = |event: &serde_json::Value| {
        let present = ["verb", "outcome", "subject"].map(|name| event[name].as_str());
        present.into_iter().flatten().collect::<Vec<_>>().join(" ")
    };
    operations.map(text).collect()
}
