//! The real server, in this process, on ports of its own.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use grantex_vault::{
    app::{self, Outside, Running, StartFault},
    audit::journal::Journal,
    auth::api_key::{self, Mode},
    clock::Clock,
    config::Config,
    envelope::kms::Kms,
    health::{Health, Need},
    metrics::Metrics,
    model::{bearer::ApiKey, id::ApiKeyId, text::DeveloperId, timestamp::Timestamp},
    operator::{KnownOperator, Operations},
    store::{Store, api_keys::ApiKeyRow, authority::Authority, developers::DeveloperRow},
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::{
    Certificates, Client, Cluster, FakeIssuer, FakeKms, ManualClock, Trust, Via, connect, until,
};

/// The issuer whose tokens the server takes.
/// The services that tests store credentials for, in lower case.
const SERVICES: [&str; 11] = [
    "github",
    "slack",
    "linear",
    "notion",
    "google",
    "x",
    "s",
    "damaged",
    "exchanged",
    "nothing-stored",
    "evil",
];

pub(crate) const ISSUER: &str = "https://issuer.test";

/// What a server is started from; a test changes what it is about.
pub(crate) struct Setup {
    pub(crate) clock: Arc<ManualClock>,
    /// The clock that the database should agree with: its own goes with the world.
    pub(crate) world: Option<Arc<dyn Clock>>,
    pub(crate) kms: Arc<FakeKms>,
    pub(crate) issuer: Arc<FakeIssuer>,
    /// The master keys that are used instead of the fake KMS.
    pub(crate) master_keys: Option<Arc<dyn Kms>>,
    trust: Trust,
    settings: BTreeMap<String, String>,
}

/// A server that runs until its test ends: its tasks belong to the test's runtime.
pub(crate) struct Server {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) kms: Arc<FakeKms>,
    pub(crate) issuer: Arc<FakeIssuer>,
    pub(crate) database_url: String,
    /// `http://127.0.0.1:…`, or `https`
    pub(crate) http_url: String,
    pub(crate) grpc_url: String,
    pub(crate) channel: Channel,
    pub(crate) http: reqwest::Client,
    store: Store,
    running: Running,
}

/// A developer with an API key.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) key_id: String,
}

// === impl Setup ===

impl Setup {
    pub(crate) fn new() -> Self {
        let setup = Self {
            clock: Arc::new(ManualClock::start()),
            world: None,
            kms: Arc::new(FakeKms::start()),
            issuer: Arc::new(FakeIssuer::start()),
            master_keys: None,
            trust: Trust::default(),
            settings: BTreeMap::new(),
        };
        setup
            .with("GRANTEX_VAULT_HTTP_ADDR", "127.0.0.1:0")
            .with("GRANTEX_VAULT_GRPC_ADDR", "127.0.0.1:0")
            .with("GRANTEX_VAULT_ADMIN_ADDR", "127.0.0.1:0")
            .with("GRANTEX_VAULT_DB_POOL_SIZE", "4")
            .with("GRANTEX_VAULT_MASTER_KEY", "aws-kms:alias/the-fake-one")
            .with("GRANTEX_VAULT_ISSUER", ISSUER)
            // A test may ask as often as it likes, in a minute that does not pass; `limits.rs` is about
            // these.
            .with("GRANTEX_VAULT_LIMIT_EXCHANGE_PER_GRANT", "0")
            .with("GRANTEX_VAULT_LIMIT_REQUESTS_PER_DEVELOPER", "0")
            .with("GRANTEX_VAULT_LIMIT_FAILED_AUTH_PER_ADDRESS", "0")
            // Sealing takes a key from the KMS; `audit/sealing.rs` is about it.
            .with("GRANTEX_VAULT_AUDIT_SEAL_INTERVAL", "0")
    }

    /// Keeps no data keys in memory, nor rows that need them: what a test does to the KMS shows at once.
    pub(crate) fn without_data_keys(self) -> Self {
        self.with("GRANTEX_VAULT_DATA_KEY_CACHE_TTL", "0")
    }

    /// Changes a setting.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Serves this database, by the word of the Grantex auth service whose tables are there.
    pub(crate) fn beside_grantex(self, database_url: &str) -> Self {
        self.with("DATABASE_URL", database_url)
            .with("GRANTEX_VAULT_AUTHORITY", "grantex")
    }

    /// Serves beside another server: the same database, KMS, issuer and time.
    pub(crate) fn beside(mut self, server: &Server) -> Self {
        self.clock = Arc::clone(&server.clock);
        self.kms = Arc::clone(&server.kms);
        self.issuer = Arc::clone(&server.issuer);
        self.with("DATABASE_URL", &server.database_url)
    }

