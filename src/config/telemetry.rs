//! OpenTelemetry's variables (OpenTelemetry specification, "Environment Variable Specification" and "OTLP
//! Exporter configuration"). As it demands, one that cannot be understood is ignored, and the log says so;
//! what decides where telemetry goes is refused instead.

use std::{path::PathBuf, time::Duration};

use super::values::Values;
use crate::telemetry::export::{Export, NamedFile, Otlp, Protocol};

const GENERAL: &str = "OTEL_EXPORTER_OTLP_";
/// How long a collector may take when nobody says.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Those that the library reads, as numbers.
const NUMBERS: [&str; 8] = [
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
];
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];
const TEMPORALITIES: [&str; 3] = ["cumulative", "delta", "lowmemory"];
/// Others that have an effect, or that say what is so anyway.
const OTHERS: [&str; 9] = [
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_TRACES_EXPORTER",
    "OTEL_METRICS_EXPORTER",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_PROPAGATORS",
    "OTEL_LOGS_EXPORTER",
];
const TEMPORALITY: &str = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
/// What there is for traces, for metrics, and for both.
const OF_EXPORTERS: [&str; 9] = [
    "ENDPOINT",
    "PROTOCOL",
    "HEADERS",
    "TIMEOUT",
    "COMPRESSION",
    "CERTIFICATE",
    "CLIENT_CERTIFICATE",
    "CLIENT_KEY",
    "INSECURE",
];

/// What is sent.
#[derive(Clone, Copy)]
enum Signal {
    Traces,
    Metrics,
}

/// What was found out about a variable.
struct Found {
    variable: String,
    value: String,
    /// Whether it is that of one signal.
    of_signal: bool,
}

/// Reads the variables and keeps what has no effect.
struct Reading<'v, 'a> {
    values: &'v mut Values<'a>,
    notes: Vec<String>,
}

/// Whether a variable of OpenTelemetry's has an effect.
pub(super) fn is_honoured(name: &str) -> bool {
    let of_exporter = name.strip_prefix(GENERAL).is_some_and(|rest| {
        let of_signal = rest
            .strip_prefix("TRACES_")
            .or(rest.strip_prefix("METRICS_"));
        OF_EXPORTERS.contains(&of_signal.unwrap_or(rest))
    });
    of_exporter || name == TEMPORALITY || NUMBERS.contains(&name) || OTHERS.contains(&name)
}

// === impl Values ===

impl Values<'_> {
    /// What is sent to whom; `None` when something of it is wrong.
    pub(super) fn otlp(&mut self) -> Option<Otlp> {
        let mut reading = Reading {
            values: self,
            notes: Vec::new(),
        };
        let disabled = reading.is_disabled();
        let traces = reading.export(Signal::Traces);
        let metrics = reading.export(Signal::Metrics);
        let service_is_named = reading.service_is_named();
        reading.look_at_the_rest();
        let notes = reading.notes;
        let (traces, metrics) = (traces?, metrics?);
        Some(Otlp {
            traces: traces.filter(|_| !disabled),
            metrics: metrics.filter(|_| !disabled),
            service_is_named,
            notes,
        })
    }
}

// === impl Signal ===

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Traces => "v1/traces",
            Self::Metrics => "v1/metrics",
        }
    }
}

// === impl Reading ===

impl Reading<'_, '_> {
    fn ignored<T>(&mut self, variable: &str, why: &str) -> Option<T> {
        self.notes.push(format!("{variable} is ignored: {why}"));
        None
    }

    fn is_disabled(&mut self) -> bool {
        const NAME: &str = "OTEL_SDK_DISABLED";
        let value = self.values.variable(NAME).unwrap_or_default();
        let is = |word: &str| value.eq_ignore_ascii_case(word);
        if !value.is_empty() && !is("true") && !is("false") {
            self.ignored::<()>(NAME, "it is neither true nor false");
        }
        is("true")
    }

    fn service_is_named(&mut self) -> bool {
        let attributes = self.values.variable("OTEL_RESOURCE_ATTRIBUTES");
        let attributes = attributes.unwrap_or_default();
        let mut keys = attributes
            .split(',')
            .filter_map(|pair| pair.split_once('='));
        keys.any(|(key, _)| key.trim() == "service.name")
            || self.values.variable("OTEL_SERVICE_NAME").is_some()
    }

