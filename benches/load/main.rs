//! The vault under load, beside pgbench on the same Postgres: `make bench`, or `cargo bench --bench load`.
//!
//! A `grantex-vault dev` holds the Postgres, the keyring and the issuer, and does nothing else. What is
//! measured is a process of its own beside it, on the same database: `grantex-vault serve`, or for a
//! KMS in its process this program, which serves with the library. Over HTTP/1.1 `wrk` asks, over gRPC
//! a client in this process, which is measured beside `h2load`.
//!
//! Arguments: `--quick` measures a second of everything once; `--only <verb>` measures that verb with a
//! warm cache and nothing else; `--json <file>` names the result.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the tables are what this program is for; it says how far it is"
)]

#[path = "../cpu.rs"]
mod cpu;
mod generator;
mod grpc;
mod h2load;
#[path = "../http.rs"]
mod http;
#[expect(dead_code, reason = "starting an instance again is for others")]
#[path = "../instance.rs"]
mod instance;
mod kms;
#[path = "../machine.rs"]
mod machine;
mod measure;
mod pgbench;
mod population;
mod report;
#[path = "../sealed_rows.rs"]
mod sealed_rows;
mod server;
mod size;
mod wrk;

use std::{
    cell::Cell,
    env,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use generator::{Connection, Load};
use grantex_vault::grpc::pb;
use instance::{Dev, connect};
use measure::{How, Measured, What, measure};
use pgbench::{Pgbench, Rates};
use population::{Population, Requests, SERVICES, Transport, Verb};
use prost::Message;
use report::{Report, Settings, UnderLoad};
use serde_json::Value;
use server::{Keys, NO_LIMITS, Server};
use tokio_postgres::Client;

/// As the vault has, which this program is for a KMS in its process.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const CLIENTS: [usize; 3] = [1, 16, 64];
const MOST_CLIENTS: usize = 64;
/// How often half of saturation is measured in a row. A disk that pauses for 40 ms is one percent of 4 s,
/// and of 200 ms one of 20 s: where it does so now and then, the median of many is one without.
const TIMES_AT_HALF: usize = 5;
/// What a KMS in the process takes, in milliseconds.
const KMS_DELAYS: [u64; 2] = [0, 5];

/// What is asked of this program.
struct Arguments {
    /// To be a vault whose KMS answers this late, instead of measuring one.
    serve: Option<Duration>,
    quick: bool,
    only: Option<Verb>,
    json: PathBuf,
}

/// How much is measured. An unoptimised build only shows that the program works.
struct Extent {
    agents: u32,
    repetitions: usize,
    starts: usize,
    /// How many requests one process serves, at least, while its memory is looked at.
    endurance: f64,
    time: Duration,
    only: Option<Verb>,
}

/// All that stays from measurement to measurement.
struct Bench {
    dev: Dev,
    sql: Client,
    postgres: cpu::Postgres,
    population: Population,
    pgbench: Pgbench,
    time: Duration,
    only: Option<Verb>,
    /// How many measurements there were.
    runs: Cell<u32>,
}

fn main() -> ExitCode {
    let arguments = Arguments::read();
    if let Some(delay) = arguments.serve {
        return kms::serve(delay);
    }
    run(&arguments);
    ExitCode::SUCCESS
}

/// One thread: the vault and its Postgres need the others.
#[tokio::main(flavor = "current_thread")]
async fn run(arguments: &Arguments) {
    let extent = Extent::of(arguments);
    let bench = Bench::new(&extent).await;
    let mut report = Report {
        settings: bench.settings(&extent).await,
        start_and_size: size::of_starts(&bench.dev, extent.starts).await,
        pgbench: Vec::new(),
        rows: Vec::new(),
    };
    // In turns, so that a slower minute of the machine is one of everything.
    for repetition in 1..=extent.repetitions {
        eprintln!("repetition {repetition} of {}", extent.repetitions);
        bench.warm(&mut report).await;
        for delay in KMS_DELAYS.into_iter().filter(|_| extent.only.is_none()) {
            bench.cold(Duration::from_millis(delay), &mut report).await;
        }
    }
    if extent.only.is_none() {
        bench.endure(extent.endurance, &mut report).await;
    }
    report.print();
    report.write(&arguments.json);
    println!("\n{}", arguments.json.display());
}

/// The same database over its Unix socket, which the vault and pgbench both use: TCP on loopback would
/// be measured with both.
async fn over_a_socket(sql: &Client, url: &str) -> String {
    let settings = "select current_setting('unix_socket_directories'), current_setting('port')";
    let row = sql.query_one(settings, &[]).await;
    let row = row.expect("the database answers");
    let (directory, port): (&str, &str) = (row.get(0), row.get(1));
    // One directory, quoted as an entry of the list.
    let directory = directory.trim_matches('"');
    let (account, rest) = url.split_once('@').expect("a URL with an account");
    let (_, database) = rest.split_once('/').expect("and a database");
    let database = database.split('?').next().expect("its name");
    format!("{account}@/{database}?host={directory}&port={port}")
}

/// A server that has run for a while writes over segments of its log that it no longer needs. A new one
/// makes and syncs each, 16 MiB, while every commit waits.
async fn write_ahead_logs_beforehand(sql: &Client) {
    const SEGMENTS: usize = 64;
    let keep = sql.batch_execute("alter system set min_wal_size = '1GB'");
    keep.await.expect("dev connects as superuser");
    let mut made = "select pg_reload_conf();".to_owned();
    for _ in 0..SEGMENTS {
        made += "select pg_logical_emit_message(true, '', ''); select pg_switch_wal();";
    }
    sql.batch_execute(&made).await.expect("there is room");
    sql.batch_execute("checkpoint").await.expect("the same");
}

// === impl Arguments ===

impl Arguments {
    fn read() -> Self {
        let mut this = Self {
            serve: None,
            quick: cfg!(debug_assertions),
            only: None,
            json: Path::new(env!("CARGO_TARGET_TMPDIR")).join("load.json"),
        };
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match (argument.as_str(), &mut arguments) {
                ("--quick", _) => this.quick = true,
                ("--only", rest) => {
                    let verb = rest.next();
                    let mut verbs = Verb::ALL.into_iter();
                    let verb = verbs.find(|known| Some(known.name()) == verb.as_deref());
                    this.only = Some(verb.expect("--only <verb>"));
                }
                ("--json", rest) => this.json = rest.next().expect("--json <file>").into(),
                ("--serve-with-kms", rest) => {
                    let delay = rest.next().and_then(|delay| delay.parse().ok());
                    this.serve = Some(Duration::from_millis(delay.expect("milliseconds")));
                }
                // Cargo says it to every benchmark.
                ("--bench", _) => {}
                (other, _) => panic!("{other}: --quick, --only <verb> and --json <file> are known"),
            }
        }
        this
    }
}

