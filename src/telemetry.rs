//! Logs, to standard error.

use std::{io::IsTerminal, panic};

use opentelemetry_sdk::Resource;
use tracing::{Level, Metadata};
use tracing_subscriber::{EnvFilter, Layer, filter, layer::SubscriberExt, util::SubscriberInitExt};

/// Our own crate, in targets of events.
const OURS: &str = "grantex_vault";

/// Starts logging. `directives` are those of `RUST_LOG`; foreign crates log at WARN at most, whatever
/// the directives say, unless `foreign` lifts that: an HTTP library at TRACE prints the bytes it sees.
///
/// # Errors
///
/// When the directives cannot be read.
pub fn start(directives: &str, foreign: bool) -> Result<(), filter::ParseError> {
    let directives = EnvFilter::builder().parse(directives)?;
    let ours = filter::filter_fn(move |event| foreign || is_allowed(event));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter(directives);
    // Only the first call of a process takes effect, as with every logger.
    let _ = tracing_subscriber::registry()
        .with(lines.with_filter(ours))
        .try_init();
    if foreign {
        tracing::warn!(
            "GRANTEX_VAULT_LOG_FOREIGN=true: libraries log at every level, and at TRACE that includes secrets"
        );
    }
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Who sends telemetry: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say more, or otherwise.
#[must_use]
pub fn resource() -> Resource {
    Resource::builder()
        .with_attribute(opentelemetry::KeyValue::new(
            "service.version",
            env!("CARGO_PKG_VERSION"),
        ))
        .build()
}

fn is_allowed(event: &Metadata<'_>) -> bool {
    let ours = event.target().split("::").next() == Some(OURS);
    ours || *event.level() <= Level::WARN
}

/// Logs where a panic happened, and its message only when that is a constant: one that was formatted
/// may hold what nobody should read.
fn log_panic(panic: &panic::PanicHookInfo<'_>) {
    let message = panic.payload().downcast_ref::<&'static str>().copied();
    let location = panic.location().map(tracing::field::display);
    tracing::error!(location, message, "panicked");
}
