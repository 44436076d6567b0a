//! The vault that is measured: a process of its own on the database of an instance.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::Command,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

use crate::{
    cpu,
    http::{self, Http},
    instance::{Dev, Process, vault},
    population::{Transport, Verb},
};

/// No budget of a caller is to be measured.
pub(crate) const NO_LIMITS: [(&str, &str); 3] = [
    ("GRANTEX_VAULT_LIMIT_EXCHANGE_PER_GRANT", "0"),
    ("GRANTEX_VAULT_LIMIT_REQUESTS_PER_DEVELOPER", "0"),
    ("GRANTEX_VAULT_LIMIT_FAILED_AUTH_PER_ADDRESS", "0"),
];
/// Often enough that a measurement has the sealing of its own events in it. By default it is every 5 s.
const SEAL_INTERVAL: (&str, &str) = ("GRANTEX_VAULT_AUDIT_SEAL_INTERVAL", "1s");
const NO_CACHE: (&str, &str) = ("GRANTEX_VAULT_DATA_KEY_CACHE_TTL", "0");
/// Sealing is at most a turn behind, and never takes as long.
const SEALED_WITHIN: Duration = Duration::from_mins(1);

/// Who holds the master key, and how often it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// A keyring in a file; data keys are cached.
    Cached,
    /// A KMS in the process of the vault, which answers this late; nothing is cached.
    Kms(Duration),
}

/// A running vault.
pub(crate) struct Server {
    process: Process,
    http: SocketAddr,
    grpc: SocketAddr,
    admin: SocketAddr,
    /// From before there was a process until it said that it is ready.
    pub(crate) started_in: Duration,
}

/// The numbers of a process' memory, in MiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) resident: f64,
    /// The most since the process started.
    pub(crate) peak: f64,
}

/// What a vault counts.
pub(crate) struct Metrics(String);

// === impl Keys ===

impl Keys {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Cached => "cached".to_owned(),
            Self::Kms(delay) => format!("KMS, {} ms", delay.as_millis()),
        }
    }
}

// === impl Server ===

impl Server {
    /// Starts one and waits until it is ready.
    pub(crate) async fn start(dev: &Dev, keys: Keys) -> Self {
        let [http, grpc, admin] = free_addresses();
        let mut command = match keys {
            Keys::Cached => {
                let mut command = vault();
                command.arg("serve");
                command
            }
            // The same program as a library, in this one.
            Keys::Kms(delay) => {
                let us = std::env::current_exe().expect("this program is a file");
                let mut command = Command::new(us);
                let delay = delay.as_millis().to_string();
                command.env_clear().env(NO_CACHE.0, NO_CACHE.1);
                command.args(["--serve-with-kms", &delay]);
                command
            }
        };
        let keyring = grantex_vault::dev::keyring_file(dev.directory.path());
        let instance = &dev.instance;
        command
            .env("DATABASE_URL", &instance.database_url)
            .env(
                "GRANTEX_VAULT_MASTER_KEY",
                format!("local:{}", keyring.display()),
            )
            .env(
                "GRANTEX_VAULT_ISSUER",
                instance.issuer.as_deref().expect("its own"),
            )
            .env(
                "GRANTEX_VAULT_JWKS_FILE",
                dev.directory.path().join("jwks.json"),
            )
            .env("GRANTEX_VAULT_HTTP_ADDR", http.to_string())
            .env("GRANTEX_VAULT_GRPC_ADDR", grpc.to_string())
            .env("GRANTEX_VAULT_ADMIN_ADDR", admin.to_string())
            .env("RUST_LOG", "warn")
            .env(SEAL_INTERVAL.0, SEAL_INTERVAL.1)
            .envs(NO_LIMITS);
        let since = Instant::now();
        let process = Process(command.spawn().expect("the binary runs"));
        while !is_ready(admin).await {
            assert!(
                since.elapsed() < Duration::from_secs(30),
                "it does not start"
            );
            sleep(Duration::from_millis(1)).await;
        }
        let started_in = since.elapsed();
        Self {
            process,
            http,
            grpc,
            admin,
            started_in,
        }
    }

    pub(crate) fn address(&self, transport: Transport) -> String {
        match transport {
            Transport::Grpc => self.grpc.to_string(),
            Transport::Http => self.http.to_string(),
        }
    }

    pub(crate) fn cpu(&self) -> f64 {
        cpu::of_process(self.process.0.id())
    }

    pub(crate) fn memory(&self) -> Memory {
        let file = format!("/proc/{}/status", self.process.0.id());
        let text = fs::read_to_string(file).expect("the process runs");
        let mebibytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
            kibibytes.map_or(f64::NAN, |kibibytes: f64| kibibytes / 1024.0)
        };
        Memory {
            resident: mebibytes("VmRSS:"),
            peak: mebibytes("VmHWM:"),
        }
    }

    pub(crate) async fn metrics(&self) -> Metrics {
        let mut http = Http::connect(&self.admin.to_string()).await;
        let body = http.ask(&http::request("GET /metrics", "", "")).await;
        Metrics(String::from_utf8(body.to_vec()).expect("metrics are text"))
    }

    /// Waits until all that it recorded is sealed, so that nobody else is charged for it.
    pub(crate) async fn seal(&self) {
        let since = Instant::now();
        loop {
            assert!(since.elapsed() < SEALED_WITHIN, "not everything is sealed");
            let metrics = self.metrics().await;
            // Every verb records an event.
            let recorded = metrics.sum(|line| line.contains("requests_total{outcome=\"ok\""));
            let sealed = metrics.sum(|line| line.contains("audit_sealed_events_total "));
            if sealed >= recorded {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Nobody listens there now.
fn free_addresses() -> [SocketAddr; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let address = |listener: TcpListener| listener.local_addr().expect("it listens");
    listeners.map(|listener| address(listener.expect("the machine has free ports")))
}

async fn is_ready(admin: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(admin).await?;
        let request = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer.starts_with(b"HTTP/1.1 200 "))
    };
    ask.await.unwrap_or(false)
}

// === impl Metrics ===

impl Metrics {
    /// Requests of a verb that were served.
    pub(crate) fn served(&self, verb: Verb, transport: Transport) -> f64 {
        self.requests(verb, transport, "ok")
    }

    /// Those whose client went away, as `wrk` does at its end.
    pub(crate) fn abandoned(&self, verb: Verb, transport: Transport) -> f64 {
        self.requests(verb, transport, "abandoned")
    }

    pub(crate) fn all_requests(&self) -> f64 {
        self.sum(|line| line.starts_with("grantex_vault_requests_total{"))
    }

    fn requests(&self, verb: Verb, transport: Transport, outcome: &str) -> f64 {
        let (verb, transport) = (verb.name(), transport.label());
        let name = format!(
            "grantex_vault_requests_total{{outcome=\"{outcome}\",transport=\"{transport}\",verb=\"{verb}\"}} "
        );
        self.sum(|line| line.starts_with(&name))
    }

    fn sum(&self, is_one: impl Fn(&str) -> bool) -> f64 {
        let lines = self.0.lines().filter(|line| is_one(line));
        let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        values.sum()
    }
}
