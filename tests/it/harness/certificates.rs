//! Certificates, and a directory that holds them as Kubernetes mounts a secret.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) der: Vec<u8>,
}

/// What a client trusts and presents; by default it speaks in clear.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trust {
    authority: Option<String>,
    identity: Option<Issued>,
}

/// `tls.crt`, `tls.key` and `ca.crt`, links through `..data` into a directory that is replaced.
pub(crate) struct Certificates {
    pub(crate) authority: Authority,
    directory: TempDir,
}

// === impl Authority ===

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for loopback.
    pub(crate) fn issue(&self) -> Issued {
        self.issue_until(2100)
    }

    /// The same that expires when this year begins.
    pub(crate) fn issue_until(&self, year: i32) -> Issued {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        self.sign(&params)
    }

    /// A client's certificate. It expires when the year 2100 begins.
    pub(crate) fn issue_client(&self, name: &str) -> Issued {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = date_time_ymd(2100, 1, 1);
        self.sign(&params)
    }

    /// A client's certificate with alternative names and a serial number beside its common name.
    pub(crate) fn issue_named(&self, name: &str, also: Vec<SanType>, serial: &[u8]) -> Issued {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = date_time_ymd(2100, 1, 1);
        params.subject_alt_names = also;
        params.serial_number = Some(serial.to_vec().into());
        self.sign(&params)
    }

    /// An authority that this one has signed.
    pub(crate) fn subordinate(&self, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::signed_by(params, key, &self.0).unwrap())
    }

    /// Another certificate of this authority, with the same key under another name.
    pub(crate) fn renamed_pem(&self, name: &str) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(self.0.key()).unwrap().pem()
    }

    fn sign(&self, params: &CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().to_vec(),
        }
    }
}

// === impl Trust ===

impl Trust {
    pub(crate) fn of(authority: &Authority) -> Self {
        Self {
            authority: Some(authority.pem()),
            identity: None,
        }
    }

    pub(crate) fn with_identity(mut self, client: &Issued) -> Self {
        self.identity = Some(client.clone());
        self
    }

    /// A client for HTTP, without a connection yet.
    pub(crate) fn http(&self) -> reqwest::Client {
        self.http_builder().build().unwrap()
    }

    /// The same, to be changed.
    pub(crate) fn http_builder(&self) -> reqwest::ClientBuilder {
        let mut builder = reqwest::Client::builder().no_proxy();
        if let Some(authority) = &self.authority {
            let authority = reqwest::Certificate::from_pem(authority.as_bytes());
            builder = builder.tls_certs_only([authority.unwrap()]);
        }
        if let Some(Issued {
            certificate, key, ..
        }) = &self.identity
        {
            let pem = format!("{key}{certificate}");
            builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
        }
        builder
    }

    /// A client for gRPC, without a connection yet.
    pub(crate) fn channel(&self, url: &str) -> Channel {
        let endpoint = Endpoint::from_shared(url.to_owned()).unwrap();
        let Some(authority) = &self.authority else {
            return endpoint.connect_lazy();
        };
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
        if let Some(Issued {
            certificate, key, ..
        }) = &self.identity
        {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        endpoint.tls_config(tls).unwrap().connect_lazy()
    }
}

// === impl Certificates ===

impl Certificates {
    pub(crate) fn new() -> Self {
        let certificates = Self {
            authority: Authority::new("the vault's"),
            directory: tempfile::tempdir().unwrap(),
        };
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            symlink(Path::new("..data").join(name), certificates.at(name)).unwrap();
        }
        certificates.swap(&certificates.authority.issue());
        certificates
    }

    /// What a client needs to trust them.
    pub(crate) fn trust(&self) -> Trust {
        Trust::of(&self.authority)
    }

    /// Where a file is.
    pub(crate) fn path(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    /// Replaces all files at once, as Kubernetes does: by the link to a new directory.
    pub(crate) fn swap(&self, issued: &Issued) {
        let authority = self.authority.pem();
        self.swap_all(&issued.certificate, &issued.key, &authority);
    }

    /// The same for contents of any kind.
    pub(crate) fn swap_all(&self, certificate: &str, key: &str, client_ca: &str) {
        let name = format!("..{}", uuid::Uuid::new_v4());
        fs::create_dir(self.at(&name)).unwrap();
        for (file, content) in [
            ("tls.crt", certificate),
            ("tls.key", key),
            ("ca.crt", client_ca),
        ] {
            fs::write(self.at(&name).join(file), content).unwrap();
        }
        let former = fs::read_link(self.at("..data"));
        symlink(&name, self.at("..data_tmp")).unwrap();
        fs::rename(self.at("..data_tmp"), self.at("..data")).unwrap();
        if let Ok(former) = former {
            fs::remove_dir_all(self.directory.path().join(former)).unwrap();
        }
    }

    /// Rewrites certificate and key where they are, one after the other.
    pub(crate) fn rewrite(&self, issued: &Issued) {
        fs::write(self.at("tls.crt"), &issued.certificate).unwrap();
        fs::write(self.at("tls.key"), &issued.key).unwrap();
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}
