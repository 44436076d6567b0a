//! Exchanges, each with its event in the audit record.

use std::time::Duration;

use grantex_vault::{
    auth::key_set::SignatureAlgorithm,
    clock::{Clock, SystemClock},
    dev::issuer::{ClaimsForm, DevIssuer, GrantClaims},
};
use serde_json::json;
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::{
    REPETITIONS, WINDOW, cpu, finish,
    http::{self, Http},
    instance::{Dev, connect, median},
    load,
};

const CLIENTS: [usize; 3] = [1, 16, 64];
const MOST_CLIENTS: usize = 64;
const SCOPE: &str = "vault:github:exchange";
/// No budget of a caller is to be measured.
const NO_LIMITS: [(&str, &str); 3] = [
    ("GRANTEX_VAULT_LIMIT_EXCHANGE_PER_GRANT", "0"),
    ("GRANTEX_VAULT_LIMIT_REQUESTS_PER_DEVELOPER", "0"),
    ("GRANTEX_VAULT_LIMIT_FAILED_AUTH_PER_ADDRESS", "0"),
];

/// An instance and those who exchange there.
struct Bench {
    dev: Dev,
    sql: Client,
    postgres: cpu::Postgres,
    /// An exchange for each client.
    requests: Vec<Vec<u8>>,
}

/// What one measurement says; times of processors in microseconds of an exchange.
#[derive(Clone, Copy)]
struct Measured {
    rate: f64,
    p50: f64,
    p99: f64,
    events_a_commit: f64,
    postgres: f64,
    vault: f64,
    load: f64,
    /// Processors that others had, in hundredths.
    others: f64,
}

/// What is read before and after.
struct Look {
    postgres: f64,
    vault: f64,
    load: f64,
    everybody: f64,
    batches: f64,
    events: f64,
}

/// Measures each number of clients several times, in turns.
pub(crate) async fn measure() {
    let bench = Bench::new(Dev::start(&NO_LIMITS)).await;
    let mut measured = CLIENTS.map(|_| Vec::new());
    for _ in 0..REPETITIONS {
        for (clients, measured) in CLIENTS.into_iter().zip(&mut measured) {
            quiet().await;
            measured.push(bench.exchange(clients).await);
        }
    }
    println!("exchanges: {WINDOW:?} each, {REPETITIONS} repetitions\n");
    println!("clients    a second (lowest to highest)   p50 ms   p99 ms");
    for (clients, measured) in CLIENTS.into_iter().zip(&measured) {
        print_rate(clients, measured);
    }
    println!(
        "\nclients    events a commit   µs of an exchange: Postgres   vault   clients   others, % of one"
    );
    for (clients, measured) in CLIENTS.into_iter().zip(&measured) {
        print_time(clients, measured);
    }
    println!();
}

/// Waits until others leave the machine alone, though not for ever.
async fn quiet() {
    const LOOK: Duration = Duration::from_secs(1);
    let looks = if cfg!(debug_assertions) { 0 } else { 20 };
    for _ in 0..looks {
        let before = cpu::of_everybody();
        sleep(LOOK).await;
        if cpu::of_everybody() - before < 100_000.0 {
            return;
        }
    }
}

fn print_rate(clients: usize, measured: &[Measured]) {
    let of = |value: fn(&Measured) -> f64| {
        let mut values: Vec<f64> = measured.iter().map(value).collect();
        (median(&mut values), values)
    };
    let (rate, rates) = of(|one| one.rate);
    let range = format!("({:.0} to {:.0})", rates[0], rates[REPETITIONS - 1]);
    let (p50, p99) = (of(|one| one.p50).0, of(|one| one.p99).0);
    println!("{clients:>7} {rate:>11.0} {range:<21} {p50:>7.2} {p99:>8.2}");
}

fn print_time(clients: usize, measured: &[Measured]) {
    let of =
        |value: fn(&Measured) -> f64| median(&mut measured.iter().map(value).collect::<Vec<_>>());
    let events = of(|one| one.events_a_commit);
    let [postgres, vault] = [of(|one| one.postgres), of(|one| one.vault)];
    let load = of(|one| one.load);
    let others = of(|one| one.others);
    println!(
        "{clients:>7} {events:>18.1} {postgres:>29.0} {vault:>7.0} {load:>9.0} {others:>18.0}"
    );
}

