//! The gRPC transport: decode, one call of the vault, encode.

mod admin_convert;
mod admin_service;
mod audit_service;
mod callers;
mod compression;
mod convert;
mod details;
mod open;
pub mod pb;
mod protocol;
mod reflection;
mod service;
mod status;

use std::sync::Arc;

use axum::middleware;
use tonic::{codec::CompressionEncoding, service::Routes};
use tonic_health::{
    pb::health_server::{self, HealthServer},
    server::{HealthReporter, HealthService},
};

use crate::{model::request::Verb, vault::Vault};
use pb::{
    admin::admin_service_server::AdminServiceServer,
    audit_service_server::{self, AuditServiceServer},
    vault_service_server::{self, VaultServiceServer},
};

pub use admin_service::AdminGrpc;
pub use callers::VaultRoutes;
pub use status::interrupted;

/// The largest request message; what REST takes as a body.
const MAX_REQUEST_BYTES: usize = 1024 * 1024;

/// The largest of an operator: there is nothing large to say.
const MAX_ADMIN_REQUEST_BYTES: usize = 64 * 1024;

/// Whose health is told: the server's as a whole, and that of each service.
const HEALTH_OF: [&str; 3] = [
    "",
    vault_service_server::SERVICE_NAME,
    audit_service_server::SERVICE_NAME,
];

/// The descriptors of everything that is served, for reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor_set.bin"));

/// The same of what operators are served.
pub const ADMIN_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/admin_descriptor_set.bin"));

/// Serves the vault and its audit record, their health, and reflection when it is wanted.
#[must_use]
pub fn routes(vault: Arc<Vault>, health: &Health, reflection: bool) -> VaultRoutes {
    let callers = Arc::clone(&vault);
    let audit = AuditServiceServer::new(audit_service::AuditGrpc::new(Arc::clone(&vault)))
        .max_decoding_message_size(MAX_REQUEST_BYTES);
    let vault = VaultServiceServer::new(service::VaultGrpc::new(vault))
        .max_decoding_message_size(MAX_REQUEST_BYTES);
    let mut routes = Routes::new(vault)
        .add_service(audit)
        .add_service(health.service.clone());
    if reflection {
        let health = tonic_health::pb::FILE_DESCRIPTOR_SET;
        routes = reflection::add(routes, &[DESCRIPTOR_SET, health]);
    }
    VaultRoutes::new(callers, routes.prepare())
}

/// Serves health where the vault itself is not served.
pub fn private_routes(health: &Health) -> axum::Router {
    let routes = health.routes().layer(open::OpenCallsLayer::default());
    // What is served beside it is HTTP.
    routes.route_layer(middleware::from_fn(details::of_router))
}

/// Serves operators, and reflection of that when it is wanted. Each request begins with a login.
pub fn admin_routes(admin: AdminGrpc, reflection: bool) -> axum::Router {
    let login = Arc::clone(&admin.login);
    let admin = AdminServiceServer::new(admin)
        .max_decoding_message_size(MAX_ADMIN_REQUEST_BYTES)
        .accept_compressed(CompressionEncoding::Gzip);
    let mut routes = Routes::new(admin);
    if reflection {
        routes = reflection::add(routes, &[ADMIN_DESCRIPTOR_SET]);
    }
    let login = middleware::from_fn_with_state(login, admin_service::log_in);
    let routes = routes.prepare().into_axum_router();
    // What is no gRPC is refused first, then comes the login.
    let routes = routes.layer(open::OpenCallsLayer::default()).layer(login);
    routes.layer(middleware::from_fn(details::of_router))
}

/// `grpc.health.v1`, for the server as a whole (the empty name) and for each service.
#[derive(Clone)]
pub struct Health {
    reporter: HealthReporter,
    service: HealthServer<HealthService>,
}

impl Default for Health {
    fn default() -> Self {
        let reporter = HealthReporter::new();
        let service = HealthServer::new(HealthService::from_health_reporter(reporter.clone()))
            .max_decoding_message_size(open::MAX_BYTES)
            .accept_compressed(CompressionEncoding::Gzip);
        Self { reporter, service }
    }
}

impl Health {
    fn routes(&self) -> axum::Router {
        let calls = format!("/{}/{{call}}", health_server::SERVICE_NAME);
        axum::Router::new().route_service(&calls, self.service.clone())
    }

    /// Ends the streams of those who watch, which would last as long as they like.
    pub async fn end_watching(&self) {
        let mut reporter = self.reporter.clone();
        for name in HEALTH_OF {
            reporter.clear_service_status(name).await;
        }
    }

    /// Sets what is answered from now on.
    pub async fn set_serving(&self, serving: bool) {
        let status = if serving {
            tonic_health::ServingStatus::Serving
        } else {
            tonic_health::ServingStatus::NotServing
        };
        for name in HEALTH_OF {
            self.reporter.set_service_status(name, status).await;
        }
    }
}

/// Which verb a path asks for.
#[must_use]
pub fn verb_of(path: &str) -> Option<Verb> {
    let called = path.strip_prefix('/')?;
    let mut verbs = Verb::ALL.into_iter();
    verbs.find(|verb| route_of(*verb) == Some(called))
}

/// The service and method of a verb; `None` when it is not asked for over gRPC.
#[must_use]
pub fn route_of(verb: Verb) -> Option<&'static str> {
    match verb {
        Verb::Store => Some("grantex.vault.v1.VaultService/StoreCredential"),
        Verb::List => Some("grantex.vault.v1.VaultService/ListCredentials"),
        Verb::Get => Some("grantex.vault.v1.VaultService/GetCredential"),
        Verb::Delete => Some("grantex.vault.v1.VaultService/DeleteCredential"),
        Verb::Exchange => Some("grantex.vault.v1.VaultService/ExchangeCredential"),
        Verb::Audit => Some("grantex.vault.v1.AuditService/ListAuditEvents"),
        Verb::Webhook => None,
    }
}
