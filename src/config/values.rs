//! Reading the values of settings: each parsed, every fault kept.

use std::{
    fmt, fs,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use jiff::SignedDuration;
use url::Url;

use super::{
    Admin, Audit, ConfigFaults, Database, KeyLocation, MasterKey, Operators, SETTINGS,
    settings::IMPORT_SETTINGS, text,
};
use crate::{
    auth::{
        grant_rules::{AudiencePolicy, GrantPolicy},
        webhook,
    },
    listener::tls::{Listener, TlsFile, TlsFiles},
    model::{certificate::CertificateName, text::Issuer},
    store::{authority::Authority, database_url::DatabaseUrl, schema::Durability},
};

/// How often it makes sense to seal.
const SEAL_INTERVALS: RangeInclusive<Duration> =
    Duration::from_millis(50)..=Duration::from_hours(1);

/// Where values come from: flags, the environment, files; `dev` puts its own behind them.
pub(super) struct Values<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    faults: Vec<String>,
}

// === impl Values ===

impl<'a> Values<'a> {
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            lookup,
            faults: Vec::new(),
        }
    }

    pub(super) fn finish<T>(self, read: Option<T>) -> Result<T, ConfigFaults> {
        match read {
            Some(read) if self.faults.is_empty() => Ok(read),
            _ => Err(ConfigFaults::of(self.faults)),
        }
    }

    pub(super) fn fault<T>(&mut self, name: &str, problem: impl fmt::Display) -> Option<T> {
        self.faults.push(format!("{name} {problem}"));
        None
    }

    /// The value, its file's content when a variable names one, or its default.
    pub(super) fn get(&mut self, name: &'static str) -> Option<String> {
        let mut settings = SETTINGS.iter().chain(&IMPORT_SETTINGS);
        let setting = settings.find(|setting| setting.name == name);
        let setting = setting.expect("every setting that is read is in the table");
        let value = self.variable(name);
        let Some(twin) = setting.file_variable() else {
            return value.or_else(|| setting.default.map(str::to_owned));
        };
        match (value, self.variable(&twin)) {
            (Some(_), Some(_)) => self.fault(name, format_args!("and {twin} are both set")),
            (None, Some(path)) => self.content(&twin, &path),
            (value, None) => value.or_else(|| setting.default.map(str::to_owned)),
        }
    }

    /// What a flag or a variable says; one that is empty says nothing.
    pub(super) fn variable(&mut self, name: &str) -> Option<String> {
        let value = text::without_newlines((self.lookup)(name)?);
        let value = match text::check(&value) {
            Ok(()) => value,
            Err(error) => {
                self.faults.push(format!("{name} {error}"));
                text::visible(&value)
            }
        };
        (!value.is_empty()).then_some(value)
    }

    /// What the file says that a variable names.
    fn content(&mut self, twin: &str, path: &str) -> Option<String> {
        let content = match fs::read_to_string(path) {
            Ok(content) => text::without_newlines(content),
            Err(error) => return self.fault(twin, format_args!("names {path}: {error}")),
        };
        if content.is_empty() {
            return self.fault(twin, format_args!("names {path}, which is empty"));
        }
        match text::check(&content) {
            Ok(()) => Some(content),
            Err(error) => {
                self.faults
                    .push(format!("{twin} names {path}, which {error}"));
                Some(text::visible(&content))
            }
        }
    }

    pub(super) fn required(&mut self, name: &'static str) -> Option<String> {
        let before = self.faults.len();
        let value = self.get(name);
        if value.is_none() && self.faults.len() == before {
            return self.fault(name, "is required");
        }
        value
    }

    pub(super) fn parsed<T: std::str::FromStr<Err: fmt::Display>>(
        &mut self,
        name: &'static str,
    ) -> Option<T> {
        let value = self.required(name)?;
        value.parse().map_or_else(
            |error| self.fault(name, format_args!("is wrong: {error}")),
            Some,
        )
    }

    pub(super) fn flag(&mut self, name: &'static str) -> Option<bool> {
        match self.required(name)?.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => self.fault(name, "must be true or false"),
        }
    }

    pub(super) fn duration(&mut self, name: &'static str) -> Option<Duration> {
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

    pub(super) fn timeout(&mut self, name: &'static str) -> Option<Duration> {
        match self.duration(name)? {
            Duration::ZERO => self.fault(name, "must be more than 0"),
            timeout => Some(timeout),
        }
    }

    pub(super) fn database(&mut self) -> Option<Database> {
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
        let authority = self.parsed("GRANTEX_VAULT_AUTHORITY");
        let durability = match self.flag("GRANTEX_VAULT_STORAGE_IS_DURABLE") {
            Some(true) => Some(Durability::OfStorage),
            Some(false) => Some(Durability::Required),
            None => None,
        };
        Some(Database {
            url: url?,
            migrate_url: migrate_url?,
            pool_size: pool_size?,
            role: role?,
            durability: durability?,
            authority: authority?,
        })
    }

    pub(super) fn audit(&mut self) -> Option<Audit> {
        const INTERVAL: &str = "GRANTEX_VAULT_AUDIT_SEAL_INTERVAL";
        let seal_interval = match self.duration(INTERVAL) {
            Some(Duration::ZERO) => Some(None),
            Some(interval) if SEAL_INTERVALS.contains(&interval) => Some(Some(interval)),
            Some(_) => self.fault(INTERVAL, "must be 0 or 50ms to 1h"),
            None => None,
        };
        let partition = self.parsed("GRANTEX_VAULT_AUDIT_PARTITION");
        Some(Audit {
            seal_interval: seal_interval?,
            partition: partition?,
        })
    }

    pub(super) fn import_source(&mut self) -> Option<DatabaseUrl> {
        const NAME: &str = "GRANTEX_VAULT_IMPORT_SOURCE";
        let url = self.required(NAME)?;
        self.database_url(NAME, &url)
    }

    /// One that came from a file is read again there.
    fn database_url(&mut self, name: &str, url: &str) -> Option<DatabaseUrl> {
        let parsed: Option<DatabaseUrl> = url
            .parse()
            .map_or_else(|fault| self.fault(name, fault), Some);
        let file = self.variable(&format!("{name}_FILE"));
        parsed.map(|url| match file {
            Some(file) => url.kept_in(Path::new(&file)),
            None => url,
        })
    }

    pub(super) fn master_key(&mut self) -> Option<MasterKey> {
        const NAME: &str = "GRANTEX_VAULT_MASTER_KEY";
        let uri = self.required(NAME)?;
        self.master_key_uri(NAME, &uri)
    }

    pub(super) fn old_master_keys(&mut self) -> Option<Vec<MasterKey>> {
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
    pub(super) fn tls(&mut self, listener: Listener) -> Option<Option<TlsFiles>> {
        let setting = |file| listener.setting(file);
        let (certificate_name, key_name) = (setting(TlsFile::Certificate), setting(TlsFile::Key));
        let client_ca_name = setting(TlsFile::ClientCa);
        let (certificate, key) = (self.get(certificate_name), self.get(key_name));
        let client_ca = match listener {
            Listener::Admin => None,
            Listener::Public | Listener::Operators => self.get(client_ca_name),
        };
        match (certificate, key, client_ca) {
            (Some(certificate), Some(key), client_ca) => Some(Some(TlsFiles {
                certificate: certificate.into(),
                key: key.into(),
                client_ca: client_ca.map(PathBuf::from),
                listener,
            })),
            (Some(_), None, _) => self.fault(
                key_name,
                format_args!("is required beside {certificate_name}"),
            ),
            (None, Some(_), _) => self.fault(
                certificate_name,
                format_args!("is required beside {key_name}"),
            ),
            (None, None, Some(_)) => {
                let needs = format_args!("needs {certificate_name} and {key_name}");
                self.fault(client_ca_name, needs)
            }
            (None, None, None) => Some(None),
        }
    }

    pub(super) fn admin(&mut self) -> Option<Admin> {
        let address = self.parsed("GRANTEX_VAULT_ADMIN_ADDR");
        let tls = self.tls(Listener::Admin);
        Some(Admin {
            address: address?,
            tls: tls?,
        })
    }

    /// Operators need an address, something to be known by, and TLS unless nobody else can listen.
    #[expect(
        clippy::option_option,
        reason = "not readable, as everywhere here; and read, that there is none"
    )]
    pub(super) fn operators(&mut self) -> Option<Option<Operators>> {
        const ADDRESS: &str = "GRANTEX_VAULT_OPERATOR_ADDR";
        const TOKEN_FILE: &str = "GRANTEX_VAULT_OPERATOR_TOKEN_FILE";
        const CERTIFICATE: &str = "GRANTEX_VAULT_OPERATOR_TLS_CERT_FILE";
        const CLIENT_CA: &str = "GRANTEX_VAULT_OPERATOR_TLS_CLIENT_CA_FILE";
        const NAMES: &str = "GRANTEX_VAULT_OPERATOR_SANS";
        let token_file = self.get(TOKEN_FILE).map(PathBuf::from);
        let tls = self.tls(Listener::Operators);
        let names = self.operator_names(NAMES);
        if self.get(ADDRESS).is_none() {
            let needless = [
                (token_file.is_some(), TOKEN_FILE),
                (tls.as_ref().is_none_or(Option::is_some), CERTIFICATE),
                (names.as_ref().is_none_or(|names| !names.is_empty()), NAMES),
            ];
            return match needless.into_iter().find(|(is_set, _)| *is_set) {
                Some((_, name)) => self.fault(name, format_args!("needs {ADDRESS}")),
                None => Some(None),
            };
        }
        let address: SocketAddr = self.parsed(ADDRESS)?;
        let (tls, names) = (tls?, names?);
        let client_ca = tls.as_ref().and_then(|files| files.client_ca.as_ref());
        if token_file.is_none() && client_ca.is_none() {
            let needs = format_args!("needs {TOKEN_FILE} or {CLIENT_CA}: no operator can be known");
            return self.fault(ADDRESS, needs);
        }
        if client_ca.is_some() && names.is_empty() {
            let beside = format_args!(
                "is required beside {CLIENT_CA}: not every certificate of an authority is an operator's"
            );
            return self.fault(NAMES, beside);
        }
        if client_ca.is_none() && !names.is_empty() {
            return self.fault(NAMES, format_args!("needs {CLIENT_CA}"));
        }
        if tls.is_none() && !address.ip().is_loopback() {
            let needs = format_args!(
                "needs {CERTIFICATE}: in clear the token is for a loopback {ADDRESS} only"
            );
            return self.fault(TOKEN_FILE, needs);
        }
        Some(Some(Operators {
            address,
            token_file,
            names,
            tls,
        }))
    }

    fn operator_names(&mut self, name: &'static str) -> Option<Vec<CertificateName>> {
        let text = self.get(name).unwrap_or_default();
        let names = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        let names: Result<_, _> = names.map(str::parse).collect();
        names.map_or_else(
            |rule| self.fault(name, format_args!("is wrong: {rule}")),
            Some,
        )
    }

    pub(super) fn issuer(&mut self) -> Option<Issuer> {
        const NAME: &str = "GRANTEX_VAULT_ISSUER";
        let text = self.required(NAME)?;
        Issuer::parse(&text).map_or_else(|rule| self.fault(NAME, rule), Some)
    }

    pub(super) fn keys(&mut self, issuer: Option<&str>) -> Option<KeyLocation> {
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

    pub(super) fn trusted_proxies(&mut self) -> Option<Vec<IpNet>> {
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

    pub(super) fn grants(&mut self, authority: Authority) -> Option<GrantPolicy> {
        let audience = self.audience();
        let depth = self.parsed("GRANTEX_VAULT_MAX_DELEGATION_DEPTH");
        let lifetime = self.max_token_lifetime();
        let scope_mode = self.parsed("GRANTEX_VAULT_SCOPE_MODE");
        let depth = depth?;
        Some(GrantPolicy {
            audience: audience?,
            max_delegation_depth: (authority == Authority::Standalone).then_some(depth),
            max_token_lifetime: lifetime?,
            scope_mode: scope_mode?,
        })
    }

    pub(super) fn webhook_signatures(&mut self) -> Option<webhook::Accepted> {
        let plain_too = self.flag("GRANTEX_VAULT_WEBHOOK_ALLOW_LEGACY_SIGNATURE")?;
        Some(if plain_too {
            webhook::Accepted::PlainToo
        } else {
            webhook::Accepted::WithTime
        })
    }

    #[expect(
        clippy::option_option,
        reason = "the outer one is whether it can be read, as everywhere here"
    )]
    pub(super) fn max_token_lifetime(&mut self) -> Option<Option<Duration>> {
        let lifetime = self.duration("GRANTEX_VAULT_MAX_TOKEN_LIFETIME")?;
        Some((!lifetime.is_zero()).then_some(lifetime))
    }

    fn audience(&mut self) -> Option<AudiencePolicy> {
        const MODE: &str = "GRANTEX_VAULT_AUDIENCE_MODE";
        let audience = self.get("GRANTEX_VAULT_AUDIENCE");
        match (self.required(MODE)?.as_str(), audience) {
            ("optional", audience) => Some(AudiencePolicy::Optional(audience)),
            ("require", Some(audience)) => Some(AudiencePolicy::Required(audience)),
            ("require", None) => self.fault(MODE, "is require, which needs GRANTEX_VAULT_AUDIENCE"),
            ("off", _) => Some(AudiencePolicy::Unchecked),
            _ => self.fault(MODE, "must be optional, require or off"),
        }
    }
}
