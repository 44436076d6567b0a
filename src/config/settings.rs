//! The table of settings, from which flags, `--help` and the README's table are made and checked.

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The environment variable.
    pub name: &'static str,
    /// Its value when it is not set.
    pub default: Option<&'static str>,
    /// Whether it holds a secret: then it has a twin `<name>_FILE` and no flag, because other users
    /// of a machine can read a process' arguments.
    pub secret: bool,
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
}

const fn setting(name: &'static str, default: Option<&'static str>, help: &'static str) -> Setting {
    Setting {
        name,
        default,
        secret: false,
        help,
    }
}

/// All settings, in the order of the README.
pub const SETTINGS: [Setting; 26] = [
    Setting {
        name: "DATABASE_URL",
        default: None,
        secret: true,
        help: "Postgres, as postgres://user:password@host:port/database?sslmode=…; sslmode is disable, require, verify-ca or verify-full, and sslrootcert names a PEM file",
    },
    Setting {
        name: "GRANTEX_VAULT_MIGRATE_DATABASE_URL",
        default: None,
        secret: true,
        help: "Where migrations connect: Postgres itself, when DATABASE_URL leads to a pooler (default: DATABASE_URL)",
    },
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
        "GRANTEX_VAULT_MASTER_KEY",
        None,
        "The key that wraps data keys: aws-kms:<key id, ARN or alias/…> or local:<keyring file>",
    ),
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
        "GRANTEX_VAULT_ISSUER",
        None,
        "The issuer of grant tokens (claim iss)",
    ),
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
        "The audience that grant tokens must name (claim aud)",
    ),
    setting(
        "GRANTEX_VAULT_AUDIENCE_MODE",
        Some("optional"),
        "optional: tokens without an audience pass; require: they do not",
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
        "GRANTEX_VAULT_GRPC_REFLECTION",
        Some("true"),
        "Serve gRPC reflection",
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
        "GRANTEX_VAULT_LOG_FOREIGN",
        Some("false"),
        "Let libraries log below WARN too; at TRACE that includes secrets",
    ),
    setting(
        "RUST_LOG",
        Some("info"),
        "What is logged: a level, or target=level,…",
    ),
];
