//! A private Postgres: found on the system, run in the instance's directory, also as root.

mod binaries;
mod leftover;
mod owner;

use std::{
    fs::{self, Permissions},
    io,
    net::{Ipv4Addr, TcpListener},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;
use tokio::time::{interval, timeout};
use tokio_postgres::NoTls;

use super::{DevFault, files};
use binaries::Binaries;
use owner::Owner;

const USER: &str = "grantex_vault";
const DATABASE: &str = "vault";
/// A start after a crash replays the log first.
const READY_TIMEOUT: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(20);
/// The longest path of a Unix socket on every system we know, less the name that Postgres appends.
const MAX_SOCKET_DIRECTORY: usize = 103 - "/.s.PGSQL.65535".len();

/// A running server; it is stopped when this is dropped.
pub(super) struct Postgres {
    server: Child,
    url: String,
    /// Removed when it stops; only there when the instance's own path is too long for a socket.
    short_sockets: Option<PathBuf>,
}

/// Why there is no private Postgres.
#[derive(Debug, Error)]
pub enum PostgresFault {
    /// The system has none.
    #[error(
        "Postgres' server programs (initdb, postgres) were not found. Install them:\n  \
         Debian, Ubuntu:  apt-get install postgresql\n  \
         Fedora:          dnf install postgresql-server\n  \
         Alpine:          apk add postgresql\n  \
         macOS:           brew install postgresql\n\
         or name their directory in GRANTEX_VAULT_PG_BIN"
    )]
    NotInstalled,
    /// Neither `postgres` nor `nobody` exists.
    #[error("Postgres does not run as root, and there is no user postgres or nobody to run it as")]
    NoUser,
    /// A program could not be run.
    #[error("{0} cannot be run: {1}")]
    Run(PathBuf, #[source] io::Error),
    /// It said no.
    #[error("{program} failed:\n{output}")]
    Failed {
        /// Which program.
        program: &'static str,
        /// The end of what it said.
        output: String,
    },
    /// It came up but does not answer.
    #[error("the private Postgres does not answer: {0}")]
    Silent(String),
}

impl Postgres {
    /// Starts the server of an instance, made when there is none. One that a killed `dev` left
    /// running is stopped first.
    pub(super) async fn start(directory: &Path, bin: Option<String>) -> Result<Self, DevFault> {
        let owner = Owner::choose()?;
        let home = owner.home_of_cluster(directory)?;
        let cluster = home.join("cluster");
        let binaries =
            Binaries::find(bin.as_deref(), &cluster).ok_or(PostgresFault::NotInstalled)?;
        leftover::stop(&cluster).await;
        let password = password(directory)?;
        if !cluster.exists() {
            make_cluster(&binaries, &owner, &home, &password)?;
        }
        let (sockets, short_sockets) = socket_directory(&owner, &home)?;
        let port = free_port(directory)?;
        let log_path = directory.join("postgres.log");
        let log = files::create_private(&log_path)?;
        let fault = |error| DevFault::File(log_path.clone(), error);
        let mut command = Command::new(binaries.path("postgres"));
        command
            .arg("-D")
            .arg(&cluster)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_permissions=0700"])
            .args(["-c", &format!("port={port}")])
            .args(["-c", &format!("unix_socket_directories={}", quoted(&sockets))])
            .args(["-c", &format!("cluster_name={}", leftover::cluster_name(&cluster))])
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(fault)?)
            .stderr(log)
            // Ctrl-C is for us: we stop it after the requests that still need it.
            .process_group(0);
        owner.apply(&mut command);
        let server = command
            .spawn()
            .map_err(|error| PostgresFault::Run(binaries.path("postgres"), error))?;
        let url =
            format!("postgres://{USER}:{password}@127.0.0.1:{port}/{DATABASE}?sslmode=disable");
        let mut postgres = Self {
            server,
            url,
            short_sockets,
        };
        postgres.wait_until_ready(&cluster, &log_path).await?;
        create_database(&sockets, port).await?;
        Ok(postgres)
    }

    /// How to connect, over loopback, with the password.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Stops the server and waits until it is gone.
    pub(super) fn stop(self) {
        drop(self);
    }

    async fn wait_until_ready(&mut self, cluster: &Path, log: &Path) -> Result<(), PostgresFault> {
        let failed = || PostgresFault::Failed {
            program: "postgres",
            output: tail(log),
        };
        let mut polls = interval(POLL);
        let ready = async {
            loop {
                polls.tick().await;
                if let Ok(Some(_)) = self.server.try_wait() {
                    return Err(failed());
                }
                // Line 8 of the file is the server's state, since Postgres 10.
                let state = fs::read_to_string(cluster.join("postmaster.pid"));
                let pid = self.server.id().to_string();
                if state.is_ok_and(|text| {
                    text.lines().next() == Some(&pid)
                        && text
                            .lines()
                            .nth(7)
                            .is_some_and(|line| line.trim() == "ready")
                }) {
                    return Ok(());
                }
            }
        };
        timeout(READY_TIMEOUT, ready)
            .await
            .unwrap_or_else(|_| Err(failed()))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGINT is Postgres' fast shutdown: it ends sessions and writes everything out.
        if let Some(pid) = Pid::from_raw(self.server.id().cast_signed()) {
            let _ = kill_process(pid, Signal::INT);
        }
        let _ = self.server.wait();
        if let Some(directory) = &self.short_sockets {
            let _ = fs::remove_dir_all(directory);
        }
    }
}

