//! The settings: every one an environment variable, read here and nowhere else.

mod bounds;
mod outgoing;
mod settings;
mod telemetry;
mod text;
mod values;

use std::{
    env,
    ffi::OsString,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use url::Url;
use zeroize::Zeroizing;

use crate::{
    auth::{grant_rules::GrantPolicy, webhook},
    limits::{MaxInFlight, PerMinute},
    listener::{
        connections::MaxConnections,
        tls::{Listener, TlsFiles},
    },
    model::{certificate::CertificateName, text::Issuer},
    proxies::Proxies,
    store::{
        audit_partitions::PartitionUnit, authority::Authority, database_url::DatabaseUrl,
        schema::Durability, serving_role::RoleName,
    },
    telemetry::{Options, export::Otlp},
};

pub use settings::{IMPORT_SETTINGS, SETTINGS, Setting};
use values::Values;

/// Everything that `serve` needs.
#[derive(Debug, Clone)]
#[expect(
    missing_docs,
    reason = "each field is described in the table of settings"
)]
pub struct Config {
    pub grpc_addr: SocketAddr,
    pub http_addr: SocketAddr,
    pub admin: Admin,
    pub operators: Option<Operators>,
    pub readiness_grace: Duration,
    pub grpc_reflection: bool,
    pub api_docs: bool,
    pub tls: Option<TlsFiles>,
    pub database: Database,
    pub migrate: bool,
    pub master_key: MasterKey,
    pub old_master_keys: Vec<MasterKey>,
    pub data_key_cache: DataKeyCache,
    pub kms_timeout: Duration,
    pub aws_ca_bundle: Option<PathBuf>,
    pub proxies: Proxies,
    pub issuer: Issuer,
    pub keys: KeyLocation,
    pub grants: GrantPolicy,
    pub webhook_signatures: webhook::Accepted,
    pub jwks_max_stale: Duration,
    pub drain_delay: Duration,
    pub otlp: Otlp,
    pub audit: Audit,
    pub limits: PerMinute,
    pub max_in_flight: MaxInFlight,
    pub max_connections: MaxConnections,
    pub idle_timeout: Duration,
    pub trusted_proxies: Vec<IpNet>,
}

/// Where probes and metrics are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// The address.
    pub address: SocketAddr,
    /// What it is secured with.
    pub tls: Option<TlsFiles>,
}

/// Where operators are, and what they are known by: a token, client certificates, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operators {
    /// The address.
    pub address: SocketAddr,
    /// What holds the token that admits them.
    pub token_file: Option<PathBuf>,
    /// The names of certificates that admit them.
    pub names: Vec<CertificateName>,
    /// What the listener is secured with; without it, the address is loopback.
    pub tls: Option<TlsFiles>,
}

/// Where the database is.
#[derive(Debug, Clone)]
pub struct Database {
    /// Where requests go.
    pub url: DatabaseUrl,
    /// Where migrations go: Postgres itself, when requests go through a pooler.
    pub migrate_url: DatabaseUrl,
    /// The most connections.
    pub pool_size: usize,
    /// The role that migrating grants what serving needs.
    pub role: Option<RoleName>,
    /// Whose word counts for developers and grants.
    pub authority: Authority,
    /// Whether one is served that may lose what it has acknowledged.
    pub durability: Durability,
}

/// Who holds the master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MasterKey {
    /// AWS KMS: a key id, an ARN, or `alias/…`.
    AwsKms(String),
    /// A keyring file.
    Local(PathBuf),
}

/// Who holds the master keys, and how they are called.
#[derive(Debug, Clone)]
pub struct MasterKeySettings {
    /// The key that wraps.
    pub primary: MasterKey,
    /// Every other key that may be read.
    pub others: Vec<MasterKey>,
    /// How long a call to one may take.
    pub kms_timeout: Duration,
    /// What AWS is verified with instead of the machine's authorities.
    pub aws_ca_bundle: Option<PathBuf>,
    /// What calls go through.
    pub proxies: Proxies,
}

