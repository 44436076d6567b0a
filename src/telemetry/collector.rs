//! The way to a collector, by gRPC and by HTTP.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hyper_util::client::{
    legacy::connect::{HttpConnector, proxy::Tunnel},
    proxy::matcher::Matcher,
};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::export::{Export, ExportFault};
use crate::proxies::Proxy;

/// How long the collector, or a proxy, may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest answer that is read: it says at most what was refused.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// A collector that is spoken to by HTTP. The exporters have threads of their own, and what it sends needs
/// the runtime.
#[derive(Debug)]
pub(super) struct HttpCollector {
    client: reqwest::Client,
    runtime: Handle,
}

/// A channel to a collector that is spoken to by gRPC; it connects when it is used.
pub(super) fn channel(export: &Export) -> Result<Channel, ExportFault> {
    let endpoint = Endpoint::from(export.endpoint.clone())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(export.timeout);
    let endpoint = match export.endpoint.scheme_str() {
        Some("https") => endpoint.tls_config(tls(export)?).map_err(|error| {
            let authorities = export.authorities.as_ref();
            match export
                .identity
                .as_ref()
                .map(|(file, _)| file)
                .or(authorities)
            {
                Some(file) => ExportFault::of_file(file, "cannot be used"),
                None => ExportFault::of_endpoint(error),
            }
        })?,
        _ => endpoint,
    };
    Ok(match export.proxies.of(&export.endpoint) {
        Some(proxy) => endpoint.connect_with_connector_lazy(tunnel(proxy)?),
        None => endpoint.connect_lazy(),
    })
}

fn tls(export: &Export) -> Result<ClientTlsConfig, ExportFault> {
    let tls = match &export.authorities {
        Some(file) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(file.read()?)),
        None => ClientTlsConfig::new().with_enabled_roots(),
    };
    Ok(match &export.identity {
        Some((certificate, key)) => {
            tls.identity(Identity::from_pem(certificate.read()?, key.read()?))
        }
        None => tls,
    })
}

/// A proxy connects us to the collector itself, by CONNECT.
fn tunnel(proxy: &Proxy) -> Result<Tunnel<HttpConnector>, ExportFault> {
    if proxy.is_https() {
        return Err(ExportFault::of_endpoint(
            "gRPC goes through no proxy of https; use http/protobuf, or name the collector in NO_PROXY",
        ));
    }
    let matcher = Matcher::builder()
        .all(proxy.expose_url().to_owned())
        .build();
    let anywhere = http::Uri::from_static("http://collector.invalid");
    let proxy = matcher.intercept(&anywhere).expect("it is for everything");
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let tunnel = Tunnel::new(proxy.uri().clone(), connector);
    Ok(match proxy.basic_auth() {
        Some(auth) => tunnel.with_auth(auth.clone()),
        None => tunnel,
    })
}

// === impl HttpCollector ===

impl HttpCollector {
    /// Call it inside the runtime.
    pub(super) fn new(export: &Export) -> Result<Self, ExportFault> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(export.timeout);
        let client = match export.proxies.of(&export.endpoint) {
            Some(proxy) => {
                let proxy = reqwest::Proxy::all(proxy.expose_url());
                client.proxy(proxy.map_err(|error| ExportFault::of_endpoint(error.without_url()))?)
            }
            None => client,
        };
        let client = match &export.authorities {
            Some(file) => {
                let unusable = |_| ExportFault::of_file(file, "holds no certificate in PEM");
                let bundle = reqwest::Certificate::from_pem_bundle(&file.read()?);
                client.tls_certs_only(bundle.map_err(unusable)?)
            }
            None => client,
        };
        let client = match &export.identity {
            Some((certificate, key)) => {
                let unusable = |_| ExportFault::of_file(certificate, "cannot be used with its key");
                let both = [certificate.read()?, b"\n".to_vec(), key.read()?].concat();
                let identity = reqwest::Identity::from_pem(&both);
                client.identity(identity.map_err(unusable)?)
            }
            None => client,
        };
        let client = client.build();
        Ok(Self {
            client: client.map_err(|error| ExportFault::of_endpoint(error.without_url()))?,
            runtime: Handle::current(),
        })
    }
}

#[async_trait]
impl HttpClient for HttpCollector {
    async fn send_bytes(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, HttpError> {
        let sent = self.runtime.spawn(send(self.client.clone(), request));
        sent.await?
    }
}

async fn send(
    client: reqwest::Client,
    request: http::Request<Bytes>,
) -> Result<http::Response<Bytes>, HttpError> {
    let request = request.try_into().map_err(reqwest::Error::without_url)?;
    let answer = client.execute(request).await;
    let mut answer = answer.map_err(reqwest::Error::without_url)?;
    let mut response = http::Response::builder().status(answer.status());
    if let Some(headers) = response.headers_mut() {
        headers.clone_from(answer.headers());
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err("the collector's answer is larger than 64 KiB".into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(response.body(body.into())?)
}
