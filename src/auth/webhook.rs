//! The signature of a Grantex webhook: HMAC-SHA256 (RFC 2104) by a secret that both sides know.
//!
//! `X-Grantex-Signature-V2` is over `<X-Grantex-Timestamp>.<body>`, so that an old request is worth nothing.
//! `X-Grantex-Signature` is over the body alone; it is always sent too, and counts only where that is
//! asked for and the other is absent.

use aws_lc_rs::hmac::{self, HMAC_SHA256};

use crate::model::{secret::WebhookSecret, timestamp::Timestamp};

/// How far the time of a signature may be from ours, in seconds.
const WINDOW_SECONDS: u64 = 5 * 60;

/// What a request says of its signature, not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSignature {
    /// What stands before the body; nothing in the plain one.
    prefix: String,
    mac: [u8; 32],
}

/// Which signatures are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Accepted {
    /// Those that cover their time.
    #[default]
    WithTime,
    /// The plain one too, where the other is absent: who saw a request can send it again.
    PlainToo,
}

/// The headers as they came: all values of each.
#[derive(Debug, Clone, Copy)]
pub struct SignatureHeaders<'a> {
    /// `X-Grantex-Signature-V2`.
    pub v2: &'a [&'a [u8]],
    /// `X-Grantex-Timestamp`.
    pub timestamp: &'a [&'a [u8]],
    /// `X-Grantex-Signature`.
    pub plain: &'a [&'a [u8]],
}

impl WebhookSignature {
    /// Reads the headers; `None` when they cannot be those of a webhook of this moment.
    #[must_use]
    pub fn parse(
        headers: &SignatureHeaders<'_>,
        accepted: Accepted,
        now: Timestamp,
    ) -> Option<Self> {
        if headers.v2.is_empty() {
            let mac = mac(only(headers.plain)?)?;
            let prefix = String::new();
            return (accepted == Accepted::PlainToo).then_some(Self { prefix, mac });
        }
        let mac = mac(only(headers.v2)?)?;
        let seconds = only(headers.timestamp)?;
        let digits =
            (1..=12).contains(&seconds.len()) && seconds.bytes().all(|b| b.is_ascii_digit());
        let signed_at: i64 = seconds.parse().ok().filter(|_| digits)?;
        let fresh = signed_at.abs_diff(now.as_second()) <= WINDOW_SECONDS;
        let prefix = format!("{seconds}.");
        fresh.then_some(Self { prefix, mac })
    }

    /// Whether this secret made it, of this body. Compared in constant time.
    #[must_use]
    pub fn is_of(&self, secret: &WebhookSecret, body: &[u8]) -> bool {
        let key = hmac::Key::new(HMAC_SHA256, secret.expose().as_bytes());
        let message = [self.prefix.as_bytes(), body].concat();
        hmac::verify(&key, &message, &self.mac).is_ok()
    }
}

/// The value of a header that stands once.
fn only<'a>(values: &[&'a [u8]]) -> Option<&'a str> {
    match values {
        [value] => str::from_utf8(value).ok(),
        _ => None,
    }
}