    #[expect(
        clippy::option_option,
        reason = "not readable, as everywhere here; and read, that nothing is sent"
    )]
    fn export(&mut self, signal: Signal) -> Option<Option<Export>> {
        let asked_for = self.asked_for(signal);
        let endpoint = self.of(signal, "ENDPOINT");
        if asked_for == Some(false) || (asked_for.is_none() && endpoint.is_none()) {
            return Some(None);
        }
        let protocol = self.protocol(signal);
        let endpoint = match endpoint {
            Some(found) => self.endpoint(signal, protocol, &found)?,
            None => local(signal, protocol),
        };
        let identity = self.identity(signal)?;
        Some(Some(Export {
            protocol,
            endpoint,
            timeout: self.timeout(signal),
            authorities: self.file(signal, "CERTIFICATE"),
            identity,
            proxies: self.values.proxies(),
        }))
    }

    /// Whether `OTEL_TRACES_EXPORTER` or `OTEL_METRICS_EXPORTER` says that it is to be sent, or that it is
    /// not. That metrics can be read by Prometheus is so anyway.
    fn asked_for(&mut self, signal: Signal) -> Option<bool> {
        let variable = format!("OTEL_{}_EXPORTER", signal.name());
        let value = self.values.variable(&variable)?;
        let mut sent = None;
        for exporter in value.split(',').map(str::trim) {
            match (exporter, signal) {
                ("otlp", _) => sent = Some(true),
                ("none", _) | ("prometheus", Signal::Metrics) => sent = sent.or(Some(false)),
                _ => {
                    let there_are = "there are otlp and none, and prometheus for metrics";
                    self.ignored::<()>(&variable, there_are);
                }
            }
        }
        sent
    }

    /// A variable of this signal, else of both.
    fn of(&mut self, signal: Signal, rest: &str) -> Option<Found> {
        let name = signal.name();
        let own = (format!("{GENERAL}{name}_{rest}"), true);
        let mut names = [own, (format!("{GENERAL}{rest}"), false)].into_iter();
        names.find_map(|(variable, of_signal)| {
            let value = self.values.variable(&variable)?;
            Some(Found {
                variable,
                value,
                of_signal,
            })
        })
    }

    fn protocol(&mut self, signal: Signal) -> Protocol {
        let Some(found) = self.of(signal, "PROTOCOL") else {
            return Protocol::Grpc;
        };
        let known = match &*found.value {
            "grpc" => Some(Protocol::Grpc),
            "http/protobuf" => Some(Protocol::Http),
            _ => self.ignored(&found.variable, "there are grpc and http/protobuf"),
        };
        known.unwrap_or(Protocol::Grpc)
    }

    /// An endpoint of both signals is where their paths begin; gRPC has none.
    fn endpoint(&mut self, signal: Signal, protocol: Protocol, found: &Found) -> Option<http::Uri> {
        let mut url = found.value.clone();
        if protocol == Protocol::Grpc && !url.contains("://") {
            let insecure = self.of(signal, "INSECURE");
            let insecure = insecure.is_some_and(|found| found.value.eq_ignore_ascii_case("true"));
            url.insert_str(0, if insecure { "http://" } else { "https://" });
        }
        if protocol == Protocol::Http && !found.of_signal {
            url = format!("{}/{}", url.trim_end_matches('/'), signal.path());
        }
        let parsed: Option<http::Uri> = url.parse().ok();
        let usable = |url: &http::Uri| {
            matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some()
        };
        let parsed = parsed.filter(usable);
        parsed.or_else(|| {
            self.values
                .fault(&found.variable, "must be an http or https URL")
        })
    }

    /// In milliseconds. None at all would be no bound.
    fn timeout(&mut self, signal: Signal) -> Duration {
        let Some(found) = self.of(signal, "TIMEOUT") else {
            return TIMEOUT;
        };
        let given = match found.value.parse() {
            Ok(0) | Err(_) => {
                self.ignored(&found.variable, "it is no number of milliseconds above 0")
            }
            Ok(milliseconds) => Some(Duration::from_millis(milliseconds)),
        };
        given.unwrap_or(TIMEOUT)
    }

    fn file(&mut self, signal: Signal, rest: &str) -> Option<NamedFile> {
        let Found {
            variable, value, ..
        } = self.of(signal, rest)?;
        let path = PathBuf::from(value);
        Some(NamedFile { variable, path })
    }

    #[expect(
        clippy::option_option,
        reason = "not readable, as everywhere here; and read, that there is none"
    )]
    fn identity(&mut self, signal: Signal) -> Option<Option<(NamedFile, NamedFile)>> {
        let certificate = self.file(signal, "CLIENT_CERTIFICATE");
        let key = self.file(signal, "CLIENT_KEY");
        match (certificate, key) {
            (Some(certificate), Some(key)) => Some(Some((certificate, key))),
            (None, None) => Some(None),
            (Some(alone), None) => self.alone(&alone, "CLIENT_KEY"),
            (None, Some(alone)) => self.alone(&alone, "CLIENT_CERTIFICATE"),
        }
    }

    fn alone<T>(&mut self, file: &NamedFile, other: &str) -> Option<T> {
        let needs = format_args!("needs {GENERAL}{other}");
        self.values.fault(&file.variable, needs)
    }

    /// What the library reads, and ignores without a word where it does not understand it.
    fn look_at_the_rest(&mut self) {
        for name in NUMBERS {
            let value = self.values.variable(name);
            if value.is_some_and(|value| value.parse::<u32>().is_err()) {
                self.ignored::<()>(name, "it is no number");
            }
        }
        self.one_of("OTEL_TRACES_SAMPLER", &SAMPLERS);
        self.one_of(TEMPORALITY, &TEMPORALITIES);
        let ratio = self.values.variable("OTEL_TRACES_SAMPLER_ARG");
        let is_ratio = |text: String| {
            text.parse()
                .is_ok_and(|ratio: f64| (0.0..=1.0).contains(&ratio))
        };
        if !ratio.is_none_or(is_ratio) {
            self.ignored::<()>("OTEL_TRACES_SAMPLER_ARG", "it is no number from 0 to 1");
        }
        for signal in [Signal::Traces, Signal::Metrics] {
            if let Some(found) = self.of(signal, "COMPRESSION")
                && !matches!(&*found.value.to_ascii_lowercase(), "gzip" | "none")
            {
                self.ignored::<()>(&found.variable, "there are gzip and none");
            }
        }
        let propagators = self.values.variable("OTEL_PROPAGATORS");
        if propagators.is_some_and(|names| !names.contains("tracecontext")) {
            self.ignored::<()>("OTEL_PROPAGATORS", "traces are joined by tracecontext");
        }
        let logs = self.values.variable("OTEL_LOGS_EXPORTER");
        if logs.is_some_and(|exporter| exporter != "none") {
            self.ignored::<()>(
                "OTEL_LOGS_EXPORTER",
                "the log is written to standard error only",
            );
        }
        // What is of both signals was said twice.
        self.notes.dedup();
    }

    fn one_of(&mut self, name: &str, known: &[&str]) {
        let value = self.values.variable(name);
        if value.is_some_and(|value| !known.contains(&&*value.to_ascii_lowercase())) {
            self.ignored::<()>(name, &format!("there are {}", known.join(", ")));
        }
    }
}

