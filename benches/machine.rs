//! What was measured, when, and on what.

use std::{fs, process::Command, thread};

use grantex_vault::clock::{Clock, SystemClock};
use serde::Serialize;

/// How the parameters of Linux begin that say who runs where and when.
const SCHEDULER: [&str; 6] = ["sched", "preempt", "isolcpus", "nohz", "idle", "haltpoll"];

/// Where numbers come from.
#[derive(Serialize)]
pub(crate) struct Origin {
    measured_at: String,
    commit: String,
    machine: Machine,
}

#[derive(Serialize)]
struct Machine {
    processors: usize,
    processor: String,
    memory_mib: f64,
    linux: String,
    /// What Linux was told, when it started, about who runs where and when.
    scheduler: Vec<String>,
}

// === impl Origin ===

impl Origin {
    pub(crate) fn here_and_now() -> Self {
        Self {
            measured_at: SystemClock.now().to_string(),
            commit: commit(),
            machine: Machine::this(),
        }
    }
}

// === impl Machine ===

impl Machine {
    fn this() -> Self {
        let value = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default()
                .trim_matches([':', ' ', '\t'])
                .to_owned()
        };
        let memory = value("/proc/meminfo", "MemTotal")
            .replace(" kB", "")
            .parse();
        Self {
            processors: thread::available_parallelism().map_or(0, usize::from),
            processor: value("/proc/cpuinfo", "model name"),
            memory_mib: memory.map_or(f64::NAN, |kibibytes: f64| kibibytes / 1024.0),
            linux: value("/proc/sys/kernel/osrelease", ""),
            scheduler: value("/proc/cmdline", "")
                .split_whitespace()
                .filter(|word| SCHEDULER.iter().any(|name| word.starts_with(name)))
                .map(str::to_owned)
                .collect(),
        }
    }
}

/// What git calls what is measured; `-dirty` when it is not that.
fn commit() -> String {
    let describe = ["describe", "--always", "--dirty"];
    let output = Command::new("git").args(describe).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().trim().to_owned()
}
