//! Clients that exchange as fast as they are answered, at little cost: requests are made beforehand,
//! and of answers only the status and the length are read.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use futures_util::future::{join, join_all};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

/// A connection that is kept.
pub(crate) struct Http {
    stream: TcpStream,
    buffer: Vec<u8>,
}

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

/// A request with its headers, kept alive.
pub(crate) fn request(method_and_path: &str, token: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{method_and_path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
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

// === impl Http ===

impl Http {
    /// Connects to an address, or to what an http:// URL names.
    pub(crate) async fn connect(address: &str) -> Self {
        let address = address.trim_start_matches("http://");
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("TCP has it");
        let buffer = Vec::with_capacity(4096);
        Self { stream, buffer }
    }

    /// Sends a request and reads its answer, whose body this is. Any other than a success is a fault.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> &[u8] {
        let sent = self.stream.write_all(request).await;
        sent.expect("the connection is kept");
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await;
            assert_ne!(read.expect("it answers"), 0, "the connection is kept");
            if let Some((body, end)) = whole(&self.buffer)
                && end <= self.buffer.len()
            {
                return &self.buffer[body..end];
            }
        }
    }
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

/// Where the body of an answer begins and ends, once its head is there.
fn whole(answer: &[u8]) -> Option<(usize, usize)> {
    const END_OF_HEAD: &[u8] = b"\r\n\r\n";
    const LENGTH: &[u8] = b"\r\ncontent-length: ";
    let find = |wanted: &[u8]| answer.windows(wanted.len()).position(|part| part == wanted);
    let body = find(END_OF_HEAD)? + END_OF_HEAD.len();
    let shown = String::from_utf8_lossy(answer);
    assert!(answer.starts_with(b"HTTP/1.1 2"), "{shown}");
    let length = find(LENGTH).expect("an answer has a length") + LENGTH.len();
    let digits = answer[length..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    Some((body, body + length))
}
