//! The table of settings, from which flags, `--help` and the README's table are made and checked.

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The environment variable.
    pub name: &'static str,
    /// Its value when it is not set.
    pub default: Option<&'static str>,
    /// Whether it holds a secret: then it has no flag, because other users of a machine can read a
    /// process' arguments.
    pub secret: bool,
    /// Whether the variable `<name>_FILE` may name a file with the value instead.
    pub file: bool,
    /// What it means.
    pub help: &'static str,
}

impl Setting {
    /// The flag of the same meaning: `GRANTEX_VAULT_GRPC_ADDR` is `--grpc-addr`.
    #[must_use]
    pub fn flag(&self) -> Option<String> {
        let name = self.name.strip_prefix("GRANTEX_VAULT_")?;
        (!self.secret).then(|| name.to_ascii_lowercase().replace('_', "-"))
    }

    /// The variable that names a file with the value.
    #[must_use]
    pub fn file_variable(&self) -> Option<String> {
        self.file.then(|| format!("{}_FILE", self.name))
    }

    /// The setting, which a file may hold too.
    const fn or_file(self) -> Self {
        Self { file: true, ..self }
    }
}

const fn secret(name: &'static str, help: &'static str) -> Setting {
    Setting {
        name,
        default: None,
        secret: true,
        file: true,
        help,
    }
}

const fn setting(name: &'static str, default: Option<&'static str>, help: &'static str) -> Setting {
    Setting {
        name,
        default,
        secret: false,
        file: false,
        help,
    }
}

