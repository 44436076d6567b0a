//! What sends traces and metrics. Headers, compression, the sampler, the sizes and intervals of batches are
//! read by the library, from OpenTelemetry's variables.

use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    MetricExporter, Protocol as Encoding, SpanExporter, WithExportConfig, WithHttpConfig,
    WithTonicConfig,
};
use opentelemetry_sdk::{Resource, metrics::PeriodicReader, trace::SdkTracerProvider};

use super::{
    Watched,
    collector::{self, HttpCollector},
    export::{Export, ExportFault, Otlp, Protocol},
};

/// What the service is called unless the environment says otherwise.
const SERVICE: &str = "grantex-vault";

/// Who sends telemetry: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say more, or otherwise.
#[must_use]
pub fn resource(otlp: &Otlp) -> Resource {
    let resource = Resource::builder()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if otlp.service_is_named {
        resource.build()
    } else {
        resource.with_service_name(SERVICE).build()
    }
}

/// An exporter from its builder. The builders of traces and of metrics have the same methods and no trait in
/// common.
macro_rules! exporter {
    ($builder:expr, $export:expr) => {
        match $export.protocol {
            Protocol::Grpc => $builder
                .with_tonic()
                .with_channel(collector::channel($export)?)
                .with_timeout($export.timeout)
                .build(),
            Protocol::Http => $builder
                .with_http()
                .with_http_client(HttpCollector::new($export)?)
                .with_protocol(Encoding::HttpBinary)
                .with_endpoint($export.endpoint.to_string())
                .with_timeout($export.timeout)
                .build(),
        }
        .map_err(ExportFault::of_endpoint)
    };
}

/// Sends metrics to a collector now and then.
///
/// # Errors
///
/// When it cannot be sent to.
pub fn metric_reader(
    export: &Export,
) -> Result<PeriodicReader<Watched<MetricExporter>>, ExportFault> {
    let exporter = exporter!(MetricExporter::builder(), export)?;
    Ok(PeriodicReader::builder(Watched::new(exporter, "metrics")).build())
}

/// Makes traces and sends them. The batches wait in a queue of a fixed length and are sent by a thread of
/// their own: a collector that is slow or down costs spans, never a request.
pub(super) fn traces(export: &Export, otlp: &Otlp) -> Result<SdkTracerProvider, ExportFault> {
    let exporter = exporter!(SpanExporter::builder(), export)?;
    Ok(SdkTracerProvider::builder()
        .with_resource(resource(otlp))
        .with_batch_exporter(Watched::new(exporter, "traces"))
        .build())
}