// === impl Extent ===

impl Extent {
    fn of(arguments: &Arguments) -> Self {
        let agents = if cfg!(debug_assertions) { 50 } else { 1000 };
        let only = arguments.only;
        if arguments.quick {
            return Self {
                agents,
                repetitions: 1,
                starts: 2,
                endurance: 1.0,
                time: Duration::from_secs(1),
                only,
            };
        }
        Self {
            agents,
            repetitions: 3,
            starts: 10,
            endurance: 2_000_000.0,
            time: Duration::from_secs(4),
            only,
        }
    }
}

// === impl Bench ===

impl Bench {
    async fn new(extent: &Extent) -> Self {
        eprintln!("an instance with {} agents", extent.agents);
        // Its own vault is idle, and must not seal what the other records.
        let [one, two, three] = NO_LIMITS;
        let no_seals = ("GRANTEX_VAULT_AUDIT_SEAL_INTERVAL", "0");
        let mut dev = Dev::start(&[one, two, three, no_seals]);
        let sql = connect(&dev.instance.database_url).await;
        dev.instance.database_url = over_a_socket(&sql, &dev.instance.database_url).await;
        write_ahead_logs_beforehand(&sql).await;
        let postgres = cpu::Postgres::of(&sql).await;
        let population = Population::settle(&dev, &sql, extent.agents).await;
        let directory = dev.directory.path().to_owned();
        let url = &dev.instance.database_url;
        let pgbench = Pgbench::new(directory, url, &sql, postgres, &population).await;
        let this = Self {
            pgbench,
            population,
            postgres,
            sql,
            dev,
            time: extent.time,
            only: extent.only,
            runs: Cell::new(0),
        };
        this.tidy().await;
        this
    }

