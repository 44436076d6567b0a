//! The lines of an export.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::super::seal::Sha;
use crate::model::{text::DeveloperId, timestamp::Timestamp};

/// The version that is written.
pub(super) const VERSION: u8 = 1;

/// A line, of any kind.
#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Line<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(super) header: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signature: Option<String>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(super) event: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seal: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) transaction: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<Vec<Sha>>,
}

/// What an export is as a whole: how many lines there are, of which selection, up to which seal. It is
/// signed as JSON in this order of keys, without white space. Its first key is in no header of a seal, so
/// that neither is ever taken for the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct End {
    /// Of this form.
    pub export: u8,
    /// How many events there are.
    pub events: u64,
    /// How many seals there are.
    pub seals: u64,
    /// How many events are not here although they were sealed, because they were gone or not as they were
    /// sealed. They count whoever's they were: nobody knows that of an event that is gone.
    pub left_out: u64,
    /// Only events of this developer were selected.
    #[serde(with = "developer")]
    pub developer: Option<DeveloperId>,
    /// Only events of this moment or later were.
    pub from: Option<Timestamp>,
    /// Only events before this moment were.
    pub to: Option<Timestamp>,
    /// All seals up to this one were looked through, from the first on.
    pub last_seal: Option<u64>,
    /// Its hash.
    pub last_seal_hash: Option<Sha>,
    /// SHA-256 of all lines before, with their ends.
    pub lines: Sha,
    /// When it was exported, by the clock of who did.
    pub exported_at: Timestamp,
    /// Which key signs: the SHA-256 of the public key.
    pub key: Sha,
}

impl End {
    /// The bytes that are signed.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers serialise")
    }

    /// Reads the bytes; `None` when they are not what [`Self::to_bytes`] makes of any.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let end: Self = serde_json::from_slice(bytes).ok()?;
        (end.export == VERSION && end.to_bytes() == bytes).then_some(end)
    }
}

/// A developer as its id.
mod developer {
    use super::{Deserialize, Deserializer, DeveloperId, Serialize, Serializer};
    use serde::de::Error as _;

    #[expect(clippy::ref_option, reason = "what serde asks for")]
    pub(super) fn serialize<S: Serializer>(
        developer: &Option<DeveloperId>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        developer.as_ref().map(DeveloperId::as_str).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<DeveloperId>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let parsed = text.map(|text| DeveloperId::parse(&text)).transpose();
        parsed.map_err(|_| D::Error::custom("another form"))
    }
}
