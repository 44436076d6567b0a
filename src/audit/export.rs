//! Events with proofs, as lines of JSON: what can be checked without the vault, its database and its
//! KMS, by whoever has the public key.
//!
//! ```text
//! {"header":{…},"signature":"<base64>"}                          a seal, before its events
//! {"event":{…},"seal":7,"index":3,"transaction":812,"path":["<hex>",…]}
//! {"end":{…},"signature":"<base64>"}                             what the whole file is, signed
//! ```
//!
//! `header`, `event` and `end` are canonical bytes, byte for byte.

mod check;
mod line;
mod sealed;

use std::io::{self, Write};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{
    merkle,
    seal::{self, Entry, Header, Sha},
    verify::{self, Anchor},
};
use crate::{
    envelope::signing_key::{PublicKey, SigningKey},
    model::{id::EventId, text::DeveloperId, timestamp::Timestamp},
    pace::Pace,
    store::{
        Store, StoreFault,
        audit_order::{Place, WholeEvent},
        audit_seals::SealRow,
    },
};
use line::Line;
use sealed::{Match, SealedEvents};

pub use check::{Checked, WrongLine, check};
pub use line::End;

/// How many events are read at once.
const PAGE: i64 = 1000;

/// Which events are exported.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only this developer's.
    pub developer: Option<DeveloperId>,
    /// Not before this.
    pub from: Option<Timestamp>,
    /// Before this.
    pub to: Option<Timestamp>,
    /// This seal has a line too, whether it has such an event or not: who noted it can find it there.
    pub anchor: Option<Anchor>,
}

/// What was exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Events with their proofs.
    pub events: u64,
    /// Seals that they are of, and that of the anchor.
    pub seals: u64,
    /// Events that were sealed and are gone or not as they were sealed, and rows that no seal has.
    pub left_out: u64,
}

/// Why the export stopped.
#[derive(Debug, Error)]
pub enum ExportFault {
    /// The database does not answer.
    #[error("the database cannot be used")]
    Store(#[from] StoreFault),
    /// It cannot be written.
    #[error("the export cannot be written")]
    Write(#[from] io::Error),
    /// Somebody changed a seal.
    #[error("seal {0} is not one that the vault made: run `audit verify`")]
    Seal(i64),
    /// The record is another one than was noted.
    #[error("seal {0} is not the one of the anchor")]
    NotTheAnchor(u64),
    /// The record was cut off.
    #[error("the anchor is of seal {0}, and the record ends before it")]
    BeforeTheAnchor(u64),
}

/// One export.
struct Export<'a> {
    store: &'a Store,
    key: PublicKey,
    selection: &'a Selection,
    pace: &'a Pace,
    to: Hashed<'a>,
    exported: Exported,
    /// The last seal that was looked through.
    last: Option<Anchor>,
    /// What the seals say was pruned.
    pruned_before: Option<Timestamp>,
    /// The newest event of the seals that have forgotten theirs, and its seal.
    forgotten: Option<(EventId, i64)>,
}

/// What is written to, and the hash of everything so far.
struct Hashed<'a> {
    to: &'a mut (dyn Write + Send),
    hash: Sha256,
}

/// Writes the selected events of all seals, at this pace, and an end that says how many there are; the
/// key that signs seals signs it too.
///
/// # Errors
///
/// When the database does not answer, a seal is not as it was made, or `to` takes no more. What was
/// written until then has no end.
pub async fn export(
    store: &Store,
    key: &SigningKey,
    selection: &Selection,
    pace: &Pace,
    now: Timestamp,
    to: &mut (dyn Write + Send),
) -> Result<Exported, ExportFault> {
    let public_key = key.public_key();
    // An event may be missing in an early seal because a later one says that it was pruned.
    let newest = verify::newest_seal(store, &public_key).await?;
    let mut export = Export {
        store,
        key: public_key,
        selection,
        pace,
        to: Hashed {
            to,
            hash: Sha256::new(),
        },
        exported: Exported::default(),
        last: None,
        pruned_before: newest.and_then(|newest| newest.pruned_before),
        forgotten: None,
    };
    let mut number = 0;
    while let Some(row) = store.seal_after(number).await? {
        number += 1;
        if row.number != number {
            return Err(ExportFault::Seal(number));
        }
        export.seal(&row).await?;
    }
    export.refuse_forgotten()?;
    if let Some(anchor) = selection.anchor
        && anchor.number > number.unsigned_abs()
    {
        return Err(ExportFault::BeforeTheAnchor(anchor.number));
    }
    export.end(key, now)?;
    Ok(export.exported)
}