/// Where a collector is when nobody says.
fn local(signal: Signal, protocol: Protocol) -> http::Uri {
    let url = match protocol {
        Protocol::Grpc => "http://localhost:4317".to_owned(),
        Protocol::Http => format!("http://localhost:4318/{}", signal.path()),
    };
    url.parse().expect("a constant URL")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Otlp, Vec<String>> {
        let lookup = |name: &str| {
            let found = pairs.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let mut values = Values::new(&lookup);
        let otlp = values.otlp();
        values.finish(otlp).map_err(|faults| faults.all().to_vec())
    }

    /// Where traces and metrics go, and how.
    fn where_to(pairs: &[(&str, &str)]) -> [Option<(Protocol, String)>; 2] {
        let otlp = read(pairs).unwrap();
        let shown = |export: Export| (export.protocol, export.endpoint.to_string());
        [otlp.traces.map(shown), otlp.metrics.map(shown)]
    }

    type WhereTo = Option<(Protocol, &'static str)>;

    const NOWHERE: WhereTo = None;
    const GENERAL: WhereTo = Some((Protocol::Grpc, "http://collector:4317/"));

    macro_rules! grpc {
        ($endpoint:literal) => {
            Some((Protocol::Grpc, $endpoint))
        };
    }
    macro_rules! http {
        ($endpoint:literal) => {
            Some((Protocol::Http, $endpoint))
        };
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
    const BY_HTTP: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");

    #[test]
    fn what_is_sent_where_is_as_the_specification_says() {
        for (pairs, traces, metrics) in [
            (&[][..], NOWHERE, NOWHERE),
            (&[ENDPOINT], GENERAL, GENERAL),
            (&[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")], NOWHERE, NOWHERE),
            (&[ENDPOINT, ("OTEL_SDK_DISABLED", "1")], GENERAL, GENERAL),
            (
                &[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")],
                NOWHERE,
                GENERAL,
            ),
            (
                &[ENDPOINT, ("OTEL_METRICS_EXPORTER", "prometheus")],
                GENERAL,
                NOWHERE,
            ),
            (
                &[ENDPOINT, ("OTEL_METRICS_EXPORTER", "prometheus, otlp")],
                GENERAL,
                GENERAL,
            ),
            (
                &[ENDPOINT, ("OTEL_TRACES_EXPORTER", "zipkin")],
                GENERAL,
                GENERAL,
            ),
            (
                &[("OTEL_TRACES_EXPORTER", "otlp")],
                grpc!("http://localhost:4317/"),
                NOWHERE,
            ),
            (
                &[("OTEL_METRICS_EXPORTER", "otlp"), BY_HTTP],
                NOWHERE,
                http!("http://localhost:4318/v1/metrics"),
            ),
            (
                &[ENDPOINT, BY_HTTP],
                http!("http://collector:4317/v1/traces"),
                http!("http://collector:4317/v1/metrics"),
            ),
            (
                &[
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector/base/"),
                    BY_HTTP,
                ],
                http!("https://collector/base/v1/traces"),
                http!("https://collector/base/v1/metrics"),
            ),
            (
                &[
                    ENDPOINT,
                    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
                    (
                        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                        "https://traces/as/it/is",
                    ),
                ],
                http!("https://traces/as/it/is"),
                GENERAL,
            ),
            (
                &[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")],
                grpc!("https://collector:4317/"),
                grpc!("https://collector:4317/"),
            ),
            (
                &[
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
                    ("OTEL_EXPORTER_OTLP_METRICS_INSECURE", "true"),
                ],
                grpc!("https://collector:4317/"),
                grpc!("http://collector:4317/"),
            ),
        ] {
            let expected = [traces, metrics];
            let expected = expected.map(|one| one.map(|(by, url)| (by, url.to_owned())));
            assert_eq!(where_to(pairs), expected, "{pairs:?}");
        }
    }

    #[test]
    fn what_decides_where_telemetry_goes_is_refused_by_name() {
        for (pairs, complaint) in [
            (
                &[("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://collector")][..],
                "OTEL_EXPORTER_OTLP_ENDPOINT must be an http or https URL",
            ),
            (
                &[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://")],
                "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT must be an http or https URL",
            ),
            (
                &[ENDPOINT, ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key")],
                "OTEL_EXPORTER_OTLP_CLIENT_KEY needs OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
            ),
            (
                &[ENDPOINT, ("HTTP_PROXY", "socks5://proxy")],
                "HTTP_PROXY must be the URL of a proxy, as http://proxy.example.com:3128",
            ),
        ] {
            assert_eq!(read(pairs).unwrap_err(), [complaint], "{pairs:?}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_noted_and_not_shown() {
        for (name, value) in [
            ("OTEL_SDK_DISABLED", "canary"),
            ("OTEL_TRACES_EXPORTER", "canary"),
            ("OTEL_METRICS_EXPORTER", "canary"),
            ("OTEL_LOGS_EXPORTER", "otlp"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
            ("OTEL_TRACES_SAMPLER", "xray"),
            ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
            ("OTEL_BSP_SCHEDULE_DELAY", "5s"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "-1"),
            ("OTEL_PROPAGATORS", "b3"),
            (TEMPORALITY, "canary"),
        ] {
            let otlp = read(&[ENDPOINT, (name, value)]).unwrap();
            let notes = &otlp.notes;
            assert!(!notes.is_empty(), "{name}");
            let of_name = |note: &String| note.starts_with(&format!("{name} is ignored: "));
            assert!(notes.iter().all(of_name), "{notes:?}");
            assert!(!format!("{notes:?}").contains("canary"), "{notes:?}");
            assert!(otlp.traces.is_some() && otlp.metrics.is_some(), "{name}");
        }
        let understood = [
            ENDPOINT,
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
            ("OTEL_PROPAGATORS", "tracecontext,baggage"),
            ("OTEL_LOGS_EXPORTER", "none"),
        ];
        let otlp = read(&understood).unwrap();
        assert_eq!(otlp.notes, Vec::<String>::new());
        let timeout = otlp.traces.unwrap().timeout;
        assert_eq!(timeout, Duration::from_millis(1500));
    }

    #[test]
    fn variables_of_what_there_is_are_honoured_and_others_are_not() {
        for name in [
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY",
            "OTEL_BSP_MAX_QUEUE_SIZE",
            TEMPORALITY,
        ] {
            assert!(is_honoured(name), "{name}");
        }
        for name in [
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINTS",
            "OTEL_EXPORTER_ZIPKIN_ENDPOINT",
            "OTEL_METRICS_EXEMPLAR_FILTER",
        ] {
            assert!(!is_honoured(name), "{name}");
        }
    }
}