/// All settings, in the order of the README.
pub const SETTINGS: [Setting; 57] = [
    secret(
        "DATABASE_URL",
        "Postgres, as postgres://user:password@host:port/database?sslmode=…; sslmode is disable, require, verify-ca or verify-full, and sslrootcert names a PEM file",
    ),
    secret(
        "GRANTEX_VAULT_MIGRATE_DATABASE_URL",
        "Where migrations connect: Postgres itself, when DATABASE_URL leads to a pooler (default: DATABASE_URL)",
    ),
    setting(
        "GRANTEX_VAULT_DB_ROLE",
        None,
        "The role that a migration grants what serving needs, and nothing more",
    ),
    setting(
        "GRANTEX_VAULT_DB_POOL_SIZE",
        Some("16"),
        "The most connections to Postgres",
    ),
    setting(
        "GRANTEX_VAULT_MIGRATE",
        Some("false"),
        "Bring the schema up to date at start",
    ),
    setting(
        "GRANTEX_VAULT_STORAGE_IS_DURABLE",
        Some("false"),
        "true: the storage under Postgres keeps what was written, in order and whole, though fsync or full_page_writes is off",
    ),
    setting(
        "GRANTEX_VAULT_AUTHORITY",
        Some("standalone"),
        "Who says which developers there are and which grants live: standalone, the vault's own tables; grantex, those of a Grantex auth service in the same database",
    ),
    setting(
        "GRANTEX_VAULT_MASTER_KEY",
        None,
        "The key that wraps data keys: aws-kms:<key id, ARN or alias/…> or local:<keyring file>",
    )
    .or_file(),
    setting(
        "GRANTEX_VAULT_OLD_MASTER_KEYS",
        None,
        "Other keys that may be read, comma-separated: former primaries, and a future one",
    ),
    setting(
        "GRANTEX_VAULT_DATA_KEY_CACHE_TTL",
        Some("5m"),
        "How long an unwrapped data key may be used without asking the KMS again; 0 switches the cache off",
    ),
    setting(
        "GRANTEX_VAULT_DATA_KEY_CACHE_ENTRIES",
        Some("50000"),
        "The most data keys that are kept in memory",
    ),
    setting(
        "GRANTEX_VAULT_KMS_TIMEOUT",
        Some("3s"),
        "How long a KMS call may take, retries included",
    ),
    setting(
        "GRANTEX_VAULT_AUDIT_SEAL_INTERVAL",
        Some("5s"),
        "How often audit events are sealed; 0: this replica seals none",
    ),
    setting(
        "GRANTEX_VAULT_AUDIT_PARTITION",
        Some("month"),
        "How much time a partition of the audit events has, and pruning drops at once: day or month",
    ),
    setting(
        "GRANTEX_VAULT_ISSUER",
        None,
        "The issuer of grant tokens (claim iss)",
    )
    .or_file(),
    setting(
        "GRANTEX_VAULT_JWKS_URL",
        None,
        "The issuer's key set; https, or http on loopback (default: <issuer>/.well-known/jwks.json)",
    ),
    setting(
        "GRANTEX_VAULT_JWKS_FILE",
        None,
        "The issuer's key set as a file, instead of a URL",
    ),
    setting(
        "GRANTEX_VAULT_JWKS_MAX_STALE",
        Some("24h"),
        "How long known keys verify while the key set cannot be fetched",
    ),
    setting(
        "GRANTEX_VAULT_AUDIENCE",
        None,
        "Our audience: a grant token that names any must name this one (claim aud)",
    ),
    setting(
        "GRANTEX_VAULT_AUDIENCE_MODE",
        Some("optional"),
        "optional: tokens that name no audience pass too; require: only those that name ours do; off: it is not looked at",
    ),
    setting(
        "GRANTEX_VAULT_MAX_DELEGATION_DEPTH",
        Some("1"),
        "How deep a grant may be delegated (claims act and delegation_depth) under the standalone authority, which cannot know what was revoked further up",
    ),
    setting(
        "GRANTEX_VAULT_MAX_TOKEN_LIFETIME",
        Some("0"),
        "The longest time to the expiry of a grant token, from its issue (claim iat) and from now; 0 is any",
    ),
    setting(
        "GRANTEX_VAULT_SCOPE_MODE",
        Some("exact"),
        "exact: vault:<service>:exchange permits an exchange; compatible: so do the wider scopes of older issuers, such as * and <service>:read",
    ),
    setting(
        "GRANTEX_VAULT_WEBHOOK_ALLOW_LEGACY_SIGNATURE",
        Some("false"),
        "Take webhooks that are signed without their time, which whoever saw one can send again",
    ),
    setting(
        "GRANTEX_VAULT_GRPC_ADDR",
        Some("0.0.0.0:50051"),
        "Where gRPC listens",
    ),
    setting(
        "GRANTEX_VAULT_HTTP_ADDR",
        Some("0.0.0.0:8080"),
        "Where HTTP listens",
    ),
    setting(
        "GRANTEX_VAULT_ADMIN_ADDR",
        Some("127.0.0.1:9090"),
        "Where probes and metrics are, without credentials",
    ),
    setting(
        "GRANTEX_VAULT_ADMIN_TLS_CERT_FILE",
        None,
        "PEM file of the admin listener's certificate and its chain; the listener is in clear without",
    ),
    setting(
        "GRANTEX_VAULT_ADMIN_TLS_KEY_FILE",
        None,
        "PEM file of that certificate's private key",
    ),
    setting(
        "GRANTEX_VAULT_OPERATOR_ADDR",
        None,
        "Where operators are, with their credentials; without it they have the command line only",
    ),
    setting(
        "GRANTEX_VAULT_OPERATOR_TOKEN_FILE",
        None,
        "A file with the token that admits operators, 32 to 512 characters; it is read at each of their \
         calls, and needs TLS unless the address is loopback",
    ),
    setting(
        "GRANTEX_VAULT_OPERATOR_TLS_CERT_FILE",
        None,
        "PEM file of the operators' listener's certificate and its chain",
    ),
    setting(
        "GRANTEX_VAULT_OPERATOR_TLS_KEY_FILE",
        None,
        "PEM file of that certificate's private key",
    ),
    setting(
        "GRANTEX_VAULT_OPERATOR_TLS_CLIENT_CA_FILE",
        None,
        "PEM file of the authorities whose certificates admit operators; not those of public clients",
    ),
    setting(
        "GRANTEX_VAULT_OPERATOR_SANS",
        None,
        "Which of those certificates do: subject alternative names (hosts, e-mail addresses, URIs), \
         comma-separated, no patterns",
    ),
    setting(
        "GRANTEX_VAULT_READINESS_GRACE",
        Some("30s"),
        "How long a replica without Postgres stays ready",
    ),
    setting(
        "GRANTEX_VAULT_LIMIT_EXCHANGE_PER_GRANT",
        Some("600"),
        "Exchanges a minute with one grant token, per replica; 0 is no limit",
    ),
    setting(
        "GRANTEX_VAULT_LIMIT_REQUESTS_PER_DEVELOPER",
        Some("6000"),
        "Requests a minute with the API keys of one developer, per replica; 0 is no limit",
    ),
    setting(
        "GRANTEX_VAULT_LIMIT_FAILED_AUTH_PER_ADDRESS",
        Some("60"),
        "Failed authentications a minute of one address, per replica; 0 is no limit",
    ),
    setting(
        "GRANTEX_VAULT_TRUSTED_PROXIES",
        None,
        "Addresses and networks, comma-separated, whose X-Forwarded-For is believed",
    ),
    setting(
        "GRANTEX_VAULT_MAX_IN_FLIGHT",
        Some("1024"),
        "Requests that a replica has under way at once; a quarter more wait for 100 ms at most",
    ),
    setting(
        "GRANTEX_VAULT_MAX_IN_FLIGHT_PER_DEVELOPER",
        None,
        "How many of them one developer may have while others wait for one (default: a quarter)",
    ),
    setting(
        "GRANTEX_VAULT_MAX_CONNECTIONS",
        Some("1024"),
        "Connections that a replica has open at once on its public listeners; strangers can make each take 100 KiB",
    ),
    setting(
        "GRANTEX_VAULT_MAX_CONNECTIONS_PER_ADDRESS",
        None,
        "How many of them one address may have; not so the trusted proxies (default: a quarter)",
    ),
    setting(
        "GRANTEX_VAULT_IDLE_TIMEOUT",
        Some("11m"),
        "How long a connection stays open without a request, once a caller on it was authenticated, 75 seconds at most \
         before; longer than the load balancer's",
    ),
    setting(
        "GRANTEX_VAULT_GRPC_REFLECTION",
        Some("false"),
        "Serve gRPC reflection, to anybody",
    ),
    setting(
        "GRANTEX_VAULT_API_DOCS",
        Some("true"),
        "Serve the description of the REST API: /openapi.json and /docs",
    ),
    setting(
        "GRANTEX_VAULT_TLS_CERT_FILE",
        None,
        "TLS on both listeners: the certificate and its chain, PEM; read again when it changes",
    ),
    setting(
        "GRANTEX_VAULT_TLS_KEY_FILE",
        None,
        "The private key of that certificate, PEM; read again when it changes",
    ),
    setting(
        "GRANTEX_VAULT_TLS_CLIENT_CA_FILE",
        None,
        "Clients need a certificate of one of these CAs, PEM; read again when it changes",
    ),
    setting(
        "GRANTEX_VAULT_DRAIN_DELAY",
        Some("0"),
        "How long new connections are still accepted after SIGTERM",
    ),
    setting(
        "GRANTEX_VAULT_PG_BIN",
        None,
        "Where dev finds Postgres' server programs (default: the usual places, then PATH)",
    ),
    setting(
        "GRANTEX_VAULT_ALLOW_CORE_DUMPS",
        Some("false"),
        "Let the process be dumped and debugged; a core dump includes secrets",
    ),
    setting(
        "GRANTEX_VAULT_LOG_FORMAT",
        Some("pretty"),
        "pretty: lines for people; json: an object a line",
    ),
    setting(
        "GRANTEX_VAULT_LOG_FOREIGN",
        Some("false"),
        "Let libraries log below WARN too; at TRACE that includes secrets",
    ),
    setting(
        "RUST_LOG",
        Some("info"),
        "What is logged: a level, or target=level,…",
    ),
    setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        None,
        "The collector that traces and metrics are sent to, by OTLP; OpenTelemetry's other variables are in docs/telemetry.md",
    ),
];

/// The settings of `import grantex`, which servers have no use for: they are in the help of that command.
pub const IMPORT_SETTINGS: [Setting; 2] = [
    secret(
        "GRANTEX_VAULT_IMPORT_SOURCE",
        "The database of the TypeScript vault, as --source, but where other users of the machine cannot read its password",
    ),
    secret(
        "GRANTEX_VAULT_IMPORT_KEY",
        "The key of the TypeScript vault: 64 hexadecimal digits, or base64 of 32 bytes",
    ),
];
