//! The parameters of a URL, by the documentation of libpq (section 34.1.2, *Parameter Key Words*): each is
//! honoured, or ignored because it cannot matter here, or refused by its name with what to do instead.

use std::{path::PathBuf, str::FromStr, time::Duration};

use tokio_postgres::{
    Config,
    config::{ChannelBinding, SslNegotiation, TargetSessionAttrs},
};

use super::{DatabaseUrlFault, Roots};

/// The longest time that one host may be given.
const MAX_CONNECT_TIMEOUT: u64 = 30;

/// What a URL says beside where the database is.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    /// `port`: of all hosts, or of each.
    pub(super) ports: Vec<u16>,
    /// `sslmode`.
    pub(super) mode: Option<String>,
    /// `sslrootcert`.
    pub(super) roots: Roots,
    /// `sslcert`.
    pub(super) certificate: Option<PathBuf>,
    /// `sslkey`.
    pub(super) key: Option<PathBuf>,
    /// `sslsni`, which is on unless this says otherwise.
    pub(super) no_server_name: bool,
    /// `ssl_min_protocol_version` is 1.3.
    pub(super) tls13_only: bool,
    /// `passfile`.
    pub(super) passfile: Option<PathBuf>,
    /// `connect_timeout`: for each host.
    pub(super) connect_timeout: Option<Duration>,
    /// `load_balance_hosts` is `random`.
    pub(super) any_host_first: bool,
    /// `target_session_attrs`.
    pub(super) session: Option<TargetSessionAttrs>,
    application_name: Option<String>,
    fallback_application_name: Option<String>,
    negotiation: Option<SslNegotiation>,
    channel_binding: Option<ChannelBinding>,
    keepalives: Option<bool>,
    keepalives_idle: Option<Duration>,
    keepalives_interval: Option<Duration>,
    keepalives_count: Option<u32>,
    tcp_user_timeout: Option<Duration>,
}

type Read = Result<(), DatabaseUrlFault>;

impl Parameters {
    /// Takes a parameter; answers whether it is one that says where the database is, and is left to
    /// tokio-postgres.
    pub(super) fn take(&mut self, name: &str, value: &str) -> Result<bool, DatabaseUrlFault> {
        let of_the_place = matches!(
            name,
            "user" | "password" | "dbname" | "options" | "host" | "hostaddr"
        );
        if !of_the_place {
            self.take_other(name, value)?;
        }
        Ok(of_the_place)
    }

    fn take_other(&mut self, name: &str, value: &str) -> Read {
        let wrong = |rule| Err(DatabaseUrlFault::wrong(name, rule));
        match (name, value) {
            ("sslmode", _) => self.mode = Some(value.to_owned()),
            ("sslrootcert", "system") => self.roots = Roots::System,
            ("sslrootcert", path) => self.roots = Roots::File(path.into()),
            ("sslcert", path) => self.certificate = Some(path.into()),
            ("sslkey", path) => self.key = Some(path.into()),
            ("sslsni", "0" | "1") => self.no_server_name = value == "0",
            ("sslsni", _) => return wrong("must be 0 or 1"),
            ("sslnegotiation", "postgres") => self.negotiation = Some(SslNegotiation::Postgres),
            ("sslnegotiation", "direct") => self.negotiation = Some(SslNegotiation::Direct),
            ("sslnegotiation", _) => return wrong("must be postgres or direct"),
            ("ssl_min_protocol_version", "TLSv1.3") => self.tls13_only = true,
            // There is nothing older than 1.2.
            ("ssl_min_protocol_version", "TLSv1" | "TLSv1.1" | "TLSv1.2")
            | ("ssl_max_protocol_version", "" | "TLSv1.3") => {}
            ("ssl_min_protocol_version" | "ssl_max_protocol_version", _) => {
                return wrong("must leave TLSv1.2 or TLSv1.3 possible, TLSv1.3 as the highest");
            }
            ("channel_binding", "disable") => self.channel_binding = Some(ChannelBinding::Disable),
            ("channel_binding", "prefer") => self.channel_binding = Some(ChannelBinding::Prefer),
            ("channel_binding", "require") => self.channel_binding = Some(ChannelBinding::Require),
            ("channel_binding", _) => return wrong("must be disable, prefer or require"),
            ("target_session_attrs", "any") => self.session = Some(TargetSessionAttrs::Any),
            ("target_session_attrs", "read-write" | "primary") => {
                self.session = Some(TargetSessionAttrs::ReadWrite);
            }
            ("target_session_attrs", _) => {
                return wrong("must be primary, read-write or any: the vault writes");
            }
            ("load_balance_hosts", "disable" | "random") => {
                self.any_host_first = value == "random";
            }
            ("load_balance_hosts", _) => return wrong("must be disable or random"),
            ("passfile", path) => self.passfile = Some(path.into()),
            ("application_name", _) => self.application_name = Some(value.to_owned()),
            ("fallback_application_name", _) => {
                self.fallback_application_name = Some(value.to_owned());
            }
            _ => return self.take_number(name, value),
        }
        Ok(())
    }

