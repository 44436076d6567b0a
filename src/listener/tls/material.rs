//! Certificate, key and client CAs, parsed and found to fit.

use std::{io, sync::Arc};

use rustls::{
    Error, InconsistentKeys, RootCertStore,
    crypto::aws_lc_rs::{default_provider, sign::any_supported_type},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SigningKey, SingleCertAndKey},
};
use thiserror::Error;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};
use zeroize::Zeroize;

use super::{
    authorities::{Authority, ClientAuthorities, Shared},
    files::{Contents, Listener, TlsFile, TlsFiles},
};
use crate::model::{
    certificate::{CertificateName, ClientCertificate},
    timestamp::Timestamp,
};

/// A file that TLS cannot be served with. It names the path, never what is in the file.
#[derive(Debug, Error)]
#[error("names {path}, which {problem}")]
pub struct TlsFault {
    /// Which file.
    pub file: TlsFile,
    /// The setting that names it.
    pub setting: &'static str,
    /// Where it is.
    pub path: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a file.
#[derive(Debug, Error)]
pub enum Problem {
    /// The system does not give it.
    #[error("cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// It is no file of certificates or keys.
    #[error("is larger than 1 MiB")]
    TooLarge,
    /// It is empty, or holds other things.
    #[error("holds no certificate in PEM")]
    NoCertificate,
    /// One of its certificates cannot be parsed.
    #[error("holds a certificate that cannot be parsed")]
    MalformedCertificate,
    /// It is empty, encrypted, or holds other things.
    #[error("holds no private key in PEM (PKCS#8, PKCS#1 or SEC1, not encrypted)")]
    NoKey,
    /// The key is damaged, or of a kind that TLS does not use.
    #[error("holds a private key that cannot be used")]
    UnusableKey,
    /// The key is another certificate's.
    #[error("holds a private key that does not belong to the certificate")]
    OtherKey,
    /// A certificate that cannot be a root of trust.
    #[error("holds a certificate that clients' certificates cannot be verified with")]
    UnusableAuthority,
    /// The same authority, or one that has signed the other, for public clients and for operators.
    #[error("holds an authority of both public clients and operators: each client would be one")]
    SharedAuthority,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From when on.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
}

/// What a server is secured with.
pub(super) struct Material {
    pub(super) certificate: Arc<SingleCertAndKey>,
    pub(super) client_verifier: Option<Arc<dyn ClientCertVerifier>>,
    pub(super) validity: Validity,
    authorities: Vec<Authority>,
}

impl Material {
    /// Parses a set of files; each fault is that of one file.
    pub(super) fn parse(files: &TlsFiles, contents: &Contents) -> Result<Self, TlsFault> {
        let fault = |file| move |problem| files.fault(file, problem);
        let chain = certificates(&contents.certificate);
        let chain = chain.map_err(fault(TlsFile::Certificate))?;
        let validity = validity(&chain).map_err(fault(TlsFile::Certificate))?;
        let key = signing_key(&contents.key).map_err(fault(TlsFile::Key))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => {
                return Err(files.fault(TlsFile::Key, Problem::OtherKey));
            }
            Err(_) => {
                return Err(files.fault(TlsFile::Certificate, Problem::MalformedCertificate));
            }
        }
        let roots = match &contents.client_ca {
            Some(pem) => certificates(pem).map_err(fault(TlsFile::ClientCa))?,
            None => Vec::new(),
        };
        let authorities: Option<Vec<_>> = roots.iter().map(Authority::of).collect();
        let authorities = authorities.ok_or(Problem::UnusableAuthority);
        let authorities = authorities.map_err(fault(TlsFile::ClientCa))?;
        let verified = !roots.is_empty();
        let client_verifier = verified
            .then(|| client_verifier(roots, files.listener).map_err(fault(TlsFile::ClientCa)))
            .transpose()?;
        Ok(Self {
            certificate: Arc::new(certified.into()),
            client_verifier,
            validity,
            authorities,
        })
    }

    /// Enters whom it admits, unless another listener must not admit them.
    pub(super) fn enter(
        &self,
        files: &TlsFiles,
        authorities: &ClientAuthorities,
    ) -> Result<(), TlsFault> {
        let entered = authorities.replace(files.listener, &self.authorities);
        entered.map_err(|Shared| files.fault(TlsFile::ClientCa, Problem::SharedAuthority))
    }
}

/// All certificates of a file, of which there is one at least.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| Problem::MalformedCertificate)?;
    if found.is_empty() {
        return Err(Problem::NoCertificate);
    }
    Ok(found)
}

/// When the first certificate of a chain is valid. The others are parsed as well: a client would
/// stumble over one that is damaged.
fn validity(chain: &[CertificateDer<'_>]) -> Result<Validity, Problem> {
    let validity = |der: &CertificateDer<'_>| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let moment = |seconds| Timestamp::from_seconds_and_nanos(seconds, 0).ok();
        Some(Validity {
            not_before: moment(certificate.validity().not_before.timestamp())?,
            not_after: moment(certificate.validity().not_after.timestamp())?,
        })
    };
    let all: Option<Vec<_>> = chain.iter().map(validity).collect();
    let first = all.and_then(|all| all.first().copied());
    first.ok_or(Problem::MalformedCertificate)
}

fn signing_key(pem: &[u8]) -> Result<Arc<dyn SigningKey>, Problem> {
    let mut der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| Problem::NoKey)?;
    let key = any_supported_type(&der).map_err(|_| Problem::UnusableKey);
    // The key itself lives on in the memory of aws-lc, which wipes what it frees.
    der.zeroize();
    key
}

fn client_verifier(
    authorities: Vec<CertificateDer<'static>>,
    listener: Listener,
) -> Result<Arc<dyn ClientCertVerifier>, Problem> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        let added = roots.add(authority);
        added.map_err(|_| Problem::UnusableAuthority)?;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()));
    let builder = match listener {
        Listener::Public => builder,
        // A certificate that is presented is verified all the same.
        Listener::Admin | Listener::Operators => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|_| Problem::UnusableAuthority)
}

/// What a client's certificate says of its holder: its alternative names and serial number. The
/// subject's common name is anything that its authority lets it be, and counts for nothing.
pub(super) fn client_certificate(certificate: &CertificateDer<'_>) -> ClientCertificate {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return ClientCertificate::new(Vec::new(), &[]);
    };
    let extension = parsed.subject_alternative_name().ok().flatten();
    let names = extension
        .iter()
        .flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(host) => CertificateName::dns(host),
        GeneralName::RFC822Name(address) => CertificateName::email(address),
        GeneralName::URI(uri) => CertificateName::uri(uri),
        _ => None,
    });
    ClientCertificate::new(names.collect(), parsed.raw_serial())
}

// === impl Validity ===

impl Validity {
    /// Whether it covers this moment.
    ///
    /// # Errors
    ///
    /// Why not, as the end of a sentence.
    pub fn now(&self, now: Timestamp) -> Result<(), &'static str> {
        if now < self.not_before {
            return Err("is not valid yet");
        }
        if now > self.not_after {
            return Err("has expired");
        }
        Ok(())
    }
}
