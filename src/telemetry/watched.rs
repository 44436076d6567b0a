//! Exporters that say once that their collector is away, and once that it is back.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use opentelemetry_otlp::{MetricExporter, SpanExporter};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{SpanData, SpanExporter as ExportsSpans},
};

/// An exporter, and whether its last batch was taken.
#[derive(Debug)]
pub struct Watched<E> {
    exporter: E,
    exports: &'static str,
    failing: AtomicBool,
}

impl<E> Watched<E> {
    pub(super) fn new(exporter: E, exports: &'static str) -> Self {
        Self {
            exporter,
            exports,
            failing: AtomicBool::new(false),
        }
    }

    /// Logs what is new. The library would log each batch.
    fn learn(&self, exported: OTelSdkResult) -> OTelSdkResult {
        let fails = exported.is_err();
        let failed = self.failing.swap(fails, Ordering::Relaxed);
        match &exported {
            Err(error) if !failed => {
                tracing::warn!(%error, "the collector does not take {}", self.exports);
            }
            Ok(()) if failed => tracing::info!("the collector takes {} again", self.exports),
            _ => {}
        }
        exported
    }
}

impl ExportsSpans for Watched<SpanExporter> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.learn(self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl PushMetricExporter for Watched<MetricExporter> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.learn(self.exporter.export(metrics).await)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}
