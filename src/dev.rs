//! `grantex-vault dev`: the vault with everything it needs, on this machine, for this user.

mod files;
pub mod issuer;
mod postgres;
mod settings;
mod tenant;

use std::{
    fs::{File, TryLockError},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    app::{self, Outside, Running, StartFault, stop_or_signal},
    auth::{grant_rules::GrantPolicy, key_set::SignatureAlgorithm},
    clock::{Clock, SystemClock},
    config::{self, Config},
    envelope::local_keyring::{KeyringFault, LocalKeyring},
    shutdown::StopSignals,
};
use issuer::{ClaimsForm, DevIssuer, GrantClaims};
use postgres::{Postgres, PostgresFault};
pub use settings::Given;
use settings::{Listeners, Own, loopback_only};
use tenant::Tenant;

/// Where an instance is kept when nobody says where.
pub const DEFAULT_DIR: &str = ".dev";

/// The principal in the examples that are printed.
const PRINCIPAL: &str = "user_abc123";
/// How long the printed grant token is good for.
const GRANT_LIFETIME: Duration = Duration::from_hours(24);
const AGENT: &str = "did:grantex:dev-agent";
/// The services that the printed grant token is for.
const SERVICES: [&str; 3] = ["github", "google", "slack"];

/// A running instance: what its user needs to know. It is kept in the directory for operator verbs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "each says what it is")]
pub struct Instance {
    pub http: String,
    pub grpc: SocketAddr,
    pub admin: String,
    pub api_key: String,
    /// `None` when the instance uses an issuer that is not its own.
    pub grant_token: Option<String>,
    pub developer_id: String,
    pub principal_id: String,
    pub issuer: Option<String>,
    pub jwks_url: Option<String>,
    /// What the tokens of its own issuer name, when the instance asks for one.
    pub audience: Option<String>,
    pub database_url: String,
    /// `None` when both ports speak in clear.
    pub tls: Option<InstanceTls>,
}

/// What clients of an instance with TLS need to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "each says what it is")]
pub struct InstanceTls {
    pub certificate: PathBuf,
    pub client_ca: Option<PathBuf>,
}

