//! `DATABASE_URL`: where the database is, and how its connections are secured. The parameters are libpq's.

mod hosts;
mod parameters;
mod passfile;

use std::{
    fmt, fs, iter,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use thiserror::Error;
use tokio_postgres::{Config, config::Host};

use super::CONNECT_TIMEOUT;
use hosts::MAX_HOSTS;
use parameters::Parameters;
use passfile::Entry;

/// The shortest time that a host is given when there are several.
const SHORTEST_SHARE: Duration = Duration::from_secs(1);

/// Where the database is and how its connections are secured; clones are the same.
#[derive(Clone)]
pub struct DatabaseUrl(Arc<Shared>);

struct Shared {
    /// What the URL said last.
    target: Mutex<Arc<Target>>,
    /// The file that it is in: it is read again for each connection.
    file: Option<PathBuf>,
    /// Which of the hosts answered last.
    answered: AtomicUsize,
}

/// What a URL says.
pub(super) struct Target {
    /// One for each host, alike but for that.
    hosts: Vec<Config>,
    parameters: Parameters,
    verification: Verification,
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Roots {
    /// The operating system's.
    #[default]
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
    /// tokio-postgres refused where it leads.
    #[error(
        "is not a URL that Postgres understands: look at user, hosts, ports and percent escapes"
    )]
    Refused,
    /// More hosts than that.
    #[error("must have at most {MAX_HOSTS} hosts, and a port for all or for each")]
    Hosts,
    /// A parameter of libpq that is not supported, or has a value that cannot be.
    #[error("has the parameter {name}, which {rule}")]
    Parameter {
        /// Which.
        name: String,
        /// What it breaks.
        rule: &'static str,
    },
    /// A parameter that nobody knows.
    #[error("has a parameter that libpq does not know; a `?` in a password must be written as %3F")]
    UnknownParameter,
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
    /// The URL that was read from a file, which is read again for every connection: a password that is
    /// changed there is used from the next one on.
    #[must_use]
    pub fn kept_in(self, file: &Path) -> Self {
        let target = Mutex::new(Arc::clone(&self.target()));
        Self(Arc::new(Shared {
            target,
            file: Some(file.to_owned()),
            answered: AtomicUsize::new(0),
        }))
    }

    /// What it says now. A file that cannot be used says what it said last.
    pub(super) fn target(&self) -> Arc<Target> {
        let read = self.0.file.as_ref().and_then(|file| {
            let text = fs::read_to_string(file).ok()?;
            text.trim_end_matches(['\n', '\r']).parse::<Target>().ok()
        });
        let mut target = self.0.target.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = read {
            *target = Arc::new(read);
        }
        Arc::clone(&target)
    }

    /// The places of the hosts of a target, in the order in which they are tried: first the one that
    /// answered last.
    pub(super) fn order(&self, target: &Target) -> impl Iterator<Item = usize> + use<> {
        let hosts = target.hosts.len();
        let first = if target.parameters.any_host_first {
            let mut random = [0; 4];
            getrandom::fill(&mut random).expect("the operating system has randomness");
            u32::from_ne_bytes(random) as usize
        } else {
            self.0.answered.load(Ordering::Relaxed)
        };
        let first = first % hosts;
        iter::once(first).chain((0..hosts).filter(move |place| *place != first))
    }

    /// Which host answered.
    pub(super) fn answered(&self, place: usize) {
        self.0.answered.store(place, Ordering::Relaxed);
    }

    /// How long a connection may take: the shares of all hosts.
    pub(super) fn patience(&self) -> Duration {
        let target = self.target();
        let hosts = u32::try_from(target.hosts.len()).unwrap_or(u32::MAX);
        target.share() * hosts
    }
}

// === impl Target ===

impl Target {
    /// How to connect to the host at this place, with its password from the file that is named, if any.
    pub(super) fn host(&self, place: usize) -> Config {
        let mut config = self.hosts[place].clone();
        if config.get_password().is_none()
            && let Some(path) = &self.parameters.passfile
            && let (Some(host), Some(user)) = (config.get_hosts().first(), config.get_user())
        {
            let of = Entry {
                host,
                port: config.get_ports().first().copied().unwrap_or(5432),
                database: config.get_dbname().unwrap_or(user),
                user,
            };
            if let Some(password) = passfile::password(path, &of) {
                config.password(password.as_bytes());
            }
        }
        config
    }

    /// How long one host may take.
    pub(super) fn share(&self) -> Duration {
        let hosts = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        let share = || (CONNECT_TIMEOUT / hosts).max(SHORTEST_SHARE);
        self.parameters.connect_timeout.unwrap_or_else(share)
    }

    pub(super) fn verification(&self) -> Verification {
        self.verification
    }

    pub(super) fn roots(&self) -> &Roots {
        &self.parameters.roots
    }

    /// The files of a client certificate and its key.
    pub(super) fn client_certificate(&self) -> Option<(&Path, &Path)> {
        let Parameters {
            certificate, key, ..
        } = &self.parameters;
        Some((certificate.as_deref()?, key.as_deref()?))
    }

