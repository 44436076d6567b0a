//! The real binary, and other programs, as processes of their own. One is gone when it is dropped, or
//! when the test process is, however that ends.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use grantex_vault::config::environment;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::until;

const VAULT: &str = env!("CARGO_BIN_EXE_grantex-vault");

/// Becomes the program of its arguments. Beside it waits who ends it, with the signal `$1`, should the
/// input end that the test process holds open. A line instead says that there is nothing to end.
const REAPED: &str = r#"
signal=$1
shift
exec 3<&0 </dev/null
(trap '' INT TERM HUP; read -r gone <&3 || kill -s "$signal" $$) >/dev/null 2>&1 &
exec 3<&- "$@"
"#;

/// Has a server choose its ports.
pub(crate) const FREE_PORTS: [&str; 3] = [
    "--http-addr=127.0.0.1:0",
    "--grpc-addr=127.0.0.1:0",
    "--admin-addr=127.0.0.1:0",
];

/// A running program.
pub(crate) struct Process {
    child: Child,
    ending: Signal,
    output: Arc<Mutex<String>>,
    log: Arc<Mutex<String>>,
    reaper: ChildStdin,
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
    run_with(arguments, &[])
}

/// The same with these variables as its environment.
pub(crate) fn run_with(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = command(VAULT, variables);
    command.args(arguments).stdin(Stdio::null());
    command.output().expect("the binary runs")
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

/// Runs a command with these as its input, its output and its error.
pub(crate) async fn run_between(
    arguments: &[&str],
    variables: &[(&str, &str)],
    [input, output, error]: [Stdio; 3],
) -> Output {
    let mut command = command(VAULT, variables);
    command.args(arguments);
    command.stdin(input).stdout(output).stderr(error);
    let mut command = tokio::process::Command::from(command);
    let running = command.kill_on_drop(true).spawn().expect("the binary runs");
    let ended = tokio::time::timeout(super::PATIENCE, running.wait_with_output()).await;
    let ended = ended.unwrap_or_else(|_| panic!("{arguments:?} does not end"));
    ended.expect("our own child")
}

/// A pipe that nobody reads any more.
pub(crate) fn unread() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

/// A command with an environment of nothing but these variables, and where programs are.
fn command(program: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(variables.iter().copied());
    command.env("PATH", environment("PATH").unwrap_or_default());
    command
}

// === impl Process ===

impl Process {
    /// Starts `grantex-vault`. It is asked to end, so that a `dev` stops its Postgres.
    pub(crate) fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::reaped(VAULT, arguments, variables, Signal::TERM)
    }

    /// Starts another program, which has nothing to put in order before it ends.
    pub(crate) fn start_program(path: &str, arguments: &[&str]) -> Self {
        Self::reaped(path, arguments, &[], Signal::KILL)
    }

    fn reaped(path: &str, arguments: &[&str], variables: &[(&str, &str)], ending: Signal) -> Self {
        let name = if ending == Signal::KILL {
            "KILL"
        } else {
            "TERM"
        };
        let mut command = command("/bin/sh", variables);
        command
            .args(["-c", REAPED, "sh", name, path])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().expect("sh runs");
        let output = collect(child.stdout.take().expect("it was asked for"));
        let log = collect(child.stderr.take().expect("it was asked for"));
        // Not left in the child, whose `wait` would close it.
        let reaper = child.stdin.take().expect("it was asked for");
        Self {
            child,
            ending,
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

    /// The first line of the log with this text.
    pub(crate) async fn logged_line(&mut self, text: &str) -> String {
        let mut found = None;
        until(&format!("{text:?} is logged"), async || {
            let ended = self.ended();
            let log = self.log();
            found = log
                .lines()
                .find(|line| line.contains(text))
                .map(str::to_owned);
            assert!(found.is_some() || ended.is_none(), "it ended: {log}");
            found.is_some()
        })
        .await;
        found.expect("it was waited for")
    }

    /// What the kernel says of it: the line of `/proc/<pid>/<file>` that begins so.
    pub(crate) fn kernel_line(&self, file: &str, beginning: &str) -> String {
        let path = format!("/proc/{}/{file}", self.child.id());
        let text = std::fs::read_to_string(path).expect("all users may read it");
        let mut lines = text.lines();
        let line = lines.find(|line| line.starts_with(beginning));
        line.expect("Linux has it").to_owned()
    }

    /// A number of `/proc/<pid>/status`, in KiB.
    pub(crate) fn memory(&self, field: &str) -> u64 {
        let line = self.kernel_line("status", field);
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
            self.signal(self.ending);
            let _ = self.child.wait();
        }
        // Its id may be another's by now.
        let _ = self.reaper.write_all(b"\n");
    }
}

// === impl Dev ===

impl Dev {
    /// Starts an instance on free ports and waits until it is ready.
    pub(crate) async fn start(directory: &Path, variables: &[(&str, &str)]) -> Self {
        Self::start_with(directory, &[], variables).await
    }

    /// The same with these flags.
    pub(crate) async fn start_with(
        directory: &Path,
        flags: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let directory = directory.to_str().expect("a temporary path");
        let dev = ["dev", "--json", "--data-dir", directory];
        let arguments = [&dev, &FREE_PORTS[..], flags].concat();
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

/// Runs a Python script of `tests/`, which reads this, and answers what it prints; the test fails when
/// the script does.
pub(crate) async fn python(script: &str, input: String) -> String {
    script_of(&python_program("python"), script, &[], input).await
}

/// The same of a script for Node.js, whose argument is where its libraries are.
pub(crate) async fn node(script: &str, input: String) -> String {
    let libraries = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/node");
    assert!(
        libraries.join("ready").exists(),
        "{} is missing: run `make setup`",
        libraries.display()
    );
    script_of(Path::new("node"), script, &[&libraries], input).await
}

async fn script_of(program: &Path, script: &str, arguments: &[&Path], input: String) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(script);
    let mut running = Command::new(program)
        .arg(path)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let mut stdin = running.stdin.take().expect("it was asked for");
    let output = tokio::task::spawn_blocking(move || {
        stdin.write_all(input.as_bytes())?;
        drop(stdin);
        running.wait_with_output()
    });
    let output = output.await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {said}");
    String::from_utf8(output.stdout).expect("scripts print UTF-8")
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