    async fn settings(&self, extent: &Extent) -> Settings {
        let version = self.sql.query_one("show server_version", &[]).await;
        Settings {
            optimised: !cfg!(debug_assertions),
            repetitions: extent.repetitions,
            seconds_a_measurement: extent.time.as_secs(),
            agents: extent.agents,
            credentials: extent.agents * SERVICES,
            postgres: version.expect("the database answers").get(0),
        }
    }

    /// Every verb, with every data key in the cache.
    async fn warm(&self, report: &mut Report) {
        let server = Server::start(&self.dev, Keys::Cached).await;
        self.exchange_everything(&server).await;
        let before = server.memory().resident;
        let requests = server.metrics().await.all_requests();
        for transport in Transport::ALL {
            let pgbench = self.compare(report).await;
            let asked_for = |verb: &Verb| self.only.is_none_or(|only| only == *verb);
            for verb in Verb::ALL.into_iter().filter(asked_for) {
                let of = |clients| What {
                    verb,
                    keys: Keys::Cached,
                    transport,
                    clients,
                    how: How::AtOnce,
                };
                let requests = self.population.requests(verb, transport);
                let mut saturation = f64::NAN;
                for clients in CLIENTS {
                    let measured = self.at_once(&server, of(clients), &requests, pgbench).await;
                    report.add(of(clients), measured);
                    saturation = measured.requests_per_second;
                }
                match verb {
                    // At once: half of what the machine did a minute ago may be more than half now.
                    Verb::Exchange => {
                        self.at_half(&server, transport, saturation, pgbench, report)
                            .await;
                    }
                    Verb::Store => self.tidy().await,
                    Verb::Get | Verb::List => {}
                }
            }
        }
        self.control(&server, report).await;
        let after = server.memory();
        report.start_and_size.under_load.push(UnderLoad {
            resident_before_mib: before,
            resident_after_mib: after.resident,
            peak_mib: after.peak,
            requests: server.metrics().await.all_requests() - requests,
        });
    }

    /// Exchanges for each of which a KMS is asked.
    async fn cold(&self, delay: Duration, report: &mut Report) {
        let keys = Keys::Kms(delay);
        let server = Server::start(&self.dev, keys).await;
        self.exchange_everything(&server).await;
        let pgbench = self.compare(report).await;
        for transport in Transport::ALL {
            let requests = self.population.requests(Verb::Exchange, transport);
            for clients in CLIENTS {
                let what = What {
                    verb: Verb::Exchange,
                    keys,
                    transport,
                    clients,
                    how: How::AtOnce,
                };
                let measured = self.at_once(&server, what, &requests, pgbench).await;
                report.add(what, measured);
            }
        }
    }

    async fn at_once(
        &self,
        server: &Server,
        what: What,
        requests: &Requests,
        pgbench: Rates,
    ) -> Measured {
        self.runs.set(self.runs.get() + 1);
        let run = self.runs.get();
        let address = server.address(what.transport);
        let load = async {
            let What { clients, .. } = what;
            match what.transport {
                Transport::Grpc => {
                    let transport = what.transport;
                    generator::at_once(transport, &address, clients, requests, run, self.time).await
                }
                Transport::Http => {
                    let (directory, url) = (self.dev.directory.path(), format!("http://{address}"));
                    wrk::run(directory, &url, clients, requests, run, self.time).await
                }
            }
        };
        self.measure(server, what, pgbench, load).await
    }

    /// Exchanges at their times, half as many as were answered at once.
    async fn at_half(
        &self,
        server: &Server,
        transport: Transport,
        saturation: f64,
        pgbench: Rates,
        report: &mut Report,
    ) {
        let what = What {
            verb: Verb::Exchange,
            keys: Keys::Cached,
            transport,
            clients: MOST_CLIENTS,
            how: How::HalfOfSaturation,
        };
        let requests = self.population.requests(what.verb, transport);
        let (address, rate) = (server.address(transport), saturation / 2.0);
        self.sql_batch("checkpoint").await;
        for _ in 0..TIMES_AT_HALF {
            let clients = MOST_CLIENTS;
            let load = generator::at_rate(transport, &address, clients, &requests, rate, self.time);
            let measured = self.measure_on(server, what, pgbench, load).await;
            report.add(what, measured);
        }
    }