    /// Serves over TLS, to clients that trust the authority of these certificates.
    pub(crate) fn with_tls(mut self, certificates: &Certificates) -> Self {
        self.trust = certificates.trust();
        self.with("GRANTEX_VAULT_TLS_CERT_FILE", &certificates.path("tls.crt"))
            .with("GRANTEX_VAULT_TLS_KEY_FILE", &certificates.path("tls.key"))
    }

    /// Serves over TLS to clients that have a certificate; the harness' own clients have one.
    pub(crate) fn with_mutual_tls(mut self, certificates: &Certificates) -> Self {
        self = self.with_tls(certificates);
        let client = certificates.authority.issue_client("harness");
        self.trust = certificates.trust().with_identity(&client);
        self.with(
            "GRANTEX_VAULT_TLS_CLIENT_CA_FILE",
            &certificates.path("ca.crt"),
        )
    }

    /// Starts on the database that was set, or else on a new one of the shared cluster.
    pub(crate) async fn start(self) -> Server {
        self.try_start().await.expect("the server starts")
    }

    pub(crate) async fn try_start(mut self) -> Result<Server, StartFault> {
        let named = ["DATABASE_URL", "DATABASE_URL_FILE"];
        if !named.iter().any(|name| self.settings.contains_key(*name)) {
            let url = Cluster::shared().await.database().await;
            self.settings.insert("DATABASE_URL".to_owned(), url);
        }
        let database_url = match self.settings.get("DATABASE_URL_FILE") {
            Some(file) => std::fs::read_to_string(file).expect("the test's own file"),
            None => self.settings["DATABASE_URL"].clone(),
        };
        let config = Config::read(&|name| self.settings.get(name).cloned())?;
        let kms = self.master_keys.take();
        let outside = Outside {
            clock: Arc::clone(&self.clock) as _,
            world: self.world,
            kms: Some(kms.unwrap_or_else(|| Arc::clone(&self.kms) as _)),
            key_source: Some(Arc::clone(&self.issuer) as _),
            tls_look_every: Duration::from_millis(20),
            ..Outside::default()
        };
        let running = Box::pin(app::start(&config, outside)).await?;
        let issuer = Arc::clone(&self.issuer);
        until("the keys were asked for", async || issuer.fetches() > 0).await;
        let scheme = if config.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let grpc_url = format!("{scheme}://{}", running.grpc_addr);
        Ok(Server {
            clock: self.clock,
            kms: self.kms,
            issuer: self.issuer,
            store: Store::open(&config.database.url, 2, config.database.durability)
                .expect("a Unix socket needs no TLS"),
            database_url,
            http_url: format!("{scheme}://{}", running.http_addr),
            channel: self.trust.channel(&grpc_url),
            http: self.trust.http(),
            grpc_url,
            running,
        })
    }
}

// === impl Server ===

impl Server {
    /// One as most tests need it.
    pub(crate) async fn start() -> Self {
        Setup::new().start().await
    }

    /// Where HTTP listens.
    pub(crate) fn http_address(&self) -> String {
        self.running.http_addr.to_string()
    }

    /// Where gRPC listens.
    pub(crate) fn grpc_address(&self) -> String {
        self.running.grpc_addr.to_string()
    }

    /// `http://127.0.0.1:…` of the admin listener.
    pub(crate) fn admin_url(&self) -> String {
        format!("http://{}", self.running.admin_addr)
    }

    /// `http://127.0.0.1:…` of the operators' listener, which a test has to ask for.
    pub(crate) fn operator_url(&self) -> String {
        let address = self.running.operator_addr.expect("it was set up");
        format!("http://{address}")
    }

