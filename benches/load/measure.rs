//! One measurement: what was spent between its beginning and its end, and whether all went well.

use std::time::Instant;

use serde::Serialize;

use crate::{
    cpu,
    generator::Load,
    instance::median,
    population::{Transport, Verb},
    server::{Keys, Memory, Metrics, Server},
};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct What {
    pub(crate) verb: Verb,
    pub(crate) keys: Keys,
    pub(crate) transport: Transport,
    pub(crate) clients: usize,
    pub(crate) how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Everybody asks again as soon as they are answered.
    AtOnce,
    /// Half as many a second as were answered so, at their times.
    HalfOfSaturation,
    /// At once, and everybody the same, by our own client.
    OneRequest,
    /// The same by `h2load`.
    OneRequestByH2load,
}

/// What one measurement says. Times of processors are microseconds of a request.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Measured {
    pub(crate) requests_per_second: f64,
    pub(crate) of_pgbench: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) p99_of_p50: f64,
    pub(crate) vault_cpu_us: f64,
    pub(crate) postgres_cpu_us: f64,
    pub(crate) generator_cpu_us: f64,
    /// Of one processor, what others had.
    pub(crate) others_percent: f64,
    /// How busy the processors were while it was asked: the one that was most, and the one that was least.
    pub(crate) busiest_processor_percent: f64,
    pub(crate) idlest_processor_percent: f64,
    pub(crate) resident_mib: f64,
    /// Since the process started, which has others of the same repetition in it.
    pub(crate) peak_mib: f64,
}

/// What is read before and after; times of processors in microseconds.
struct Look {
    at: Instant,
    metrics: Metrics,
    vault: f64,
    postgres: f64,
    generator: f64,
    everybody: f64,
    processors: Vec<f64>,
}

/// Measures a load. All of it must have been served, as the vault itself counts.
pub(crate) async fn measure(
    server: &Server,
    postgres: cpu::Postgres,
    what: What,
    pgbench: f64,
    load: impl Future<Output = Load>,
) -> Measured {
    let before = Look::now(server, postgres).await;
    let load = load.await;
    let shares = before.shares();
    server.seal().await;
    let after = Look::now(server, postgres).await;
    let requests = requests_served(&before, &after, what, &load);
    let spent = |of: fn(&Look) -> f64| of(&after) - of(&before);
    let others = spent(|look| look.everybody - look.vault - look.postgres - look.generator);
    let elapsed = (after.at - before.at).as_secs_f64();
    let Memory { resident, peak } = server.memory();
    Measured {
        requests_per_second: load.rate(),
        of_pgbench: load.rate() / pgbench,
        p50_ms: load.p50,
        p99_ms: load.p99,
        p999_ms: load.p999,
        p99_of_p50: load.p99 / load.p50,
        vault_cpu_us: spent(|look| look.vault) / requests,
        postgres_cpu_us: spent(|look| look.postgres) / requests,
        generator_cpu_us: spent(|look| look.generator) / requests,
        others_percent: others / elapsed / 10_000.0,
        busiest_processor_percent: shares.iter().copied().fold(f64::NAN, f64::max),
        idlest_processor_percent: shares.iter().copied().fold(f64::NAN, f64::min),
        resident_mib: resident,
        peak_mib: peak,
    }
}

/// Those that a generator counted, those that it no longer waited for, and no others.
fn requests_served(before: &Look, after: &Look, what: What, load: &Load) -> f64 {
    let more = |of: &dyn Fn(&Metrics) -> f64| of(&after.metrics) - of(&before.metrics);
    let served = more(&|metrics| metrics.served(what.verb, what.transport));
    let abandoned = more(&|metrics| metrics.abandoned(what.verb, what.transport));
    let all = more(&Metrics::all_requests);
    let counted = load.requests;
    let in_the_end = f64::from(u32::try_from(what.clients).expect("a few"));
    assert!(
        (all - served - abandoned).abs() < 0.5,
        "{what:?}: {all} requests, of which {served} were served and {abandoned} abandoned"
    );
    assert!(
        served >= counted && all <= counted + in_the_end,
        "{what:?}: {served} were served and {abandoned} abandoned, but {counted} were counted"
    );
    served
}

// === impl Measured ===

impl Measured {
    /// Of each number by itself.
    pub(crate) fn median(runs: &[Self]) -> Self {
        let of = |number: fn(&Self) -> f64| {
            let mut numbers: Vec<f64> = runs.iter().map(number).collect();
            median(&mut numbers)
        };
        Self {
            requests_per_second: of(|run| run.requests_per_second),
            of_pgbench: of(|run| run.of_pgbench),
            p50_ms: of(|run| run.p50_ms),
            p99_ms: of(|run| run.p99_ms),
            p999_ms: of(|run| run.p999_ms),
            p99_of_p50: of(|run| run.p99_of_p50),
            vault_cpu_us: of(|run| run.vault_cpu_us),
            postgres_cpu_us: of(|run| run.postgres_cpu_us),
            generator_cpu_us: of(|run| run.generator_cpu_us),
            others_percent: of(|run| run.others_percent),
            busiest_processor_percent: of(|run| run.busiest_processor_percent),
            idlest_processor_percent: of(|run| run.idlest_processor_percent),
            resident_mib: of(|run| run.resident_mib),
            peak_mib: of(|run| run.peak_mib),
        }
    }
}

// === impl Look ===

impl Look {
    async fn now(server: &Server, postgres: cpu::Postgres) -> Self {
        Self {
            at: Instant::now(),
            metrics: server.metrics().await,
            vault: server.cpu(),
            postgres: postgres.time(),
            generator: cpu::of_process(std::process::id()),
            everybody: cpu::of_everybody(),
            processors: cpu::of_processors(),
        }
    }

    /// How many percent of the time since then each processor was busy.
    fn shares(&self) -> Vec<f64> {
        let elapsed = self.at.elapsed().as_secs_f64();
        let now = cpu::of_processors();
        let spent = now.iter().zip(&self.processors);
        spent
            .map(|(now, then)| (now - then) / elapsed / 10_000.0)
            .collect()
    }
}
