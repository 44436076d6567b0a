//! Whose request it is when a proxy brings it.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's address: the other end of the connection, unless that is a trusted proxy. Then it is
/// the last address in `X-Forwarded-For` that is no trusted proxy itself: whoever is not trusted may
/// have written anything before it.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let mut client = peer.to_canonical();
    if !is_trusted(client) {
        return client;
    }
    let values: Vec<_> = headers.get_all(X_FORWARDED_FOR).iter().collect();
    let values = values.into_iter().rev().map(|value| value.to_str());
    let hops = values.flat_map(|value| value.unwrap_or_default().rsplit(','));
    for hop in hops {
        // A hop that is no address was written by nobody we trust.
        let Some(address) = parse(hop.trim()) else {
            break;
        };
        client = address.to_canonical();
        if !is_trusted(client) {
            break;
        }
    }
    client
}

/// Some proxies add the port.
fn parse(hop: &str) -> Option<IpAddr> {
    let unbracketed = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']'));
    let address = unbracketed.unwrap_or(hop).parse().ok();
    address.or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_of(peer: &str, values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(X_FORWARDED_FOR, value.parse().unwrap());
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        client(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn what_a_client_says_of_itself_is_not_believed() {
        assert_eq!(client_of("192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
        assert_eq!(client_of("::ffff:192.0.2.1", &["10.0.0.1"]), "192.0.2.1");
    }

    #[test]
    fn a_trusted_proxy_says_who_it_was_and_not_what_it_was_told() {
        for (values, expected) in [
            (&["203.0.113.9"][..], "203.0.113.9"),
            (&["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
            (&["198.51.100.1", "203.0.113.9"], "203.0.113.9"),
            (&["203.0.113.9, 10.1.1.1, fd00::7"], "203.0.113.9"),
            (&["203.0.113.9:1234, [fd00::7]:80"], "203.0.113.9"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["::ffff:203.0.113.9"], "203.0.113.9"),
            (&["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
            (&["203.0.113.9, unknown"], "10.0.0.1"),
            (&["203.0.113.9, , 10.1.1.1"], "10.1.1.1"),
            (&[""], "10.0.0.1"),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(client_of("10.0.0.1", values), expected, "{values:?}");
        }
    }
}
