//! Whether the vault slows down when a tenant grows: `make bench-growth`.
//!
//! Three instances, each with a developer that has more credentials than the last, and as many agents,
//! who are spread over all of its principals. They are measured in turns.
//!
//! Arguments: `--quick` measures a second of everything once on small tenants; `--svg <file>` and
//! `--json <file>` name the results.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table is what this program is for; it says how far it is"
)]

mod curves;

#[path = "../cpu.rs"]
#[expect(dead_code, reason = "which process it is, is for others")]
mod cpu;
#[path = "../load/generator.rs"]
#[expect(dead_code, reason = "asking at a rate is for others")]
mod generator;
#[path = "../load/grpc.rs"]
mod grpc;
#[path = "../http.rs"]
mod http;
#[expect(dead_code, reason = "starting an instance again is for others")]
#[path = "../instance.rs"]
mod instance;
#[path = "../machine.rs"]
mod machine;
#[path = "../load/measure.rs"]
#[expect(dead_code, reason = "other ways to ask are for others")]
mod measure;
#[path = "../load/population.rs"]
#[expect(dead_code, reason = "tenants without other principals are for others")]
mod population;
#[path = "../sealed_rows.rs"]
mod sealed_rows;
#[path = "../load/server.rs"]
#[expect(dead_code, reason = "who holds the master key is for others")]
mod server;

use std::{
    cell::Cell,
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use generator::Connection;
use grantex_vault::grpc::pb;
use instance::{Dev, connect};
use machine::Origin;
use measure::{How, Measured, What, measure};
use population::{Population, Requests, SERVICES, Transport, Verb};
use prost::Message;
use serde::Serialize;
use server::{Keys, NO_LIMITS, Server};
use tokio_postgres::Client;

const CLIENTS: usize = 16;
const VERBS: [Verb; 3] = [Verb::Exchange, Verb::List, Verb::Store];
/// What is stored at once, so that the ids of all need not be kept.
const FILLED_AT_ONCE: u32 = 100_000;

struct Arguments {
    quick: bool,
    svg: PathBuf,
    json: PathBuf,
}

/// How much is measured. An unoptimised build only shows that the program works.
struct Extent {
    agents: u32,
    sizes: [u32; 3],
    repetitions: usize,
    time: Duration,
}

/// An instance with a developer of some size, and the vault that is measured there.
struct Tenant {
    credentials: u32,
    server: Server,
    population: Population,
    postgres: cpu::Postgres,
    sql: Client,
    /// Stops after the vault that uses its database.
    _dev: Dev,
    /// What the table of credentials takes on the disk, with its indexes, in MiB.
    table_mib: f64,
}

/// As JSON has it.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    origin: Origin,
    rows: &'a [Row],
}

/// What was measured of a verb, in a tenant of some size.
#[derive(Serialize)]
struct Row {
    verb: &'static str,
    credentials: u32,
    table_mib: f64,
    median: Measured,
    runs: Vec<Measured>,
}

/// One thread: the vault and its Postgres need the others.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments = Arguments::read();
    let extent = Extent::of(&arguments);
    let mut tenants = Vec::new();
    for size in extent.sizes {
        tenants.push(Tenant::fill(size, extent.agents).await);
    }
    let runs = Cell::new(0);
    let mut measured = VERBS.map(|_| extent.sizes.map(|_| Vec::new()));
    for repetition in 1..=extent.repetitions {
        eprintln!("repetition {repetition} of {}", extent.repetitions);
        for (verb, of_verb) in VERBS.into_iter().zip(&mut measured) {
            for (tenant, of_size) in tenants.iter().zip(of_verb) {
                runs.set(runs.get() + 1);
                of_size.push(tenant.measure(verb, runs.get(), extent.time).await);
            }
        }
    }
    let mut rows = Vec::new();
    for (verb, of_verb) in VERBS.into_iter().zip(measured) {
        for (tenant, runs) in tenants.iter().zip(of_verb) {
            rows.push(Row {
                verb: verb.name(),
                credentials: tenant.credentials,
                table_mib: tenant.table_mib,
                median: Measured::median(&runs),
                runs,
            });
        }
    }
    print(&rows, &extent);
    for file in [&arguments.json, &arguments.svg] {
        let directory = file.parent().expect("a file is in a directory");
        fs::create_dir_all(directory).expect("the file's directory");
    }
    let document = Document {
        origin: Origin::here_and_now(),
        rows: &rows,
    };
    let json = serde_json::to_string_pretty(&document).expect("numbers and names");
    fs::write(&arguments.json, json + "\n").expect("the file that was asked for");
    curves::draw(&arguments.svg, &rows);
    println!(
        "\n{}\n{}",
        arguments.json.display(),
        arguments.svg.display()
    );
}

