//! Where traces and metrics are sent, and how.

use std::{fmt, path::PathBuf, time::Duration};

use thiserror::Error;

use crate::proxies::Proxies;

/// What is sent to whom, as OpenTelemetry's variables say.
#[derive(Debug, Clone, Default)]
pub struct Otlp {
    /// Where traces go; none are made when `None`.
    pub traces: Option<Export>,
    /// Where metrics go, beside the endpoint that they are read at.
    pub metrics: Option<Export>,
    /// Whether the environment names the service; the library reads the name there.
    pub service_is_named: bool,
    /// Variables that have no effect, and why: for the log.
    pub notes: Vec<String>,
}

/// How one of them is sent.
#[derive(Debug, Clone)]
pub struct Export {
    /// The protocol.
    pub protocol: Protocol,
    /// The collector, with the path of the signal where the protocol has paths.
    pub endpoint: http::Uri,
    /// How long the collector may take for one batch.
    pub timeout: Duration,
    /// Who certifies the collector; the machine's authorities when `None`.
    pub authorities: Option<NamedFile>,
    /// What we present to the collector: a certificate and its key.
    pub identity: Option<(NamedFile, NamedFile)>,
    /// What the way there leads through.
    pub proxies: Proxies,
}

/// How the protocol is spoken (OpenTelemetry specification, "OTLP Exporter configuration").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `grpc`.
    Grpc,
    /// `http/protobuf`.
    Http,
}

/// A file, and the variable that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// The variable.
    pub variable: String,
    /// The file.
    pub path: PathBuf,
}

/// Why nothing can be sent, by the variable that is wrong.
#[derive(Debug, Error)]
#[error("{variable} {problem}")]
pub struct ExportFault {
    /// The variable.
    pub variable: String,
    /// What is wrong with it.
    pub problem: String,
}

// === impl ExportFault ===

impl ExportFault {
    pub(super) fn of_endpoint(problem: impl fmt::Display) -> Self {
        Self {
            variable: "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
            problem: format!("cannot be used: {problem}"),
        }
    }

    pub(super) fn of_file(file: &NamedFile, problem: impl fmt::Display) -> Self {
        Self {
            variable: file.variable.clone(),
            problem: format!("names {}, which {problem}", file.path.display()),
        }
    }
}

// === impl NamedFile ===

impl NamedFile {
    pub(super) fn read(&self) -> Result<Vec<u8>, ExportFault> {
        let unreadable =
            |error| ExportFault::of_file(self, format_args!("cannot be read: {error}"));
        std::fs::read(&self.path).map_err(unreadable)
    }
}
