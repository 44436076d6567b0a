//! Where an issuer's verification keys come from.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use http::{
    HeaderMap,
    header::{ACCEPT, CACHE_CONTROL, ETAG, IF_NONE_MATCH},
};
use reqwest::StatusCode;
use thiserror::Error;
use url::Url;

use crate::proxies::{self, Proxies};

/// The largest key set that is read.
const MAX_BYTES: usize = 256 * 1024;

/// How long the issuer may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the issuer may take in all.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest `ETag` that is kept.
const MAX_ETAG_BYTES: usize = 256;

/// Where a key set (RFC 7517) is read from. A trait because the outside world begins here.
#[async_trait]
pub trait KeySource: Send + Sync {
    /// The key set as it is now, or that it is still the one of this `ETag`.
    async fn fetch(&self, known: Option<&str>) -> Result<Fetched, KeySourceFault>;
}

/// What a source answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// A key set.
    Document {
        /// Its bytes.
        bytes: Vec<u8>,
        /// By which it can be asked for again, at no cost while it is the same.
        etag: Option<String>,
        /// How long its source says that it stays as it is.
        max_age: Option<Duration>,
    },
    /// The key set is the one whose `ETag` was sent.
    Unchanged {
        /// How long its source says that it stays as it is.
        max_age: Option<Duration>,
    },
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
    pub fn new(url: Url, proxies: &Proxies) -> Option<Self> {
        let is_loopback = url.host_str().is_some_and(proxies::is_loopback);
        let allowed = url.scheme() == "https" || (url.scheme() == "http" && is_loopback);
        if !allowed {
            return None;
        }
        let uri = url.as_str().parse().ok()?;
        let client = reqwest::Client::builder().no_proxy();
        let client = match proxies.of(&uri) {
            Some(proxy) => client.proxy(reqwest::Proxy::all(proxy.expose_url()).ok()?),
            None => client,
        };
        let client = client
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
    async fn fetch(&self, known: Option<&str>) -> Result<Fetched, KeySourceFault> {
        let mut request = self.client.get(self.url.clone());
        request = request.header(ACCEPT, "application/jwk-set+json, application/json");
        if let Some(etag) = known {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let mut response = request.send().await.map_err(unanswered)?;
        let max_age = max_age(response.headers());
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if known.is_some() => {
                return Ok(Fetched::Unchanged { max_age });
            }
            other => return Err(KeySourceFault::Status(other.as_u16())),
        }
        let etag = etag(response.headers());
        let mut bytes = Vec::new();
        // Decompressed as it comes, so that the bound is on what is kept.
        while let Some(chunk) = response.chunk().await.map_err(unanswered)? {
            if bytes.len() + chunk.len() > MAX_BYTES {
                return Err(KeySourceFault::TooLarge);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Fetched::Document {
            bytes,
            etag,
            max_age,
        })
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
    async fn fetch(&self, _: Option<&str>) -> Result<Fetched, KeySourceFault> {
        let size = tokio::fs::metadata(&self.path)
            .await
            .map_err(unreachable)?
            .len();
        if size > MAX_BYTES as u64 {
            return Err(KeySourceFault::TooLarge);
        }
        let bytes = tokio::fs::read(&self.path).await.map_err(unreachable)?;
        Ok(Fetched::Document {
            bytes,
            etag: None,
            max_age: None,
        })
    }
}

/// `max-age` of `Cache-Control` (RFC 9111, section 5.2.2); nothing when the answer is not to be kept.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).iter();
    let directives = values.filter_map(|value| value.to_str().ok());
    let directives = directives.flat_map(|value| value.split(',')).map(str::trim);
    let directives: Vec<&str> = directives.collect();
    let forbids = |directive: &str| {
        directive.eq_ignore_ascii_case("no-store") || directive.eq_ignore_ascii_case("no-cache")
    };
    if directives.iter().any(|directive| forbids(directive)) {
        return Some(Duration::ZERO);
    }
    directives.iter().find_map(|directive| {
        let (name, seconds) = directive.split_once('=')?;
        let seconds = seconds.trim_matches('"').parse().ok()?;
        name.eq_ignore_ascii_case("max-age")
            .then(|| Duration::from_secs(seconds))
    })
}

fn etag(headers: &HeaderMap) -> Option<String> {
    let etag = headers.get(ETAG)?.to_str().ok()?;
    (etag.len() <= MAX_ETAG_BYTES).then(|| etag.to_owned())
}

fn unreachable(error: impl std::error::Error + Send + Sync + 'static) -> KeySourceFault {
    KeySourceFault::Unreachable(Box::new(error))
}

/// The URL may hold what nobody should read in a log.
fn unanswered(error: reqwest::Error) -> KeySourceFault {
    unreachable(error.without_url())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_age_is_read_in_every_spelling_and_yields_to_a_refusal_to_cache() {
        let seconds = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CACHE_CONTROL, value.parse().unwrap());
            }
            max_age(&headers).map(|age| age.as_secs())
        };
        for (values, expected) in [
            (&["max-age=3600"][..], Some(3600)),
            (&["public, Max-Age=\"60\" , must-revalidate"], Some(60)),
            (&["public", "max-age=5"], Some(5)),
            (&["max-age=60, no-store"], Some(0)),
            (&["No-Cache"], Some(0)),
            (&["s-maxage=9"], None),
            (&["max-age=-1"], None),
            (&["max-age=99999999999999999999"], None),
            (&["max-age"], None),
            (&[], None),
        ] {
            assert_eq!(seconds(values), expected, "{values:?}");
        }
    }

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
                HttpKeySource::new(url.parse().unwrap(), &Proxies::default()).is_some(),
                allowed,
                "{url}"
            );
        }
    }
}