    fn take_number(&mut self, name: &str, value: &str) -> Read {
        match name {
            "connect_timeout" => {
                // libpq waits for ever at 0, and takes anything below as that.
                let seconds = number::<i64>(name, value)?;
                let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
                let seconds = seconds.map(|seconds| seconds.min(MAX_CONNECT_TIMEOUT));
                self.connect_timeout = seconds.map(Duration::from_secs);
            }
            "port" => {
                let ports = value.split(',').map(|port| number(name, port));
                self.ports = ports.collect::<Result<_, _>>()?;
            }
            "keepalives" => self.keepalives = Some(number::<u8>(name, value)? != 0),
            "keepalives_idle" => self.keepalives_idle = seconds(name, value)?,
            "keepalives_interval" => self.keepalives_interval = seconds(name, value)?,
            "keepalives_count" | "keepalives_retries" => {
                let count = number(name, value)?;
                self.keepalives_count = (count > 0).then_some(count);
            }
            "tcp_user_timeout" => {
                let millis = number(name, value)?;
                self.tcp_user_timeout = (millis > 0).then_some(Duration::from_millis(millis));
            }
            _ => return ignored(name, value),
        }
        Ok(())
    }

    /// Sets what tokio-postgres knows of.
    pub(super) fn set(&self, config: &mut Config) {
        let names = [&self.application_name, &self.fallback_application_name];
        let name = names.into_iter().flatten().next();
        config
            .application_name(name.map_or("grantex-vault", String::as_str))
            .ssl_negotiation(self.negotiation.unwrap_or(SslNegotiation::Postgres))
            .channel_binding(self.channel_binding.unwrap_or(ChannelBinding::Prefer))
            .tcp_user_timeout(self.tcp_user_timeout.unwrap_or(Duration::from_secs(10)))
            .keepalives(self.keepalives.unwrap_or(true))
            .keepalives_idle(self.keepalives_idle.unwrap_or(Duration::from_secs(30)));
        if let Some(interval) = self.keepalives_interval {
            config.keepalives_interval(interval);
        }
        if let Some(count) = self.keepalives_count {
            config.keepalives_retries(count);
        }
    }

    /// Whether TLS is begun without asking Postgres first: then it must say what for.
    pub(super) fn is_direct(&self) -> bool {
        self.negotiation == Some(SslNegotiation::Direct)
    }
}

