//! The settings: every one an environment variable, read here and nowhere else.

mod settings;

use std::{
    env, fmt, fs,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use jiff::SignedDuration;
use url::Url;

use crate::{
    auth::grant::AudiencePolicy,
    limits::PerMinute,
    listener::tls::TlsFiles,
    store::{database_url::DatabaseUrl, serving_role::RoleName},
    telemetry::Options,
};

pub use settings::{SETTINGS, Setting};

/// More requests than anybody has under way.
const MAX_IN_FLIGHT: usize = 1_000_000;

/// Everything that `serve` needs.
#[derive(Debug, Clone)]
#[expect(
    missing_docs,
    reason = "each field is described in the table of settings"
)]
pub struct Config {
    pub grpc_addr: SocketAddr,
    pub http_addr: SocketAddr,
    pub admin_addr: SocketAddr,
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
    pub issuer: String,
    pub keys: KeyLocation,
    pub audience: AudiencePolicy,
    pub jwks_max_stale: Duration,
    pub drain_delay: Duration,
    pub otlp_endpoint: Option<String>,
    pub limits: PerMinute,
    pub max_in_flight: usize,
    pub trusted_proxies: Vec<IpNet>,
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
}

/// Who holds the master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MasterKey {
    /// AWS KMS: a key id, an ARN, or `alias/…`.
    AwsKms(String),
    /// A keyring file.
    Local(PathBuf),
}

/// Who holds the master keys, and how long a call to one may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterKeySettings {
    /// The key that wraps.
    pub primary: MasterKey,
    /// Every other key that may be read.
    pub others: Vec<MasterKey>,
    /// The time.
    pub kms_timeout: Duration,
}

/// How data keys are kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataKeyCache {
    /// How long one may be used; zero is not at all.
    pub time_to_live: Duration,
    /// How many are kept.
    pub entries: u64,
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

/// Where values come from: flags, the environment, files; `dev` puts its own behind them.
pub struct Values<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    faults: Vec<String>,
}

