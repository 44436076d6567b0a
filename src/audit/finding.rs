//! What verifying finds, and tells as it finds it.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

/// Something that is not as it was sealed. Its `Display` is a line for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// An event.
    Event {
        /// Its id, as the seal or the row has it.
        id: String,
        /// The developer of the row, when there is one.
        developer: Option<String>,
        /// The seal that it is in, or whose transactions it claims.
        seal: Option<u64>,
        /// What of it.
        what: EventTrouble,
    },
    /// A seal, or several that follow each other.
    Seal {
        /// The first.
        number: u64,
        /// The last.
        to: u64,
        /// What of it.
        what: SealTrouble,
    },
}

/// What of an event is not as it was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventTrouble {
    /// Its canonical bytes.
    Changed,
    /// A column beside them, which readers are found by.
    Column(&'static str),
    /// It is in the seal and not in the table.
    Removed,
    /// It is in the table and not in the seal of its transaction.
    Added,
    /// It stands in another transaction than when it was sealed.
    Reordered,
    /// It is as it was sealed, and happened neither then nor since the seal before.
    Time,
}

/// What of a seal is not as it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "`Display` says what each is")]
pub enum SealTrouble {
    Removed,
    Unreadable,
    OtherKey,
    Signature,
    Previous,
    Transactions,
    Pruned,
    Entries,
    EntriesRemoved,
    TailRemoved,
    NotTheAnchor,
}

/// What somebody who watches is told.
pub struct Watch<'a> {
    /// Events that were compared.
    events: AtomicU64,
    seals: AtomicU64,
    findings: AtomicU64,
    report: &'a (dyn Fn(&Finding) + Sync),
}

// === impl Watch ===

impl<'a> Watch<'a> {
    /// Nothing yet.
    #[must_use]
    pub fn new(report: &'a (dyn Fn(&Finding) + Sync)) -> Self {
        Self {
            events: AtomicU64::new(0),
            seals: AtomicU64::new(0),
            findings: AtomicU64::new(0),
            report,
        }
    }

    /// How many events were compared.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// How many seals were.
    #[must_use]
    pub fn seals(&self) -> u64 {
        self.seals.load(Ordering::Relaxed)
    }

    /// How many findings there were.
    #[must_use]
    pub fn findings(&self) -> u64 {
        self.findings.load(Ordering::Relaxed)
    }

    pub(super) fn compared(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sealed(&self) {
        self.seals.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn found(&self, finding: &Finding) {
        self.findings.fetch_add(1, Ordering::Relaxed);
        (self.report)(finding);
    }
}

// === impl Finding ===

impl fmt::Display for Finding {
    /// Whoever can write the table chooses ids: nothing in them reaches a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event {
                id,
                developer,
                seal,
                what,
            } => {
                let developer = developer.as_deref().unwrap_or("?").escape_debug();
                write!(f, "event {developer}/{}\t{what}", id.escape_debug())?;
                seal.map_or(Ok(()), |seal| write!(f, " (seal {seal})"))
            }
            Self::Seal { number, to, what } if number == to => write!(f, "seal {number}\t{what}"),
            Self::Seal { number, to, what } => write!(f, "seals {number} to {to}\t{what}"),
        }
    }
}

impl fmt::Display for EventTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed => f.write_str("changed: its bytes are not those that were sealed"),
            Self::Column(column) => write!(f, "changed: column {column} is not what was sealed"),
            Self::Removed => f.write_str("removed: it was sealed and is not there"),
            Self::Added => f.write_str("added: it is in no seal, and its transaction was sealed"),
            Self::Reordered => f.write_str("reordered: it was sealed in another transaction"),
            Self::Time => f.write_str(
                "of another time: more than ten minutes before or after what its seal covers",
            ),
        }
    }
}

impl fmt::Display for SealTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Removed => "removed",
            Self::Unreadable => "changed: not the bytes of a seal of this number",
            Self::OtherKey => "signed by another key",
            Self::Signature => "changed: the signature is not of this seal",
            Self::Previous => "does not follow the seal before it",
            Self::Transactions => "does not go on where the seal before it ended",
            Self::Pruned => "says that events were pruned, and is not a seal that prunes",
            Self::Entries => "changed: its events are not those that were signed",
            Self::EntriesRemoved => "changed: its events were removed, and were not pruned",
            Self::TailRemoved => "removed: the anchor is of a later seal than there is",
            Self::NotTheAnchor => "is not the one of the anchor",
        })
    }
}
