//! The doors: where each transport listens, and what stands behind it.

use std::net::SocketAddr;

use axum::{Router, extract::Request, middleware};
use tokio::net::TcpListener;

use super::StartFault;
use crate::{
    gateway::{self, Gateway},
    grpc::{self, VaultRoutes},
    listener::door::{self, Door, Shared},
    model::request::Transport,
};

/// Listens on an address, unless a listener is open already; answers where.
pub(super) async fn listen(
    open: Option<TcpListener>,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), StartFault> {
    let fault = |error| StartFault::Listen(address, error);
    let listener = match open {
        Some(listener) => listener,
        None => TcpListener::bind(address).await.map_err(fault)?,
    };
    let bound = listener.local_addr().map_err(fault)?;
    Ok((listener, bound))
}

/// The door of HTTP.
pub(super) fn http(service: Gateway, shared: &Shared) -> Door<Gateway, axum::body::Body> {
    Door {
        transport: Transport::Rest,
        shared: shared.clone(),
        service,
        verb_of: gateway::verb_of,
        route_of: |verb| Some(gateway::route_of(verb)),
        interrupted: gateway::interrupted,
    }
}

/// The door of gRPC.
pub(super) fn grpc(service: VaultRoutes, shared: &Shared) -> Door<VaultRoutes, tonic::body::Body> {
    Door {
        transport: Transport::Grpc,
        shared: shared.clone(),
        service,
        verb_of: |_, path| grpc::verb_of(path),
        route_of: grpc::route_of,
        interrupted: grpc::interrupted,
    }
}

/// Gives the calls of operators their context. No door stands before the admin listener: whoever
/// probes is told even when no place is free.
pub(super) fn with_context(routes: Router) -> Router {
    routes.layer(middleware::map_request(async |mut request: Request| {
        let context = door::context_of(&request, Transport::Grpc);
        request.extensions_mut().insert(context);
        request
    }))
}
