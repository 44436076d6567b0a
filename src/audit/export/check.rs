//! Checking a file that was exported, with nothing but the public key.

use std::{
    fmt,
    io::{self, BufRead, Read},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use super::{
    super::{
        canonical::{self, RecordedEvent},
        merkle,
        seal::{self, Entry, Header, Sha},
        verify::Anchor,
        window::Windows,
    },
    line::{End, Line},
};
use crate::{envelope::signing_key::PublicKey, model::id::EventId};

/// The longest line that is read: an event and its path are far below.
const MAX_LINE_BYTES: u64 = 256 * 1024;

/// What was found of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Events that were proven.
    pub events: u64,
    /// Seals that they are of.
    pub seals: u64,
    /// Lines that prove nothing, and what is missing.
    pub wrong: u64,
    /// The last seal that the file says anything of.
    pub last: Option<Anchor>,
    /// What the file says that it is, when that proved itself.
    pub end: Option<End>,
}

/// Why a line proves nothing, or what the file does not prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "`Display` says what each is")]
pub enum WrongLine {
    Form,
    Signature,
    Chain,
    SealMissing,
    Repeated,
    Proof,
    Time,
    Content,
    AfterTheEnd,
    NoEnd,
    NotTheAnchor,
    BeforeTheAnchor,
    AnchorNotHere,
}

/// A file as far as it was checked.
struct Check<'a> {
    key: &'a PublicKey,
    anchor: Option<Anchor>,
    /// Whether the seal of the anchor was compared with it.
    anchored: bool,
    /// The seal whose events may follow, and the place of the next.
    seal: Option<(Header, u64)>,
    windows: Windows,
    /// The last seal that proved itself.
    last: Option<(Header, Sha)>,
    /// Of all lines before the next.
    hash: Sha256,
    checked: Checked,
}

/// Checks a file that [`export`](super::export) wrote, with nothing but the public key, and whether it
/// is of the record that somebody noted a seal of. Memory does not grow with it.
///
/// # Errors
///
/// When it cannot be read. Lines that prove nothing are no error: they are reported, by their number.
/// What is missing is reported at the line after the last.
pub fn check(
    mut from: impl BufRead,
    key: &PublicKey,
    anchor: Option<Anchor>,
    report: &mut dyn FnMut(u64, WrongLine),
) -> io::Result<Checked> {
    let mut check = Check {
        key,
        anchor,
        anchored: false,
        seal: None,
        windows: Windows::since(None),
        last: None,
        hash: Sha256::new(),
        checked: Checked::default(),
    };
    let (mut line, mut number) = (Vec::new(), 0);
    loop {
        line.clear();
        number += 1;
        let read = (&mut from)
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)?;
        let wrong = if read > 0 {
            check.line(&line).err().into_iter().collect()
        } else {
            check.missing()
        };
        for wrong in wrong {
            check.checked.wrong += 1;
            report(number, wrong);
        }
        if read == 0 {
            return Ok(check.checked);
        }
        check.hash.update(&line);
    }
}