/// Why an instance does not start or cannot be acted on.
#[derive(Debug, Error)]
pub enum DevFault {
    /// Another one runs there.
    #[error("another `grantex-vault dev` is running in {0}")]
    Running(PathBuf),
    /// None runs there.
    #[error("no `grantex-vault dev` is running in {0}: start it with --data-dir {0}")]
    NotRunning(PathBuf),
    /// The directory or a file in it.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// The name of the directory.
    #[error(
        "{0:?} cannot be the directory of an instance: its path must be UTF-8 without control characters"
    )]
    Name(PathBuf),
    /// A file that was changed.
    #[error("{0} is not what dev wrote there; remove it to start anew")]
    Malformed(PathBuf),
    /// Its Postgres.
    #[error("{0}")]
    Postgres(#[from] PostgresFault),
    /// Its keyring.
    #[error("{0}")]
    Keyring(#[from] KeyringFault),
    /// Its server.
    #[error("{0}")]
    Start(#[from] StartFault),
    /// Its database.
    #[error("the private database does not answer: {0}")]
    Database(String),
    /// Nobody can be told that it is ready.
    #[error("what to try cannot be printed: {0}")]
    Announce(#[source] io::Error),
}

/// Runs an instance in a directory until a signal asks to stop, and calls `announce` when it is
/// ready. An instance that cannot be announced stops at once: nobody knows of it.
///
/// # Errors
///
/// When it does not start.
pub async fn run(
    directory: &Path,
    given: Given<'_>,
    announce: fn(&Instance) -> io::Result<()>,
) -> Result<(), DevFault> {
    let mut signals = StopSignals::listen().map_err(StartFault::Signals)?;
    let directory = files::open_directory(directory)?;
    let _lock = lock(&directory)?;
    given.warn_of_ignored();
    let listeners = Listeners::open(&given).await?;
    let postgres_bin = config::given(&|name| given.get(name), "GRANTEX_VAULT_PG_BIN");
    let postgres_bin = postgres_bin.map_err(StartFault::from)?;
    let postgres = tokio::select! {
        postgres = Postgres::start(&directory, postgres_bin) => postgres?,
        () = signals.next() => return Ok(()),
    };
    let started = start(&directory, &given, listeners, &postgres).await?;
    files::write_json(&instance_file(&directory), &started.instance)?;
    let announced = announce(&started.instance);
    if announced.is_ok() {
        signals.next().await;
    }
    stop_or_signal(started.running, started.drain_delay, &mut signals).await;
    postgres.stop();
    announced.map_err(DevFault::Announce)
}

/// A vault on its Postgres.
struct Started {
    running: Running,
    instance: Instance,
    drain_delay: Duration,
}

async fn start(
    directory: &Path,
    given: &Given<'_>,
    listeners: Listeners,
    postgres: &Postgres,
) -> Result<Started, DevFault> {
    let keyring = keyring_file(directory);
    if !keyring.exists() {
        LocalKeyring::create(&keyring, SystemClock.now())?;
    }
    let issuer = DevIssuer::load_or_make(directory)?;
    let own_issuer = given.no_issuer();
    let tls = given.get("GRANTEX_VAULT_TLS_CERT_FILE").is_some();
    // Its issuer is named after it as well. The verifier reads the key set from the file and fetches
    // nothing, so that no certificate needs to be trusted for it.
    let scheme = if tls { "https" } else { "http" };
    let http = format!("{scheme}://{}", listeners.http.address);
    let key_set = issuer::jwks_file(directory);
    let own = Own {
        database_url: postgres.url(),
        keyring: &keyring,
        listeners: &listeners,
        issuer: own_issuer.then_some((&http, &key_set)),
    };
    let config = Config::read(&|name| given.or_own(name, &own)).map_err(StartFault::from)?;
    if let Some(operators) = &config.operators {
        loopback_only("GRANTEX_VAULT_OPERATOR_ADDR", operators.address)?;
    }
    let outside = Outside {
        http: Some(listeners.http.open),
        grpc: Some(listeners.grpc.open),
        admin: Some(listeners.admin.open),
        beside: if own_issuer {
            issuer.routes()
        } else {
            axum::Router::new()
        },
        ..Outside::default()
    };
    let running = app::start(&config, outside).await?;
    let tenant = Tenant::ensure(directory, &config.database, Arc::new(SystemClock)).await?;
    let instance = Instance {
        grant_token: own_issuer.then(|| example_token(&issuer, &http, &tenant, &config.grants)),
        jwks_url: own_issuer.then(|| format!("{http}{}", issuer::JWKS_PATH)),
        issuer: Some(config.issuer.to_string()),
        audience: config.grants.audience.ours().map(str::to_owned),
        http,
        grpc: running.grpc_addr,
        admin: {
            let scheme = config.admin.tls.as_ref().map_or("http", |_| "https");
            format!("{scheme}://{}", running.admin_addr)
        },
        api_key: tenant.api_key,
        developer_id: tenant.developer_id,
        principal_id: PRINCIPAL.to_owned(),
        database_url: postgres.url().to_owned(),
        tls: config.tls.map(|files| InstanceTls {
            certificate: files.certificate,
            client_ca: files.client_ca,
        }),
    };
    Ok(Started {
        running,
        instance,
        drain_delay: config.drain_delay,
    })
}

/// The grant token that is printed: one that the instance takes, whatever its settings ask of one.
fn example_token(issuer: &DevIssuer, name: &str, tenant: &Tenant, policy: &GrantPolicy) -> String {
    let longest = policy.max_token_lifetime.unwrap_or(GRANT_LIFETIME);
    let claims = GrantClaims {
        issuer: name,
        developer: &tenant.developer_id,
        principal: PRINCIPAL,
        agent: AGENT,
        scopes: &SERVICES.map(exchange_scope),
        audience: policy.audience.ours(),
        now: SystemClock.now(),
        expires_in: GRANT_LIFETIME.min(longest),
    };
    issuer.mint(&claims, ClaimsForm::default(), SignatureAlgorithm::Rs256)
}

/// The scope that permits exchanges for a service.
#[must_use]
pub fn exchange_scope(service: &str) -> String {
    format!("vault:{}:exchange", service.to_ascii_lowercase())
}

/// The keyring of the instance in a directory.
#[must_use]
pub fn keyring_file(directory: &Path) -> PathBuf {
    directory.join("keyring.json")
}

impl Instance {
    /// The instance that runs in a directory.
    ///
    /// # Errors
    ///
    /// When none does.
    pub fn running(directory: &Path) -> Result<Self, DevFault> {
        let instance = Self::last(directory)?;
        match lock(directory) {
            Err(DevFault::Running(_)) => Ok(instance),
            Err(other) => Err(other),
            Ok(_) => Err(DevFault::NotRunning(directory.to_owned())),
        }
    }

    /// The instance that runs in a directory, or ran there last.
    ///
    /// # Errors
    ///
    /// When none ever did.
    pub fn last(directory: &Path) -> Result<Self, DevFault> {
        let path = instance_file(directory);
        if !path.exists() {
            return Err(DevFault::NotRunning(directory.to_owned()));
        }
        files::read_json(&path)
    }

    /// What to try, for copying and pasting into a shell.
    #[must_use]
    pub fn what_to_try(&self) -> String {
        let Self {
            http,
            grpc,
            admin,
            api_key,
            developer_id,
            principal_id,
            database_url,
            ..
        } = self;
        let curl = self.curl();
        let exchange = self.grant_token.as_ref().map(|token| {
            format!(
                r#"
# Exchange a grant for it, as an agent does
{curl} {http}/v1/vault/credentials/exchange \
  -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' \
  -d '{{"service":"github"}}'
"#
            )
        });
        let exchange = exchange.unwrap_or_default();
        format!(
            r#"
grantex-vault dev is ready: REST on {http}, gRPC on {grpc}, probes and metrics on {admin}

# Store a credential of {principal_id}
{curl} {http}/v1/vault/credentials \
  -H 'Authorization: Bearer {api_key}' -H 'Content-Type: application/json' \
  -d '{{"principalId":"{principal_id}","service":"github","accessToken":"gho_example"}}'

# List its description
{curl} '{http}/v1/vault/credentials?principalId={principal_id}' \
  -H 'Authorization: Bearer {api_key}'
{exchange}
# See that it was counted
curl -sS {admin}/metrics | grep exchanges_total

# Look at the ciphertext
psql '{database_url}' -c 'select id, service, access_token, master_key from vault.credentials'

You are developer {developer_id}. Ctrl-C stops everything.
"#
        )
    }

    /// How curl is called; it trusts the instance's own certificate, whoever signed it.
    fn curl(&self) -> String {
        let Some(tls) = &self.tls else {
            return "curl -sS".to_owned();
        };
        let client = match tls.client_ca {
            Some(_) => " --cert client.pem --key client.key",
            None => "",
        };
        format!("curl -sS --cacert '{}'{client}", tls.certificate.display())
    }
}

fn instance_file(directory: &Path) -> PathBuf {
    directory.join("instance.json")
}

/// Held as long as the instance runs; the system gives it up however the process ends.
fn lock(directory: &Path) -> Result<File, DevFault> {
    let path = directory.join("lock");
    let file = files::create_private(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DevFault::Running(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(DevFault::File(path, error)),
    }
}