    /// The value of a metric, with its labels; `None` when it is not shown.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let shown = self.http.get(format!("{}/metrics", self.admin_url()));
        let text = shown.send().await.unwrap().text().await.unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")))?;
        Some(line.rsplit_once(' ')?.1.parse().unwrap())
    }

    /// Stops it in order, as `SIGTERM` does.
    pub(crate) async fn stop(self) {
        self.running.stop(Duration::ZERO).await;
    }

    /// What operators can do with the server's database, and one at a command line.
    pub(crate) fn operations(&self) -> (Operations, KnownOperator) {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        let health = Arc::new(Health::new(Arc::clone(&clock), Duration::ZERO));
        let (store, probe) = (self.store.clone(), health.need(Need::Audit));
        let metrics = Metrics::unobserved();
        let journal = Journal::start(store.clone(), Arc::clone(&clock), metrics, probe);
        let journal = Arc::new(journal);
        let operations = Operations::new(store, journal, clock, Authority::Standalone, None);
        (operations, KnownOperator::at_the_command_line(0))
    }

    /// Registers a developer and makes it an API key.
    pub(crate) async fn tenant(&self, id: &str) -> Tenant {
        let developer = DeveloperRow {
            id: DeveloperId::parse(id).unwrap(),
            name: id.to_owned(),
            created_at: self.clock.now(),
            suspended_at: None,
        };
        let mut connection = self.store.connection().await.unwrap();
        let transaction = connection.transaction().await.unwrap();
        transaction.create_developer(&developer).await.unwrap();
        transaction.commit().await.unwrap();
        drop(connection);
        let key = api_key::make(Mode::Test);
        self.api_key(id, &key, None, None).await
    }

    /// Gives a developer a key.
    pub(crate) async fn api_key(
        &self,
        developer: &str,
        key: &ApiKey,
        expires_at: Option<Timestamp>,
        revoked_at: Option<Timestamp>,
    ) -> Tenant {
        let row = ApiKeyRow {
            id: ApiKeyId::make(self.clock.now()),
            developer_id: DeveloperId::parse(developer).unwrap(),
            label: "test".to_owned(),
            prefix: api_key::shown_prefix(key),
            created_at: self.clock.now(),
            expires_at,
            revoked_at,
        };
        let hash = api_key::hash(key);
        let mut connection = self.store.connection().await.unwrap();
        let transaction = connection.transaction().await.unwrap();
        transaction.create_api_key(&hash, &row).await.unwrap();
        transaction.commit().await.unwrap();
        drop(connection);
        Tenant {
            id: developer.to_owned(),
            key: key.expose().to_owned(),
            key_id: row.id.to_string(),
        }
    }

    /// Speaks as whom the credentials say, an API key or a grant token.
    pub(crate) fn client(&self, via: Via, credentials: &str) -> Client<'_> {
        self.client_with(via, Some(format!("Bearer {credentials}")))
    }

    /// Speaks with any `Authorization`, or none.
    pub(crate) fn client_with(&self, via: Via, authorization: Option<String>) -> Client<'_> {
        Client {
            server: self,
            via,
            authorization,
        }
    }

    /// Speaks as an agent with a grant of the principal for every service that tests store.
    pub(crate) fn agent(&self, via: Via, tenant: &Tenant, principal: &str) -> Client<'_> {
        let scopes = SERVICES.map(|service| format!("vault:{service}:exchange"));
        let token = self.grant(tenant, principal, &scopes.each_ref().map(String::as_str));
        self.client(via, &token)
    }

    /// A valid grant token.
    pub(crate) fn grant(&self, tenant: &Tenant, principal: &str, scopes: &[&str]) -> String {
        let claims = self.claims(&tenant.id, principal, scopes);
        self.issuer.key().sign(&claims)
    }

    /// The claims of a valid token, to be changed. Its `jti` is of no other token.
    pub(crate) fn claims(&self, developer: &str, principal: &str, scopes: &[&str]) -> Value {
        let now = self.clock.seconds();
        json!({
            "iss": ISSUER, "sub": principal, "agt": "did:grantex:agent", "dev": developer,
            "scp": scopes, "jti": format!("token-{}", uuid::Uuid::new_v4()), "grnt": "grant-1",
            "iat": now, "exp": now + 3600,
        })
    }

    /// Asks the server's database.
    pub(crate) async fn sql(&self) -> tokio_postgres::Client {
        connect(&self.database_url).await
    }

    /// Runs statements in the server's database.
    pub(crate) async fn execute(&self, sql: &str) {
        let client = self.sql().await;
        client.batch_execute(sql).await.expect("the test's own SQL");
    }

    /// Waits until so many statements wait for a lock.
    pub(crate) async fn waiting_for_locks(&self, count: i64) {
        const SQL: &str = "select count(*) from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'";
        let sql = self.sql().await;
        until("statements wait for a lock", async || {
            sql.query_one(SQL, &[]).await.unwrap().get::<_, i64>(0) == count
        })
        .await;
    }

    /// All rows of a table of the vault as JSON, in the order in which they were written.
    pub(crate) async fn rows(&self, table: &str) -> Vec<Value> {
        let sql = format!("select row_to_json(t)::text from vault.{table} t order by ctid");
        let rows = self.sql().await.query(&sql, &[]).await.unwrap();
        let json = |row: &tokio_postgres::Row| serde_json::from_str(row.get(0)).unwrap();
        rows.iter().map(json).collect()
    }

    /// The audit events, in the order of their commits.
    pub(crate) async fn audit_events(&self) -> Vec<Value> {
        const SQL: &str = "select canonical from vault.audit_events order by era, xid, ctid";
        let rows = self.sql().await.query(SQL, &[]).await.unwrap();
        let event = |row: &tokio_postgres::Row| serde_json::from_slice(row.get(0)).unwrap();
        rows.iter().map(event).collect()
    }

    /// What became of each recorded verb: `store stored`, `exchange denied out_of_scope`.
    pub(crate) async fn outcomes(&self) -> Vec<String> {
        let events = self.audit_events().await;
        let outcome = |event: &Value| {
            let columns = ["verb", "outcome", "reason"];
            let present = columns.iter().filter_map(|name| event[name].as_str());
            present.collect::<Vec<_>>().join(" ")
        };
        events.iter().map(outcome).collect()
    }
}
