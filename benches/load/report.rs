//! What was measured: as a table for people, as JSON for whatever compares.

use std::{fs, path::Path};

use serde::Serialize;

use crate::{
    instance::median,
    machine::Origin,
    measure::{How, Measured, What},
    pgbench::Rates,
    population::Transport,
};

#[derive(Debug, Serialize)]
pub(crate) struct StartAndSize {
    pub(crate) binary_mib: f64,
    /// From before there is a process until it is ready, against a migrated database.
    pub(crate) cold_start_ms: Vec<f64>,
    pub(crate) idle_resident_mib: Vec<f64>,
    pub(crate) under_load: Vec<UnderLoad>,
    /// Of one process that does nothing but exchange.
    pub(crate) endurance: Vec<Look>,
}

/// The memory of a process when it had served so many requests.
#[derive(Debug, Serialize)]
pub(crate) struct Look {
    pub(crate) requests: f64,
    pub(crate) resident_mib: f64,
}

/// The memory of one process, in each repetition.
#[derive(Debug, Serialize)]
pub(crate) struct UnderLoad {
    /// When every data key is in its cache.
    pub(crate) resident_before_mib: f64,
    pub(crate) resident_after_mib: f64,
    pub(crate) peak_mib: f64,
    pub(crate) requests: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Settings {
    pub(crate) optimised: bool,
    pub(crate) repetitions: usize,
    pub(crate) seconds_a_measurement: u64,
    pub(crate) agents: u32,
    pub(crate) credentials: u32,
    pub(crate) postgres: String,
}

/// All of it.
pub(crate) struct Report {
    pub(crate) settings: Settings,
    pub(crate) start_and_size: StartAndSize,
    pub(crate) pgbench: Vec<Rates>,
    pub(crate) rows: Vec<(What, Vec<Measured>)>,
}

/// As JSON has it.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    origin: Origin,
    settings: &'a Settings,
    start_and_size: &'a StartAndSize,
    pgbench: Compared,
    rows: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Compared {
    lookups_per_second: Vec<f64>,
    inserts_per_second: Vec<f64>,
}

#[derive(Serialize)]
struct Row<'a> {
    verb: &'static str,
    keys: String,
    transport: &'static str,
    clients: usize,
    how: &'static str,
    generator: &'static str,
    median: Measured,
    runs: &'a [Measured],
}

// === impl Report ===

impl Report {
    pub(crate) fn add(&mut self, what: What, measured: Measured) {
        match self.rows.iter_mut().find(|(row, _)| *row == what) {
            Some((_, runs)) => runs.push(measured),
            None => self.rows.push((what, vec![measured])),
        }
    }

    pub(crate) fn write(&self, file: &Path) {
        let document = Document {
            origin: Origin::here_and_now(),
            settings: &self.settings,
            start_and_size: &self.start_and_size,
            pgbench: Compared {
                lookups_per_second: self.pgbench.iter().map(|rates| rates.lookup).collect(),
                inserts_per_second: self.pgbench.iter().map(|rates| rates.insert).collect(),
            },
            rows: self
                .rows
                .iter()
                .map(|(what, runs)| Row::of(*what, runs))
                .collect(),
        };
        let text = serde_json::to_string_pretty(&document).expect("numbers and names");
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory).expect("the file's directory");
        }
        fs::write(file, text + "\n").expect("the file that was asked for");
    }

    pub(crate) fn print(&self) {
        let Settings {
            optimised,
            repetitions,
            seconds_a_measurement,
            agents,
            credentials,
            ..
        } = self.settings;
        println!(
            "{agents} agents, {credentials} credentials; {seconds_a_measurement} s each, {repetitions} repetitions"
        );
        if !optimised {
            println!("NOT OPTIMISED: these numbers only show that the program works");
        }
        let rates = |of: fn(&Rates) -> f64| range(self.pgbench.iter().map(of).collect());
        println!(
            "pgbench -n -M prepared -c 16 -j 2: lookups a second {}",
            rates(|one| one.lookup)
        );
        println!(
            "                                   inserts a second {}",
            rates(|one| one.insert)
        );
        self.print_rows("everybody asks again at once", &[How::AtOnce]);
        self.print_rows("at half of that rate", &[How::HalfOfSaturation]);
        let controls = [How::OneRequest, How::OneRequestByH2load];
        self.print_rows(
            "one request again and again, by our client and by h2load",
            &controls,
        );
        self.start_and_size.print();
    }

    fn print_rows(&self, title: &str, hows: &[How]) {
        println!("\n{title}");
        println!(
            "verb      keys       transport clients asked by  requests/s (lowest to highest)   /pgbench   p50 ms   p99 ms p99.9 ms  p99/p50   µs: vault Postgres generator   others %   busy %: most least   peak MiB"
        );
        for (what, runs) in &self.rows {
            if !hows.contains(&what.how) {
                continue;
            }
            let Row {
                verb,
                keys,
                transport,
                clients,
                generator,
                median: one,
                ..
            } = Row::of(*what, runs);
            let rates = range(runs.iter().map(|run| run.requests_per_second).collect());
            println!(
                "{verb:<9} {keys:<10} {transport:<9} {clients:>7} {generator:<8}  {rates:<31} {:>9.2} {:>8.2} {:>8.2} {:>8.2} {:>8.1} {:>11.0} {:>8.0} {:>9.1} {:>10.0} {:>14.0} {:>5.0} {:>10.1}",
                one.of_pgbench,
                one.p50_ms,
                one.p99_ms,
                one.p999_ms,
                one.p99_of_p50,
                one.vault_cpu_us,
                one.postgres_cpu_us,
                one.generator_cpu_us,
                one.others_percent,
                one.busiest_processor_percent,
                one.idlest_processor_percent,
                one.peak_mib,
            );
        }
    }
}

// === impl StartAndSize ===

impl StartAndSize {
    fn print(&self) {
        println!("\nstart and size");
        println!("binary, MiB                        {:.1}", self.binary_mib);
        println!(
            "cold start to ready, ms            {}",
            range(self.cold_start_ms.clone())
        );
        println!(
            "resident when idle, MiB            {}",
            range(self.idle_resident_mib.clone())
        );
        for one in &self.under_load {
            println!(
                "resident before and after {:.0} requests, MiB  {:.1} and {:.1}, at most {:.1}",
                one.requests, one.resident_before_mib, one.resident_after_mib, one.peak_mib
            );
        }
        for look in &self.endurance {
            println!(
                "resident after {:.0} exchanges, MiB  {:.1}",
                look.requests, look.resident_mib
            );
        }
    }
}

// === impl Row ===

impl<'a> Row<'a> {
    fn of(what: What, runs: &'a [Measured]) -> Self {
        let generator = match (what.how, what.transport) {
            (How::OneRequestByH2load, _) => "h2load",
            (How::AtOnce, Transport::Http) => "wrk",
            _ => "ours",
        };
        Self {
            verb: what.verb.name(),
            keys: what.keys.name(),
            transport: what.transport.name(),
            clients: what.clients,
            how: match what.how {
                How::AtOnce => "at once",
                How::HalfOfSaturation => "at half of saturation",
                How::OneRequest | How::OneRequestByH2load => "one request, at once",
            },
            generator,
            median: Measured::median(runs),
            runs,
        }
    }
}

/// The median, the lowest and the highest.
fn range(mut numbers: Vec<f64>) -> String {
    let middle = median(&mut numbers);
    let (lowest, highest) = (numbers[0], numbers[numbers.len() - 1]);
    let digits = usize::from(middle < 1000.0);
    format!("{middle:>8.digits$} ({lowest:.digits$} to {highest:.digits$})")
}
