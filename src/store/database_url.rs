//! `DATABASE_URL`, with the TLS parameters of libpq that tokio-postgres does not know.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use thiserror::Error;
use tokio_postgres::config::{Host, SslMode};

use super::CONNECT_TIMEOUT;

/// Where the database is and how its connections are secured.
#[derive(Clone)]
pub struct DatabaseUrl {
    config: tokio_postgres::Config,
    verification: Verification,
    roots: Roots,
}

/// How much of the server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// No TLS.
    Disabled,
    /// The chain, not the name (`verify-ca`).
    Chain,
    /// The chain and the name (`require`, `verify-full`).
    Full,
}

/// Which root certificates count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// The operating system's.
    System,
    /// Those of a PEM file (`sslrootcert`).
    File(PathBuf),
}

/// Why the URL cannot be used. Never shows the URL, which holds a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DatabaseUrlFault {
    /// Another scheme, or no URL.
    #[error("must be a postgres:// URL")]
    NotAUrl,
    /// tokio-postgres refused it.
    #[error("is not a URL that Postgres understands")]
    Refused,
    /// Would send credentials in clear when the server says so.
    #[error(
        "sslmode={0} would fall back to an unencrypted connection when the server asks for it; \
         say require, verify-ca, verify-full, or disable"
    )]
    FallsBack(String),
    /// No such mode.
    #[error("sslmode must be disable, require, verify-ca, or verify-full")]
    UnknownMode,
}

impl DatabaseUrl {
    pub(super) fn to_config(&self) -> tokio_postgres::Config {
        self.config.clone()
    }

    pub(super) fn verification(&self) -> Verification {
        self.verification
    }

    pub(super) fn roots(&self) -> &Roots {
        &self.roots
    }
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlFault;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (location, query) = text.split_once('?').unwrap_or((text, ""));
        let scheme = location.split_once("://").map(|(scheme, _)| scheme);
        if !matches!(scheme, Some("postgres" | "postgresql")) {
            return Err(DatabaseUrlFault::NotAUrl);
        }
        let (mut mode, mut roots, mut others) = (None, Roots::System, Vec::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match (&*name, &*value) {
                ("sslmode", _) => mode = Some(value.into_owned()),
                ("sslrootcert", "system") => roots = Roots::System,
                ("sslrootcert", path) => roots = Roots::File(path.into()),
                _ => others.push((name, value)),
            }
        }
        let rest = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(others)
            .finish();
        // tokio-postgres decodes percent escapes only: a plus would stay a plus.
        let rest = rest.replace('+', "%20");
        let mut config: tokio_postgres::Config = format!("{location}?{rest}")
            .parse()
            .map_err(|_| DatabaseUrlFault::Refused)?;

        let verification = verification(mode.as_deref(), &config)?;
        config
            .ssl_mode(match verification {
                Verification::Disabled => SslMode::Disable,
                Verification::Chain | Verification::Full => SslMode::Require,
            })
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(Duration::from_secs(10))
            .keepalives_idle(Duration::from_secs(30));
        if config.get_application_name().is_none() {
            config.application_name("grantex-vault");
        }
        Ok(Self {
            config,
            verification,
            roots,
        })
    }
}

/// Without a mode the connection is verified in full, unless it does not leave the machine.
fn verification(
    mode: Option<&str>,
    config: &tokio_postgres::Config,
) -> Result<Verification, DatabaseUrlFault> {
    let on_this_machine = config.get_hosts().iter().all(is_local);
    match mode {
        Some("require" | "verify-full") => Ok(Verification::Full),
        Some("verify-ca") => Ok(Verification::Chain),
        Some("prefer" | "allow") if !all_unix(config) => Err(DatabaseUrlFault::FallsBack(
            mode.unwrap_or_default().to_owned(),
        )),
        Some("disable" | "prefer" | "allow") => Ok(Verification::Disabled),
        Some(_) => Err(DatabaseUrlFault::UnknownMode),
        None if on_this_machine => Ok(Verification::Disabled),
        None => Ok(Verification::Full),
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost"
                || name
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|address| address.is_loopback())
        }
    }
}

fn all_unix(config: &tokio_postgres::Config) -> bool {
    config
        .get_hosts()
        .iter()
        .all(|host| matches!(host, Host::Unix(_)))
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<(Verification, Roots), DatabaseUrlFault> {
        url.parse::<DatabaseUrl>()
            .map(|url| (url.verification, url.roots))
    }

    #[test]
    fn the_modes_of_libpq_are_read() {
        let file = Roots::File("/etc/rds.pem".into());
        for (url, expected) in [
            (
                "postgres://u:p@db.example.com/v?sslmode=disable",
                (Verification::Disabled, Roots::System),
            ),
            (
                "postgres://u:p@db.example.com/v?sslmode=require",
                (Verification::Full, Roots::System),
            ),
            (
                "postgresql://db/v?sslmode=verify-ca&sslrootcert=/etc/rds.pem",
                (Verification::Chain, file.clone()),
            ),
            (
                "postgres://db/v?sslrootcert=/etc/rds.pem&sslmode=verify-full",
                (Verification::Full, file),
            ),
            (
                "postgres://db/v?sslmode=verify-full&sslrootcert=system",
                (Verification::Full, Roots::System),
            ),
            ("postgres://db/v", (Verification::Full, Roots::System)),
            (
                "postgres://localhost/v",
                (Verification::Disabled, Roots::System),
            ),
            (
                "postgres://[::1]:5432/v",
                (Verification::Disabled, Roots::System),
            ),
            (
                "postgres:///v?host=/run/postgresql",
                (Verification::Disabled, Roots::System),
            ),
            (
                "postgres:///v?host=/run/postgresql&sslmode=prefer",
                (Verification::Disabled, Roots::System),
            ),
        ] {
            assert_eq!(parse(url), Ok(expected), "{url}");
        }
    }

    #[test]
    fn a_mode_that_can_fall_back_is_refused() {
        for mode in ["prefer", "allow"] {
            let fault = parse(&format!("postgres://u:canary@db/v?sslmode={mode}")).unwrap_err();
            assert_eq!(fault, DatabaseUrlFault::FallsBack(mode.to_owned()));
            assert!(!fault.to_string().contains("canary"));
        }
        assert!(parse("postgres://localhost/v?sslmode=prefer").is_err());
    }

    #[test]
    fn what_is_no_postgres_url_is_refused() {
        for url in [
            "",
            "mysql://db/v",
            "host=db user=u",
            "postgres//db",
            "postgres://db/v?sslmode=on",
        ] {
            assert!(parse(url).is_err(), "{url}");
        }
        assert!(parse("postgres://db/v?no_such_parameter=1").is_err());
    }

    #[test]
    fn other_parameters_reach_postgres() {
        let url = "postgres://db/v?sslmode=disable&application_name=my%20vault&options=-c%20x%3Dy";
        let url = url.parse::<DatabaseUrl>().unwrap();
        assert_eq!(url.config.get_application_name(), Some("my vault"));
        assert_eq!(url.config.get_options(), Some("-c x=y"));
    }

    #[test]
    fn debug_does_not_show_the_password() {
        let url = "postgres://u:canary@db/v?sslmode=require";
        assert!(!format!("{:?}", url.parse::<DatabaseUrl>()).contains("canary"));
    }
}