/// The value of a counter without labels; none before it was counted.
fn counter(metrics: &str, name: &str) -> f64 {
    let line = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    metrics.lines().find_map(line).unwrap_or_default()
}

// === impl Bench ===

impl Bench {
    /// Stores a credential for each client, who has a principal and a grant token of its own.
    async fn new(dev: Dev) -> Self {
        let issuer = DevIssuer::load(dev.directory.path()).expect("the instance made it");
        let instance = &dev.instance;
        let mut http = Http::connect(&instance.http).await;
        let mut requests = Vec::new();
        for number in 0..MOST_CLIENTS {
            let principal = format!("user-{number}");
            let credential = json!({
                "principalId": principal,
                "service": "GitHub",
                "accessToken": format!("gho_{number:036}"),
                "refreshToken": format!("ghr_{number:072}"),
            });
            let store = "POST /v1/vault/credentials";
            let store = http::request(store, &instance.api_key, &credential.to_string());
            http.ask(&store).await;
            let claims = GrantClaims {
                issuer: instance.issuer.as_deref().expect("it has its own"),
                developer: &instance.developer_id,
                principal: &principal,
                agent: "did:grantex:dev-agent",
                scopes: &[SCOPE.to_owned()],
                audience: None,
                now: SystemClock.now(),
                expires_in: Duration::from_hours(1),
            };
            let token = issuer.mint(&claims, ClaimsForm::Standard, SignatureAlgorithm::Rs256);
            let exchange = "POST /v1/vault/credentials/exchange";
            requests.push(http::request(exchange, &token, r#"{"service":"GitHub"}"#));
        }
        let sql = connect(&instance.database_url).await;
        Self {
            postgres: cpu::Postgres::of(&sql).await,
            sql,
            dev,
            requests,
        }
    }

    /// So many clients exchange for a while.
    async fn exchange(&self, clients: usize) -> Measured {
        let http = &self.dev.instance.http;
        let look = async || self.look().await;
        let measuring = load::run(http, &self.requests[..clients], WINDOW, look);
        let (load, [before, after]) = measuring.await;
        self.settle().await;
        let events = after.events - before.events;
        let others = |look: &Look| look.everybody - look.postgres - look.vault - look.load;
        let time = |of: fn(&Look) -> f64| (of(&after) - of(&before)) / events;
        Measured {
            rate: load.rate(),
            p50: load.percentile(50),
            p99: load.percentile(99),
            events_a_commit: events / (after.batches - before.batches),
            postgres: time(|look| look.postgres),
            vault: time(|look| look.vault),
            load: time(|look| look.load),
            others: (others(&after) - others(&before)) / load.elapsed.as_secs_f64() / 10_000.0,
        }
    }

    async fn look(&self) -> Look {
        let metrics = self.metrics().await;
        Look {
            postgres: self.postgres.time(),
            vault: cpu::of_process(self.dev.process.0.id()),
            load: cpu::of_process(std::process::id()),
            everybody: cpu::of_everybody(),
            batches: counter(&metrics, "grantex_vault_audit_batches_total"),
            events: counter(&metrics, "grantex_vault_audit_batched_events_total"),
        }
    }

    /// Waits until everything is sealed and written, so that nobody else is charged for it.
    async fn settle(&self) {
        let count = "select count(*) from vault.audit_events";
        let row = self.sql.query_one(count, &[]).await;
        let events: i64 = row.expect("the database answers").get(0);
        let sealed = || async {
            let metrics = self.metrics().await;
            counter(&metrics, "grantex_vault_audit_sealed_events_total")
        };
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53")]
        while sealed().await < events as f64 {
            sleep(Duration::from_millis(50)).await;
        }
        finish(&self.sql).await;
    }

    async fn metrics(&self) -> String {
        let mut http = Http::connect(&self.dev.instance.admin).await;
        let body = http.ask(&http::request("GET /metrics", "", "")).await;
        String::from_utf8(body.to_vec()).expect("metrics are text")
    }
}
