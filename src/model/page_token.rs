//! Page tokens: a place in a list, with a check of which list it is a place of.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// Makes a token: opaque to callers, and of use only with the list that it was made for.
///
/// `place` is what the token leads back to, and `hashed` the same for the check. The list is told by
/// its developer and its filters, those that are absent apart from those that are empty.
///
/// The check is not a secret: forging a token shows a developer nothing but another place of its own
/// list. It is there so that a token of another list is an error and not a gap.
pub(super) fn make(place: &str, hashed: &[&[u8]], list: &[Option<&str>]) -> String {
    let mut hash = Sha256::new();
    for part in hashed {
        hash.update(part);
    }
    for part in list {
        // Length-prefixed, absent apart from empty: no two lists have the same input.
        hash.update(
            part.map_or(u64::MAX, |text| text.len() as u64)
                .to_be_bytes(),
        );
        hash.update(part.unwrap_or_default());
    }
    let check = URL_SAFE_NO_PAD.encode(hash.finalize());
    URL_SAFE_NO_PAD.encode(format!("{place}.{check}"))
}

/// The place that a token claims to lead to. Whoever reads it makes the token again and compares:
/// that is the check.
pub(super) fn claimed_place(token: &str) -> Option<String> {
    let mut plain = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let end = plain.rfind('.')?;
    plain.truncate(end);
    Some(plain)
}

/// A token of a place that is nothing but its text.
#[must_use]
pub fn of_place(place: &str, list: &[Option<&str>]) -> String {
    make(place, &[place.as_bytes()], list)
}

/// The place that a token leads to in this list; `None` when it is a token of another one.
#[must_use]
pub fn place_in(token: &str, list: &[Option<&str>]) -> Option<String> {
    claimed_place(token).filter(|place| of_place(place, list) == token)
}
