//! An OpenTelemetry collector, which keeps what it is sent.

use std::{
    collections::BTreeMap,
    fmt::Write,
    io::Read,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::any_value::Value,
    trace::v1::Span,
};
use prost::Message;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    codec::CompressionEncoding,
    transport::{Certificate, Identity, Server, ServerTlsConfig, server::TcpIncoming},
};

use super::{Authority, Issued};

/// A collector that listens.
#[derive(Clone)]
pub(crate) struct Collector {
    address: SocketAddr,
    scheme: &'static str,
    kept: Arc<Kept>,
}

#[derive(Default)]
struct Kept {
    traces: Mutex<Vec<ExportTraceServiceRequest>>,
    metrics: Mutex<Vec<ExportMetricsServiceRequest>>,
    headers: Mutex<Vec<HeaderMap>>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let (collector, listener) = Self::listening("http").await;
        collector.serve(Server::builder(), listener);
        collector
    }

    /// One that has a certificate and wants one of this authority.
    pub(crate) async fn secured(issued: &Issued, clients: &Authority) -> Self {
        let (collector, listener) = Self::listening("https").await;
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(&issued.certificate, &issued.key))
            .client_ca_root(Certificate::from_pem(clients.pem()));
        collector.serve(Server::builder().tls_config(tls).unwrap(), listener);
        collector
    }

    /// One that is spoken to by HTTP.
    pub(crate) async fn of_http() -> Self {
        let (collector, listener) = Self::listening("http").await;
        let routes = Router::new()
            .route(
                "/v1/traces",
                post(async |this, headers, body: Bytes| Self::take_traces(this, headers, &body)),
            )
            .route(
                "/v1/metrics",
                post(async |this, headers, body: Bytes| Self::take_metrics(this, headers, &body)),
            )
            .with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        collector
    }

    async fn listening(scheme: &'static str) -> (Self, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = Self {
            address: listener.local_addr().unwrap(),
            scheme,
            kept: Arc::default(),
        };
        (collector, listener)
    }

    fn serve(&self, mut server: Server, listener: TcpListener) {
        let gzip = CompressionEncoding::Gzip;
        let traces = TraceServiceServer::new(self.clone()).accept_compressed(gzip);
        let metrics = MetricsServiceServer::new(self.clone()).accept_compressed(gzip);
        let server = server.add_service(traces).add_service(metrics);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    }

    fn take_traces(State(this): State<Self>, headers: HeaderMap, body: &Bytes) -> Vec<u8> {
        let message = Message::decode(inflated(&headers, body).as_slice()).unwrap();
        this.kept.headers.lock().unwrap().push(headers);
        this.kept.traces.lock().unwrap().push(message);
        ExportTraceServiceResponse::default().encode_to_vec()
    }

    fn take_metrics(State(this): State<Self>, headers: HeaderMap, body: &Bytes) -> Vec<u8> {
        let message = Message::decode(inflated(&headers, body).as_slice()).unwrap();
        this.kept.headers.lock().unwrap().push(headers);
        this.kept.metrics.lock().unwrap().push(message);
        ExportMetricsServiceResponse::default().encode_to_vec()
    }

    /// The endpoint of one that accepts connections and never answers.
    pub(crate) async fn hanging() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.push(stream);
            }
        });
        endpoint
    }

    /// What a server has to be told.
    pub(crate) fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Whether traces have arrived, and whether metrics have.
    pub(crate) fn has(&self) -> (bool, bool) {
        let traces = !self.kept.traces.lock().unwrap().is_empty();
        (traces, !self.kept.metrics.lock().unwrap().is_empty())
    }

    /// The headers of each request.
    pub(crate) fn headers(&self) -> Vec<HeaderMap> {
        self.kept.headers.lock().unwrap().clone()
    }

    /// The spans of a trace that have arrived.
    pub(crate) fn spans(&self, trace: &str) -> Vec<Span> {
        let requests = self.kept.traces.lock().unwrap();
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        let spans = scopes.flat_map(|scope| &scope.spans);
        let of_trace = spans.filter(|span| hex(&span.trace_id) == trace);
        of_trace.cloned().collect()
    }

    /// The names of the metrics that have arrived.
    pub(crate) fn metric_names(&self) -> Vec<String> {
        let requests = self.kept.metrics.lock().unwrap();
        let resources = requests
            .iter()
            .flat_map(|request| &request.resource_metrics);
        let scopes = resources.flat_map(|resource| &resource.scope_metrics);
        let metrics = scopes.flat_map(|scope| &scope.metrics);
        metrics.map(|metric| metric.name.clone()).collect()
    }

    /// Everything that has arrived, as it was sent.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let traces = self.kept.traces.lock().unwrap();
        let traces = traces.iter().flat_map(Message::encode_to_vec);
        let metrics = self.kept.metrics.lock().unwrap();
        let metrics = metrics.iter().flat_map(Message::encode_to_vec);
        traces.chain(metrics).collect()
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let headers = request.metadata().clone().into_headers();
        self.kept.headers.lock().unwrap().push(headers);
        self.kept.traces.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.kept.metrics.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// What was sent, as it was before it was compressed.
fn inflated(headers: &HeaderMap, body: &Bytes) -> Vec<u8> {
    match headers.get("content-encoding") {
        Some(encoding) => {
            assert_eq!(encoding, "gzip");
            let mut inflated = Vec::new();
            let mut reader = flate2::read::GzDecoder::new(&body[..]);
            reader.read_to_end(&mut inflated).unwrap();
            inflated
        }
        None => body.to_vec(),
    }
}

/// The attributes of a span, as text.
pub(crate) fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let attributes = span.attributes.iter();
    let attributes = attributes.filter_map(|attribute| {
        let value = attribute.value.as_ref()?.value.as_ref()?;
        Some((attribute.key.as_str(), text(value)))
    });
    attributes.collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}
