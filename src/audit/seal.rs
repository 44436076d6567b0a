//! A seal: which events were committed between two moments, in which order, signed and chained to the
//! seal before. `docs/audit.md` describes the scheme.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::merkle::{self, Hash, Tree};
use crate::{
    envelope::signing_key::{PublicKey, SIGNATURE_BYTES, SigningKey},
    model::{id::EventId, timestamp::Timestamp},
    store::audit_order::{Horizon, Span},
};

/// The version that is written.
const VERSION: u8 = 1;
/// The bytes of an [`Entry`].
const ENTRY_BYTES: usize = 16 + 8 + 32;

/// A SHA-256 that is shown in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sha(pub Hash);

/// An event of a seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Which event.
    pub id: EventId,
    /// The transaction that committed it.
    pub transaction: u64,
    /// The hash of its canonical bytes.
    pub hash: Hash,
}

/// What a seal says. It is hashed and signed as JSON in this order of keys, without white space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Header {
    /// Of this form.
    pub version: u8,
    /// From 1 on, without gaps.
    pub number: u64,
    /// Whose transaction numbers the next two are: another one after a restore into another cluster.
    pub era: i32,
    /// The first transaction that it covers: where the seal before ended.
    pub from_transaction: i64,
    /// The first one that it does not cover.
    pub to_transaction: i64,
    /// The number that the next transaction had when it was made, in the same era: what has that number or
    /// a later one came after it. Unknown of an era that is over, and when it covers none.
    pub next_transaction: Option<i64>,
    /// How many events those transactions committed.
    pub events: u64,
    /// The greatest id among them.
    pub newest_event: Option<EventId>,
    /// The root of the tree over the events.
    pub merkle_root: Sha,
    /// The hash of the seal before.
    pub previous: Option<Sha>,
    /// When it was made, by the clock of the vault that made it.
    pub sealed_at: Timestamp,
    /// Events before this were pruned: they are missing by intention.
    pub pruned_before: Option<Timestamp>,
    /// Which key signs: the SHA-256 of the public key.
    pub key: Sha,
}

/// A header as bytes, and the signature of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// [`Header::to_bytes`].
    pub header: Vec<u8>,
    /// Ed25519.
    pub signature: [u8; SIGNATURE_BYTES],
}

/// The bytes are not those that the vault writes of a seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not the canonical bytes of a seal")]
pub struct NotASeal;

// === impl Header ===

impl Header {
    /// The header of a seal over these events that follows another one. Which transactions it covers is
    /// said by [`Self::covering`]; without that, none.
    /// The last one is one that was verified.
    pub(super) fn after(
        last: Option<(&Self, Sha)>,
        entries: &[Entry],
        key: &PublicKey,
        now: Timestamp,
    ) -> Self {
        let (last, previous) = last.unzip();
        let (era, from) = last.map_or((1, 0), Self::end);
        Self {
            version: VERSION,
            number: last.map_or(1, |last| last.number + 1),
            era,
            from_transaction: from,
            to_transaction: from,
            next_transaction: None,
            events: entries.len() as u64,
            newest_event: entries.iter().map(|entry| entry.id).max(),
            merkle_root: Sha(tree(entries).root()),
            previous,
            sealed_at: now,
            pruned_before: last.and_then(|last| last.pruned_before),
            key: Sha(key.id()),
        }
    }

    /// The same, of the events of these transactions, which were over at this horizon.
    pub(super) fn covering(mut self, span: Span, horizon: Horizon) -> Self {
        self.next_transaction = (span.era == horizon.era).then_some(horizon.next);
        self.era = span.era;
        self.from_transaction = span.from;
        self.to_transaction = span.to;
        self
    }

    /// Where the next seal begins: in which era, with which transaction.
    #[must_use]
    pub fn end(&self) -> (i32, i64) {
        (self.era, self.to_transaction)
    }

    /// The transactions that it covers.
    #[must_use]
    pub fn span(&self) -> Span {
        Span {
            era: self.era,
            from: self.from_transaction,
            to: self.to_transaction,
        }
    }