/// The vault that is imported from.
pub struct ImportSettings {
    /// Its database.
    pub source: DatabaseUrl,
    /// Its key as it was written.
    pub key: Zeroizing<String>,
}

/// How data keys are kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataKeyCache {
    /// How long one may be used; zero is not at all.
    pub time_to_live: Duration,
    /// How many are kept.
    pub entries: u64,
}

/// How the audit record is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audit {
    /// How often this replica looks for events to seal; `None` when it does not seal.
    pub seal_interval: Option<Duration>,
    /// How much time a partition has.
    pub partition: PartitionUnit,
}

/// Where the issuer's key set is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyLocation {
    /// Fetched.
    Url(Url),
    /// Read.
    File(PathBuf),
}

/// All problems of a configuration at once, each with its variable's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFaults(Vec<String>);

/// The environment. Bytes that are no UTF-8 are there as U+FFFD, which no setting may have: a variable that
/// cannot be read is not one that is not set.
#[must_use]
pub fn environment(name: &str) -> Option<String> {
    let value = variable(name)?;
    Some(value.to_string_lossy().into_owned())
}

/// The names of the environment.
pub fn environment_names() -> impl Iterator<Item = String> {
    let names = env::vars_os().map(|(name, _)| name);
    names.map(|name| name.to_string_lossy().into_owned())
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the environment"
)]
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// Reads what is given of one setting, which has no default here, before the others are read.
///
/// # Errors
///
/// When the text is no value of a setting.
pub fn given(
    lookup: &dyn Fn(&str) -> Option<String>,
    name: &str,
) -> Result<Option<String>, ConfigFaults> {
    let mut values = Values::new(lookup);
    let given = values.variable(name);
    values.finish(Some(given))
}

impl Config {
    /// Reads the settings of a server.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them.
    pub fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigFaults> {
        let mut values = Values::new(lookup);
        let grpc_addr = values.parsed("GRANTEX_VAULT_GRPC_ADDR");
        let http_addr = values.parsed("GRANTEX_VAULT_HTTP_ADDR");
        let admin = values.admin();
        let operators = values.operators();
        let readiness_grace = values.duration("GRANTEX_VAULT_READINESS_GRACE");
        let grpc_reflection = values.flag("GRANTEX_VAULT_GRPC_REFLECTION");
        let api_docs = values.flag("GRANTEX_VAULT_API_DOCS");
        let tls = values.tls(Listener::Public);
        let database = values.database();
        let migrate = values.flag("GRANTEX_VAULT_MIGRATE");
        let master_key = values.master_key();
        let old_master_keys = values.old_master_keys();
        let time_to_live = values.duration("GRANTEX_VAULT_DATA_KEY_CACHE_TTL");
        let entries = values.parsed("GRANTEX_VAULT_DATA_KEY_CACHE_ENTRIES");
        let kms_timeout = values.timeout("GRANTEX_VAULT_KMS_TIMEOUT");
        let aws_ca_bundle = values.aws_ca_bundle();
        let proxies = values.proxies();
        let issuer = values.issuer();
        let keys = values.keys(issuer.as_ref().map(Issuer::as_str));
        let authority = database.as_ref().map(|database| database.authority);
        let grants = values.grants(authority.unwrap_or_default());
        let webhook_signatures = values.webhook_signatures();
        let jwks_max_stale = values.duration("GRANTEX_VAULT_JWKS_MAX_STALE");
        let drain_delay = values.duration("GRANTEX_VAULT_DRAIN_DELAY");
        let otlp = values.otlp();
        let audit = values.audit();
        let limits = values.limits();
        let max_in_flight = values.max_in_flight();
        let max_connections = values.max_connections();
        let idle_timeout = values.idle_timeout();
        let trusted_proxies = values.trusted_proxies();
        let read = || {
            Some(Self {
                grpc_addr: grpc_addr?,
                http_addr: http_addr?,
                admin: admin?,
                operators: operators?,
                readiness_grace: readiness_grace?,
                grpc_reflection: grpc_reflection?,
                api_docs: api_docs?,
                tls: tls?,
                database: database?,
                migrate: migrate?,
                master_key: master_key?,
                old_master_keys: old_master_keys?,
                data_key_cache: DataKeyCache {
                    time_to_live: time_to_live?,
                    entries: entries?,
                },
                kms_timeout: kms_timeout?,
                aws_ca_bundle,
                proxies,
                issuer: issuer?,
                keys: keys?,
                grants: grants?,
                webhook_signatures: webhook_signatures?,
                jwks_max_stale: jwks_max_stale?,
                drain_delay: drain_delay?,
                otlp: otlp?,
                audit: audit?,
                limits: limits?,
                max_in_flight: max_in_flight?,
                max_connections: max_connections?,
                idle_timeout: idle_timeout?,
                trusted_proxies: trusted_proxies?,
            })
        };
        values.finish(read())
    }