/// The environment.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the environment"
)]
pub fn environment(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
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
        let admin_addr = values.parsed("GRANTEX_VAULT_ADMIN_ADDR");
        let readiness_grace = values.duration("GRANTEX_VAULT_READINESS_GRACE");
        let grpc_reflection = values.flag("GRANTEX_VAULT_GRPC_REFLECTION");
        let api_docs = values.flag("GRANTEX_VAULT_API_DOCS");
        let tls = values.tls();
        let database = values.database();
        let migrate = values.flag("GRANTEX_VAULT_MIGRATE");
        let master_key = values.master_key();
        let old_master_keys = values.old_master_keys();
        let time_to_live = values.duration("GRANTEX_VAULT_DATA_KEY_CACHE_TTL");
        let entries = values.parsed("GRANTEX_VAULT_DATA_KEY_CACHE_ENTRIES");
        let kms_timeout = values.timeout("GRANTEX_VAULT_KMS_TIMEOUT");
        let issuer = values.required("GRANTEX_VAULT_ISSUER");
        let keys = values.keys(issuer.as_deref());
        let audience = values.audience();
        let jwks_max_stale = values.duration("GRANTEX_VAULT_JWKS_MAX_STALE");
        let drain_delay = values.duration("GRANTEX_VAULT_DRAIN_DELAY");
        let otlp_endpoint = values.otlp_endpoint();
        let limits = values.limits();
        let max_in_flight = values.max_in_flight();
        let trusted_proxies = values.trusted_proxies();
        let read = || {
            Some(Self {
                grpc_addr: grpc_addr?,
                http_addr: http_addr?,
                admin_addr: admin_addr?,
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
                issuer: issuer?,
                keys: keys?,
                audience: audience?,
                jwks_max_stale: jwks_max_stale?,
                drain_delay: drain_delay?,
                otlp_endpoint,
                limits: limits?,
                max_in_flight: max_in_flight?,
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
        let read = || {
            Some(Self {
                primary: primary?,
                others: others?,
                kms_timeout: kms_timeout?,
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

/// Reads how to log and trace; it is read before everything else.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn telemetry(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Options, ConfigFaults> {
    let mut values = Values::new(lookup);
    let directives = values.get("RUST_LOG").unwrap_or_default();
    let foreign = values.flag("GRANTEX_VAULT_LOG_FOREIGN");
    let format = values.parsed("GRANTEX_VAULT_LOG_FORMAT");
    let otlp_endpoint = values.otlp_endpoint();
    let read = || {
        Some(Options {
            directives,
            foreign: foreign?,
            format: format?,
            otlp_endpoint,
        })
    };
    values.finish(read())
}

/// Reads where a vault of this environment has its admin listener.
///
/// # Errors
///
/// When the value is no address.
pub fn admin_addr(lookup: &dyn Fn(&str) -> Option<String>) -> Result<SocketAddr, ConfigFaults> {
    let mut values = Values::new(lookup);
    let address = values.parsed("GRANTEX_VAULT_ADMIN_ADDR");
    values.finish(address)
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

// === impl Values ===

impl<'a> Values<'a> {
    fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            lookup,
            faults: Vec::new(),
        }
    }

    fn finish<T>(self, read: Option<T>) -> Result<T, ConfigFaults> {
        match read {
            Some(read) if self.faults.is_empty() => Ok(read),
            _ => Err(ConfigFaults(self.faults)),
        }
    }

    fn fault<T>(&mut self, name: &str, problem: impl fmt::Display) -> Option<T> {
        self.faults.push(format!("{name} {problem}"));
        None
    }

    /// The value, its file's content when it is a secret with a `_FILE` twin, or its default.
    fn get(&mut self, name: &'static str) -> Option<String> {
        let setting = SETTINGS.iter().find(|setting| setting.name == name);
        let setting = setting.expect("every setting that is read is in the table");
        let twin = format!("{name}_FILE");
        let file = setting.secret.then(|| (self.lookup)(&twin)).flatten();
        let value = (self.lookup)(name).filter(|value| !value.is_empty());
        match (value, file) {
            (Some(_), Some(_)) => self.fault(name, format_args!("and {twin} are both set")),
            (Some(value), None) => Some(value),
            (None, Some(path)) => match fs::read_to_string(&path) {
                Ok(content) => Some(content.trim_end_matches(['\r', '\n']).to_owned()),
                Err(error) => self.fault(&twin, format_args!("names {path}: {error}")),
            },
            (None, None) => setting.default.map(str::to_owned),
        }
    }

    fn required(&mut self, name: &'static str) -> Option<String> {
        let before = self.faults.len();
        let value = self.get(name);
        if value.is_none() && self.faults.len() == before {
            return self.fault(name, "is required");
        }
        value
    }

    fn parsed<T: std::str::FromStr<Err: fmt::Display>>(&mut self, name: &'static str) -> Option<T> {
        let value = self.required(name)?;
        value.parse().map_or_else(
            |error| self.fault(name, format_args!("is wrong: {error}")),
            Some,
        )
    }

    fn flag(&mut self, name: &'static str) -> Option<bool> {
        match self.required(name)?.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => self.fault(name, "must be true or false"),
        }
    }

    fn duration(&mut self, name: &'static str) -> Option<Duration> {
        let text = self.required(name)?;
        // A bare zero needs no unit.
        let text = if text == "0" { "0s" } else { &text };
        let duration = text.parse::<SignedDuration>().ok();
        duration
            .and_then(|duration| Duration::try_from(duration).ok())
            .map_or_else(
                || self.fault(name, "must be a duration such as 500ms, 5s, 2m or 24h"),
                Some,
            )
    }

    fn timeout(&mut self, name: &'static str) -> Option<Duration> {
        match self.duration(name)? {
            Duration::ZERO => self.fault(name, "must be more than 0"),
            timeout => Some(timeout),
        }
    }

    fn database(&mut self) -> Option<Database> {
        let url = self.required("DATABASE_URL");
        let url = url.and_then(|url| self.database_url("DATABASE_URL", &url));
        let direct = self.get("GRANTEX_VAULT_MIGRATE_DATABASE_URL");
        let migrate_url = match direct {
            Some(direct) => self.database_url("GRANTEX_VAULT_MIGRATE_DATABASE_URL", &direct),
            None => url.clone(),
        };
        let pool_size = match self.parsed("GRANTEX_VAULT_DB_POOL_SIZE") {
            Some(0) => self.fault("GRANTEX_VAULT_DB_POOL_SIZE", "must be at least 1"),
            size => size,
        };
        let role = match self.get("GRANTEX_VAULT_DB_ROLE") {
            Some(_) => self.parsed("GRANTEX_VAULT_DB_ROLE").map(Some),
            None => Some(None),
        };
        Some(Database {
            url: url?,
            migrate_url: migrate_url?,
            pool_size: pool_size?,
            role: role?,
        })
    }

    fn database_url(&mut self, name: &str, url: &str) -> Option<DatabaseUrl> {
        url.parse()
            .map_or_else(|fault| self.fault(name, fault), Some)
    }

    fn master_key(&mut self) -> Option<MasterKey> {
        const NAME: &str = "GRANTEX_VAULT_MASTER_KEY";
        let uri = self.required(NAME)?;
        self.master_key_uri(NAME, &uri)
    }

    fn old_master_keys(&mut self) -> Option<Vec<MasterKey>> {
        const NAME: &str = "GRANTEX_VAULT_OLD_MASTER_KEYS";
        let uris = self.get(NAME).unwrap_or_default();
        let uris = uris.split(',').map(str::trim).filter(|uri| !uri.is_empty());
        uris.map(|uri| self.master_key_uri(NAME, uri)).collect()
    }

    fn master_key_uri(&mut self, name: &str, uri: &str) -> Option<MasterKey> {
        match uri.split_once(':') {
            Some(("aws-kms", key)) if !key.is_empty() => Some(MasterKey::AwsKms(key.to_owned())),
            Some(("local", path)) if !path.is_empty() => Some(MasterKey::Local(path.into())),
            _ => self.fault(
                name,
                "must be aws-kms:<key id, ARN or alias/…> or local:<file>",
            ),
        }
    }

    /// Whether the files can be used is checked by who reads them.
    #[expect(
        clippy::option_option,
        reason = "not readable, as everywhere here; and read, that there is none"
    )]
    fn tls(&mut self) -> Option<Option<TlsFiles>> {
        const CERTIFICATE: &str = "GRANTEX_VAULT_TLS_CERT_FILE";
        const KEY: &str = "GRANTEX_VAULT_TLS_KEY_FILE";
        const CLIENT_CA: &str = "GRANTEX_VAULT_TLS_CLIENT_CA_FILE";
        let (certificate, key) = (self.get(CERTIFICATE), self.get(KEY));
        let client_ca = self.get(CLIENT_CA);
        match (certificate, key, client_ca) {
            (Some(certificate), Some(key), client_ca) => Some(Some(TlsFiles {
                certificate: certificate.into(),
                key: key.into(),
                client_ca: client_ca.map(PathBuf::from),
            })),
            (Some(_), None, _) => self.fault(KEY, format_args!("is required beside {CERTIFICATE}")),
            (None, Some(_), _) => self.fault(CERTIFICATE, format_args!("is required beside {KEY}")),
            (None, None, Some(_)) => {
                self.fault(CLIENT_CA, format_args!("needs {CERTIFICATE} and {KEY}"))
            }
            (None, None, None) => Some(None),
        }
    }

    fn keys(&mut self, issuer: Option<&str>) -> Option<KeyLocation> {
        const URL: &str = "GRANTEX_VAULT_JWKS_URL";
        let (url, file) = (self.get(URL), self.get("GRANTEX_VAULT_JWKS_FILE"));
        let url = match (url, file) {
            (Some(_), Some(_)) => {
                return self.fault(URL, "and GRANTEX_VAULT_JWKS_FILE are both set");
            }
            (None, Some(path)) => return Some(KeyLocation::File(path.into())),
            (Some(url), None) => url,
            (None, None) => format!("{}/.well-known/jwks.json", issuer?.trim_end_matches('/')),
        };
        match Url::parse(&url) {
            Ok(url) if url.has_host() => Some(KeyLocation::Url(url)),
            _ => self.fault(
                URL,
                "must be a URL; it follows from GRANTEX_VAULT_ISSUER only when that is one",
            ),
        }
    }

    fn limits(&mut self) -> Option<PerMinute> {
        let mut limit = |name| self.parsed(name).map(NonZeroU32::new);
        let exchanges_per_grant = limit("GRANTEX_VAULT_LIMIT_EXCHANGE_PER_GRANT");
        let requests_per_developer = limit("GRANTEX_VAULT_LIMIT_REQUESTS_PER_DEVELOPER");
        let failed_auth_per_address = limit("GRANTEX_VAULT_LIMIT_FAILED_AUTH_PER_ADDRESS");
        Some(PerMinute {
            exchanges_per_grant: exchanges_per_grant?,
            requests_per_developer: requests_per_developer?,
            failed_auth_per_address: failed_auth_per_address?,
        })
    }

    fn max_in_flight(&mut self) -> Option<usize> {
        const NAME: &str = "GRANTEX_VAULT_MAX_IN_FLIGHT";
        match self.parsed(NAME)? {
            many @ 1..=MAX_IN_FLIGHT => Some(many),
            _ => self.fault(NAME, format_args!("must be 1 to {MAX_IN_FLIGHT}")),
        }
    }

    fn trusted_proxies(&mut self) -> Option<Vec<IpNet>> {
        const NAME: &str = "GRANTEX_VAULT_TRUSTED_PROXIES";
        let text = self.get(NAME).unwrap_or_default();
        let networks = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        let networks = networks.map(|one| {
            let network = one.parse::<IpNet>().ok();
            network.or_else(|| one.parse().ok().map(IpAddr::into))
        });
        let networks: Option<Vec<IpNet>> = networks.collect();
        networks.or_else(|| self.fault(NAME, "must be addresses or networks such as 10.0.0.0/8"))
    }

    fn otlp_endpoint(&mut self) -> Option<String> {
        const NAME: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        let endpoint = self.get(NAME)?;
        match Url::parse(&endpoint) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(endpoint),
            _ => self.fault(NAME, "must be an http or https URL"),
        }
    }

    fn audience(&mut self) -> Option<AudiencePolicy> {
        const MODE: &str = "GRANTEX_VAULT_AUDIENCE_MODE";
        let audience = self.get("GRANTEX_VAULT_AUDIENCE");
        match (self.required(MODE)?.as_str(), audience) {
            ("optional", None) => Some(AudiencePolicy::Any),
            ("optional", Some(audience)) => Some(AudiencePolicy::IfPresent(audience)),
            ("require", Some(audience)) => Some(AudiencePolicy::Required(audience)),
            ("require", None) => self.fault(MODE, "is require, which needs GRANTEX_VAULT_AUDIENCE"),
            _ => self.fault(MODE, "must be optional or require"),
        }
    }
}

// === impl ConfigFaults ===

impl ConfigFaults {
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
    let path = environment("PATH")?;
    let found = env::split_paths(&path).map(|directory| directory.join(program));
    found.into_iter().find(|candidate| Path::is_file(candidate))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(config.grpc_reflection);
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
        fs::write(&path, "postgres://u:p@localhost/v\n").unwrap();
        let path = path.to_str().unwrap();
        let others = &MINIMAL[1..];
        assert!(read(&[others, &[("DATABASE_URL_FILE", path)]].concat()).is_ok());
        assert!(read(&[&MINIMAL[..], &[("DATABASE_URL_FILE", path)]].concat()).is_err());
        let missing = read(&[others, &[("DATABASE_URL_FILE", "/does/not/exist")]].concat());
        assert!(missing.unwrap_err()[0].starts_with("DATABASE_URL_FILE "));
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
