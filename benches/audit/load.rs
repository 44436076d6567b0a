//! Clients that exchange as fast as they are answered.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use futures_util::future::{join, join_all};
use tokio::time::sleep;

use crate::http::Http;

/// What came of it, within the time that was measured.
pub(crate) struct Load {
    pub(crate) elapsed: Duration,
    /// From the first byte of a request to the last of its answer, sorted.
    pub(crate) latencies: Vec<Duration>,
}

/// Whether answers count now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Measured,
    Over,
}

/// Sends each request again and again, from a client of its own, for a warm-up and then for as long
/// again, which is measured. `look` is called at the beginning and at the end of that.
pub(crate) async fn run<T>(
    address: &str,
    requests: &[Vec<u8>],
    time: Duration,
    mut look: impl AsyncFnMut() -> T,
) -> (Load, [T; 2]) {
    let phase = Cell::new(Phase::WarmUp);
    let clients = requests.iter().map(async |request| {
        let mut http = Http::connect(address).await;
        let mut latencies = Vec::new();
        while phase.get() != Phase::Over {
            let since = Instant::now();
            http.ask(request).await;
            if phase.get() == Phase::Measured {
                latencies.push(since.elapsed());
            }
        }
        latencies
    });
    let watch = async {
        sleep(time).await;
        let before = look().await;
        let since = Instant::now();
        phase.set(Phase::Measured);
        sleep(time).await;
        phase.set(Phase::Over);
        let elapsed = since.elapsed();
        (elapsed, [before, look().await])
    };
    let ((elapsed, looks), latencies) = join(watch, join_all(clients)).await;
    let mut latencies = latencies.concat();
    latencies.sort_unstable();
    (Load { elapsed, latencies }, looks)
}

// === impl Load ===

impl Load {
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53")]
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// In milliseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let at = self.latencies.len() * percent / 100;
        let latency = self.latencies.get(at).map(Duration::as_secs_f64);
        latency.map_or(f64::NAN, |seconds| seconds * 1000.0)
    }
}