/// The password over TCP, made once.
fn password(directory: &Path) -> Result<String, DevFault> {
    let path = directory.join("postgres-password");
    if !path.exists() {
        files::make_private(&path, uuid::Uuid::new_v4().simple().to_string().as_bytes())?;
    }
    fs::read_to_string(&path).map_err(|error| DevFault::File(path, error))
}

/// Makes the cluster beside its place and moves it there when it is whole, so that a kill in the
/// middle leaves nothing that looks like a cluster.
fn make_cluster(
    binaries: &Binaries,
    owner: &Owner,
    home: &Path,
    password: &str,
) -> Result<(), DevFault> {
    let fault = |error| DevFault::File(home.to_owned(), error);
    let (beside, secret) = (home.join("cluster.new"), home.join("initdb-password"));
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(fault)?;
    }
    files::make_private(&secret, password.as_bytes())?;
    owner.give(&secret).map_err(fault)?;
    let mut command = Command::new(binaries.path("initdb"));
    command
        .arg("-D")
        .arg(&beside)
        .arg(format!("--pwfile={}", secret.display()))
        .args([
            "-U",
            USER,
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
        ])
        .args(["--no-locale", "-E", "UTF8", "--no-sync"])
        .current_dir(home)
        .stdin(Stdio::null());
    owner.apply(&mut command);
    let output = command
        .output()
        .map_err(|error| PostgresFault::Run(binaries.path("initdb"), error));
    let removed = fs::remove_file(&secret);
    let output = output?;
    removed.map_err(fault)?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        let output = String::from_utf8_lossy(&said).into_owned();
        return Err(PostgresFault::Failed {
            program: "initdb",
            output,
        }
        .into());
    }
    fs::rename(&beside, home.join("cluster")).map_err(fault)
}

/// A directory for the socket, which only the server's user (and root) can enter.
fn socket_directory(owner: &Owner, home: &Path) -> Result<(PathBuf, Option<PathBuf>), DevFault> {
    let own = home.join("socket");
    let too_long = own.as_os_str().len() > MAX_SOCKET_DIRECTORY;
    let directory = if too_long {
        PathBuf::from(format!(
            "/tmp/grantex-vault-{}",
            uuid::Uuid::new_v4().simple()
        ))
    } else {
        own
    };
    let fault = |error| DevFault::File(directory.clone(), error);
    if !directory.exists() {
        fs::create_dir(&directory).map_err(fault)?;
    }
    fs::set_permissions(&directory, Permissions::from_mode(0o700)).map_err(fault)?;
    owner.give(&directory).map_err(fault)?;
    let short = too_long.then(|| directory.clone());
    Ok((directory, short))
}

/// A directory as an item of one of Postgres' lists, in which a comma stands between two.
fn quoted(directory: &Path) -> String {
    format!(
        "\"{}\"",
        directory.display().to_string().replace('"', "\"\"")
    )
}

fn free_port(directory: &Path) -> Result<u16, DevFault> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    Ok(address
        .map_err(|error| DevFault::File(directory.to_owned(), error))?
        .port())
}

async fn create_database(sockets: &Path, port: u16) -> Result<(), PostgresFault> {
    let silent = |error: tokio_postgres::Error| PostgresFault::Silent(error.to_string());
    let mut config = tokio_postgres::Config::new();
    config
        .host_path(sockets)
        .port(port)
        .user(USER)
        .dbname("postgres");
    let (client, connection) = config.connect(NoTls).await.map_err(silent)?;
    let driver = tokio::spawn(connection);
    let exists = "select from pg_database where datname = $1";
    if client
        .query_opt(exists, &[&DATABASE])
        .await
        .map_err(silent)?
        .is_none()
    {
        client
            .batch_execute(&format!("create database {DATABASE}"))
            .await
            .map_err(silent)?;
    }
    driver.abort();
    Ok(())
}

/// The end of a log, for a person.
fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines
        .get(lines.len().saturating_sub(10)..)
        .unwrap_or_default()
        .join("\n")
}
