//! What only takes and never asks: the real binary stays alive, its memory bounded, and serves
//! others meanwhile.
//!
//! `connections.rs` is about each bound of a connection, `tls/handshakes.rs` about those of a
//! handshake. Here many connections attack one process, whose memory the kernel tells.

mod floods;
mod frames;
mod slow;
mod strangers;

use frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, End, GET, HEADERS, PING, POST, RST_STREAM,
    SETTINGS, frame, stream,
};
use futures_util::future::join_all;
use grantex_vault::grpc::pb::{ListCredentialsRequest, vault_service_client::VaultServiceClient};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tonic::{Request, transport::Channel};

use crate::harness::{Certificates, Dev, Server, Trust, instance_directory, problem, until};

/// How much more memory than usual a flood may take, in MiB. It is a few at most.
const ALLOWED: u64 = 32;

/// An instance, and somebody who uses it as meant.
struct Victim {
    dev: Dev,
    http: reqwest::Client,
    channel: Channel,
    trust: Trust,
    grpc_url: String,
    /// The most memory that it ever had when it was only used as meant, in KiB.
    usual: u64,
    directory: TempDir,
}

impl Victim {
    async fn start() -> Self {
        Self::start_with(&[], Trust::default()).await
    }

    async fn start_with_tls(settings: &[(&str, &str)], certificates: &Certificates) -> Self {
        let files = [certificates.path("tls.crt"), certificates.path("tls.key")];
        let tls = [
            ("GRANTEX_VAULT_TLS_CERT_FILE", &*files[0]),
            ("GRANTEX_VAULT_TLS_KEY_FILE", &*files[1]),
        ];
        let settings = [settings, &tls].concat();
        Self::start_with(&settings, certificates.trust()).await
    }

    async fn start_with(settings: &[(&str, &str)], trust: Trust) -> Self {
        let directory = instance_directory();
        let quiet = [settings, &[("RUST_LOG", "warn")]].concat();
        let dev = Dev::start(directory.path(), &quiet).await;
        let scheme = dev.get("http").split(':').next().unwrap();
        let grpc_url = format!("{scheme}://{}", dev.get("grpc"));
        let mut victim = Self {
            http: trust.http(),
            channel: trust.channel(&grpc_url),
            trust,
            grpc_url,
            dev,
            usual: 0,
            directory,
        };
        join_all((0..32).map(|_| victim.serves("as meant"))).await;
        victim.usual = victim.dev.process.memory("VmHWM:");
        victim
    }

    /// Where it listens: HTTP and gRPC.
    fn addresses(&self) -> [&str; 2] {
        let (_, http) = self.dev.get("http").split_once("://").unwrap();
        [http, self.dev.get("grpc")]
    }

    /// It answers through both doors, on connections that are open already and on new ones. No
    /// connection fails; but the attack has both cores busy, so it may say that one has to come
    /// again.
    async fn serves(&self, during: &str) {
        let (http, channel) = (self.trust.http(), self.trust.channel(&self.grpc_url));
        until(&format!("it serves during {during}"), async || {
            let answers = tokio::join!(
                self.lists_by_http(&self.http),
                self.lists_by_http(&http),
                self.lists_by_grpc(self.channel.clone()),
                self.lists_by_grpc(channel.clone()),
            );
            answers == (true, true, true, true)
        })
        .await;
    }

    async fn lists_by_http(&self, client: &reqwest::Client) -> bool {
        let url = format!("{}/v1/vault/credentials", self.dev.get("http"));
        let request = client.get(url).bearer_auth(self.dev.get("apiKey"));
        let status = request.send().await.expect("it answers").status().as_u16();
        assert!([200, 503].contains(&status), "{status}");
        status == 200
    }

    async fn lists_by_grpc(&self, channel: Channel) -> bool {
        let mut request = Request::new(ListCredentialsRequest::default());
        let bearer = format!("Bearer {}", self.dev.get("apiKey"));
        let bearer = bearer.parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        let mut client = VaultServiceClient::new(channel);
        match client.list_credentials(request).await {
            Ok(_) => true,
            Err(status) => {
                let says_why = problem(&status);
                assert_eq!(says_why.status, 503, "{says_why:?}");
                false
            }
        }
    }

    /// It is alive, serves, and has never had more memory than that above the usual, in MiB.
    async fn unharmed(&mut self, by: &str, allowed: u64) {
        assert!(self.dev.process.ended().is_none(), "{by} ended it");
        self.serves(by).await;
        let grown = self.dev.process.memory("VmHWM:").saturating_sub(self.usual) / 1024;
        assert!(grown <= allowed, "{by}: {grown} MiB");
        let log = self.dev.process.log();
        assert!(!log.contains("panicked"), "{by}: {log}");
    }

    /// It still stops in order.
    async fn stops(mut self) {
        self.dev.process.signal(Signal::TERM);
        assert!(self.dev.process.end().await.success());
    }

    /// Attacks both doors on so many connections each, while somebody uses them as meant.
    async fn attacked(
        &self,
        what: &str,
        connections: usize,
        attack: impl AsyncFn(&str) -> End,
    ) -> Vec<End> {
        let [http, grpc] = self.addresses();
        let attacks = (0..connections).flat_map(|_| [attack(http), attack(grpc)]);
        let (ends, ()) = tokio::join!(join_all(attacks), self.serves(what));
        ends
    }
}

/// The name `x` and a value of 4,000 bytes, as HPACK writes them.
fn large_header() -> Vec<u8> {
    [&b"\x01x\x7f\xa1\x1e"[..], &[b'y'; 4000]].concat()
}

