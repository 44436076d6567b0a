//! What the audit record costs: `cargo bench --bench audit`.
//!
//! It starts instances of `grantex-vault dev` of its own and stops them again. Exchanges are asked for
//! over loopback, from this process: it takes its share of the machine, which is shown.

#![expect(
    clippy::print_stdout,
    reason = "the tables are what this program is for"
)]

#[expect(dead_code, reason = "which process it is, is for others")]
#[path = "../cpu.rs"]
mod cpu;
mod events;
mod exchanges;
#[path = "../http.rs"]
mod http;
#[path = "../instance.rs"]
mod instance;
mod load;
mod proof;

use std::time::Duration;

use tokio_postgres::Client;

/// How long a measurement takes, and what goes before it: as long as an interval of the sealer, so
/// that it seals once in each, what has come since. An unoptimised build only shows that the program
/// works.
const WINDOW: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1000 } else { 5000 });
const REPETITIONS: usize = if cfg!(debug_assertions) { 1 } else { 3 };

/// One thread: the vault and its Postgres need the others.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    exchanges::measure().await;
    let dev = events::measure().await;
    proof::measure(dev).await;
}

/// Has Postgres do what it would do within a few minutes, so that what is measured next is not charged
/// for it.
async fn finish(sql: &Client) {
    for statement in ["vacuum analyze vault.audit_events", "checkpoint"] {
        let done = sql.batch_execute(statement).await;
        done.expect("dev connects as superuser");
    }
}