impl Check<'_> {
    fn line(&mut self, line: &[u8]) -> Result<(), WrongLine> {
        if self.checked.end.is_some() {
            return Err(WrongLine::AfterTheEnd);
        }
        let line: Line<'_> = serde_json::from_slice(line).map_err(|_| WrongLine::Form)?;
        match line {
            Line {
                header: Some(header),
                signature: Some(signature),
                event: None,
                end: None,
                ..
            } => self.seal(header.get().as_bytes(), &signature),
            Line {
                event: Some(event),
                seal: Some(number),
                index: Some(index),
                transaction: Some(transaction),
                path: Some(path),
                header: None,
                end: None,
                ..
            } => {
                let path: Vec<_> = path.into_iter().map(|Sha(hash)| hash).collect();
                let (bytes, place) = (event.get().as_bytes(), (index, transaction));
                self.event(number, bytes, place, &path)
            }
            Line {
                end: Some(end),
                signature: Some(signature),
                event: None,
                header: None,
                ..
            } => self.end(end.get().as_bytes(), &signature),
            _ => Err(WrongLine::Form),
        }
    }

    fn seal(&mut self, bytes: &[u8], signature: &str) -> Result<(), WrongLine> {
        // The events of a seal that proves nothing prove nothing either.
        self.seal = None;
        let header = Header::parse(bytes).map_err(|_| WrongLine::Form)?;
        self.signed(bytes, signature)?;
        if let Some((last, hash)) = &self.last {
            let follows = header.number == last.number + 1 && header.previous == Some(*hash);
            if !follows && header.number <= last.number + 1 {
                return Err(WrongLine::Chain);
            }
        }
        let this = Anchor {
            number: header.number,
            hash: seal::hash(bytes),
        };
        self.compare(this)?;
        // Seals that are not in the file only make windows longer.
        self.windows.begin(&header);
        self.seal = Some((header.clone(), 0));
        self.last = Some((header, this.hash));
        self.checked.seals += 1;
        self.checked.last = Some(this);
        Ok(())
    }

    fn event(
        &mut self,
        number: u64,
        bytes: &[u8],
        (index, transaction): (u64, u64),
        path: &[merkle::Hash],
    ) -> Result<(), WrongLine> {
        let seal = self.seal.as_mut();
        let (header, next) = seal
            .filter(|(header, ..)| header.number == number)
            .ok_or(WrongLine::SealMissing)?;
        if index < *next {
            return Err(WrongLine::Repeated);
        }
        let event = RecordedEvent::parse(bytes).map_err(|_| WrongLine::Form)?;
        let entry = Entry {
            id: EventId::parse(&event.id).ok_or(WrongLine::Form)?,
            transaction,
            hash: canonical::hash(bytes),
        };
        let root = &header.merkle_root.0;
        if !merkle::leads_to(root, entry.leaf(), index, header.events, path) {
            return Err(WrongLine::Proof);
        }
        *next = index + 1;
        self.checked.events += 1;
        let window = self.windows.of(header, transaction);
        let of_its_time = window.holds(&event);
        of_its_time.then_some(()).ok_or(WrongLine::Time)
    }

    fn end(&mut self, bytes: &[u8], signature: &str) -> Result<(), WrongLine> {
        let end = End::parse(bytes).ok_or(WrongLine::Form)?;
        self.signed(bytes, signature)?;
        let lines = Sha(self.hash.clone().finalize().into());
        let counted = (end.events, end.seals) == (self.checked.events, self.checked.seals);
        let last = self.last.as_ref().map(|(header, _)| header.number);
        if end.lines != lines || !counted || last > end.last_seal {
            return Err(WrongLine::Content);
        }
        let last = end.last_seal.zip(end.last_seal_hash);
        self.checked.last = last.map(|(number, hash)| Anchor { number, hash });
        self.checked.end = Some(end);
        self.checked.last.map_or(Ok(()), |last| self.compare(last))
    }

    fn signed(&self, bytes: &[u8], signature: &str) -> Result<(), WrongLine> {
        let signature = STANDARD.decode(signature).map_err(|_| WrongLine::Form)?;
        let ours = self.key.verifies(bytes, &signature);
        ours.then_some(()).ok_or(WrongLine::Signature)
    }

    /// A seal that proved itself, beside the anchor.
    fn compare(&mut self, seal: Anchor) -> Result<(), WrongLine> {
        match self.anchor {
            Some(anchor) if anchor.number == seal.number => {
                self.anchored = true;
                let same = anchor.hash == seal.hash;
                same.then_some(()).ok_or(WrongLine::NotTheAnchor)
            }
            _ => Ok(()),
        }
    }

    /// What the file lacks, at its end.
    fn missing(&self) -> Vec<WrongLine> {
        let no_end = self.checked.end.is_none().then_some(WrongLine::NoEnd);
        let anchor = self.anchor.filter(|_| !self.anchored);
        let anchor = anchor.map(|anchor| {
            let ends_before = self
                .checked
                .last
                .is_none_or(|last| last.number < anchor.number);
            if no_end.is_none() && ends_before {
                WrongLine::BeforeTheAnchor
            } else {
                WrongLine::AnchorNotHere
            }
        });
        no_end.into_iter().chain(anchor).collect()
    }
}

impl fmt::Display for WrongLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "not a line of an export",
            Self::Signature => "the signature is not of this line and key",
            Self::Chain => "the seal does not follow the one before it",
            Self::SealMissing => "the event's seal is not before it",
            Self::Repeated => "the event is out of its order, or stands here twice",
            Self::Proof => "the event is not in its seal",
            Self::Time => "the event is of another time than its seal",
            Self::Content => "the lines before are not those that were exported",
            Self::AfterTheEnd => "the export ends before this line",
            Self::NoEnd => "the signed end is missing: the file may be cut off",
            Self::NotTheAnchor => "the seal is not the one of the anchor",
            Self::BeforeTheAnchor => "the anchor is of a later seal than the export",
            Self::AnchorNotHere => {
                "the anchor's seal is not in this file: `audit export --anchor` puts it there"
            }
        })
    }
}
