//! TLS to Postgres, by rustls.

use std::{fmt, path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use thiserror::Error;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::database_url::{DatabaseUrl, Roots, Verification};

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsFault {
    /// The file of `sslrootcert` cannot be used.
    #[error("sslrootcert {0} holds no certificates that can be read")]
    RootFile(String),
    /// The system has none; the text says what it was looked for.
    #[error("no root certificates were found on this system; name a file with sslrootcert")]
    NoSystemRoots,
}

/// How to secure connections to this database; `None` is not at all.
pub(super) fn connector(url: &DatabaseUrl) -> Result<Option<MakeRustlsConnect>, TlsFault> {
    let chain_only = match url.verification() {
        Verification::Disabled => return Ok(None),
        Verification::Chain => true,
        Verification::Full => false,
    };
    let roots = Arc::new(roots(url.roots())?);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider supports TLS 1.2 and 1.3");
    let config = if chain_only {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        let verifier = ChainVerifier(verifier.map_err(|_| TlsFault::NoSystemRoots)?);
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
    } else {
        builder.with_root_certificates(roots)
    };
    Ok(Some(MakeRustlsConnect::new(config.with_no_client_auth())))
}

fn roots(roots: &Roots) -> Result<RootCertStore, TlsFault> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::System => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if store.is_empty() {
                return Err(TlsFault::NoSystemRoots);
            }
        }
        Roots::File(path) => {
            for certificate in read_certificates(path)? {
                store.add(certificate).map_err(|_| unreadable(path))?;
            }
        }
    }
    Ok(store)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let certificates = CertificateDer::pem_file_iter(path).map_err(|_| unreadable(path))?;
    let certificates: Result<Vec<_>, _> = certificates.collect();
    certificates
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or_else(|| unreadable(path))
}

fn unreadable(path: &Path) -> TlsFault {
    TlsFault::RootFile(path.display().to_string())
}

/// libpq's `verify-ca`: the chain is checked as ever, only a name that does not fit is accepted.
struct ChainVerifier(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // webpki checks the name last, after the chain has been found good.
        match self
            .0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp, now)
        {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            answer => answer,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

impl fmt::Debug for ChainVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChainVerifier")
    }
}