    /// Who holds the master keys.
    #[must_use]
    pub fn master_keys(&self) -> MasterKeySettings {
        MasterKeySettings {
            primary: self.master_key.clone(),
            others: self.old_master_keys.clone(),
            kms_timeout: self.kms_timeout,
            aws_ca_bundle: self.aws_ca_bundle.clone(),
            proxies: self.proxies.clone(),
        }
    }
}

impl MasterKeySettings {
    /// Reads who holds the master keys: all that rotating them needs beside the database.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigFaults> {
        let mut values = Values::new(lookup);
        let primary = values.master_key();
        let others = values.old_master_keys();
        let kms_timeout = values.timeout("GRANTEX_VAULT_KMS_TIMEOUT");
        let aws_ca_bundle = values.aws_ca_bundle();
        let proxies = values.proxies();
        let read = || {
            Some(Self {
                primary: primary?,
                others: others?,
                kms_timeout: kms_timeout?,
                aws_ca_bundle,
                proxies,
            })
        };
        values.finish(read())
    }
}

impl Database {
    /// Reads where the database is: all that operator verbs need.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigFaults> {
        let mut values = Values::new(lookup);
        let database = values.database();
        values.finish(database)
    }
}

impl ImportSettings {
    /// Reads what is imported from: all that importing needs beside the vault's own settings.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigFaults> {
        let mut values = Values::new(lookup);
        let source = values.import_source();
        let key = values.required("GRANTEX_VAULT_IMPORT_KEY");
        let read = || {
            Some(Self {
                source: source?,
                key: Zeroizing::new(key?),
            })
        };
        values.finish(read())
    }
}

/// Reads how to log and trace; it is read before everything else. Of all `names` of the environment it says
/// which ones of OpenTelemetry's have no effect.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn telemetry(
    lookup: &dyn Fn(&str) -> Option<String>,
    names: impl IntoIterator<Item = String>,
) -> Result<Options, ConfigFaults> {
    let mut values = Values::new(lookup);
    let directives = values.get("RUST_LOG").unwrap_or_default();
    let foreign = values.flag("GRANTEX_VAULT_LOG_FOREIGN");
    let format = values.parsed("GRANTEX_VAULT_LOG_FORMAT");
    let otlp = values.otlp();
    let mut unknown = Vec::from_iter(names);
    unknown.retain(|name| name.starts_with("OTEL_") && !telemetry::is_honoured(name));
    unknown.sort_unstable();
    let unknown = unknown.iter();
    let unknown = unknown.map(|name| format!("{name} is ignored: it has no effect here"));
    let read = || {
        let mut otlp = otlp?;
        otlp.notes.extend(unknown);
        Some(Options {
            directives,
            foreign: foreign?,
            format: format?,
            otlp,
        })
    };
    values.finish(read())
}

/// Reads where a vault of this environment has its admin listener, and what it is secured with.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn admin(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Admin, ConfigFaults> {
    let mut values = Values::new(lookup);
    let admin = values.admin();
    values.finish(admin)
}

