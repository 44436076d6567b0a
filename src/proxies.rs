//! Which proxy a request to the outside goes through, for every client alike: those of the issuer's keys,
//! of AWS and of a collector.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use thiserror::Error;
use url::{Host, Url};
use zeroize::Zeroizing;

/// Where metadata services are that hand out an instance's credentials, and nothing else: link-local
/// addresses, and those of AWS in IPv6.
const LINK_LOCAL: [&str; 3] = ["169.254.0.0/16", "fe80::/10", "fd00:ec2::/32"];

/// The proxies of a process. Clones are the same.
#[derive(Clone, Default)]
pub struct Proxies {
    inner: Option<Arc<Inner>>,
}

struct Inner {
    http: Option<Proxy>,
    https: Option<Proxy>,
    /// Knows which hosts are asked directly.
    matcher: Matcher,
}

/// A proxy, by its URL, which may have a password.
pub struct Proxy {
    url: Zeroizing<String>,
    is_https: bool,
}

/// A text that names no proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be the URL of a proxy, as http://proxy.example.com:3128")]
pub struct NoProxyUrl;

// === impl Proxies ===

impl Proxies {
    /// The proxies of requests by `http` and by `https`, and the hosts that are asked directly, as curl
    /// has them: names with all that is below them, addresses, networks, or `*`, comma-separated.
    #[must_use]
    pub fn new(http: Option<Proxy>, https: Option<Proxy>, directly: &str) -> Self {
        if http.is_none() && https.is_none() {
            return Self::default();
        }
        // The matcher says whether there is one; which one is said below.
        let (some, none) = ("http://proxy.invalid", "");
        let scheme = |proxy: &Option<Proxy>| if proxy.is_some() { some } else { none };
        let matcher = Matcher::builder()
            .http(scheme(&http))
            .https(scheme(&https))
            .no(directly.to_owned())
            .build();
        let inner = Inner {
            http,
            https,
            matcher,
        };
        Self {
            inner: Some(Arc::new(inner)),
        }
    }

    /// The proxy of requests to this URL; `None` when it is asked directly.
    ///
    /// So is this machine, whatever is configured: what is allowed in clear on loopback only must not be
    /// read, or answered, by a proxy. So are the metadata services of clouds.
    #[must_use]
    pub fn of(&self, url: &Uri) -> Option<&Proxy> {
        let inner = self.inner.as_deref()?;
        let host = url.host()?;
        if is_loopback(host) || is_link_local(host) || inner.matcher.intercept(url).is_none() {
            return None;
        }
        match url.scheme_str() {
            Some("https") => inner.https.as_ref(),
            _ => inner.http.as_ref(),
        }
    }

    /// Each proxy, with the scheme of the requests that go through it.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, &Proxy)> {
        let inner = self.inner.as_deref();
        let http = inner.and_then(|inner| inner.http.as_ref());
        let https = inner.and_then(|inner| inner.https.as_ref());
        let http = http.map(|proxy| ("http", proxy));
        http.into_iter().chain(https.map(|proxy| ("https", proxy)))
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.each()).finish()
    }
}

// === impl Proxy ===

impl Proxy {
    /// Its URL, with the name and the password that it wants.
    #[must_use]
    pub fn expose_url(&self) -> &str {
        &self.url
    }

    /// Whether it is reached by TLS itself.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.is_https
    }
}

impl FromStr for Proxy {
    type Err = NoProxyUrl;

    /// Without a scheme it is `http`, as for curl.
    fn from_str(text: &str) -> Result<Self, NoProxyUrl> {
        let url = if text.contains("://") {
            Zeroizing::new(text.to_owned())
        } else {
            Zeroizing::new(format!("http://{text}"))
        };
        let parsed = Url::parse(&url).map_err(|_| NoProxyUrl)?;
        // What reads it next reads it as a URI.
        if !parsed.has_host() || url.parse::<Uri>().is_err() {
            return Err(NoProxyUrl);
        }
        match parsed.scheme() {
            scheme @ ("http" | "https") => Ok(Self {
                is_https: scheme == "https",
                url,
            }),
            _ => Err(NoProxyUrl),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxy(…)")
    }
}

/// Whether a host, as it stands in a URL, is this machine.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    match Host::parse(host) {
        Ok(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Ok(Host::Ipv4(address)) => address.is_loopback(),
        Ok(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        Err(_) => false,
    }
}

fn is_link_local(host: &str) -> bool {
    let address = match Host::parse(host) {
        Ok(Host::Ipv4(address)) => IpAddr::V4(address),
        Ok(Host::Ipv6(address)) => address.to_canonical(),
        Ok(Host::Domain(_)) | Err(_) => return false,
    };
    LINK_LOCAL.into_iter().any(|network| {
        let network: ipnet::IpNet = network.parse().expect("a network");
        network.contains(&address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(http: &str, https: &str, directly: &str) -> Proxies {
        Proxies::new(http.parse().ok(), https.parse().ok(), directly)
    }

    fn proxy_of(proxies: &Proxies, url: &str) -> Option<String> {
        let proxy = proxies.of(&url.parse().unwrap());
        proxy.map(|proxy| proxy.expose_url().to_owned())
    }

    #[test]
    fn this_machine_and_metadata_services_are_asked_directly_whatever_is_configured() {
        let proxies = proxies("http://a.test:1", "http://b.test:2", "");
        for url in [
            "http://localhost/x",
            "http://LOCALHOST.:8080/x",
            "https://issuer.localhost/x",
            "http://127.0.0.1:8080/x",
            "http://127.1.2.3/x",
            "https://[::1]:1/x",
            "http://[::ffff:127.0.0.1]/x",
            "http://169.254.169.254/latest",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::254]/latest",
        ] {
            assert_eq!(proxy_of(&proxies, url), None, "{url}");
        }
    }

    #[test]
    fn what_goes_through_which_proxy_follows_from_scheme_and_host() {
        let both = proxies(
            "http://a.test:1",
            "http://user:pass@b.test:2",
            "internal.test, 10.0.0.0/8,::5",
        );
        let (a, b) = ("http://a.test:1", "http://user:pass@b.test:2");
        for (url, proxy) in [
            ("http://issuer.test/x", Some(a)),
            ("https://issuer.test/x", Some(b)),
            ("https://localhost.issuer.test/x", Some(b)),
            ("https://internal.test/x", None),
            ("https://x.internal.test/x", None),
            ("https://notinternal.test/x", Some(b)),
            ("https://10.1.2.3/x", None),
            ("https://[::5]/x", None),
            ("http://192.0.2.1/x", Some(a)),
        ] {
            assert_eq!(proxy_of(&both, url).as_deref(), proxy, "{url}");
        }
        let only_http = proxies("a.test:1", "", "");
        assert_eq!(proxy_of(&only_http, "https://issuer.test/x"), None);
        let http = proxy_of(&only_http, "http://issuer.test/x");
        assert_eq!(http.as_deref(), Some("http://a.test:1"));
        let nowhere = proxies("a.test:1", "a.test:1", "*");
        assert_eq!(proxy_of(&nowhere, "http://issuer.test/x"), None);
    }

    #[test]
    fn only_urls_of_http_proxies_are_taken_and_none_is_shown() {
        for text in [
            "socks5://a.test:1",
            "http://",
            "ftp://a.test",
            "http://a b",
            "",
        ] {
            assert_eq!(text.parse::<Proxy>().map(|_| ()), Err(NoProxyUrl), "{text}");
        }
        let shown = proxies("http://user:canary@a.test", "", "");
        assert!(!format!("{shown:?}").contains("canary"));
    }
}