    /// Exchanges for as long as it takes, and looks whether memory grows with them.
    async fn endure(&self, requests: f64, report: &mut Report) {
        let server = Server::start(&self.dev, Keys::Cached).await;
        self.exchange_everything(&server).await;
        let exchanges = self.population.requests(Verb::Exchange, Transport::Http);
        let directory = self.dev.directory.path();
        let looks = &mut report.start_and_size.endurance;
        *looks = size::of_one(&server, directory, &exchanges, requests, self.time).await;
    }

    /// The same request again and again, as `h2load` can, by our own client and by it.
    async fn control(&self, server: &Server, report: &mut Report) {
        let what = |how| What {
            verb: Verb::Exchange,
            keys: Keys::Cached,
            transport: Transport::Grpc,
            clients: MOST_CLIENTS,
            how,
        };
        let pgbench = *report.pgbench.last().expect("it was measured before");
        let address = server.address(Transport::Grpc);
        let one = vec![self.population.exchange(0, Transport::Grpc)];
        let requests = Requests::Any(one);
        let (transport, clients) = (Transport::Grpc, MOST_CLIENTS);
        let ours = generator::at_once(transport, &address, clients, &requests, 0, self.time);
        let measured = self.measure(server, what(How::OneRequest), pgbench, ours);
        let measured = measured.await;
        report.add(what(How::OneRequest), measured);

        let service = population::service(0);
        let message = pb::ExchangeCredentialRequest { service }.encode_to_vec();
        let (directory, call) = (
            self.dev.directory.path(),
            (self.population.token(0), &message[..]),
        );
        let theirs = h2load::run(directory, &address, clients, call, self.time);
        let how = How::OneRequestByH2load;
        let measured = self.measure(server, what(how), pgbench, theirs).await;
        report.add(what(how), measured);
    }

    async fn measure(
        &self,
        server: &Server,
        what: What,
        pgbench: Rates,
        load: impl Future<Output = Load>,
    ) -> Measured {
        // What was written before is not charged to this.
        self.sql_batch("checkpoint").await;
        self.measure_on(server, what, pgbench, load).await
    }

    /// Measures without a checkpoint before.
    async fn measure_on(
        &self,
        server: &Server,
        what: What,
        pgbench: Rates,
        load: impl Future<Output = Load>,
    ) -> Measured {
        let pgbench = match what.verb {
            Verb::Store => pgbench.insert,
            Verb::Exchange | Verb::Get | Verb::List => pgbench.lookup,
        };
        let measured = measure(server, self.postgres, what, pgbench, load).await;
        let rate = measured.requests_per_second;
        eprintln!("{what:?}: {rate:.0} a second");
        measured
    }

    async fn compare(&self, report: &mut Report) -> Rates {
        self.sql_batch("checkpoint").await;
        let rates = self.pgbench.measure(&self.sql, self.time).await;
        eprintln!("{rates:?}");
        report.pgbench.push(rates);
        rates
    }

    /// Has every credential exchanged over both transports, and looks at what comes of some.
    async fn exchange_everything(&self, server: &Server) {
        for transport in Transport::ALL {
            let address = server.address(transport);
            let mut connection = Connection::to(transport, &address).await;
            let last = self.population.agents * SERVICES - 1;
            for number in [0, last / 2, last] {
                let request = self.population.exchange(number, transport);
                let answer = connection.ask(&request).await;
                let token = access_token(transport, answer);
                assert_eq!(token, sealed_rows::access_token(number));
            }
            let requests = self.population.requests(Verb::Exchange, transport);
            let Requests::Any(all) = requests else {
                unreachable!("exchanges have no numbers")
            };
            generator::each_once(transport, &address, MOST_CLIENTS, &all).await;
        }
        server.seal().await;
    }

    /// Leaves the credentials as they were in the beginning.
    async fn tidy(&self) {
        self.population.forget_stored(&self.sql).await;
        self.sql_batch("vacuum analyze vault.credentials").await;
    }

    async fn sql_batch(&self, statement: &str) {
        let done = self.sql.batch_execute(statement).await;
        done.expect("dev connects as superuser");
    }
}

/// What an exchange answered.
fn access_token(transport: Transport, answer: &[u8]) -> String {
    match transport {
        Transport::Grpc => {
            let answer = pb::ExchangeCredentialResponse::decode(answer);
            answer.expect("a message").access_token
        }
        Transport::Http => {
            let answer: Value = serde_json::from_slice(answer).expect("JSON");
            answer["accessToken"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        }
    }
}