fn print(rows: &[Row], extent: &Extent) {
    let (agents, seconds) = (extent.agents, extent.time.as_secs());
    let (working_set, repetitions) = (agents * SERVICES, extent.repetitions);
    println!(
        "gRPC, {CLIENTS} clients, {agents} agents with {working_set} credentials among all; {seconds} s each, {repetitions} repetitions"
    );
    if cfg!(debug_assertions) {
        println!("NOT OPTIMISED: these numbers only show that the program works");
    }
    println!(
        "\nverb      credentials  table MiB   requests/s (lowest to highest)   of the smallest   p50 ms   p99 ms   µs: vault Postgres   others %"
    );
    let mut smallest = f64::NAN;
    for row in rows {
        let (verb, credentials, one) = (row.verb, row.credentials, row.median);
        if credentials == extent.sizes[0] {
            smallest = one.requests_per_second;
        }
        let rates = row.runs.iter().map(|run| run.requests_per_second);
        let range = format!(
            "({:.0} to {:.0})",
            rates.clone().fold(f64::INFINITY, f64::min),
            rates.fold(0.0, f64::max)
        );
        println!(
            "{verb:<9} {credentials:>11} {:>10.0}   {:>10.0} {range:<21} {:>15.2} {:>8.2} {:>8.2} {:>11.0} {:>8.0} {:>10.0}",
            row.table_mib,
            one.requests_per_second,
            one.requests_per_second / smallest,
            one.p50_ms,
            one.p99_ms,
            one.vault_cpu_us,
            one.postgres_cpu_us,
            one.others_percent,
        );
    }
}

// === impl Arguments ===

impl Arguments {
    fn read() -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let mut this = Self {
            quick: cfg!(debug_assertions),
            svg: directory.join("growth.svg"),
            json: directory.join("growth.json"),
        };
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match (argument.as_str(), &mut arguments) {
                ("--quick", _) => this.quick = true,
                ("--svg", rest) => this.svg = rest.next().expect("--svg <file>").into(),
                ("--json", rest) => this.json = rest.next().expect("--json <file>").into(),
                // Cargo says it to every benchmark.
                ("--bench", _) => {}
                (other, _) => panic!("{other}: only --quick, --svg and --json <file> are known"),
            }
        }
        this
    }
}

// === impl Extent ===

impl Extent {
    fn of(arguments: &Arguments) -> Self {
        if arguments.quick {
            return Self {
                agents: 50,
                sizes: [500, 5_000, 50_000],
                repetitions: 1,
                time: Duration::from_secs(1),
            };
        }
        Self {
            agents: 1000,
            sizes: [10_000, 1_000_000, 10_000_000],
            repetitions: 3,
            time: Duration::from_secs(5),
        }
    }
}

// === impl Tenant ===

impl Tenant {
    /// Makes one, fills it, starts a vault, and has all that is asked exchanged once.
    async fn fill(credentials: u32, agents: u32) -> Self {
        let since = Instant::now();
        // Its own vault is idle, and must not seal what the other records.
        let [one, two, three] = NO_LIMITS;
        let no_seals = ("GRANTEX_VAULT_AUDIT_SEAL_INTERVAL", "0");
        let dev = Dev::start(&[one, two, three, no_seals]);
        let sql = connect(&dev.instance.database_url).await;
        let mut filled = 0;
        while filled < credentials {
            let end = credentials.min(filled + FILLED_AT_ONCE);
            population::fill(&dev, &sql, filled..end).await;
            filled = end;
        }
        tidy(&sql).await;
        let size = "select pg_total_relation_size('vault.credentials')::float8";
        let size = sql.query_one(size, &[]).await;
        let bytes: f64 = size.expect("the database answers").get(0);
        let every = credentials / SERVICES / agents;
        let tenant = Self {
            credentials,
            server: Server::start(&dev, Keys::Cached).await,
            population: Population::among(&dev, agents, every),
            postgres: cpu::Postgres::of(&sql).await,
            sql,
            _dev: dev,
            table_mib: bytes / f64::from(1 << 20),
        };
        tenant.exchange_everything(every).await;
        let seconds = since.elapsed().as_secs();
        eprintln!("{credentials} credentials, after {seconds} s");
        tenant
    }

    async fn exchange_everything(&self, every: u32) {
        let (transport, last) = (Transport::Grpc, self.population.agents * SERVICES - 1);
        let address = self.server.address(transport);
        let mut connection = Connection::to(transport, &address).await;
        let answer = connection
            .ask(&self.population.exchange(last, transport))
            .await;
        let answer = pb::ExchangeCredentialResponse::decode(answer).expect("a message");
        let number = last / SERVICES * every * SERVICES + last % SERVICES;
        assert_eq!(answer.access_token, sealed_rows::access_token(number));
        if let Requests::Any(all) = self.population.requests(Verb::Exchange, transport) {
            generator::each_once(transport, &address, CLIENTS, &all).await;
        }
        self.server.seal().await;
    }

    async fn measure(&self, verb: Verb, run: u32, time: Duration) -> Measured {
        let what = What {
            verb,
            keys: Keys::Cached,
            transport: Transport::Grpc,
            clients: CLIENTS,
            how: How::AtOnce,
        };
        let requests = self.population.requests(verb, what.transport);
        let address = self.server.address(what.transport);
        let done = self.sql.batch_execute("checkpoint").await;
        done.expect("dev connects as superuser");
        let load = generator::at_once(what.transport, &address, CLIENTS, &requests, run, time);
        // There is nothing beside it.
        let measured = measure(&self.server, self.postgres, what, f64::NAN, load).await;
        if verb == Verb::Store {
            self.population.forget_stored(&self.sql).await;
            tidy(&self.sql).await;
        }
        measured
    }
}

async fn tidy(sql: &Client) {
    let done = sql.batch_execute("vacuum analyze vault.credentials").await;
    done.expect("dev connects as superuser");
}
