//! The doors: where each transport listens, and what stands behind it.

use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;
use tonic::service::Routes;

use super::StartFault;
use crate::{gateway, grpc, listener::door::Door, metrics::Metrics, model::request::Transport};

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
pub(super) fn http(service: Router, metrics: &Metrics) -> Door<Router, axum::body::Body> {
    Door {
        transport: Transport::Rest,
        metrics: metrics.clone(),
        service,
        verb_of: gateway::verb_of,
        route_of: gateway::route_of,
        timed_out: gateway::timed_out,
        panicked: gateway::panicked,
    }
}

/// The door of gRPC.
pub(super) fn grpc(service: Routes, metrics: &Metrics) -> Door<Routes, tonic::body::Body> {
    Door {
        transport: Transport::Grpc,
        metrics: metrics.clone(),
        service,
        verb_of: |_, path| grpc::verb_of(path),
        route_of: grpc::route_of,
        timed_out: grpc::timed_out,
        panicked: grpc::panicked,
    }
}