/// What cannot matter here, or could and is refused.
fn ignored(name: &str, value: &str) -> Read {
    let wrong = |rule| Err(DatabaseUrlFault::wrong(name, rule));
    match (name, value) {
        // There is no GSSAPI here, and nothing is compressed.
        ("gssencmode", "disable" | "prefer")
        | ("krbsrvname" | "gsslib" | "gssdelegation", _)
        | ("sslcompression", "0")
        | ("sslcertmode", "allow")
        | ("client_encoding", "auto" | "utf8" | "UTF8" | "utf-8" | "UTF-8")
        | ("replication", "0" | "false" | "off" | "no")
        | ("min_protocol_version" | "max_protocol_version", "3.0" | "latest") => Ok(()),
        ("gssencmode", _) => wrong("must be disable or prefer: there is no GSSAPI encryption"),
        ("client_encoding", _) => wrong("must be UTF8, which is what the vault speaks"),
        ("sslcompression", _) => wrong("must be 0"),
        ("sslcertmode", _) => wrong("must be allow: name sslcert, or leave it out"),
        ("sslcrl" | "sslcrldir", _) => wrong(
            "is not supported: revocation lists are not looked at; use short-lived certificates",
        ),
        ("sslpassword", _) => wrong("is not supported: give sslkey a file that is not encrypted"),
        ("sslkeylogfile", _) => wrong("is not supported: session keys are written nowhere"),
        ("requiressl", _) => wrong("is not supported: say sslmode=require"),
        ("requirepeer", _) => wrong("is not supported: connect by TLS with sslmode=verify-full"),
        ("require_auth", _) => {
            wrong("is not supported: say channel_binding=require, which needs SCRAM")
        }
        ("replication", _) => wrong("must be off: the vault is no replica"),
        ("service" | "servicefile", _) => {
            wrong("is not supported: say in the URL what the service says")
        }
        ("min_protocol_version" | "max_protocol_version", _) => {
            wrong("must be 3.0 or latest: the vault speaks protocol 3.0")
        }
        (name, _) if name.starts_with("oauth_") || name.starts_with("scram_") => {
            wrong("is not supported: use a password or a client certificate")
        }
        // Its name may be a piece of a password.
        _ => Err(DatabaseUrlFault::UnknownParameter),
    }
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, DatabaseUrlFault> {
    let number = value.trim().parse();
    number.map_err(|_| DatabaseUrlFault::wrong(name, "must be a number"))
}

/// 0 is what the operating system does by itself.
fn seconds(name: &str, value: &str) -> Result<Option<Duration>, DatabaseUrlFault> {
    let seconds = number(name, value)?;
    Ok((seconds > 0).then_some(Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::{super::Target, *};

    fn parse(url: &str) -> Result<(), DatabaseUrlFault> {
        url.parse::<Target>().map(|_| ())
    }

    /// Every parameter in libpq's documentation (Postgres 18), with a value that it has there.
    const TAKEN: [(&str, &str); 33] = [
        ("host", "db"),
        ("hostaddr", "10.0.0.1"),
        ("port", "5433"),
        ("dbname", "v"),
        ("user", "u"),
        ("password", "p"),
        ("passfile", "/run/pgpass"),
        ("channel_binding", "require"),
        ("connect_timeout", "10"),
        ("client_encoding", "auto"),
        ("options", "-c geqo=off"),
        ("application_name", "a vault"),
        ("fallback_application_name", "a vault"),
        ("keepalives", "1"),
        ("keepalives_idle", "10"),
        ("keepalives_interval", "10"),
        ("keepalives_count", "3"),
        ("tcp_user_timeout", "1000"),
        ("replication", "false"),
        ("gssencmode", "disable"),
        ("sslmode", "verify-full"),
        ("sslnegotiation", "direct"),
        ("sslcompression", "0"),
        ("sslcertmode", "allow"),
        ("sslrootcert", "/etc/ca.pem"),
        ("sslsni", "1"),
        ("ssl_min_protocol_version", "TLSv1.2"),
        ("ssl_max_protocol_version", "TLSv1.3"),
        ("max_protocol_version", "3.0"),
        ("krbsrvname", "postgres"),
        ("gsslib", "gssapi"),
        ("target_session_attrs", "primary"),
        ("load_balance_hosts", "random"),
    ];

    /// Those that could matter and are not supported.
    const REFUSED: [(&str, &str); 13] = [
        ("sslcrl", "/etc/crl.pem"),
        ("sslcrldir", "/etc/crls"),
        ("sslpassword", "secret"),
        ("sslkeylogfile", "/tmp/keys"),
        ("requirepeer", "postgres"),
        ("require_auth", "scram-sha-256"),
        ("service", "vault"),
        ("servicefile", "/etc/pg_service.conf"),
        ("gssencmode", "require"),
        ("target_session_attrs", "standby"),
        ("client_encoding", "LATIN1"),
        ("replication", "database"),
        ("oauth_issuer", "https://issuer"),
    ];

    #[test]
    fn every_parameter_of_libpq_is_taken_or_refused_by_its_name() {
        let url = |(name, value): (&str, &str)| {
            let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
            format!("postgres://db/v?{name}={value}")
        };
        for parameter in TAKEN {
            let fault = parse(&url(parameter)).err();
            assert_eq!(fault, None, "{parameter:?}");
        }
        for parameter in REFUSED {
            let fault = parse(&url(parameter)).unwrap_err().to_string();
            assert!(
                fault.contains(&format!("parameter {}, which", parameter.0)),
                "{fault}"
            );
            assert!(!fault.contains("secret"), "{fault}");
        }
        let both = "postgres://db/v?sslcert=/etc/tls.crt&sslkey=/etc/tls.key";
        assert!(parse(both).is_ok());
        for one in ["sslcert=/etc/tls.crt", "sslkey=/etc/tls.key"] {
            assert!(parse(&format!("postgres://db/v?{one}")).is_err(), "{one}");
        }
    }
}
