//! Events with proofs, as lines of JSON: what can be checked without the vault, its database and its
//! KMS, by whoever has the public key.
//!
//! ```text
//! {"header":{…},"signature":"<base64>"}                          a seal, before its events
//! {"event":{…},"seal":7,"index":3,"transaction":812,"path":["<hex>",…]}
//! ```
//!
//! `header` and `event` are canonical bytes, byte for byte.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, BufRead, Read, Write},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use super::{
    canonical::{self, RecordedEvent},
    merkle,
    seal::{self, Entry, Header, Sha},
    verify::{Anchor, trouble},
};
use crate::{
    envelope::signing_key::PublicKey,
    model::{id::EventId, text::DeveloperId, timestamp::Timestamp},
    pace::Pace,
    store::{
        Store, StoreFault,
        audit_order::{Place, WholeEvent},
        audit_seals::SealRow,
    },
};

/// How many events are read at once.
const PAGE: i64 = 1000;
/// The longest line that is read: an event and its path are far below.
const MAX_LINE_BYTES: u64 = 256 * 1024;

/// Which events are exported.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only this developer's.
    pub developer: Option<DeveloperId>,
    /// Not before this.
    pub from: Option<Timestamp>,
    /// Before this.
    pub to: Option<Timestamp>,
}

/// What was exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Events with their proofs.
    pub events: u64,
    /// Events that are not as they were sealed, and were left out.
    pub unproven: u64,
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
}

/// What was found of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Events that were proven.
    pub events: u64,
    /// Seals that they are of.
    pub seals: u64,
    /// Lines that prove nothing.
    pub wrong: u64,
    /// The last seal of the file.
    pub last: Option<Anchor>,
}

/// Why a line proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "`Display` says what each is")]
pub enum WrongLine {
    Form,
    Signature,
    Chain,
    SealMissing,
    Repeated,
    Proof,
}

/// A line, of either kind.
#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    header: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    event: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seal: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Vec<Sha>>,
}

/// One export.
struct Export<'a> {
    store: &'a Store,
    key: &'a PublicKey,
    selection: &'a Selection,
    pace: &'a Pace,
    to: &'a mut (dyn Write + Send),
    exported: Exported,
    /// What the seals say was pruned.
    pruned_before: Option<Timestamp>,
    /// The newest event of the seals that have forgotten theirs, and its seal.
    forgotten: Option<(EventId, i64)>,
}

/// Writes the selected events of all seals, at this pace.
///
/// # Errors
///
/// When the database does not answer, a seal is not as it was made, or `to` takes no more.
pub async fn export(
    store: &Store,
    key: &PublicKey,
    selection: &Selection,
    pace: &Pace,
    to: &mut (dyn Write + Send),
) -> Result<Exported, ExportFault> {
    let mut export = Export {
        store,
        key,
        selection,
        pace,
        to,
        exported: Exported::default(),
        pruned_before: None,
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
    export.to.flush()?;
    Ok(export.exported)
}

impl Export<'_> {
    async fn seal(&mut self, row: &SealRow) -> Result<(), ExportFault> {
        let changed = || ExportFault::Seal(row.number);
        let header = Header::verified(row.number, &row.header, &row.signature, self.key);
        let header = header.map_err(|_| changed())?;
        self.pruned_before = self.pruned_before.max(header.pruned_before);
        let Some(entries) = &row.entries else {
            let newest = header.newest_event.map(|id| (id, row.number));
            self.forgotten = self.forgotten.max(newest);
            return Ok(());
        };
        let entries = Entry::read(entries).ok_or_else(changed)?;
        let tree = seal::tree(&entries);
        if Sha(tree.root()) != header.merkle_root {
            return Err(changed());
        }
        let indices = entries.iter().enumerate();
        let indices: BTreeMap<_, _> = indices.map(|(index, entry)| (entry.id, index)).collect();
        let (mut after, mut begun) = (Place::default(), false);
        while let Some(events) = self.page(&header, &mut after).await? {
            for event in events.iter().filter(|event| self.selection.takes(event)) {
                let index = EventId::parse(&event.place.id).and_then(|id| indices.get(&id));
                let sealed = index.map(|index| (*index, &entries[*index]));
                let sealed = sealed.filter(|(_, entry)| trouble(entry, event).is_none());
                let Some((index, entry)) = sealed else {
                    self.exported.unproven += 1;
                    continue;
                };
                if !std::mem::replace(&mut begun, true) {
                    write(self.to, &seal_line(row)?)?;
                }
                let path = tree.path(index).unwrap_or_default();
                write(self.to, &event_line(&header, entry, index, event, path)?)?;
                self.exported.events += 1;
            }
        }
        Ok(())
    }

    /// Seals without events are those of which all were pruned.
    fn refuse_forgotten(&self) -> Result<(), ExportFault> {
        let pruned = |id: EventId| {
            self.pruned_before
                .is_some_and(|before| id.is_before(before))
        };
        match self.forgotten {
            Some((newest, number)) if !pruned(newest) => Err(ExportFault::Seal(number)),
            _ => Ok(()),
        }
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

fn seal_line(row: &SealRow) -> Result<Line<'_>, ExportFault> {
    Ok(Line {
        header: Some(raw(&row.header)?),
        signature: Some(STANDARD.encode(&row.signature)),
        ..Line::default()
    })
}

fn event_line<'a>(
    header: &Header,
    entry: &Entry,
    index: usize,
    event: &'a WholeEvent,
    path: Vec<merkle::Hash>,
) -> Result<Line<'a>, ExportFault> {
    Ok(Line {
        event: Some(raw(&event.canonical)?),
        seal: Some(header.number),
        index: Some(index as u64),
        transaction: Some(entry.transaction),
        path: Some(path.into_iter().map(Sha).collect()),
        ..Line::default()
    })
}

