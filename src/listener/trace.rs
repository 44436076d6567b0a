//! The span of a request, as part of its caller's trace.

use http::{HeaderMap, Method, Request};
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanContext, TraceContextExt, TraceState},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::model::request::{TraceId, Transport};

/// Begins the span of a request; a disabled one, for next to nothing, unless traces are sent. The trace
/// is the caller's when it names one (W3C Trace Context), whether or not traces are sent.
///
/// The names are those of OpenTelemetry's semantic conventions. The route is the template, never the
/// path, and no header stands there.
pub(super) fn begin<B>(
    request: &Request<B>,
    transport: Transport,
    route: Option<&'static str>,
) -> (Span, Option<TraceId>) {
    let parent = parent_of(request.headers());
    let span = match transport {
        Transport::Rest | Transport::CommandLine => rest(request, route),
        Transport::Grpc => grpc(route),
    };
    if span.is_disabled() {
        return (span, trace_of(&parent));
    }
    // It fails where a subscriber wants spans and knows no traces.
    if span.set_parent(parent.clone()).is_err() {
        return (span, trace_of(&parent));
    }
    let trace = trace_of(&span.context());
    (span, trace)
}

/// What the span says of the answer. Whether it is an error follows from the conventions: over HTTP a
/// 5xx, over gRPC what is the server's fault.
pub(super) fn end(span: &Span, transport: Transport, status: u16) {
    let failed = match transport {
        Transport::Rest | Transport::CommandLine => {
            span.record("http.response.status_code", status);
            status >= 500
        }
        Transport::Grpc => {
            span.record("rpc.grpc.status_code", status);
            matches!(status, 2 | 4 | 12 | 13 | 14 | 15)
        }
    };
    if failed {
        span.record("otel.status_code", "ERROR");
    }
}

fn rest<B>(request: &Request<B>, route: Option<&'static str>) -> Span {
    let method = known_method(request.method());
    let span = tracing::info_span!(
        "request",
        otel.name = Empty,
        otel.kind = "server",
        otel.status_code = Empty,
        grantex.request_id = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
    );
    if !span.is_disabled() {
        let name = route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
        span.record("otel.name", name);
    }
    span
}

/// A method that nobody knows is anything that a caller made up.
fn known_method(method: &Method) -> &str {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ];
    if known.contains(method) {
        method.as_str()
    } else {
        "_OTHER"
    }
}

fn grpc(route: Option<&'static str>) -> Span {
    let (service, method) = route.and_then(|route| route.rsplit_once('/')).unzip();
    tracing::info_span!(
        "request",
        otel.name = route.unwrap_or("grpc"),
        otel.kind = "server",
        otel.status_code = Empty,
        grantex.request_id = Empty,
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        rpc.grpc.status_code = Empty,
    )
}

/// The caller's span, without its `tracestate`: that is any text, and is not ours to pass on.
fn parent_of(headers: &HeaderMap) -> Context {
    let named = TraceContextPropagator::new().extract(&Headers(headers));
    let span = named.span().span_context().clone();
    let stripped = SpanContext::new(
        span.trace_id(),
        span.span_id(),
        span.trace_flags(),
        span.is_remote(),
        TraceState::NONE,
    );
    Context::new().with_remote_span_context(stripped)
}

fn trace_of(context: &Context) -> Option<TraceId> {
    TraceId::from_bytes(context.span().span_context().trace_id().to_bytes())
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_trace_is_known_though_no_traces_are_sent() {
        let traced = |header: &str| {
            let request = Request::builder().header("traceparent", header);
            let request = request.body(()).unwrap();
            let (span, trace) = begin(&request, Transport::Rest, None);
            assert!(span.is_disabled());
            trace.map(|trace| trace.to_string())
        };
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let header = format!("00-{id}-00f067aa0ba902b7-01");
        assert_eq!(traced(&header).as_deref(), Some(id));
        for wrong in ["", "00-0-0-01", &header.replace("00-4", "ff-4")] {
            assert_eq!(traced(wrong), None, "{wrong}");
        }
    }
}
