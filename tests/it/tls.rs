//! TLS on both listeners: versions, client certificates, rotation, and handshakes that go wrong.

mod faults;
mod handshakes;
mod mutual;
mod protocols;
mod resumption;
mod rotation;

use std::{io, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::harness::{Authority, Issued};

/// A client's side of TLS, without a client's certificate.
#[derive(Clone)]
struct Hello {
    config: ClientConfig,
}

impl Hello {
    fn new(authority: &Authority) -> Self {
        Self::of_versions(authority, &[&TLS13, &TLS12])
    }

    fn of_versions(authority: &Authority, versions: &[&'static SupportedProtocolVersion]) -> Self {
        let authority = CertificateDer::from_pem_slice(authority.pem().as_bytes());
        let mut roots = RootCertStore::empty();
        roots.add(authority.unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap();
        Self {
            config: builder.with_root_certificates(roots).with_no_client_auth(),
        }
    }

    /// Presents a client's certificate.
    fn presenting(mut self, client: &Issued) -> Self {
        let certificate = CertificateDer::from(client.der.clone());
        let key = PrivateKeyDer::from_pem_slice(client.key.as_bytes()).unwrap();
        let key = any_supported_type(&key).unwrap();
        let certified = CertifiedKey::new(vec![certificate], key);
        self.config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        self
    }

    /// Offers these protocols.
    fn offering(mut self, protocols: &[&str]) -> Self {
        let names = protocols.iter().map(|name| name.as_bytes().to_vec());
        self.config.alpn_protocols = names.collect();
        self
    }

    async fn say(self, address: &str) -> io::Result<TlsStream<TcpStream>> {
        self.say_on(TcpStream::connect(address).await?).await
    }

    async fn say_on(self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connector = TlsConnector::from(Arc::new(self.config));
        connector.connect(name, stream).await
    }
}

/// The certificate that a new connection gets.
async fn served_certificate(authority: &Authority, address: &str) -> Vec<u8> {
    let stream = Hello::new(authority).say(address).await.unwrap();
    presented(&stream)
}

/// The certificate that a connection got.
fn presented(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    chain[0].to_vec()
}
