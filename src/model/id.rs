//! Identifiers that the vault makes: a prefix and a ULID.

use std::fmt;

use ulid::Ulid;

use super::timestamp::Timestamp;

/// Makes a ULID for a moment: sortable by time, unguessable within it.
fn make_ulid(now: Timestamp) -> Ulid {
    let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
    // Of the thread's generator: every event has an id, and asking the system for each took a percent.
    Ulid::from_parts(millis, rand::random())
}

/// Reads the one spelling of a ULID that `Display` writes: 26 upper-case Crockford characters.
fn parse_ulid(text: &str) -> Option<Ulid> {
    let ulid = Ulid::from_string(text).ok()?;
    let mut canonical = [0_u8; ulid::ULID_LEN];
    (ulid.array_to_str(&mut canonical) == text).then_some(ulid)
}

/// How many characters of a ULID are its time.
const TIME_CHARS: usize = 10;

/// The characters with which the ULIDs of a moment begin. As a text it compares below all of them, and
/// above those of earlier moments. Before 1970 it is that of 1970 beginning.
#[must_use]
pub fn ulid_time(at: Timestamp) -> String {
    let millis = u64::try_from(at.as_millisecond()).unwrap_or_default();
    let mut text = Ulid::from_parts(millis, 0).to_string();
    text.truncate(TIME_CHARS);
    text
}

macro_rules! ulid_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// A new one, its time part taken from `now`.
            #[must_use]
            pub fn make(now: Timestamp) -> Self {
                Self(make_ulid(now))
            }

            /// Reads what `Display` writes; any other text is `None`.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                text.strip_prefix($prefix).and_then(parse_ulid).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

ulid_id!(
    /// A stored credential: `vc_` and a ULID.
    CredentialId,
    "vc_"
);
ulid_id!(
    /// An API key, not the key itself: `ak_` and a ULID.
    ApiKeyId,
    "ak_"
);
ulid_id!(
    /// A webhook secret, not the secret itself: a ULID.
    WebhookSecretId,
    ""
);
ulid_id!(
    /// An audit event: a ULID.
    EventId,
    ""
);
ulid_id!(
    /// A developer that the vault itself registered: `dev_` and a ULID.
    ///
    /// Developers of another authority may be called anything: everywhere else a developer is a
    /// [`DeveloperId`](super::text::DeveloperId).
    NewDeveloperId,
    "dev_"
);

// === impl EventId ===

impl EventId {
    /// The id as 128 bits, big-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_bytes()
    }

    /// Takes 128 bits over.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Ulid::from_bytes(bytes))
    }

    /// Whether its time is before this moment.
    #[must_use]
    pub fn is_before(self, moment: Timestamp) -> bool {
        i128::from(self.0.timestamp_ms()) < i128::from(moment.as_millisecond())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parse_of_display_is_identity(millis in 0_i64..253_402_300_799_999) {
            let id = CredentialId::make(Timestamp::from_millisecond(millis).unwrap());
            prop_assert_eq!(CredentialId::parse(&id.to_string()), Some(id));
        }

        #[test]
        fn the_time_of_a_moment_divides_its_ids_from_those_before(
            millis in 1_i64..253_402_300_799_999,
        ) {
            let [before, now] =
                [millis - 1, millis].map(|millis| Timestamp::from_millisecond(millis).unwrap());
            let time = ulid_time(now);
            prop_assert!(EventId::make(before).to_string() < time);
            prop_assert!(time < EventId::make(now).to_string());
            prop_assert!(EventId::make(now).to_string().starts_with(&time));
        }

        #[test]
        fn any_other_text_is_no_id(text in ".{0,40}") {
            if let Some(id) = CredentialId::parse(&text) {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn another_spelling_of_an_id_is_not_that_id() {
        let id = CredentialId::make(Timestamp::from_millisecond(1).unwrap()).to_string();
        assert!(CredentialId::parse(&id.to_lowercase()).is_none());
        assert!(CredentialId::parse(id.trim_start_matches("vc_")).is_none());
        assert!(
            CredentialId::parse("vc_8ZZZZZZZZZZZZZZZZZZZZZZZZZ").is_none(),
            "more than 128 bits"
        );
    }
}