impl Export<'_> {
    async fn seal(&mut self, row: &SealRow) -> Result<(), ExportFault> {
        let changed = || ExportFault::Seal(row.number);
        let header = self.verified(row)?;
        self.pruned_before = self.pruned_before.max(header.pruned_before);
        let mut begun = self.is_of_the_anchor(&header, row)?;
        if begun {
            self.begin(row)?;
        }
        let Some(entries) = &row.entries else {
            let newest = header.newest_event.map(|id| (id, row.number));
            self.forgotten = self.forgotten.max(newest);
            return Ok(());
        };
        let mut sealed = SealedEvents::read(&header, entries).ok_or_else(changed)?;
        let mut after = Place::default();
        while let Some(rows) = self.page(&header, &mut after).await? {
            for row_of_event in &rows {
                match sealed.find(row_of_event) {
                    Match::Intact(index) if self.selection.takes(row_of_event) => {
                        if !std::mem::replace(&mut begun, true) {
                            self.begin(row)?;
                        }
                        self.event(&header, index, sealed.proof(index), row_of_event)?;
                    }
                    Match::Unsealed if self.selection.takes(row_of_event) => {
                        self.exported.left_out += 1;
                    }
                    Match::Intact(_) | Match::Changed | Match::Unsealed => {}
                }
            }
        }
        let selected = |id| self.selection.has_time_of(id);
        self.exported.left_out += sealed.left_out(selected, |id| self.pruned(id));
        Ok(())
    }

    /// A seal that the key made and that follows the one before.
    fn verified(&mut self, row: &SealRow) -> Result<Header, ExportFault> {
        let header = Header::verified(row.number, &row.header, &row.signature, &self.key);
        let header = header.map_err(|_| ExportFault::Seal(row.number))?;
        let before = self.last.replace(Anchor {
            number: header.number,
            hash: seal::hash(&row.header),
        });
        if header.previous != before.map(|before| before.hash) {
            return Err(ExportFault::Seal(row.number));
        }
        Ok(header)
    }

    fn is_of_the_anchor(&self, header: &Header, row: &SealRow) -> Result<bool, ExportFault> {
        match self.selection.anchor {
            Some(anchor) if anchor.number != header.number => Ok(false),
            Some(anchor) if anchor.hash == seal::hash(&row.header) => Ok(true),
            Some(anchor) => Err(ExportFault::NotTheAnchor(anchor.number)),
            None => Ok(false),
        }
    }

    /// The line of a seal.
    fn begin(&mut self, row: &SealRow) -> Result<(), ExportFault> {
        self.exported.seals += 1;
        Ok(self.to.line(&Line {
            header: Some(raw(&row.header)?),
            signature: Some(STANDARD.encode(&row.signature)),
            ..Line::default()
        })?)
    }

    /// The line of an event.
    fn event(
        &mut self,
        header: &Header,
        index: usize,
        (entry, path): (&Entry, Vec<merkle::Hash>),
        event: &WholeEvent,
    ) -> Result<(), ExportFault> {
        self.exported.events += 1;
        Ok(self.to.line(&Line {
            event: Some(raw(&event.canonical)?),
            seal: Some(header.number),
            index: Some(index as u64),
            transaction: Some(entry.transaction),
            path: Some(path.into_iter().map(Sha).collect()),
            ..Line::default()
        })?)
    }

    /// The last line.
    fn end(&mut self, key: &SigningKey, now: Timestamp) -> Result<(), ExportFault> {
        let end = End {
            export: line::VERSION,
            events: self.exported.events,
            seals: self.exported.seals,
            left_out: self.exported.left_out,
            developer: self.selection.developer.clone(),
            from: self.selection.from,
            to: self.selection.to,
            last_seal: self.last.map(|last| last.number),
            last_seal_hash: self.last.map(|last| last.hash),
            lines: Sha(self.to.hash.clone().finalize().into()),
            exported_at: now,
            key: Sha(self.key.id()),
        };
        let bytes = end.to_bytes();
        self.to.line(&Line {
            end: Some(raw(&bytes)?),
            signature: Some(STANDARD.encode(key.sign(&bytes))),
            ..Line::default()
        })?;
        Ok(self.to.to.flush()?)
    }

    /// Seals without events are those of which all were pruned.
    fn refuse_forgotten(&self) -> Result<(), ExportFault> {
        match self.forgotten {
            Some((newest, number)) if !self.pruned(newest) => Err(ExportFault::Seal(number)),
            _ => Ok(()),
        }
    }

    fn pruned(&self, id: EventId) -> bool {
        let before = self.pruned_before;
        before.is_some_and(|before| id.is_before(before))
    }

    async fn page(
        &self,
        header: &Header,
        after: &mut Place,
    ) -> Result<Option<Vec<WholeEvent>>, StoreFault> {
        let events = self.store.whole_events(header.span(), after, PAGE).await?;
        self.pace
            .turns(u32::try_from(events.len()).unwrap_or(u32::MAX))
            .await;
        if let Some(last) = events.last() {
            after.clone_from(&last.place);
        }
        Ok((!events.is_empty()).then_some(events))
    }
}

fn raw(json: &[u8]) -> io::Result<&RawValue> {
    serde_json::from_slice(json).map_err(io::Error::from)
}

// === impl Hashed ===

impl Hashed<'_> {
    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.hash.update(&bytes);
        self.to.write_all(&bytes)
    }
}

// === impl Selection ===

impl Selection {
    /// Whether the event of a row is selected, as far as the row says.
    fn takes(&self, event: &WholeEvent) -> bool {
        let developer = self.developer.as_ref().map(DeveloperId::as_str);
        let id = EventId::parse(&event.place.id);
        developer.is_none_or(|developer| developer == event.place.developer)
            && id.is_none_or(|id| self.has_time_of(id))
    }

    /// Whether events of the time of this id are selected.
    fn has_time_of(&self, id: EventId) -> bool {
        self.from.is_none_or(|from| !id.is_before(from))
            && self.to.is_none_or(|to| id.is_before(to))
    }
}
