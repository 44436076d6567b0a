//! The HTTP client of everything that is asked of AWS: KMS, and who gives credentials for it.

use std::{fs, io, path::Path};

use aws_smithy_http_client::{
    Builder, ConnectorBuilder,
    proxy::ProxyConfig,
    tls::{self, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::HttpRequest,
    runtime_components::RuntimeComponents,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use thiserror::Error;

use crate::proxies::{Proxies, Proxy};

/// The largest file of authorities that is read.
const MAX_BUNDLE_BYTES: u64 = 4 * 1024 * 1024;

/// A client of AWS. Clones share its connections.
#[derive(Debug, Clone)]
pub struct AwsHttp(SharedHttpClient);

/// Why the authorities of `AWS_CA_BUNDLE` cannot be used.
#[derive(Debug, Error)]
pub enum CaBundleFault {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It is no file of authorities.
    #[error("is larger than 4 MiB")]
    TooLarge,
    /// It is empty, or holds other things.
    #[error("holds no certificate in PEM")]
    NoCertificate,
    /// One of its certificates is broken.
    #[error("holds a certificate that cannot be used")]
    Malformed,
}

/// The clients that a request may go by: its host decides.
#[derive(Debug)]
struct ByProxy<T> {
    proxies: Proxies,
    direct: T,
    by_scheme: Vec<(&'static str, T)>,
}

// === impl AwsHttp ===

impl AwsHttp {
    /// A client that goes through these proxies, and that trusts the authorities of a file instead of the
    /// machine's (`AWS_CA_BUNDLE`; AWS SDKs and tools reference guide, "General configuration").
    ///
    /// # Errors
    ///
    /// When the file cannot be used.
    pub fn new(proxies: &Proxies, ca_bundle: Option<&Path>) -> Result<Self, CaBundleFault> {
        let tls = match ca_bundle {
            Some(path) => trusting(&authorities(path)?),
            None => TlsContext::default(),
        };
        let by_scheme = proxies.each();
        let by_scheme = by_scheme.map(|(scheme, proxy)| (scheme, client(&tls, through(proxy))));
        Ok(Self(SharedHttpClient::new(ByProxy {
            proxies: proxies.clone(),
            by_scheme: by_scheme.collect(),
            direct: client(&tls, ProxyConfig::disabled()),
        })))
    }

    /// What the SDK asks by.
    pub(super) fn shared(&self) -> SharedHttpClient {
        self.0.clone()
    }
}

// === impl ByProxy ===

impl HttpClient for ByProxy<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let connector = |client: &SharedHttpClient| client.http_connector(settings, components);
        let by_scheme = self.by_scheme.iter();
        let by_scheme = by_scheme.map(|(scheme, client)| (*scheme, connector(client)));
        SharedHttpConnector::new(ByProxy {
            proxies: self.proxies.clone(),
            direct: connector(&self.direct),
            by_scheme: by_scheme.collect(),
        })
    }
}

impl HttpConnector for ByProxy<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let url: Option<http::Uri> = request.uri().parse().ok();
        let is_proxied = |url: &&http::Uri| self.proxies.of(url).is_some();
        let scheme = url
            .as_ref()
            .filter(is_proxied)
            .and_then(http::Uri::scheme_str);
        let mut by_scheme = self.by_scheme.iter();
        match by_scheme.find(|(of, _)| scheme == Some(*of)) {
            Some((_, connector)) => connector.call(request),
            None => self.direct.call(request),
        }
    }
}

/// The SDK's own client, but for what it trusts and where it goes.
fn client(tls: &TlsContext, proxy: ProxyConfig) -> SharedHttpClient {
    let tls = tls.clone();
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default()
            .tls_provider(tls::Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(tls.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_proxy_config(Some(proxy.clone()));
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        connector.build()
    })
}

fn through(proxy: &Proxy) -> ProxyConfig {
    ProxyConfig::all(proxy.expose_url()).expect("a proxy is an http or https URL with a host")
}

fn trusting(bundle: &[u8]) -> TlsContext {
    let trusted = TrustStore::empty().with_pem_certificate(bundle);
    let context = TlsContext::builder().with_trust_store(trusted).build();
    context.expect("a context of certificates that were read is valid")
}

/// What the file holds. The SDK reads it once more when it connects, and panics on what is no certificate.
fn authorities(path: &Path) -> Result<Vec<u8>, CaBundleFault> {
    if fs::metadata(path)?.len() > MAX_BUNDLE_BYTES {
        return Err(CaBundleFault::TooLarge);
    }
    let bundle = fs::read(path)?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bundle) {
        let certificate = certificate.map_err(|_| CaBundleFault::Malformed)?;
        roots
            .add(certificate)
            .map_err(|_| CaBundleFault::Malformed)?;
    }
    if roots.is_empty() {
        return Err(CaBundleFault::NoCertificate);
    }
    Ok(bundle)
}
