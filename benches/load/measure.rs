//! One measurement: what was spent between its beginning and its end, and whether all went well.

use std::time::Instant;

use crate::{
    cpu,
    generator::Load,
    report::{Measured, What},
    server::{Memory, Metrics, Server},
};

/// What is read before and after; times of processors in microseconds.
struct Look {
    at: Instant,
    metrics: Metrics,
    vault: f64,
    postgres: f64,
    generator: f64,
    everybody: f64,
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
        vault_cpu_us: spent(|look| look.vault) / requests,
        postgres_cpu_us: spent(|look| look.postgres) / requests,
        generator_cpu_us: spent(|look| look.generator) / requests,
        others_percent: others / elapsed / 10_000.0,
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
        }
    }
}
