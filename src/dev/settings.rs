//! Settings of an instance: those that were given, and its own in the place of others.

use std::{io, net::SocketAddr, path::Path};

use tokio::net::TcpListener;

use super::DevFault;
use crate::{
    app::StartFault,
    config::{self, ConfigFaults},
};

/// Settings that an instance takes from its own command line only. In the environment of a shell they are
/// of another vault, whose database and issuer are not the instance's.
const OF_ANOTHER_VAULT: [&str; 8] = [
    "DATABASE_URL",
    "DATABASE_URL_FILE",
    "GRANTEX_VAULT_MIGRATE_DATABASE_URL",
    "GRANTEX_VAULT_MIGRATE_DATABASE_URL_FILE",
    "GRANTEX_VAULT_ISSUER",
    "GRANTEX_VAULT_ISSUER_FILE",
    "GRANTEX_VAULT_JWKS_URL",
    "GRANTEX_VAULT_JWKS_FILE",
];

/// Where the settings of an instance are given.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// On the command line.
    pub flags: &'a dyn Fn(&str) -> Option<String>,
    /// In the environment.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

/// The listeners of an instance. They are open before anything is configured: the issuer is named after
/// the port of HTTP.
pub(super) struct Listeners {
    pub(super) http: Listener,
    pub(super) grpc: Listener,
    pub(super) admin: Listener,
}

/// One of them, and where it listens.
pub(super) struct Listener {
    pub(super) open: TcpListener,
    pub(super) address: SocketAddr,
}

/// What an instance has of its own, for where nothing is given.
pub(super) struct Own<'a> {
    pub(super) database_url: &'a str,
    pub(super) keyring: &'a Path,
    pub(super) listeners: &'a Listeners,
    /// The name of its issuer, and the issuer's key set; `None` when another is given.
    pub(super) issuer: Option<(&'a str, &'a Path)>,
}

// === impl Given ===

impl Given<'_> {
    /// What is given of a setting.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let flag = (self.flags)(name);
        flag.or_else(|| {
            let inherited = (self.environment)(name);
            inherited.filter(|_| !OF_ANOTHER_VAULT.contains(&name))
        })
    }

    /// Says which settings of the environment are of another vault.
    pub(super) fn warn_of_ignored(&self) {
        let ignored = OF_ANOTHER_VAULT
            .iter()
            .filter(|name| (self.environment)(name).is_some());
        let ignored: Vec<_> = ignored.copied().collect();
        if !ignored.is_empty() {
            tracing::warn!(
                "ignored in the environment, because dev has a database and an issuer of its own: {}; \
                 another issuer is named by --issuer, --jwks-url or --jwks-file",
                ignored.join(", ")
            );
        }
    }

    /// Whether no issuer but the instance's own is given.
    pub(super) fn no_issuer(&self) -> bool {
        OF_ANOTHER_VAULT.iter().all(|name| self.get(name).is_none())
    }

    /// A setting of the instance: its own, or the one that is given.
    pub(super) fn or_own(&self, name: &str, own: &Own<'_>) -> Option<String> {
        match name {
            "DATABASE_URL" => return Some(own.database_url.to_owned()),
            "GRANTEX_VAULT_HTTP_ADDR" => return Some(own.listeners.http.address.to_string()),
            "GRANTEX_VAULT_GRPC_ADDR" => return Some(own.listeners.grpc.address.to_string()),
            "GRANTEX_VAULT_ADMIN_ADDR" => return Some(own.listeners.admin.address.to_string()),
            _ => {}
        }
        self.get(name).or_else(|| match name {
            "GRANTEX_VAULT_MASTER_KEY" => {
                let in_file = self.get("GRANTEX_VAULT_MASTER_KEY_FILE").is_some();
                (!in_file).then(|| format!("local:{}", own.keyring.display()))
            }
            "GRANTEX_VAULT_MIGRATE" | "GRANTEX_VAULT_GRPC_REFLECTION" => Some("true".to_owned()),
            "GRANTEX_VAULT_ISSUER" => own.issuer.map(|(name, _)| name.to_owned()),
            "GRANTEX_VAULT_JWKS_FILE" => own.issuer.map(|(_, keys)| keys.display().to_string()),
            _ => None,
        })
    }
}

// === impl Listeners ===

impl Listeners {
    /// Opens those that are asked for. Where none is asked for and the usual port is in use, any port is as
    /// good.
    pub(super) async fn open(given: &Given<'_>) -> Result<Self, DevFault> {
        Ok(Self {
            http: Listener::open(given, "GRANTEX_VAULT_HTTP_ADDR", 8080).await?,
            grpc: Listener::open(given, "GRANTEX_VAULT_GRPC_ADDR", 50051).await?,
            admin: Listener::open(given, "GRANTEX_VAULT_ADMIN_ADDR", 9090).await?,
        })
    }
}

impl Listener {
    async fn open(given: &Given<'_>, name: &str, usual: u16) -> Result<Self, DevFault> {
        let text = config::given(&|name| given.get(name), name).map_err(StartFault::from)?;
        let Some(text) = text else {
            return Self::usual(name, usual).await;
        };
        let address: SocketAddr = text.parse().map_err(|error| {
            StartFault::from(ConfigFaults::one(name, format_args!("is wrong: {error}")))
        })?;
        loopback_only(name, address)?;
        Self::on(address)
            .await
            .map_err(|error| StartFault::Listen(address, error).into())
    }

    async fn usual(name: &str, port: u16) -> Result<Self, DevFault> {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let fault = |error| StartFault::Listen(at(port), error);
        match Self::on(at(port)).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let other = Self::on(at(0)).await.map_err(fault)?;
                let address = other.address;
                tracing::warn!("port {port} is in use: {name} is {address} this time");
                Ok(other)
            }
            opened => Ok(opened.map_err(fault)?),
        }
    }

    async fn on(address: SocketAddr) -> io::Result<Self> {
        let open = TcpListener::bind(address).await?;
        let address = open.local_addr()?;
        Ok(Self { open, address })
    }
}

/// Refuses an address that others can reach.
pub(super) fn loopback_only(name: &str, address: SocketAddr) -> Result<(), DevFault> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    let rule = "must be a loopback address: dev prints its keys and is for this machine only";
    Err(StartFault::from(ConfigFaults::one(name, rule)).into())
}
