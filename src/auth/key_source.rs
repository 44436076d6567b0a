//! Where an issuer's verification keys come from.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use async_trait::async_trait;
use thiserror::Error;
use url::{Host, Url};

/// The largest key set that is read.
const MAX_BYTES: usize = 256 * 1024;

/// How long the issuer may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the issuer may take in all.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a key set (RFC 7517) is read from. A trait because the outside world begins here.
#[async_trait]
pub trait KeySource: Send + Sync {
    /// The bytes of the key set as it is now.
    async fn fetch(&self) -> Result<Vec<u8>, KeySourceFault>;
}

/// Why no key set could be read.
#[derive(Debug, Error)]
pub enum KeySourceFault {
    /// No answer, or a broken one.
    #[error("the issuer's key set cannot be fetched")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An answer that is no key set.
    #[error("the issuer answered {0} instead of its key set")]
    Status(u16),
    /// More than a key set needs.
    #[error("the issuer's key set is larger than 256 KiB")]
    TooLarge,
    /// Not RFC 7517.
    #[error("the issuer's key set is not a JSON Web Key Set")]
    Malformed,
}

/// Fetches by HTTP. Redirects are not followed: the URL is the operator's, not the answer's.
pub struct HttpKeySource {
    client: reqwest::Client,
    url: Url,
}

/// Reads a file, again and again, so that it can be replaced.
pub struct FileKeySource {
    path: PathBuf,
}

// === impl HttpKeySource ===

impl HttpKeySource {
    /// `None` when the URL is neither `https` nor, on loopback only, `http`.
    #[must_use]
    pub fn new(url: Url) -> Option<Self> {
        let allowed = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
        if !allowed {
            return None;
        }
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(FETCH_TIMEOUT)
            .user_agent(concat!("grantex-vault/", env!("CARGO_PKG_VERSION")))
            .build()
            .expect("the client's settings are constants");
        Some(Self { client, url })
    }
}

#[async_trait]
impl KeySource for HttpKeySource {
    async fn fetch(&self) -> Result<Vec<u8>, KeySourceFault> {
        let request = self
            .client
            .get(self.url.clone())
            .header("accept", "application/json");
        let mut response = request.send().await.map_err(unanswered)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(KeySourceFault::Status(response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unanswered)? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(KeySourceFault::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

// === impl FileKeySource ===

impl FileKeySource {
    /// Reads this file whenever it is asked.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

#[async_trait]
impl KeySource for FileKeySource {
    async fn fetch(&self) -> Result<Vec<u8>, KeySourceFault> {
        let size = tokio::fs::metadata(&self.path)
            .await
            .map_err(unreachable)?
            .len();
        if size > MAX_BYTES as u64 {
            return Err(KeySourceFault::TooLarge);
        }
        tokio::fs::read(&self.path).await.map_err(unreachable)
    }
}

fn unreachable(error: impl std::error::Error + Send + Sync + 'static) -> KeySourceFault {
    KeySourceFault::Unreachable(Box::new(error))
}

/// The URL may hold what nobody should read in a log.
fn unanswered(error: reqwest::Error) -> KeySourceFault {
    unreachable(error.without_url())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_only() {
        for (url, allowed) in [
            ("https://issuer.example.com/jwks", true),
            ("http://127.0.0.1:8080/jwks", true),
            ("http://[::1]/jwks", true),
            ("http://localhost:1/jwks", true),
            ("http://issuer.example.com/jwks", false),
            ("http://localhost.example.com/jwks", false),
            ("http://10.0.0.1/jwks", false),
            ("ftp://127.0.0.1/jwks", false),
        ] {
            assert_eq!(
                HttpKeySource::new(url.parse().unwrap()).is_some(),
                allowed,
                "{url}"
            );
        }
    }
}
