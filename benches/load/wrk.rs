//! `wrk`, which asks over HTTP/1.1.

use std::{fs, path::Path, time::Duration};

use serde::Deserialize;
use tokio::process::Command;

use crate::{
    generator::Load,
    population::{Choice, Requests},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/load/wrk.lua");

/// What the script prints.
#[derive(Deserialize)]
struct Summary {
    requests: f64,
    duration: f64,
    p50: f64,
    p99: f64,
    p999: f64,
    errors: u64,
}

/// Everybody asks again as soon as they are answered.
pub(crate) async fn run(
    directory: &Path,
    address: &str,
    clients: usize,
    requests: &Requests,
    run: u32,
    time: Duration,
) -> Load {
    let file = directory.join("wrk-requests");
    let (kind, all) = match requests {
        Requests::Any(all) => ("any", &all[..]),
        Requests::Numbered(parts) => ("numbered", &parts[..]),
    };
    let mut content = Vec::new();
    for request in all {
        content.extend(format!("{}\n", request.len()).bytes());
        content.extend(request);
        content.push(b'\n');
    }
    fs::write(&file, content).expect("a temporary directory");
    let output = Command::new("wrk")
        .args(["--threads", "1", "--timeout", "10s", "--script", SCRIPT])
        .args(["--connections", &clients.to_string()])
        .args(["--duration", &format!("{}s", time.as_secs())])
        .arg(address)
        .arg("--")
        .arg(file)
        .args([kind, &Choice::first_number(run).to_string()])
        .output()
        .await
        .expect("wrk is installed, by benches/install-tools.sh");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().rfind(|line| line.starts_with('{'));
    let summary = line.and_then(|line| serde_json::from_str(line).ok());
    let said = String::from_utf8_lossy(&output.stderr);
    let summary: Summary = summary.unwrap_or_else(|| panic!("wrk said: {text}{said}"));
    assert_eq!(summary.errors, 0, "wrk said: {text}{said}");
    Load {
        requests: summary.requests,
        seconds: summary.duration / 1e6,
        p50: summary.p50 / 1e3,
        p99: summary.p99 / 1e3,
        p999: summary.p999 / 1e3,
    }
}
