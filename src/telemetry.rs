//! What the process says of itself: logs to standard error, and traces and metrics to a collector.

mod collector;
pub mod export;
mod exporters;
mod watched;

use std::{io::IsTerminal, panic, str::FromStr, time::Duration};

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use thiserror::Error;
use tokio::{sync::oneshot, time::timeout};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{self, FilterExt, LevelFilter},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

pub use exporters::{metric_reader, resource};
pub use watched::Watched;

use export::{ExportFault, Otlp};

/// Our own crate, in targets of events.
const OURS: &str = "grantex_vault";
/// How long the end of the process waits for the collector.
const LAST_EXPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// What is logged, how, and where traces go.
#[derive(Debug, Clone)]
pub struct Options {
    /// Those of `RUST_LOG`.
    pub directives: String,
    /// Whether foreign crates log below WARN too, as the directives say: an HTTP library at TRACE
    /// prints the bytes it sees.
    pub foreign: bool,
    /// How a line looks.
    pub format: LogFormat,
    /// What is sent to whom.
    pub otlp: Otlp,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// An object a line.
    Json,
}

/// Ends with the process.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

/// Why telemetry does not start, by the setting that is wrong.
#[derive(Debug, Error)]
pub enum TelemetryFault {
    /// `RUST_LOG`.
    #[error("RUST_LOG is wrong: {0}")]
    Directives(#[from] filter::ParseError),
    /// One of OpenTelemetry's variables.
    #[error(transparent)]
    Export(#[from] ExportFault),
}

/// Starts logging and tracing. Call it inside the runtime that the exporter shall use.
///
/// # Errors
///
/// [`TelemetryFault`].
pub fn start(options: &Options) -> Result<Telemetry, TelemetryFault> {
    let directives = EnvFilter::builder().parse(&options.directives)?;
    let foreign = options.foreign;
    // Spans are for traces: a line has what it needs among its fields.
    let events = filter::filter_fn(move |event| event.is_event() && (foreign || is_allowed(event)))
        // Without a hint, what libraries log by the crate `log` is looked at whatever its level.
        .with_max_level_hint(LevelFilter::TRACE);
    // One filter of both: with two, one after the other, spans would exist that nobody wants.
    let lines = lines(options.format).with_filter(directives.and(events));
    let otlp = &options.otlp;
    let traces = otlp.traces.as_ref();
    let traces = traces.map(|export| exporters::traces(export, otlp));
    let traces = traces.transpose()?;
    let spans = traces.as_ref().map(|traces| {
        tracing_opentelemetry::layer()
            .with_tracer(traces.tracer(OURS))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(filter::filter_fn(|span| span.is_span() && is_ours(span)))
    });
    // Only the first call of a process takes effect, as with every logger.
    let _ = tracing_subscriber::registry()
        .with(lines)
        .with(spans)
        .try_init();
    if foreign {
        tracing::warn!(
            "GRANTEX_VAULT_LOG_FOREIGN=true: libraries log at every level, and at TRACE that includes secrets"
        );
    }
    for note in &otlp.notes {
        tracing::warn!("{note}");
    }
    panic::set_hook(Box::new(log_panic));
    Ok(Telemetry { traces })
}

// === impl Telemetry ===

impl Telemetry {
    /// Sends what was not sent yet, for as long as that is worth waiting for.
    pub async fn stop(self) {
        let Some(traces) = self.traces else {
            return;
        };
        last_export("traces", move || {
            traces.shutdown_with_timeout(LAST_EXPORT_TIMEOUT)
        })
        .await;
    }
}

/// Sends what was not sent yet, on a thread of its own, and waits no longer for it than it is worth:
/// the library may block beyond its own timeout.
pub async fn last_export<E>(what: &str, send: impl FnOnce() -> Result<(), E> + Send + 'static) {
    let (done, outcome) = oneshot::channel();
    std::thread::spawn(move || done.send(send().is_ok()));
    if !matches!(timeout(LAST_EXPORT_TIMEOUT, outcome).await, Ok(Ok(true))) {
        tracing::warn!("the last {what} were not sent");
    }
}

// === impl LogFormat ===

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            _ => Err("it must be json or pretty"),
        }
    }
}

fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Pretty => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
    }
}

fn is_ours(callsite: &Metadata<'_>) -> bool {
    callsite.target().split("::").next() == Some(OURS)
}

fn is_allowed(event: &Metadata<'_>) -> bool {
    is_ours(event) || *event.level() <= Level::WARN
}

/// Logs where a panic happened, and its message only when that is a constant: one that was formatted
/// may hold what nobody should read.
fn log_panic(panic: &panic::PanicHookInfo<'_>) {
    let message = panic.payload().downcast_ref::<&'static str>().copied();
    let location = panic.location().map(tracing::field::display);
    tracing::error!(location, message, "panicked");
}