/// One that is not kept in the table of the connection.
fn passing_header() -> Vec<u8> {
    [vec![0x00], large_header()].concat()
}

/// One that is kept, and then named as often by one byte each.
fn kept_header(named: usize) -> Vec<u8> {
    [vec![0x40], large_header(), vec![0xbe; named]].concat()
}

#[tokio::test]
async fn frames_written_by_hand_are_understood() {
    let server = Server::start().await;
    let headers = [Vec::new(), passing_header(), kept_header(3)];
    for address in [server.http_address(), server.grpc_address()] {
        for more in &headers {
            let head = [GET, more].concat();
            let request = frame(HEADERS, END_HEADERS | END_STREAM, stream(0), &head);
            let mut connection = frames::open(&address).await;
            connection.write_all(&request).await.unwrap();
            assert!(frames::answered(&mut connection, stream(0)).await);
        }
    }
}

#[tokio::test]
async fn rapid_resets() {
    let mut victim = Victim::start().await;
    let reset = |number: u32| {
        let cancel = 8_u32.to_be_bytes();
        let open = frame(HEADERS, END_HEADERS | END_STREAM, stream(number), GET);
        [open, frame(RST_STREAM, 0, stream(number), &cancel)].concat()
    };
    let attack = async |address: &str| {
        let batch = |batch: u32| (0..100).flat_map(|n| reset(batch * 100 + n)).collect();
        frames::send(frames::open(address).await, (0..200).map(batch)).await
    };
    for _ in 0..3 {
        let ends = victim.attacked("rapid resets", 20, attack).await;
        assert!(ends.iter().all(|end| *end == End::Closed), "{ends:?}");
    }
    victim.unharmed("rapid resets", ALLOWED).await;
    victim.stops().await;
}

#[tokio::test]
async fn headers_that_never_end() {
    let mut victim = Victim::start().await;
    for (what, part, batches) in [
        (
            "large continuations",
            frame(CONTINUATION, 0, 1, &passing_header().repeat(4)),
            2000,
        ),
        (
            "empty continuations",
            frame(CONTINUATION, 0, 1, b"").repeat(500),
            400,
        ),
    ] {
        let attack = async |address: &str| {
            let first = std::iter::once(frame(HEADERS, END_STREAM, 1, GET));
            let more = (0..batches).map(|_| part.clone());
            frames::send(frames::open(address).await, first.chain(more)).await
        };
        let ends = victim.attacked(what, 10, attack).await;
        assert!(
            ends.iter().all(|end| *end == End::Closed),
            "{what}: {ends:?}"
        );
        victim.unharmed(what, ALLOWED).await;
    }
    let lines = "x: y\r\n".repeat(20_000);
    let request = format!("GET / HTTP/1.1\r\nhost: v\r\n{lines}").into_bytes();
    let attack = async |address: &str| {
        let connection = TcpStream::connect(address).await.unwrap();
        frames::send(connection, std::iter::once(request.clone())).await
    };
    let ends = victim.attacked("lines of HTTP/1", 100, attack).await;
    assert!(ends.iter().all(|end| *end == End::Closed), "{ends:?}");
    victim.unharmed("lines of HTTP/1", ALLOWED).await;
    victim.stops().await;
}

#[tokio::test]
async fn headers_that_are_small_on_the_wire_only() {
    let mut victim = Victim::start().await;
    // 48 MB each.
    let bomb = [GET, &kept_header(12_000)].concat();
    let attack = async |address: &str| {
        let bomb = |number| frame(HEADERS, END_HEADERS | END_STREAM, stream(number), &bomb);
        frames::send(frames::open(address).await, (0..200).map(bomb)).await
    };
    victim
        .attacked("headers out of the table", 10, attack)
        .await;
    victim.unharmed("headers out of the table", ALLOWED).await;
    victim.stops().await;
}

#[tokio::test]
async fn more_streams_than_are_allowed() {
    let mut victim = Victim::start().await;
    let attack = async |address: &str| {
        let open = |number| frame(HEADERS, END_HEADERS, stream(number), POST);
        let begin = |number| [open(number), frame(DATA, 0, stream(number), b"{")].concat();
        frames::send(frames::open(address).await, (0..5000).map(begin)).await
    };
    victim.attacked("streams", 20, attack).await;
    victim.unharmed("streams", ALLOWED).await;
    victim.stops().await;
}

#[tokio::test]
async fn answers_that_nobody_reads() {
    let mut victim = Victim::start().await;
    let request = |number| frame(HEADERS, END_HEADERS | END_STREAM, stream(number), GET);
    let pings = |_| frame(PING, 0, 0, b"12345678").repeat(200);
    let settings = |_| frame(SETTINGS, 0, 0, b"").repeat(200);
    let requests = |batch| (0..200).flat_map(|n| request(batch * 200 + n)).collect();
    let attacks: [(_, &dyn Fn(u32) -> Vec<u8>); 3] = [
        ("pings", &pings),
        ("settings", &settings),
        ("requests", &requests),
    ];
    for (what, batch) in attacks {
        let attack = async |address: &str| {
            frames::send_deaf(frames::open(address).await, (0..500).map(batch)).await
        };
        victim.attacked(what, 20, attack).await;
        victim.unharmed(what, ALLOWED).await;
    }
    let pipeline = b"GET / HTTP/1.1\r\nhost: v\r\n\r\n".repeat(200);
    let attack = async |address: &str| {
        let connection = TcpStream::connect(address).await.unwrap();
        frames::send_deaf(connection, (0..500).map(|_| pipeline.clone())).await
    };
    victim.attacked("a pipeline", 20, attack).await;
    victim.unharmed("a pipeline", ALLOWED).await;
    victim.stops().await;
}
