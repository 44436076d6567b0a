//! The real binary as a process of its own.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use grantex_vault::config::environment;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::until;

/// Runs beside a process, its input held open by the test process: when that ends, it ends the
/// process. `$1` is its id.
const REAPER: &str = "trap '' INT TERM HUP; cat >/dev/null; kill -TERM \"$1\"";

/// A running `grantex-vault`.
pub(crate) struct Process {
    child: Child,
    output: Arc<Mutex<String>>,
    log: Arc<Mutex<String>>,
    reaper: Child,
}

/// A running `grantex-vault dev`.
pub(crate) struct Dev {
    pub(crate) process: Process,
    pub(crate) instance: Value,
}

/// A directory for an instance, which another user can pass through.
pub(crate) fn instance_directory() -> TempDir {
    let passable = std::fs::Permissions::from_mode(0o711);
    tempfile::Builder::new()
        .permissions(passable)
        .tempdir()
        .expect("a temporary directory")
}

/// Runs a command of the binary to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    command(arguments, &[]).output().expect("the binary runs")
}

/// The same for one that succeeds: what it prints, less the line's end.
pub(crate) fn print(arguments: &[&str]) -> String {
    let output = run(arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grantex-vault"));
    command
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied());
    command.env("PATH", environment("PATH").unwrap_or_default());
    command.stdin(Stdio::null());
    command
}

// === impl Process ===

impl Process {
    pub(crate) fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = command(arguments, variables);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().expect("the binary runs");
        let reaper = Command::new("sh")
            .args(["-c", REAPER, "reaper", &child.id().to_string()])
            .process_group(0)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh runs");
        let output = collect(child.stdout.take().expect("it was asked for"));
        let log = collect(child.stderr.take().expect("it was asked for"));
        Self {
            child,
            output,
            log,
            reaper,
        }
    }

    /// What it has printed so far.
    pub(crate) fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process has an id");
        kill_process(pid, signal).expect("our own child");
    }

    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child")
    }

    pub(crate) async fn end(&mut self) -> ExitStatus {
        until("the process has ended", async || self.ended().is_some()).await;
        self.ended().expect("it has ended")
    }

    /// The value that a line of the log gives a field: `http=127.0.0.1:1` for `http`.
    pub(crate) async fn logged_field(&self, field: &str) -> String {
        let find = || {
            let log = self.log();
            let mut words = log.split_whitespace();
            words.find_map(|word| word.strip_prefix(&format!("{field}=")).map(str::to_owned))
        };
        until(&format!("{field} is logged"), async || find().is_some()).await;
        find().expect("it was there")
    }

    /// A number of `/proc/<pid>/status`, in KiB.
    pub(crate) fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with(field))
            .expect("Linux has it");
        let number = line
            .split_whitespace()
            .nth(1)
            .and_then(|number| number.parse().ok());
        number.expect("a number of KiB")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::TERM);
            let _ = self.child.wait();
        }
        // Its process is gone: there is nothing to end any more.
        let _ = self.reaper.kill();
        let _ = self.reaper.wait();
    }
}

// === impl Dev ===

impl Dev {
    /// Starts an instance on free ports and waits until it is ready.
    pub(crate) async fn start(directory: &Path, variables: &[(&str, &str)]) -> Self {
        let directory = directory.to_str().expect("a temporary path");
        let ports = ["--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0"];
        let arguments = [&["dev", "--json", "--data-dir", directory], &ports[..]].concat();
        let mut process = Process::start(&arguments, variables);
        until("dev is ready or has failed", async || {
            process.output().ends_with('\n') || process.ended().is_some()
        })
        .await;
        let instance = serde_json::from_str(&process.output());
        let instance = instance.unwrap_or_else(|_| panic!("dev failed: {}", process.log()));
        Self { process, instance }
    }

    /// A value of its JSON line.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.instance[name]
            .as_str()
            .unwrap_or_else(|| panic!("{name} is in the JSON line"))
    }
}

/// A program of the tests' Python environment.
pub(crate) fn python_program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(".venv/bin")
        .join(name);
    assert!(
        path.exists(),
        "{} is missing: run `make setup`",
        path.display()
    );
    path
}

fn collect(stream: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let collected = Arc::clone(&text);
    thread::spawn(move || {
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        while lines
            .read_until(b'\n', &mut line)
            .is_ok_and(|count| count > 0)
        {
            collected
                .lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    text
}