/// Reads the longest life of a token that is taken; `None` for any.
///
/// # Errors
///
/// When the value is no duration.
pub fn max_token_lifetime(
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Duration>, ConfigFaults> {
    let mut values = Values::new(lookup);
    let lifetime = values.max_token_lifetime();
    values.finish(lifetime)
}

/// Reads whether core dumps and debuggers are let in; it is read before everything but logging.
///
/// # Errors
///
/// When the value is neither true nor false.
pub fn core_dumps_allowed(lookup: &dyn Fn(&str) -> Option<String>) -> Result<bool, ConfigFaults> {
    let mut values = Values::new(lookup);
    let allowed = values.flag("GRANTEX_VAULT_ALLOW_CORE_DUMPS");
    values.finish(allowed)
}

// === impl ConfigFaults ===

impl ConfigFaults {
    /// Everything that was found while reading; some settings are read twice.
    fn of(found: Vec<String>) -> Self {
        let mut faults: Vec<String> = Vec::with_capacity(found.len());
        for fault in found {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        Self(faults)
    }

    /// A single problem that was found while acting on the configuration.
    #[must_use]
    pub fn one(name: &str, problem: impl fmt::Display) -> Self {
        Self(vec![format!("{name} {problem}")])
    }

    /// The problems.
    #[must_use]
    pub fn all(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is wrong:")?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for ConfigFaults {}

/// Searches `PATH` for a program.
#[must_use]
pub fn find_on_path(program: &str) -> Option<PathBuf> {
    let path = variable("PATH")?;
    let found = env::split_paths(&path).map(|directory| directory.join(program));
    found.into_iter().find(|candidate| Path::is_file(candidate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::grant_rules::AudiencePolicy;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let lookup = |name: &str| {
            let found = pairs.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Config::read(&lookup).map_err(|faults| faults.all().to_vec())
    }

    const MINIMAL: [(&str, &str); 3] = [
        ("DATABASE_URL", "postgres:///vault?host=/run/postgresql"),
        ("GRANTEX_VAULT_MASTER_KEY", "aws-kms:alias/vault"),
        ("GRANTEX_VAULT_ISSUER", "https://issuer.example.com"),
    ];

    fn with(extra: &[(&'static str, &'static str)]) -> Result<Config, Vec<String>> {
        read(&[extra, &MINIMAL].concat())
    }

    #[test]
    fn three_settings_are_enough() {
        let config = read(&MINIMAL).unwrap();
        assert_eq!(config.grpc_addr.port(), 50051);
        assert_eq!(config.http_addr.port(), 8080);
        assert!(!config.grpc_reflection);
        assert_eq!(config.master_key, MasterKey::AwsKms("alias/vault".into()));
        let jwks = "https://issuer.example.com/.well-known/jwks.json"
            .parse()
            .unwrap();
        assert_eq!(config.keys, KeyLocation::Url(jwks));
        assert_eq!(config.jwks_max_stale, Duration::from_hours(24));
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once_by_name() {
        let faults = read(&[
            ("DATABASE_URL", "mysql://canary@db"),
            ("GRANTEX_VAULT_MASTER_KEY", "vault:canary"),
            ("GRANTEX_VAULT_HTTP_ADDR", "eighty"),
            ("GRANTEX_VAULT_DB_POOL_SIZE", "0"),
            ("GRANTEX_VAULT_KMS_TIMEOUT", "soon"),
            ("GRANTEX_VAULT_AUDIENCE_MODE", "require"),
            ("GRANTEX_VAULT_GRPC_REFLECTION", "yes"),
            ("GRANTEX_VAULT_TLS_CLIENT_CA_FILE", "canary.pem"),
        ])
        .unwrap_err();
        for name in [
            "DATABASE_URL ",
            "GRANTEX_VAULT_MASTER_KEY ",
            "GRANTEX_VAULT_HTTP_ADDR ",
            "GRANTEX_VAULT_DB_POOL_SIZE ",
            "GRANTEX_VAULT_KMS_TIMEOUT ",
            "GRANTEX_VAULT_AUDIENCE_MODE ",
            "GRANTEX_VAULT_GRPC_REFLECTION ",
            "GRANTEX_VAULT_TLS_CLIENT_CA_FILE needs GRANTEX_VAULT_TLS_CERT_FILE",
            "GRANTEX_VAULT_ISSUER is required",
        ] {
            assert!(
                faults.iter().any(|fault| fault.starts_with(name)),
                "{name} in {faults:?}"
            );
        }
        assert_eq!(faults.len(), 9, "{faults:?}");
        assert!(!faults.concat().contains("canary"));
    }

    #[test]
    fn a_secret_can_come_from_a_file_but_not_from_two_places() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("url");
        std::fs::write(&path, "postgres://u:p@localhost/v\n").unwrap();
        let path = path.to_str().unwrap();
        let others = &MINIMAL[1..];
        assert!(read(&[others, &[("DATABASE_URL_FILE", path)]].concat()).is_ok());
        assert!(read(&[&MINIMAL[..], &[("DATABASE_URL_FILE", path)]].concat()).is_err());
        let missing = read(&[others, &[("DATABASE_URL_FILE", "/does/not/exist")]].concat());
        assert!(missing.unwrap_err()[0].starts_with("DATABASE_URL_FILE "));
    }

    #[test]
    fn a_newline_at_the_end_is_no_part_of_a_setting() {
        for newline in ["\n", "\r\n", "\n\n"] {
            let ended = MINIMAL.map(|(name, value)| (name, format!("{value}{newline}")));
            let mut ended: Vec<_> = ended.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let delay = format!("5s{newline}");
            ended.push(("GRANTEX_VAULT_DRAIN_DELAY", &delay));
            ended.push(("GRANTEX_VAULT_AUDIENCE", newline));
            let config = read(&ended).unwrap();
            assert_eq!(config.issuer.as_str(), "https://issuer.example.com");
            assert_eq!(config.master_key, MasterKey::AwsKms("alias/vault".into()));
            assert_eq!(config.drain_delay, Duration::from_secs(5));
            assert_eq!(config.grants.audience, AudiencePolicy::Optional(None));
        }
    }

    #[test]
    fn every_setting_with_something_that_cannot_be_seen_is_named_once() {
        let names = SETTINGS.iter().map(|setting| setting.name);
        for name in names.filter(|name| !FOR_OTHERS.contains(name)) {
            for value in ["canary\u{1b}[0m", "ca\nnary", " canary", "\u{FEFF}canary"] {
                let others: Vec<_> = MINIMAL.into_iter().filter(|(n, _)| *n != name).collect();
                let faults = read(&[&others, &[(name, value)][..]].concat()).unwrap_err();
                let of_it = |fault: &&String| {
                    fault.starts_with(&format!("{name} contains "))
                        || fault.starts_with(&format!("{name} begins "))
                };
                assert_eq!(
                    faults.iter().filter(of_it).count(),
                    1,
                    "{name}={value:?}: {faults:?}"
                );
                assert!(!faults.concat().contains("canary"), "{faults:?}");
            }
        }
    }

    /// Those that a server does not read with its configuration.
    const FOR_OTHERS: [&str; 5] = [
        "RUST_LOG",
        "GRANTEX_VAULT_PG_BIN",
        "GRANTEX_VAULT_ALLOW_CORE_DUMPS",
        "GRANTEX_VAULT_LOG_FORMAT",
        "GRANTEX_VAULT_LOG_FOREIGN",
    ];

    #[test]
    fn a_file_may_hold_what_a_secret_of_kubernetes_does() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let key = file("key", b"aws-kms:alias/of-file\n");
        let issuer = file("issuer", b"https://of.file\r\n");
        let from = |key: &str, issuer: &str| {
            read(&[
                MINIMAL[0],
                ("GRANTEX_VAULT_MASTER_KEY_FILE", key),
                ("GRANTEX_VAULT_ISSUER_FILE", issuer),
            ])
        };
        let config = from(&key, &issuer).unwrap();
        assert_eq!(config.master_key, MasterKey::AwsKms("alias/of-file".into()));
        assert_eq!(config.issuer.as_str(), "https://of.file");
        assert!(from(&key, &format!("{issuer}\n")).is_ok());
        let faults = from(&file("empty", b"\n"), &file("tab", b"https://\tx")).unwrap_err();
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].starts_with("GRANTEX_VAULT_MASTER_KEY_FILE names "));
        assert!(faults[0].ends_with(", which is empty"), "{faults:?}");
        assert!(faults[1].starts_with("GRANTEX_VAULT_ISSUER_FILE names "));
        assert!(faults[1].ends_with("U+0009"), "{faults:?}");
    }

    #[test]
    fn the_key_set_has_one_place() {
        assert!(
            with(&[
                ("GRANTEX_VAULT_JWKS_URL", "https://a/x"),
                ("GRANTEX_VAULT_JWKS_FILE", "f")
            ])
            .is_err()
        );
        let file = with(&[("GRANTEX_VAULT_JWKS_FILE", "f")]).unwrap();
        assert_eq!(file.keys, KeyLocation::File("f".into()));
        let opaque = with(&[("GRANTEX_VAULT_ISSUER", "grantex")]).unwrap_err();
        assert!(
            opaque[0].starts_with("GRANTEX_VAULT_JWKS_URL "),
            "{opaque:?}"
        );
    }

    #[test]
    fn a_certificate_and_its_key_go_together() {
        const CERTIFICATE: (&str, &str) = ("GRANTEX_VAULT_TLS_CERT_FILE", "cert.pem");
        const KEY: (&str, &str) = ("GRANTEX_VAULT_TLS_KEY_FILE", "key.pem");
        const CLIENT_CA: (&str, &str) = ("GRANTEX_VAULT_TLS_CLIENT_CA_FILE", "ca.pem");
        assert_eq!(with(&[]).unwrap().tls, None);
        let both = with(&[CERTIFICATE, KEY]).unwrap().tls.unwrap();
        assert_eq!(both.client_ca, None);
        let all = with(&[CERTIFICATE, KEY, CLIENT_CA]).unwrap().tls.unwrap();
        assert_eq!(all.client_ca, Some("ca.pem".into()));
        for (given, named) in [
            (&[CERTIFICATE][..], KEY.0),
            (&[CERTIFICATE, CLIENT_CA], KEY.0),
            (&[KEY], CERTIFICATE.0),
            (&[KEY, CLIENT_CA], CERTIFICATE.0),
            (&[CLIENT_CA], CLIENT_CA.0),
        ] {
            let faults = with(given).unwrap_err();
            assert_eq!(faults.len(), 1, "{given:?}");
            assert!(faults[0].starts_with(&format!("{named} ")), "{faults:?}");
        }
    }

    #[test]
    fn connections_may_be_idle_for_a_second_to_a_day() {
        let idle = |text| with(&[("GRANTEX_VAULT_IDLE_TIMEOUT", text)]);
        assert_eq!(with(&[]).unwrap().idle_timeout, Duration::from_mins(11));
        assert_eq!(idle("1s").unwrap().idle_timeout, Duration::from_secs(1));
        for text in ["0", "999ms", "25h", "soon"] {
            let faults = idle(text).unwrap_err();
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].starts_with("GRANTEX_VAULT_IDLE_TIMEOUT must be "));
        }
    }

    #[test]
    fn durations_have_units_but_zero_needs_none() {
        let delay =
            |text| with(&[("GRANTEX_VAULT_DRAIN_DELAY", text)]).map(|config| config.drain_delay);
        assert_eq!(delay("0"), Ok(Duration::ZERO));
        assert_eq!(delay("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(delay("2m"), Ok(Duration::from_mins(2)));
        assert!(delay("-1s").is_err());
        assert!(delay("10").is_err());
    }
}
