//! Which authorities admit clients to which listener. Those of public clients and those of operators
//! must not be the same, else each client could be an operator.

use std::sync::{Mutex, PoisonError};

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::files::Listener;

/// What tells one authority from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authority {
    /// The hash of its public key: an authority may have several certificates.
    key: [u8; 32],
    subject: Vec<u8>,
    issuer: Vec<u8>,
}

/// What the listeners of a process trust. Each set of files is entered when it is taken up.
#[derive(Debug, Default)]
pub struct ClientAuthorities(Mutex<Trusted>);

#[derive(Debug, Default)]
struct Trusted {
    public: Vec<Authority>,
    operators: Vec<Authority>,
}

impl Authority {
    /// `None` when it cannot be parsed.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        Some(Self {
            key: Sha256::digest(certificate.public_key().raw).into(),
            subject: certificate.subject().as_raw().to_vec(),
            issuer: certificate.issuer().as_raw().to_vec(),
        })
    }

    /// Whether this one signed the other, as far as their names say. What names do not say shows when a client
    /// presents it ([`ClientAuthorities::are_of_public_clients`]).
    fn signed(&self, other: &Self) -> bool {
        other.issuer != other.subject && other.issuer == self.subject
    }
}

impl ClientAuthorities {
    /// Enters what a listener trusts from now on, unless a certificate for the public listeners
    /// would then be one for operators. The other way round does no harm: operators may call.
    pub(super) fn replace(&self, listener: Listener, next: &[Authority]) -> Result<(), Shared> {
        let mut trusted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (public, operators) = match listener {
            Listener::Public => (next, &*trusted.operators),
            Listener::Operators => (&*trusted.public, next),
            Listener::Admin => return Ok(()),
        };
        let admits = |operators: &Authority, public: &Authority| {
            operators.key == public.key || operators.signed(public)
        };
        if operators
            .iter()
            .any(|one| public.iter().any(|other| admits(one, other)))
        {
            return Err(Shared);
        }
        match listener {
            Listener::Public => trusted.public = next.to_vec(),
            Listener::Operators => trusted.operators = next.to_vec(),
            Listener::Admin => {}
        }
        Ok(())
    }
}

impl ClientAuthorities {
    /// Whether an authority of public clients is among these certificates, which a client has presented to
    /// operators' listener: another one between may have signed it, that nobody here has seen before.
    pub(super) fn are_of_public_clients(&self, presented: &[CertificateDer<'_>]) -> bool {
        let trusted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut presented = presented.iter().map(Authority::of);
        presented.any(|one| {
            let is_public =
                |one: Authority| trusted.public.iter().any(|other| other.key == one.key);
            one.is_none_or(is_public)
        })
    }
}

/// An authority is the public clients' and the operators'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shared;
