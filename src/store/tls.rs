//! TLS to Postgres, by rustls.

use std::{
    fmt, io,
    path::Path,
    sync::{Arc, LazyLock},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    version::{TLS12, TLS13},
};
use thiserror::Error;
use tokio_postgres::{Socket, tls::MakeTlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::database_url::{DatabaseUrl, Roots, Target, Verification};

/// What a server expects that is spoken to by TLS at once (RFC 7301; `sslnegotiation=direct`).
const ALPN: &[u8] = b"postgresql";

/// The operating system's certificates, which are many.
static SYSTEM_ROOTS: LazyLock<Vec<CertificateDer<'static>>> =
    LazyLock::new(|| rustls_native_certs::load_native_certs().certs);

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsFault {
    /// The file of `sslrootcert` cannot be used.
    #[error("sslrootcert {0} holds no certificates that can be read")]
    RootFile(String),
    /// The system has none; the text says what it was looked for.
    #[error("no root certificates were found on this system; name a file with sslrootcert")]
    NoSystemRoots,
    /// The files of `sslcert` and `sslkey` cannot be used.
    #[error("sslcert {0} and sslkey hold no certificate with its key")]
    ClientCertificate(String),
}

/// Secures connections to a database. Its files are read for each connection, so that those that were
/// replaced are used from the next one on.
#[derive(Clone)]
pub(super) struct Tls(pub(super) DatabaseUrl);

/// Checks whether connections to this database can be secured.
///
/// # Errors
///
/// When a file cannot be used.
pub(super) fn check(url: &DatabaseUrl) -> Result<(), TlsFault> {
    config(&url.target()).map(|_| ())
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
    type TlsConnect = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> io::Result<Self::TlsConnect> {
        let config = config(&self.0.target()).map_err(io::Error::other)?;
        let made =
            MakeTlsConnect::<Socket>::make_tls_connect(&mut MakeRustlsConnect::new(config), domain);
        made.map_err(io::Error::other)
    }
}

/// Without TLS it is one that trusts nobody, and is not used.
fn config(target: &Target) -> Result<ClientConfig, TlsFault> {
    let verification = target.verification();
    let roots = Arc::new(match verification {
        Verification::Disabled => RootCertStore::empty(),
        Verification::Chain | Verification::Full => roots(target.roots())?,
    });
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions: &[_] = if target.tls13_only() {
        &[&TLS13]
    } else {
        &[&TLS13, &TLS12]
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .expect("the provider supports TLS 1.2 and 1.3");
    let builder = if verification == Verification::Chain {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        let verifier = ChainVerifier(verifier.map_err(|_| TlsFault::NoSystemRoots)?);
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
    } else {
        builder.with_root_certificates(roots)
    };
    let mut config = match target.client_certificate() {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let fault = || TlsFault::ClientCertificate(certificate.display().to_string());
            let chain = read_certificates(certificate).map_err(|_| fault())?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|_| fault())?;
            let builder = builder.with_client_auth_cert(chain, key);
            builder.map_err(|_| fault())?
        }
    };
    config.enable_sni = target.sends_server_name();
    if target.is_direct() {
        config.alpn_protocols = vec![ALPN.to_vec()];
    }
    Ok(config)
}

fn roots(roots: &Roots) -> Result<RootCertStore, TlsFault> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::System => {
            store.add_parsable_certificates(SYSTEM_ROOTS.iter().cloned());
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
