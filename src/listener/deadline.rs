//! How long a request may take.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::model::request::{Interruption, Transport};

/// No request takes longer until its answer begins.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(45);

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The time that a request has, and what its end means. A gRPC caller may allow less than we do.
pub(super) fn of(headers: &HeaderMap, transport: Transport) -> (Duration, Interruption) {
    let allowed = match transport {
        Transport::Rest | Transport::CommandLine => None,
        Transport::Grpc => headers.get(GRPC_TIMEOUT),
    };
    let allowed = allowed.and_then(|value| parse(value.to_str().ok()?));
    match allowed {
        Some(allowed) if allowed < REQUEST_TIMEOUT => (allowed, Interruption::DeadlineExceeded),
        _ => (REQUEST_TIMEOUT, Interruption::TimedOut),
    }
}

/// At most eight digits and a unit (gRPC over HTTP/2, "Timeout"). What has another form is ignored,
/// as other servers do.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let amount: u64 = plain.then(|| digits.parse().ok()).flatten()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deadline(text: &str, transport: Transport) -> (Duration, Interruption) {
        let mut headers = HeaderMap::new();
        headers.insert(GRPC_TIMEOUT, text.parse().unwrap());
        of(&headers, transport)
    }

    #[test]
    fn a_grpc_caller_may_allow_less_than_we_do() {
        for (text, millis) in [("250m", 250), ("1S", 1000), ("5000u", 5), ("2000000n", 2)] {
            let expected = (
                Duration::from_millis(millis),
                Interruption::DeadlineExceeded,
            );
            assert_eq!(deadline(text, Transport::Grpc), expected, "{text}");
        }
    }

    #[test]
    fn what_allows_more_or_makes_no_sense_changes_nothing() {
        let ours = (REQUEST_TIMEOUT, Interruption::TimedOut);
        for text in [
            "1H",
            "99999999M",
            "45S",
            "",
            "S",
            "1",
            "1s",
            "-1S",
            "+1S",
            "123456789n",
            "1é",
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(
                GRPC_TIMEOUT,
                http::HeaderValue::from_bytes(text.as_bytes()).unwrap(),
            );
            assert_eq!(of(&headers, Transport::Grpc), ours, "{text}");
        }
        assert_eq!(deadline("1m", Transport::Rest), ours);
    }
}
