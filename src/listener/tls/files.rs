//! The files of TLS: where they are, and reading them as one set.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::material::{Problem, TlsFault};

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Where certificate, key and client CAs are, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, and then those of its chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// Whose certificates clients must have; without it clients need none.
    pub client_ca: Option<PathBuf>,
    /// What is secured with them.
    pub listener: Listener,
}

/// A listener, or several that are secured alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// gRPC and HTTP. Where there are client CAs, nobody comes in without a certificate.
    Public,
    /// Probes and metrics. Nobody is asked for a certificate.
    Admin,
    /// Operators. A certificate is one way to be known; whoever has none may present the token.
    Operators,
}

/// One of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the files of `TlsFiles`")]
pub enum TlsFile {
    Certificate,
    Key,
    ClientCa,
}

/// What a set of files holds. It is compared, and of the key it keeps no more than this.
pub(super) type Fingerprint = [u8; 32];

/// One look at the files.
pub(super) struct Reading {
    /// Of the contents, or of what kept them from being read.
    pub(super) fingerprint: Fingerprint,
    pub(super) contents: Result<Contents, TlsFault>,
}

/// What the files hold, not parsed yet; wiped, because one is a private key.
pub(super) struct Contents {
    pub(super) certificate: Zeroizing<Vec<u8>>,
    pub(super) key: Zeroizing<Vec<u8>>,
    pub(super) client_ca: Option<Zeroizing<Vec<u8>>>,
}

impl Listener {
    /// The setting that names one of its files.
    #[must_use]
    pub fn setting(self, file: TlsFile) -> &'static str {
        match (self, file) {
            (Self::Public, TlsFile::Certificate) => "GRANTEX_VAULT_TLS_CERT_FILE",
            (Self::Public, TlsFile::Key) => "GRANTEX_VAULT_TLS_KEY_FILE",
            (Self::Public, TlsFile::ClientCa) => "GRANTEX_VAULT_TLS_CLIENT_CA_FILE",
            (Self::Admin, TlsFile::Certificate) => "GRANTEX_VAULT_ADMIN_TLS_CERT_FILE",
            (Self::Admin, TlsFile::Key) => "GRANTEX_VAULT_ADMIN_TLS_KEY_FILE",
            (Self::Operators, TlsFile::Certificate) => "GRANTEX_VAULT_OPERATOR_TLS_CERT_FILE",
            (Self::Operators, TlsFile::Key) => "GRANTEX_VAULT_OPERATOR_TLS_KEY_FILE",
            // The admin listener has no such file: certificates are the operators'.
            (Self::Admin | Self::Operators, TlsFile::ClientCa) => {
                "GRANTEX_VAULT_OPERATOR_TLS_CLIENT_CA_FILE"
            }
        }
    }
}

// === impl TlsFiles ===

impl TlsFiles {
    /// Reads all of them.
    pub(super) fn read(&self) -> Reading {
        let contents = self.contents();
        let fingerprint = match &contents {
            Ok(contents) => contents.fingerprint(),
            Err(fault) => Sha256::digest(fault.to_string()).into(),
        };
        Reading {
            fingerprint,
            contents,
        }
    }

    fn contents(&self) -> Result<Contents, TlsFault> {
        let client_ca = self.client_ca.is_some();
        Ok(Contents {
            certificate: self.content(TlsFile::Certificate)?,
            key: self.content(TlsFile::Key)?,
            client_ca: client_ca
                .then(|| self.content(TlsFile::ClientCa))
                .transpose()?,
        })
    }

    fn content(&self, file: TlsFile) -> Result<Zeroizing<Vec<u8>>, TlsFault> {
        read_bounded(self.path(file)).map_err(|problem| self.fault(file, problem))
    }

    fn path(&self, file: TlsFile) -> &Path {
        match file {
            TlsFile::Certificate => &self.certificate,
            TlsFile::Key => &self.key,
            TlsFile::ClientCa => self.client_ca.as_deref().unwrap_or(Path::new("")),
        }
    }

    /// What is wrong with one of them.
    pub(super) fn fault(&self, file: TlsFile, problem: Problem) -> TlsFault {
        TlsFault {
            file,
            setting: self.listener.setting(file),
            path: self.path(file).display().to_string(),
            problem,
        }
    }
}

// === impl Contents ===

impl Contents {
    fn fingerprint(&self) -> Fingerprint {
        let parts = [
            Some(&self.certificate),
            Some(&self.key),
            self.client_ca.as_ref(),
        ];
        let mut hash = Sha256::new();
        for part in parts.into_iter().flatten() {
            // The length keeps apart what moved from one file to the next.
            hash.update(part.len().to_be_bytes());
            hash.update(&**part);
        }
        hash.finalize().into()
    }
}

fn read_bounded(path: &Path) -> Result<Zeroizing<Vec<u8>>, Problem> {
    // Opening a pipe would wait for who writes into it.
    if !path.metadata().map_err(Problem::Unreadable)?.is_file() {
        return Err(Problem::Unreadable(io::Error::other("it is not a file")));
    }
    let file = File::open(path).map_err(Problem::Unreadable)?;
    let length = file.metadata().map_err(Problem::Unreadable)?.len();
    if length > MAX_FILE_BYTES {
        return Err(Problem::TooLarge);
    }
    // It is never moved to a larger place, which would leave a copy of the key behind.
    let room = usize::try_from(length).expect("1 MiB") + 1;
    let mut content = Zeroizing::new(vec![0; room]);
    let mut filled = 0;
    let mut file = file.take(MAX_FILE_BYTES);
    while filled < room {
        match file.read(&mut content[filled..]) {
            Ok(0) => {
                content.truncate(filled);
                return Ok(content);
            }
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Problem::Unreadable(error)),
        }
    }
    Err(Problem::Unreadable(io::Error::other(
        "it grows while it is read",
    )))
}
