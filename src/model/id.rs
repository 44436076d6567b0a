//! Identifiers that the vault makes: a prefix and a ULID.

use std::fmt;

use sha2::{Digest, Sha256};
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

/// The form of a [`CredentialId`], as a regular expression for Postgres and for JSON Schema.
macro_rules! credential_id_pattern {
    () => {
        "^(vc|vault|cred)_[0-7][0-9A-HJKMNP-TV-Z]{25}$"
    };
}
pub(crate) use credential_id_pattern;

/// A stored credential: `vc_` and a ULID. One that was imported has the id that it had before, which may
/// begin with `vault_` or `cred_`.
///
/// Ids of different prefixes are different ids, whatever their ULIDs. They are ordered like their texts,
/// byte by byte: as the database orders them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialId {
    prefix: CredentialPrefix,
    ulid: Ulid,
}

/// What the id of a credential begins with. Declared in the order of the texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum CredentialPrefix {
    Cred,
    Vault,
    Vc,
}

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

// === impl CredentialId ===

impl CredentialId {
    /// A new one, its time part taken from `now`.
    #[must_use]
    pub fn make(now: Timestamp) -> Self {
        Self {
            prefix: CredentialPrefix::Vc,
            ulid: make_ulid(now),
        }
    }

    /// The id for a developer's credential whose id in another vault has a form that is not kept: always
    /// the same one, so that no import takes a credential over twice.
    ///
    /// Its time part is zero. So it says that it names no moment, and is never one that was made here.
    #[must_use]
    pub fn derive(developer: &str, foreign: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update("grantex-vault imported credential");
        // With its length: no two pairs have the same input.
        hash.update((developer.len() as u64).to_be_bytes());
        hash.update(developer);
        hash.update(foreign);
        let hash: [u8; 32] = hash.finalize().into();
        let mut random = [0; 16];
        // What a ULID has beside its time: 80 bits.
        random[6..].copy_from_slice(&hash[..10]);
        Self {
            prefix: CredentialPrefix::Vc,
            ulid: Ulid::from_parts(0, u128::from_be_bytes(random)),
        }
    }

    /// Reads what `Display` writes; any other text is `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        CredentialPrefix::ALL.into_iter().find_map(|prefix| {
            let ulid = text.strip_prefix(prefix.as_str()).and_then(parse_ulid)?;
            Some(Self { prefix, ulid })
        })
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.prefix.as_str(), self.ulid)
    }
}

impl fmt::Debug for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CredentialId({self})")
    }
}

// === impl CredentialPrefix ===

impl CredentialPrefix {
    const ALL: [Self; 3] = [Self::Cred, Self::Vault, Self::Vc];

    fn as_str(self) -> &'static str {
        match self {
            Self::Cred => "cred_",
            Self::Vault => "vault_",
            Self::Vc => "vc_",
        }
    }
}

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
        self.time_ms() < i128::from(moment.as_millisecond())
    }

    /// Its time, in milliseconds since 1970: whoever made it up may have chosen one that is no
    /// [`Timestamp`].
    #[must_use]
    pub fn time_ms(self) -> i128 {
        i128::from(self.0.timestamp_ms())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn credential_ids() -> impl Strategy<Value = CredentialId> {
        let prefix = proptest::sample::select(&CredentialPrefix::ALL[..]);
        (prefix, any::<u128>()).prop_map(|(prefix, bits)| CredentialId {
            prefix,
            ulid: Ulid(bits),
        })
    }

    /// The texts that the pattern describes.
    fn matching() -> impl Strategy<Value = String> {
        let pattern = credential_id_pattern!();
        let pattern = pattern.trim_start_matches('^').trim_end_matches('$');
        proptest::string::string_regex(pattern).unwrap()
    }

    proptest! {
        #[test]
        fn parse_of_display_is_identity(id in credential_ids()) {
            prop_assert_eq!(CredentialId::parse(&id.to_string()), Some(id));
        }

        #[test]
        fn what_the_pattern_describes_is_an_id(text in matching()) {
            let id = CredentialId::parse(&text).map(|id| id.to_string());
            prop_assert_eq!(id, Some(text));
        }

        #[test]
        fn ids_are_ordered_like_their_texts(one in credential_ids(), two in credential_ids()) {
            prop_assert_eq!(one.cmp(&two), one.to_string().cmp(&two.to_string()));
            let same = CredentialId { ulid: one.ulid, ..two };
            prop_assert_eq!(one.cmp(&same), one.to_string().cmp(&same.to_string()));
            prop_assert_eq!(one == same, one.prefix == same.prefix);
        }

        #[test]
        fn an_id_is_derived_of_all_that_it_stands_for(
            one in ("[ab]{0,3}", "[ab]{0,3}"), two in ("[ab]{0,3}", "[ab]{0,3}"),
        ) {
            let [first, second] =
                [&one, &two].map(|(developer, id)| CredentialId::derive(developer, id));
            prop_assert_eq!(first == second, one == two);
            prop_assert_eq!(CredentialId::parse(&first.to_string()), Some(first));
            prop_assert!(first.to_string().starts_with("vc_0000000000"));
        }

        #[test]
        fn what_is_made_is_read_again(millis in 0_i64..253_402_300_799_999) {
            let id = CredentialId::make(Timestamp::from_millisecond(millis).unwrap());
            prop_assert_eq!(CredentialId::parse(&id.to_string()), Some(id));
            prop_assert!(id.to_string().starts_with("vc_"));
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
        for text in [
            "vc_8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "vault_8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
        ] {
            assert!(CredentialId::parse(text).is_none(), "more than 128 bits");
        }
        let ulid = id.trim_start_matches("vc_");
        for prefix in [
            "",
            "vc",
            "VC_",
            "Vault_",
            "vault",
            "creds_",
            "vc_vault_",
            "ak_",
            " vc_",
        ] {
            let text = format!("{prefix}{ulid}");
            assert!(CredentialId::parse(&text).is_none(), "{text}");
        }
        for prefix in ["vc_", "vault_", "cred_"] {
            assert!(CredentialId::parse(&format!("{prefix}{ulid}")).is_some());
            for text in [format!("{prefix}{ulid}\n"), prefix.to_owned()] {
                assert!(CredentialId::parse(&text).is_none(), "{text:?}");
            }
        }
    }
}