    /// The bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers serialise")
    }

    /// Reads the bytes.
    ///
    /// # Errors
    ///
    /// When they are not what [`Self::to_bytes`] makes of any header.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotASeal> {
        let header: Self = serde_json::from_slice(bytes).map_err(|_| NotASeal)?;
        let canonical = header.version == VERSION && header.to_bytes() == bytes;
        canonical.then_some(header).ok_or(NotASeal)
    }

    /// Reads a seal that this key made, and that has this number.
    ///
    /// # Errors
    ///
    /// When it is anything else.
    pub fn verified(
        number: i64,
        bytes: &[u8],
        signature: &[u8],
        key: &PublicKey,
    ) -> Result<Self, NotASeal> {
        let header = Self::parse(bytes)?;
        let ours = header.key == Sha(key.id()) && key.verifies(bytes, signature);
        let numbered = i64::try_from(header.number) == Ok(number) && number < i64::MAX;
        (ours && numbered).then_some(header).ok_or(NotASeal)
    }

    /// Whether this says that events were pruned, and nothing else.
    #[must_use]
    pub fn prunes(&self) -> bool {
        self.events == 0 && self.from_transaction == self.to_transaction
    }

    /// Whether an event of this id is missing by intention.
    #[must_use]
    pub fn pruned(&self, id: EventId) -> bool {
        self.pruned_before
            .is_some_and(|before| id.is_before(before))
    }

    pub(super) fn signed(&self, key: &SigningKey) -> Signed {
        let header = self.to_bytes();
        let signature = key.sign(&header);
        Signed { header, signature }
    }
}

/// What the next seal calls `previous`, and an anchor is compared with.
#[must_use]
pub fn hash(header: &[u8]) -> Sha {
    Sha(Sha256::digest(header).into())
}

/// The tree over the events of a seal.
#[must_use]
pub fn tree(entries: &[Entry]) -> Tree {
    Tree::over(entries.iter().map(Entry::leaf))
}

// === impl Entry ===

impl Entry {
    /// As a leaf of the tree.
    #[must_use]
    pub fn leaf(&self) -> Hash {
        merkle::leaf(&self.to_bytes())
    }

    /// Id, transaction (64 bits, big-endian), hash.
    fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..16].copy_from_slice(&self.id.to_bytes());
        bytes[16..24].copy_from_slice(&self.transaction.to_be_bytes());
        bytes[24..].copy_from_slice(&self.hash);
        bytes
    }

    fn from_bytes(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let (id, rest) = bytes.split_first_chunk().expect("16 of 56");
        let (transaction, hash) = rest.split_first_chunk().expect("8 of 40");
        Self {
            id: EventId::from_bytes(*id),
            transaction: u64::from_be_bytes(*transaction),
            hash: hash.try_into().expect("32 of 32"),
        }
    }

    /// All of them, one after the other.
    pub(super) fn write(entries: &[Self]) -> Vec<u8> {
        entries.iter().flat_map(|entry| entry.to_bytes()).collect()
    }

    /// Reads what [`Self::write`] writes; `None` when the length is another.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Vec<Self>> {
        let (entries, rest) = bytes.as_chunks();
        let whole = rest.is_empty();
        whole.then(|| entries.iter().map(Self::from_bytes).collect())
    }
}

// === impl Sha ===

impl fmt::Display for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Sha {
    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        let (digits, rest) = text.as_bytes().as_chunks::<2>();
        if digits.len() != hash.len() || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in hash.iter_mut().zip(digits) {
            let digit = |ascii: u8| char::from(ascii).to_digit(16);
            *byte = u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?;
        }
        Some(Self(hash))
    }
}

/// Types that are texts in a header.
macro_rules! written_as_text {
    ($type:ty, $parse:expr) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                $parse(&text).ok_or_else(|| D::Error::custom("another form"))
            }
        }
    };
}

