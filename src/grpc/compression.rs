//! Messages that clients compress: gzip, decompressed within the bounds of messages in clear.
//!
//! tonic decompresses what is small anyway: health, reflection, operators. A message of the vault may be
//! large, so it is decompressed here, in the memory that callers share. Answers are never compressed:
//! their lengths would tell secrets.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::{HeaderMap, HeaderName, HeaderValue};

/// How the messages of a request are compressed (gRPC over HTTP/2, "Message-Encoding").
pub(super) const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// What may be sent, as an answer says it.
pub(super) const GRPC_ACCEPT_ENCODING: &str = "grpc-accept-encoding";
/// Everything that may be sent.
pub(super) const ACCEPTED: &str = "identity,gzip";

/// The flag and the length before a message ("Length-Prefixed-Message").
pub(super) const PREFIX_BYTES: usize = 5;
const COMPRESSED: u8 = 1;

/// How messages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// They are not.
    Identity,
    /// RFC 1952. Each message has a flag that says whether it is.
    Gzip,
}

impl Encoding {
    /// How a request's messages are compressed; `None` when it is nothing that we take.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(GRPC_ENCODING).iter();
        let encoding = match values.next().map(HeaderValue::as_bytes) {
            None | Some(b"identity") => Self::Identity,
            Some(b"gzip") => Self::Gzip,
            Some(_) => return None,
        };
        values.next().is_none().then_some(encoding)
    }
}

/// A message in clear, with its prefix; `None` when that is larger than `max_bytes`. No more than that
/// is ever decompressed. What is not compressed, or no single message, is answered as it is.
///
/// # Errors
///
/// It is not gzip.
pub(super) fn decompressed(framed: &Bytes, max_bytes: usize) -> io::Result<Option<Bytes>> {
    let compressed = match framed.split_at_checked(PREFIX_BYTES) {
        Some((prefix, message)) if prefix[0] == COMPRESSED && length(prefix) == message.len() => {
            message
        }
        _ => return Ok((framed.len() <= max_bytes).then(|| framed.clone())),
    };
    let mut clear = vec![0; PREFIX_BYTES];
    let most = max_bytes - PREFIX_BYTES;
    // One byte more shows that there is more.
    let mut decoder = MultiGzDecoder::new(compressed).take(most as u64 + 1);
    let length = decoder.read_to_end(&mut clear)?;
    if length > most {
        return Ok(None);
    }
    let length = u32::try_from(length).expect("a message is at most a few MiB");
    clear[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(Some(clear.into()))
}

/// Whether a body is more than one message, which no call of the vault takes.
pub(super) fn is_more_than_one(framed: &[u8]) -> bool {
    let message = framed.split_at_checked(PREFIX_BYTES);
    message.is_some_and(|(prefix, rest)| rest.len() > length(prefix))
}

/// The length of the message after a prefix.
fn length(prefix: &[u8]) -> usize {
    let length = prefix[1..PREFIX_BYTES].try_into();
    let length = u32::from_be_bytes(length.expect("a prefix has five bytes"));
    usize::try_from(length).expect("at least 32 bits")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn framed(flag: u8, message: &[u8]) -> Bytes {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[flag], &length[..], message].concat().into()
    }

    fn gzip(message: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(message).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_message_is_decompressed_up_to_its_bound_and_no_further() {
        let message = vec![b'x'; 1000];
        let sent = framed(COMPRESSED, &gzip(&message));
        let clear = framed(0, &message);
        assert_eq!(decompressed(&sent, 1005).unwrap(), Some(clear.clone()));
        assert_eq!(decompressed(&sent, 1004).unwrap(), None);
        let halves = [gzip(&message[..400]), gzip(&message[400..])].concat();
        let halves = framed(COMPRESSED, &halves);
        assert_eq!(decompressed(&halves, 1005).unwrap(), Some(clear.clone()));
        assert_eq!(decompressed(&halves, 1004).unwrap(), None);
        assert_eq!(decompressed(&clear, 1005).unwrap(), Some(clear.clone()));
        assert_eq!(decompressed(&clear, 1004).unwrap(), None);
    }

    #[test]
    fn what_is_not_gzip_is_said_to_be_broken() {
        let whole = gzip(b"message");
        let mut damaged = whole.clone();
        let last = damaged.len() - 5;
        damaged[last] ^= 1;
        for broken in [&b""[..], b"message", &whole[..whole.len() - 1], &damaged] {
            let sent = framed(COMPRESSED, broken);
            assert!(decompressed(&sent, 1000).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn only_gzip_is_taken_and_it_is_named_once() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(GRPC_ENCODING, value.parse().unwrap());
            }
            Encoding::of(&headers)
        };
        assert_eq!(of(&[]), Some(Encoding::Identity));
        assert_eq!(of(&["identity"]), Some(Encoding::Identity));
        assert_eq!(of(&["gzip"]), Some(Encoding::Gzip));
        for other in [&["deflate"][..], &["gzip, gzip"], &["gzip", "gzip"], &[""]] {
            assert_eq!(of(other), None, "{other:?}");
        }
    }
}
