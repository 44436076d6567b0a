//! The hosts of a URL, each with a configuration of its own.

use tokio_postgres::{
    Config,
    config::{Host, SslMode, TargetSessionAttrs},
};

use super::{DatabaseUrlFault, Verification, parameters::Parameters};

/// The most hosts of a URL.
pub(super) const MAX_HOSTS: usize = 16;

/// A configuration for each host of one that has them all.
pub(super) fn each(
    all: &Config,
    parameters: &Parameters,
    verification: Verification,
) -> Result<Vec<Config>, DatabaseUrlFault> {
    let (names, addresses) = (all.get_hosts(), all.get_hostaddrs());
    let ports = if parameters.ports.is_empty() {
        all.get_ports()
    } else {
        &parameters.ports
    };
    let count = names.len().max(addresses.len());
    let fits = |listed: usize| listed <= 1 || listed == count;
    if !(1..=MAX_HOSTS).contains(&count)
        || !fits(ports.len())
        || !(names.is_empty() || addresses.is_empty() || names.len() == addresses.len())
    {
        return Err(DatabaseUrlFault::Hosts);
    }
    let session = parameters.session.unwrap_or(if count > 1 {
        // A standby among them would be connected to and could not be written to.
        TargetSessionAttrs::ReadWrite
    } else {
        TargetSessionAttrs::Any
    });
    let one = |place: usize| {
        let mut config = Config::new();
        match names.get(place) {
            Some(Host::Tcp(name)) => {
                config.host(name);
            }
            Some(Host::Unix(directory)) => {
                config.host_path(directory);
            }
            None => {}
        }
        if let Some(address) = addresses.get(place) {
            config.hostaddr(*address);
        }
        if let Some(port) = ports.get(place).or_else(|| ports.first()) {
            config.port(*port);
        }
        config
    };
    let mut hosts: Vec<Config> = (0..count).map(one).collect();
    for config in &mut hosts {
        if let Some(user) = all.get_user() {
            config.user(user);
        }
        if let Some(password) = all.get_password() {
            config.password(password);
        }
        if let Some(database) = all.get_dbname() {
            config.dbname(database);
        }
        if let Some(options) = all.get_options() {
            config.options(options);
        }
        parameters.set(config);
        config
            .target_session_attrs(session)
            .ssl_mode(match verification {
                Verification::Disabled => SslMode::Disable,
                Verification::Chain | Verification::Full => SslMode::Require,
            });
    }
    Ok(hosts)
}