fn raw(json: &[u8]) -> io::Result<&RawValue> {
    serde_json::from_slice(json).map_err(io::Error::from)
}

fn write(to: &mut (dyn Write + Send), line: &Line<'_>) -> io::Result<()> {
    serde_json::to_writer(&mut *to, line)?;
    to.write_all(b"\n")
}

/// How far a file is checked.
#[derive(Default)]
struct Progress {
    /// The seal whose events may follow, and the place of the next.
    seal: Option<(Header, u64)>,
    /// The last seal that proved itself.
    last: Option<(Header, Sha)>,
}

/// Checks a file that [`export`] wrote, with nothing but the public key. Memory does not grow with it.
///
/// # Errors
///
/// When it cannot be read. Lines that prove nothing are no error: they are reported, by their number.
pub fn check(
    mut from: impl BufRead,
    key: &PublicKey,
    report: &mut dyn FnMut(u64, WrongLine),
) -> io::Result<Checked> {
    let (mut checked, mut progress, mut number) = (Checked::default(), Progress::default(), 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut from)
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(checked);
        }
        number += 1;
        if let Err(wrong) = check_line(&line, key, &mut progress, &mut checked) {
            checked.wrong += 1;
            report(number, wrong);
        }
    }
}

fn check_line(
    line: &[u8],
    key: &PublicKey,
    progress: &mut Progress,
    checked: &mut Checked,
) -> Result<(), WrongLine> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(|_| WrongLine::Form)?;
    match line {
        Line {
            header: Some(header),
            signature: Some(signature),
            event: None,
            ..
        } => {
            // The events of a seal that proves nothing prove nothing either.
            progress.seal = None;
            let bytes = header.get().as_bytes();
            let (header, hash) = check_seal(bytes, &signature, key, progress.last.as_ref())?;
            progress.seal = Some((header.clone(), 0));
            progress.last = Some((header.clone(), hash));
            checked.seals += 1;
            checked.last = Some(Anchor {
                number: header.number,
                hash,
            });
        }
        Line {
            event: Some(event),
            seal: Some(number),
            index: Some(index),
            transaction: Some(transaction),
            path: Some(path),
            header: None,
            ..
        } => {
            let (header, next) = progress
                .seal
                .as_mut()
                .filter(|(header, _)| header.number == number)
                .ok_or(WrongLine::SealMissing)?;
            if index < *next {
                return Err(WrongLine::Repeated);
            }
            let path: Vec<_> = path.into_iter().map(|Sha(hash)| hash).collect();
            check_event(header, event.get().as_bytes(), index, transaction, &path)?;
            *next = index + 1;
            checked.events += 1;
        }
        _ => return Err(WrongLine::Form),
    }
    Ok(())
}

fn check_seal(
    bytes: &[u8],
    signature: &str,
    key: &PublicKey,
    before: Option<&(Header, Sha)>,
) -> Result<(Header, Sha), WrongLine> {
    let header = Header::parse(bytes).map_err(|_| WrongLine::Form)?;
    let signature = STANDARD.decode(signature).map_err(|_| WrongLine::Form)?;
    if !key.verifies(bytes, &signature) {
        return Err(WrongLine::Signature);
    }
    if let Some((last, hash)) = before {
        let follows = header.number == last.number + 1 && header.previous == Some(*hash);
        if !follows && header.number <= last.number + 1 {
            return Err(WrongLine::Chain);
        }
    }
    Ok((header, seal::hash(bytes)))
}

fn check_event(
    header: &Header,
    bytes: &[u8],
    index: u64,
    transaction: u64,
    path: &[merkle::Hash],
) -> Result<(), WrongLine> {
    let event = RecordedEvent::parse(bytes).map_err(|_| WrongLine::Form)?;
    let entry = Entry {
        id: EventId::parse(&event.id).ok_or(WrongLine::Form)?,
        transaction,
        hash: canonical::hash(bytes),
    };
    let root = &header.merkle_root.0;
    let proven = merkle::leads_to(root, entry.leaf(), index, header.events, path);
    proven.then_some(()).ok_or(WrongLine::Proof)
}

// === impl Selection ===

impl Selection {
    fn takes(&self, event: &WholeEvent) -> bool {
        let developer = self.developer.as_ref().map(DeveloperId::as_str);
        let id = EventId::parse(&event.place.id);
        let before = |moment| id.is_some_and(|id| id.is_before(moment));
        developer.is_none_or(|developer| developer == event.place.developer)
            && self.from.is_none_or(|from| !before(from))
            && self.to.is_none_or(before)
    }
}

impl fmt::Display for WrongLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "not a line of an export",
            Self::Signature => "the signature is not of this seal and key",
            Self::Chain => "the seal does not follow the one before it",
            Self::SealMissing => "the event's seal is not before it",
            Self::Repeated => "the event is out of its order, or stands here twice",
            Self::Proof => "the event is not in its seal",
        })
    }
}
