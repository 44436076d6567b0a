//! `h2load`, beside which our own client of gRPC is measured.

use std::{fs, path::Path, time::Duration};

use tokio::process::Command;

use crate::{generator::Load, grpc::STREAMS};

/// Everybody asks the same again as soon as they are answered. It says nothing of
/// percentiles.
pub(crate) async fn run(
    directory: &Path,
    address: &str,
    clients: usize,
    (token, message): (&str, &[u8]),
    time: Duration,
) -> Load {
    let file = directory.join("h2load-body");
    let length = u32::try_from(message.len()).expect("messages are short");
    let body = [&[0], &length.to_be_bytes()[..], message].concat();
    fs::write(&file, body).expect("a temporary directory");
    let url = format!("http://{address}/grantex.vault.v1.VaultService/ExchangeCredential");
    let output = Command::new("h2load")
        .args(["--threads", "1"])
        .args(["--max-concurrent-streams", &STREAMS.to_string()])
        .args(["--clients", &(clients / STREAMS).to_string()])
        .args(["--duration", &time.as_secs().to_string()])
        .arg("--data")
        .arg(file)
        .args(["--header", "content-type: application/grpc"])
        .args(["--header", "te: trailers"])
        .args(["--header", &format!("authorization: Bearer {token}")])
        .arg(url)
        .output()
        .await
        .expect("h2load is installed, by benches/install-tools.sh");
    let text = String::from_utf8_lossy(&output.stdout);
    // finished in 5.00s, 12345.67 req/s, 1.23MB/s
    // requests: 61728 total, 61792 started, 61728 done, 61728 succeeded, 0 failed, 0 errored, 0 timeout
    let number = |line: &str, place: usize, unit: &str| -> Option<f64> {
        let line = text.lines().find_map(|found| found.strip_prefix(line))?;
        line.split(", ")
            .nth(place)?
            .strip_suffix(unit)?
            .parse()
            .ok()
    };
    let rate = number("finished in ", 1, " req/s");
    let done = number("requests: ", 2, " done");
    assert!(
        text.contains(" 0 failed, 0 errored, 0 timeout"),
        "h2load said: {text}"
    );
    let (Some(rate), Some(requests)) = (rate, done) else {
        panic!("h2load said: {text}")
    };
    Load {
        requests,
        seconds: requests / rate,
        p50: f64::NAN,
        p99: f64::NAN,
        p999: f64::NAN,
    }
}