    pub(super) fn tls13_only(&self) -> bool {
        self.parameters.tls13_only
    }

    pub(super) fn sends_server_name(&self) -> bool {
        !self.parameters.no_server_name
    }

    pub(super) fn is_direct(&self) -> bool {
        self.parameters.is_direct()
    }
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlFault;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let target: Target = text.parse()?;
        Ok(Self(Arc::new(Shared {
            target: Mutex::new(Arc::new(target)),
            file: None,
            answered: AtomicUsize::new(0),
        })))
    }
}

impl FromStr for Target {
    type Err = DatabaseUrlFault;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (location, query) = text.split_once('?').unwrap_or((text, ""));
        let scheme = location.split_once("://").map(|(scheme, _)| scheme);
        if !matches!(scheme, Some("postgres" | "postgresql")) {
            return Err(DatabaseUrlFault::NotAUrl);
        }
        let (mut parameters, mut of_the_place) = (Parameters::default(), Vec::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if parameters.take(&name, &value)? {
                of_the_place.push((name, value));
            }
        }
        let rest = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(of_the_place)
            .finish();
        // tokio-postgres decodes percent escapes only: a plus would stay a plus.
        let rest = rest.replace('+', "%20");
        let config: Config = format!("{location}?{rest}")
            .parse()
            .map_err(|_| DatabaseUrlFault::Refused)?;
        if parameters.certificate.is_some() != parameters.key.is_some() {
            let rule = "needs the other: a client certificate is both";
            return Err(DatabaseUrlFault::wrong("sslcert or sslkey", rule));
        }
        let verification = verification(parameters.mode.as_deref(), &config)?;
        Ok(Self {
            hosts: hosts::each(&config, &parameters, verification)?,
            parameters,
            verification,
        })
    }
}

// === impl DatabaseUrlFault ===

impl DatabaseUrlFault {
    fn wrong(name: &str, rule: &'static str) -> Self {
        let name = name.to_owned();
        Self::Parameter { name, rule }
    }
}

/// Without a mode the connection is verified in full, unless it does not leave the machine.
fn verification(mode: Option<&str>, config: &Config) -> Result<Verification, DatabaseUrlFault> {
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

fn all_unix(config: &Config) -> bool {
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
    use tokio_postgres::config::TargetSessionAttrs;

    use super::*;

    fn parse(url: &str) -> Result<(Verification, Roots), DatabaseUrlFault> {
        url.parse::<Target>()
            .map(|target| (target.verification, target.parameters.roots))
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
        let target: Target = url.parse().unwrap();
        assert_eq!(target.hosts[0].get_application_name(), Some("my vault"));
        assert_eq!(target.hosts[0].get_options(), Some("-c x=y"));
    }

    #[test]
    fn debug_does_not_show_the_password() {
        let url = "postgres://u:canary@db/v?sslmode=require";
        assert!(!format!("{:?}", url.parse::<DatabaseUrl>()).contains("canary"));
    }

    #[test]
    fn several_hosts_have_their_shares_and_ports_and_must_be_writable() {
        let target: Target = "postgres://u@a:1,b:2,c:3/v?sslmode=disable"
            .parse()
            .unwrap();
        assert_eq!(target.hosts.len(), 3);
        for (place, host) in target.hosts.iter().enumerate() {
            assert_eq!(usize::from(host.get_ports()[0]), place + 1);
            assert_eq!(host.get_user(), Some("u"));
            assert_eq!(
                host.get_target_session_attrs(),
                TargetSessionAttrs::ReadWrite
            );
        }
        assert_eq!(target.share(), Duration::from_secs(1));
        let target: Target = "postgres://a/v?connect_timeout=7".parse().unwrap();
        assert_eq!(target.share(), Duration::from_secs(7));
        assert_eq!(
            target.hosts[0].get_target_session_attrs(),
            TargetSessionAttrs::Any
        );
        assert!("postgres://a:1,b:2,c/v?port=1,2".parse::<Target>().is_err());
    }

    #[test]
    fn the_host_that_answered_last_is_tried_first() {
        let url: DatabaseUrl = "postgres://a,b,c/v".parse().unwrap();
        let order = || url.order(&url.target()).collect::<Vec<_>>();
        assert_eq!(order(), [0, 1, 2]);
        url.answered(1);
        assert_eq!(order(), [1, 0, 2]);
        let clone = url.clone();
        clone.answered(2);
        assert_eq!(order(), [2, 0, 1]);
    }

    #[test]
    fn a_file_is_read_again_and_one_that_is_no_url_says_what_it_said() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let url: DatabaseUrl = "postgres://u:first@db/v".parse().unwrap();
        let url = url.kept_in(file.path());
        let password = || url.target().host(0).get_password().map(<[u8]>::to_vec);
        for (content, expected) in [
            ("postgres://u:first@db/v\n", "first"),
            ("postgres://u:second@db/v\r\n", "second"),
            ("half a ur", "second"),
            ("", "second"),
            ("postgres://u:third@db/v", "third"),
        ] {
            fs::write(file.path(), content).unwrap();
            assert_eq!(password().unwrap(), expected.as_bytes(), "{content:?}");
        }
    }
}
