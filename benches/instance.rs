//! What the benchmarks share: a `grantex-vault dev` of their own, and what is made of repetitions.

use std::{
    fs::Permissions,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
};

use grantex_vault::{config::environment, dev::Instance};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// A running `grantex-vault dev`. Dropped, also by a panic, it is stopped before its directory goes.
pub(crate) struct Dev {
    pub(crate) instance: Instance,
    pub(crate) process: Process,
    pub(crate) directory: TempDir,
}

/// A process that is stopped when this is dropped.
pub(crate) struct Process(pub(crate) Child);

/// The binary, without any setting of whoever runs the benchmark.
pub(crate) fn vault() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grantex-vault"));
    command
        .env_clear()
        .env("PATH", environment("PATH").unwrap_or_default());
    command
}

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("it runs");
    tokio::spawn(connection);
    client
}

/// Sorts them, and answers the one in the middle.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

// === impl Dev ===

impl Dev {
    /// Starts a new instance.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        // Its Postgres may run as another user, who must pass through.
        let passable = Permissions::from_mode(0o711);
        let directory = tempfile::Builder::new().permissions(passable).tempdir();
        Self::start_in(directory.expect("a temporary directory"), settings)
    }

    /// Starts the instance of a directory on free ports and waits until it is ready.
    pub(crate) fn start_in(directory: TempDir, settings: &[(&str, &str)]) -> Self {
        let mut command = vault();
        command
            .args(["dev", "--json", "--data-dir"])
            .arg(directory.path())
            .args(["--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0"])
            .args(["--admin-addr", "127.0.0.1:0"])
            .env("RUST_LOG", "warn")
            .envs(settings.iter().copied())
            .stdout(Stdio::piped());
        let mut process = Process(command.spawn().expect("the binary runs"));
        let output = process.0.stdout.as_mut().expect("it was asked for");
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line);
        read.expect("it prints text");
        Self {
            instance: serde_json::from_str(&line).expect("it started, and says what it is"),
            process,
            directory,
        }
    }
}

// === impl Process ===

impl Drop for Process {
    /// Asks it to end, so that it stops its Postgres, and waits until it has.
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}
