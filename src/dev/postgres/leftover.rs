//! The server that a `dev` left running when it was killed.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use sha2::{Digest, Sha256};
use tokio::time::{interval, timeout};

use super::POLL;

const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A name for the server of a cluster, which its command line has. It is made of ASCII, because `ps` shows
/// other letters as the locale allows.
pub(super) fn cluster_name(cluster: &Path) -> String {
    let digest = Sha256::digest(cluster.as_os_str().as_bytes());
    let (number, _) = digest.split_first_chunk().expect("it has 32 bytes");
    format!("grantex-vault-dev-{:016x}", u64::from_be_bytes(*number))
}

/// Stops the server of a cluster, if it runs.
pub(super) async fn stop(cluster: &Path) {
    let file = fs::read(cluster.join("postmaster.pid")).unwrap_or_default();
    let text = String::from_utf8_lossy(&file);
    let number = text
        .lines()
        .next()
        .and_then(|line| line.trim().parse().ok());
    let Some(pid) = number
        .and_then(Pid::from_raw)
        .filter(|pid| serves(*pid, cluster))
    else {
        return;
    };
    tracing::warn!("stopping the Postgres that an earlier dev left running");
    let mut polls = interval(POLL);
    let _ = kill_process(pid, Signal::INT);
    let gone = async {
        while test_kill_process(pid).is_ok() && serves(pid, cluster) {
            polls.tick().await;
        }
    };
    if timeout(STOP_TIMEOUT, gone).await.is_err() {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Whether a process is the server of a cluster: its number may belong to another by now.
fn serves(pid: Pid, cluster: &Path) -> bool {
    by_proc(pid, cluster).unwrap_or_else(|| by_ps(pid, cluster))
}

/// What Linux says: a server works in its cluster. `None` elsewhere.
fn by_proc(pid: Pid, cluster: &Path) -> Option<bool> {
    if !Path::new("/proc/self/cwd").exists() {
        return None;
    }
    let process = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
    let link = |name: &str| fs::read_link(process.join(name));
    let is_postgres = link("exe").is_ok_and(|program| {
        let name = program.file_name().map(OsStr::as_bytes);
        // Of a program that was updated since, Linux says `postgres (deleted)`.
        name.is_some_and(|name| name.starts_with(b"postgres"))
    });
    let works_there = link("cwd").is_ok_and(|directory| directory == cluster);
    Some(is_postgres && works_there)
}

/// What `ps` says elsewhere: the command line has the name of the cluster.
fn by_ps(pid: Pid, cluster: &Path) -> bool {
    let output = Command::new("ps")
        .args(["-ww", "-o", "command=", "-p"])
        .arg(pid.as_raw_nonzero().to_string())
        .stdin(Stdio::null())
        .output();
    let name = cluster_name(cluster);
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that works in a directory, with an argument, until it is dropped.
    struct Running(std::process::Child);

    impl Running {
        fn start(directory: &Path, argument: &str) -> Self {
            let mut command = Command::new("sh");
            // Two commands, so that the shell does not become the last one.
            command.args(["-c", "read -r gone; :", "sh", argument]);
            command.current_dir(directory).stdin(Stdio::piped());
            Self(command.spawn().unwrap())
        }

        fn pid(&self) -> Pid {
            Pid::from_raw(self.0.id().cast_signed()).unwrap()
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            drop(self.0.stdin.take());
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_name_of_a_cluster_is_ascii_and_its_own() {
        let name = cluster_name(Path::new("/tmp/Łódź"));
        assert!(name.is_ascii(), "{name}");
        // More than this Postgres cuts off.
        assert!(name.len() < 64, "{name}");
        assert_ne!(name, cluster_name(Path::new("/tmp/L\u{f3}d\u{17a}")));
        assert_eq!(name, cluster_name(Path::new("/tmp/Łódź")));
    }

    #[test]
    fn a_server_is_known_by_its_command_line_whatever_the_locale() {
        let directory = tempfile::tempdir().unwrap();
        let cluster = directory.path().join("Łódź");
        let server = Running::start(directory.path(), &cluster_name(&cluster));
        let other = Running::start(directory.path(), "grantex-vault-dev-");
        assert!(by_ps(server.pid(), &cluster));
        assert!(!by_ps(other.pid(), &cluster));
    }

    #[test]
    fn another_program_in_the_directory_of_a_cluster_is_not_its_server() {
        let cluster = tempfile::tempdir().unwrap();
        let other = Running::start(cluster.path(), "");
        assert!(!serves(other.pid(), cluster.path()));
    }
}
