//! The doors: where each transport listens, and what stands behind it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::Request, middleware};
use tokio::net::TcpListener;

use super::StartFault;
use crate::{
    config::Config,
    gateway::{self, Gateway},
    grpc::{self, VaultRoutes},
    listener::{
        self, Protocol,
        connections::Connections,
        door::{self, Door, Shared},
        tls::Tls,
    },
    model::request::Transport,
    shutdown::Shutdown,
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

/// The connections of the public listeners.
pub(super) fn connections(config: &Config) -> Connections {
    let none_open = Connections::new(config.max_connections, &config.trusted_proxies);
    none_open.with_idle_timeout(config.idle_timeout)
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

/// Where operators come in.
pub(super) struct OperatorListener {
    listener: TcpListener,
    address: SocketAddr,
    routes: Router,
    tls: Option<Arc<Tls>>,
}

impl OperatorListener {
    /// Listens, and accepts nobody yet.
    pub(super) async fn bind(
        address: SocketAddr,
        routes: Router,
        tls: Option<Arc<Tls>>,
    ) -> Result<Self, StartFault> {
        let (listener, address) = listen(None, address).await?;
        Ok(Self {
            listener,
            address,
            routes: with_context(routes),
            tls,
        })
    }

    /// Serves until the shutdown begins; answers where.
    pub(super) fn serve(self, idle_timeout: Duration, shutdown: &Shutdown) -> SocketAddr {
        let (listener, routes) = (self.listener, self.routes);
        let (speaks, until) = (Protocol::Http2, shutdown.clone());
        let connections = Connections::private().with_idle_timeout(idle_timeout);
        let serving =
            listener::serve_secured(listener, speaks, self.tls, routes, connections, until);
        shutdown.tasks.spawn(serving);
        self.address
    }
}

/// Gives the requests of a private listener their context. No permit is needed there: those who probe
/// and operate are few, and must get in when the vault is overloaded.
pub(super) fn with_context(routes: Router) -> Router {
    routes.layer(middleware::map_request(async |mut request: Request| {
        let context = door::context_of(&request, Transport::Grpc);
        request.extensions_mut().insert(context);
        request
    }))
}