written_as_text!(Sha, Sha::parse);
written_as_text!(EventId, EventId::parse);
written_as_text!(Timestamp, |text: &str| Timestamp::parse(text).ok());

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::envelope::data_key::DataKey;

    fn entry() -> impl Strategy<Value = Entry> {
        (any::<[u8; 16]>(), any::<u64>(), any::<Hash>()).prop_map(|(id, transaction, hash)| Entry {
            id: EventId::from_bytes(id),
            transaction,
            hash,
        })
    }

    fn key() -> SigningKey {
        SigningKey::from_data_key(&DataKey::from_bytes(&[7; 32]).unwrap())
    }

    fn moment() -> Timestamp {
        Timestamp::from_millisecond(1_775_390_400_000).unwrap()
    }

    fn header(entries: &[Entry], last: Option<(&Header, Sha)>) -> Header {
        Header::after(last, entries, &key().public_key(), moment())
    }

    proptest! {
        #[test]
        fn entries_are_read_back(entries in proptest::collection::vec(entry(), 0..20)) {
            let bytes = Entry::write(&entries);
            prop_assert_eq!(Entry::read(&bytes), Some(entries));
            let mut longer = bytes;
            longer.push(0);
            prop_assert_eq!(Entry::read(&longer), None);
        }

        #[test]
        fn a_header_has_one_form_and_is_read_back_from_it(
            entries in proptest::collection::vec(entry(), 0..5), pruned in any::<bool>(),
        ) {
            let mut first = header(&entries, None);
            first.pruned_before = pruned.then(moment);
            let bytes = first.to_bytes();
            prop_assert_eq!(&Header::parse(&bytes), &Ok(first.clone()));
            let second = header(&[], Some((&first, hash(&bytes))));
            prop_assert_eq!(Header::parse(&second.to_bytes()), Ok(second.clone()));
            prop_assert_eq!((second.number, second.previous), (2, Some(hash(&bytes))));
            prop_assert_eq!(second.pruned_before, first.pruned_before);
        }

        #[test]
        fn other_bytes_are_no_header_or_another(
            at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let header = header(&[], None);
            let mut bytes = header.to_bytes();
            let at = at.index(bytes.len());
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            if let Ok(other) = Header::parse(&bytes) {
                prop_assert_ne!(other, header);
            }
        }

        #[test]
        fn another_order_or_content_has_another_root(
            entries in proptest::collection::vec(entry(), 2..20),
            at in any::<prop::sample::Index>(), other in entry(),
        ) {
            let (root, at) = (tree(&entries).root(), at.index(entries.len()));
            let mut changed = entries.clone();
            changed[at] = other;
            prop_assert_ne!(tree(&changed).root(), root);
            let mut turned = entries.clone();
            turned.rotate_left(1);
            prop_assume!(turned != entries);
            prop_assert_ne!(tree(&turned).root(), root);
        }
    }

    #[test]
    fn a_header_reads_as_documented() {
        let text = concat!(
            r#"{"version":1,"number":1,"era":1,"fromTransaction":0,"toTransaction":0,"#,
            r#""nextTransaction":null,"#,
            r#""events":0,"newestEvent":null,"merkleRoot":"#,
            r#""e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","#,
            r#""previous":null,"sealedAt":"2026-04-05T12:00:00.000Z","prunedBefore":null,"#,
            r#""key":"ab7ba0a9f2e3b6eb4f0b4f06bb1ea4ab6ef8a4ed7fd4e0a9f4b6c4a4d19bb8a9"}"#,
        );
        let mut header = header(&[], None);
        header.key = Sha::parse(&text[text.len() - 66..text.len() - 2]).unwrap();
        assert_eq!(String::from_utf8(header.to_bytes()).unwrap(), text);
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("e3b0", "E3B0"),
            (".000Z", "Z"),
            ("\"events\":0", "\"events\":0 "),
        ] {
            assert_eq!(
                Header::parse(text.replace(from, to).as_bytes()),
                Err(NotASeal),
                "{to}"
            );
        }
    }
}