/// `sha256=` and 64 hexadecimal digits.
fn mac(value: &str) -> Option<[u8; 32]> {
    let digits = value.strip_prefix("sha256=")?.as_bytes();
    let mut mac = [0; 32];
    if digits.len() != 2 * mac.len() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    for (byte, pair) in mac.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?;
    }
    Some(mac)
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    const NOW: i64 = 1_775_390_400;
    const BODY: &[u8] = br#"{"id":"evt_1"}"#;

    fn secret(text: &str) -> WebhookSecret {
        WebhookSecret::new(Zeroizing::new(text.to_owned())).unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::from_millisecond(NOW * 1000).unwrap()
    }

    fn signed(key: &str, message: &[u8]) -> String {
        let key = hmac::Key::new(HMAC_SHA256, key.as_bytes());
        let tag = hmac::sign(&key, message);
        let hex: Vec<_> = tag
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("sha256={}", hex.concat())
    }

    fn v2(at: i64) -> (String, String) {
        let message = [format!("{at}.").as_bytes(), BODY].concat();
        (signed("the-secret-of-acme", &message), at.to_string())
    }

    fn parse(
        v2: &[&str],
        timestamp: &[&str],
        plain: &[&str],
        allow: bool,
    ) -> Option<WebhookSignature> {
        let [v2, timestamp, plain] = [v2, timestamp, plain].map(|values| {
            values
                .iter()
                .map(|text| text.as_bytes())
                .collect::<Vec<_>>()
        });
        let headers = SignatureHeaders {
            v2: &v2,
            timestamp: &timestamp,
            plain: &plain,
        };
        {
            let accepted = if allow {
                Accepted::PlainToo
            } else {
                Accepted::WithTime
            };
            WebhookSignature::parse(&headers, accepted, now())
        }
    }

    /// RFC 4231, section 4.3 (test case 2), whose key is shorter than we take.
    #[test]
    fn it_is_the_hmac_of_the_rfc() {
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signed("Jefe", b"what do ya want for nothing?"), expected);
    }

    #[test]
    fn only_the_secret_that_made_it_verifies_and_only_of_that_body() {
        let (signature, at) = v2(NOW);
        let parsed = parse(&[&signature], &[&at], &[], false).unwrap();
        assert!(parsed.is_of(&secret("the-secret-of-acme"), BODY));
        assert!(!parsed.is_of(&secret("the-secret-of-globex"), BODY));
        assert!(!parsed.is_of(&secret("the-secret-of-acme"), b"{}"));
        let later = (NOW + 1).to_string();
        let parsed = parse(&[&signature], &[&later], &[], false).unwrap();
        assert!(!parsed.is_of(&secret("the-secret-of-acme"), BODY));
    }

    #[test]
    fn a_signature_is_of_five_minutes_before_or_after() {
        for (at, fresh) in [(-301, false), (-300, true), (300, true), (301, false)] {
            let (signature, at) = v2(NOW + at);
            let parsed = parse(&[&signature], &[&at], &[], false);
            assert_eq!(parsed.is_some(), fresh, "{at}");
        }
    }

    #[test]
    fn the_plain_one_counts_where_it_is_allowed_and_the_other_is_absent() {
        let plain = signed("the-secret-of-acme", BODY);
        assert!(parse(&[], &[], &[&plain], false).is_none());
        let parsed = parse(&[], &[], &[&plain], true).unwrap();
        assert!(parsed.is_of(&secret("the-secret-of-acme"), BODY));
        for wrong in ["sha256=00", "x", ""] {
            assert!(parse(&[wrong], &[&NOW.to_string()], &[&plain], true).is_none());
        }
    }

    #[test]
    fn other_forms_are_no_signatures() {
        let (signature, at) = v2(NOW);
        let upper = format!("sha256={}", signature[7..].to_uppercase());
        assert!(parse(&[&upper], &[&at], &[], false).is_some());
        for wrong in [
            &signature[1..],
            &signature[..70],
            &format!("{signature}0"),
            &signature.replace("sha256=", "sha1="),
            &format!("sha256={}", "é".repeat(32)),
        ] {
            assert!(parse(&[wrong], &[&at], &[], false).is_none(), "{wrong}");
        }
        assert!(parse(&[&signature, &signature], &[&at], &[], false).is_none());
        assert!(parse(&[&signature], &[&at, &at], &[], false).is_none());
        assert!(parse(&[&signature], &[], &[], false).is_none());
        for wrong in ["", "+1775390400", "1775390400.0", " 1775390400", "0x1"] {
            assert!(
                parse(&[&signature], &[wrong], &[], false).is_none(),
                "{wrong}"
            );
        }
        assert!(parse(&[], &[], &[], true).is_none());
    }
}
