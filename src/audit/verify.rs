//! Verifying: is every event that was sealed still there, as it was, and nothing beside it?
//!
//! One pass: each seal, and the events of the transactions that it covers. Memory is bounded by the
//! largest seal.

use std::collections::BTreeMap;

use thiserror::Error;

use super::{
    canonical::{self, RecordedEvent},
    finding::{EventTrouble, Finding, SealTrouble, Watch},
    merkle::Hash,
    seal::{self, Entry, Header, Sha},
    window::{Window, Windows},
};
use crate::{
    envelope::signing_key::PublicKey,
    model::id::EventId,
    pace::Pace,
    store::{
        Store, StoreFault,
        audit_order::{Place, Span, WholeEvent},
        audit_seals::SealRow,
    },
};

/// How many events are read at once.
const PAGE: i64 = 1000;
/// How many events that are missing or too many are remembered, to tell which were moved.
const MAX_REMEMBERED: usize = 10_000;
/// How many rows outside of every span are named, and rows of a span whose keys are none of ours.
const MAX_STRAYS: i64 = 1000;
/// How many rows that are no seals may stand behind the last one.
const MAX_JUNK: i64 = 1000;

/// A seal that somebody noted, elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: Sha,
}

/// Why verifying stopped.
#[derive(Debug, Error)]
pub enum VerifyFault {
    /// The database does not answer.
    #[error("the database cannot be used")]
    Store(#[from] StoreFault),
}

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The last seal and its hash: what to note as an anchor.
    pub last: Option<Anchor>,
    /// Events that no seal covers yet.
    pub unsealed: u64,
    /// How many findings there were.
    pub findings: u64,
}

/// One pass over the record.
struct Verification<'a> {
    store: &'a Store,
    key: PublicKey,
    anchor: Option<Anchor>,
    pace: &'a Pace,
    watch: &'a Watch<'a>,
    /// What the last seal says was pruned.
    newest: Option<Header>,
    previous: Option<(Header, Sha)>,
    windows: Windows,
    /// Whether seals are missing before the next one.
    gap: bool,
    removed: Vec<(u64, Entry)>,
    /// By id; several developers may claim the same.
    added: BTreeMap<String, Vec<Added>>,
    remembered: usize,
}

/// A row that is in no seal, or not in the one of its transaction.
struct Added {
    developer: String,
    seal: Option<u64>,
    hash: Hash,
}

/// Verifies all that is sealed, at this pace.
///
/// # Errors
///
/// When the database does not answer. What is not as it was sealed is no error: it is reported.
pub async fn verify(
    store: &Store,
    key: PublicKey,
    anchor: Option<Anchor>,
    pace: &Pace,
    watch: &Watch<'_>,
) -> Result<Verified, VerifyFault> {
    let newest = newest_seal(store, &key).await?;
    let verification = Verification {
        store,
        key,
        anchor,
        pace,
        watch,
        newest,
        previous: None,
        windows: Windows::since(store.first_era_began_at().await?),
        gap: false,
        removed: Vec::new(),
        added: BTreeMap::new(),
        remembered: 0,
    };
    Box::pin(verification.run()).await
}

impl Verification<'_> {
    async fn run(mut self) -> Result<Verified, VerifyFault> {
        let unsealed = self.pass().await;
        // Also when it did not come to the end: what was found was found.
        self.name_removed_and_added();
        let unsealed = unsealed?;
        let last = self.previous.map(|(header, hash)| Anchor {
            number: header.number,
            hash,
        });
        Ok(Verified {
            last,
            unsealed,
            findings: self.watch.findings(),
        })
    }

    /// All seals, and what is beside them; answers how many events are not sealed yet.
    async fn pass(&mut self) -> Result<u64, StoreFault> {
        let mut number = 0;
        while let Some(row) = self.store.seal_after(number).await? {
            self.seal(number, &row).await?;
            number = row.number;
            self.watch.sealed();
        }
        if let Some(anchor) = self.anchor
            && anchor.number > number.unsigned_abs()
        {
            self.seals(
                number.unsigned_abs() + 1,
                anchor.number,
                SealTrouble::TailRemoved,
            );
        }
        self.beyond_the_last_seal().await
    }

    /// One seal, after the one of this number.
    async fn seal(&mut self, after: i64, row: &SealRow) -> Result<(), StoreFault> {
        let number = row.number.unsigned_abs();
        if row.number != after + 1 {
            self.seals(after.unsigned_abs() + 1, number - 1, SealTrouble::Removed);
            self.gap = true;
        }
        let hash = seal::hash(&row.header);
        if let Some(anchor) = self.anchor
            && anchor.number == number
            && anchor.hash != hash
        {
            self.one_seal(number, SealTrouble::NotTheAnchor);
        }
        let header = match self.signed(number, row) {
            Ok(header) => header,
            Err(what) => {
                // Nothing that it says counts, nor is anything proven of its events.
                self.one_seal(number, what);
                self.gap = true;
                return Ok(());
            }
        };
        self.check_chain(&header);
        self.end_of_eras_before(&header).await?;
        self.gap = false;
        self.windows.begin(&header);
        self.check_events(&header, row).await?;
        self.previous = Some((header, hash));
        Ok(())
    }

    /// What the key signed as the seal of this number.
    fn signed(&self, number: u64, row: &SealRow) -> Result<Header, SealTrouble> {
        let header = Header::parse(&row.header).ok();
        let header = header.filter(|header| header.number == number);
        let header = header.ok_or(SealTrouble::Unreadable)?;
        if header.key != Sha(self.key.id()) {
            return Err(SealTrouble::OtherKey);
        }
        let signed = self.key.verifies(&row.header, &row.signature);
        signed.then_some(header).ok_or(SealTrouble::Signature)
    }

    fn check_chain(&self, header: &Header) {
        let number = header.number;
        if self.gap {
            // Whatever it should follow is missing, and was named.
            return;
        }
        let previous = self.previous.as_ref();
        if header.previous != previous.map(|(_, hash)| *hash) {
            self.one_seal(number, SealTrouble::Previous);
        }
        let said = previous.and_then(|(header, _)| header.pruned_before);
        if header.pruned_before != said && !(header.prunes() && header.pruned_before > said) {
            self.one_seal(number, SealTrouble::Pruned);
        }
        let (era, end) = previous.map_or((1, 0), |(header, _)| header.end());
        let goes_on = header.era == era && header.from_transaction == end;
        let begins_an_era = header.era > era && header.from_transaction == 0;
        if !(goes_on || begins_an_era) || header.to_transaction < header.from_transaction {
            self.one_seal(number, SealTrouble::Transactions);
        }
    }

    /// The events of a seal against the rows of its transactions.
    async fn check_events(&mut self, header: &Header, row: &SealRow) -> Result<(), StoreFault> {
        let number = header.number;
        let mut expected = BTreeMap::<EventId, Vec<Entry>>::new();
        match row.entries.as_deref().map(Entry::read) {
            Some(Some(entries)) if fits(header, &entries) => {
                for entry in entries {
                    expected.entry(entry.id).or_default().push(entry);
                }
            }
            Some(_) => {
                self.one_seal(number, SealTrouble::Entries);
                return Ok(());
            }
            None if header.newest_event.is_none_or(|id| self.pruned(id)) => {}
            None => {
                self.one_seal(number, SealTrouble::EntriesRemoved);
                return Ok(());
            }
        }
        let mut place = Place::default();
        while let Some(page) = self.page(header.span(), &mut place).await? {
            for event in page {
                self.check_event(header, &mut expected, &event);
            }
        }
        self.misshapen(Some(number), header.span()).await?;
        for entry in expected.into_values().flatten() {
            if !self.pruned(entry.id) {
                self.is_removed(number, entry);
            }
        }
        Ok(())
    }

    /// Whatever claims a transaction that no seal before this one covers: of an era that is over, after
    /// the last that was sealed of it, and of eras that nothing was sealed of.
    async fn end_of_eras_before(&mut self, header: &Header) -> Result<(), StoreFault> {
        if self.gap {
            return Ok(());
        }
        let ended = self.previous.as_ref().map(|(previous, _)| previous.end());
        let (mut era, mut from) = ended.unwrap_or((1, 0));
        if era >= header.era {
            return Ok(());
        }
        // Rows of eras that never began are found as strays.
        let end = header.era.min(self.store.audit_horizon().await?.era);
        while era < end {
            let span = Span {
                era,
                from,
                to: i64::MAX,
            };
            let mut place = Place::default();
            while let Some(page) = self.page(span, &mut place).await? {
                for event in page {
                    self.is_added(None, &event);
                }
            }
            self.misshapen(None, span).await?;
            (era, from) = (era + 1, 0);
        }
        Ok(())
    }

    /// Rows whose keys are none that the vault writes.
    async fn misshapen(&mut self, seal: Option<u64>, span: Span) -> Result<(), StoreFault> {
        for event in self.store.misshapen_events(span, MAX_STRAYS).await? {
            self.is_added(seal, &event);
        }
        Ok(())
    }

    /// The next events of a span after a place, which moves behind them.
    async fn page(
        &self,
        span: Span,
        place: &mut Place,
    ) -> Result<Option<Vec<WholeEvent>>, StoreFault> {
        let page = self.store.whole_events(span, place, PAGE).await?;
        self.pace
            .turns(u32::try_from(page.len()).unwrap_or(u32::MAX))
            .await;
        if let Some(last) = page.last() {
            place.clone_from(&last.place);
        }
        Ok((!page.is_empty()).then_some(page))
    }

    fn check_event(
        &mut self,
        header: &Header,
        expected: &mut BTreeMap<EventId, Vec<Entry>>,
        event: &WholeEvent,
    ) {
        self.watch.compared();
        let id = EventId::parse(&event.place.id);
        let Some(entry) = id.and_then(|id| taken(expected.get_mut(&id)?, event)) else {
            return self.is_added(Some(header.number), event);
        };
        let window = self.windows.of(header, entry.transaction);
        if let Some(what) = trouble(&entry, event, Some(window)) {
            let Place { id, developer, .. } = &event.place;
            self.event(id, Some(developer), Some(header.number), what);
        }
    }

    /// Events after the last seal; those that claim transactions which were sealed long ago are named.
    async fn beyond_the_last_seal(&mut self) -> Result<u64, StoreFault> {
        for event in self.store.stray_events(MAX_STRAYS).await? {
            self.is_added(None, &event);
        }
        let (last_era, end) = self
            .previous
            .as_ref()
            .map_or((1, 0), |(header, _)| header.end());
        let now = self.store.audit_horizon().await?.era;
        let mut unsealed = 0;
        for era in last_era..=now {
            let from = if era == last_era { end } else { 0 };
            let to = i64::MAX;
            unsealed += self.store.count_events(Span { era, from, to }).await?;
        }
        Ok(unsealed)
    }

    fn is_removed(&mut self, seal: u64, entry: Entry) {
        if self.removed.len() < MAX_REMEMBERED {
            self.removed.push((seal, entry));
        } else {
            self.event(
                &entry.id.to_string(),
                None,
                Some(seal),
                EventTrouble::Removed,
            );
        }
    }

    fn is_added(&mut self, seal: Option<u64>, event: &WholeEvent) {
        let Place { id, developer, .. } = &event.place;
        if self.remembered >= MAX_REMEMBERED {
            return self.event(id, Some(developer), seal, EventTrouble::Added);
        }
        self.remembered += 1;
        self.added.entry(id.clone()).or_default().push(Added {
            developer: developer.clone(),
            seal,
            hash: canonical::hash(&event.canonical),
        });
    }

    /// What is missing in one place and too many in another was moved.
    fn name_removed_and_added(&mut self) {
        for (seal, entry) in std::mem::take(&mut self.removed) {
            let id = entry.id.to_string();
            let added = self.added.get_mut(&id).and_then(Vec::pop);
            let (developer, what) = match added {
                None => (None, EventTrouble::Removed),
                Some(added) if added.hash == entry.hash => {
                    (Some(added.developer), EventTrouble::Reordered)
                }
                Some(added) => (Some(added.developer), EventTrouble::Changed),
            };
            self.event(&id, developer.as_deref(), Some(seal), what);
        }
        for (id, several) in std::mem::take(&mut self.added) {
            for added in several {
                self.event(&id, Some(&added.developer), added.seal, EventTrouble::Added);
            }
        }
    }

    fn pruned(&self, id: EventId) -> bool {
        self.newest.as_ref().is_some_and(|newest| newest.pruned(id))
    }

    fn event(&self, id: &str, developer: Option<&str>, seal: Option<u64>, what: EventTrouble) {
        self.watch.found(&Finding::Event {
            id: id.to_owned(),
            developer: developer.map(str::to_owned),
            seal,
            what,
        });
    }

    fn one_seal(&self, number: u64, what: SealTrouble) {
        self.seals(number, number, what);
    }

    fn seals(&self, number: u64, to: u64, what: SealTrouble) {
        self.watch.found(&Finding::Seal { number, to, what });
    }
}

/// The last seal that the key made: whoever can write the table can put rows behind it.
pub(super) async fn newest_seal(
    store: &Store,
    key: &PublicKey,
) -> Result<Option<Header>, StoreFault> {
    let rows = store.last_seals(MAX_JUNK).await?;
    let verified = |row: &SealRow| Header::verified(row.number, &row.header, &row.signature, key);
    Ok(rows.iter().find_map(|row| verified(row).ok()))
}

/// The entry of a row, which is no other row's then: the one with its bytes, else any of its id.
fn taken(entries: &mut Vec<Entry>, event: &WholeEvent) -> Option<Entry> {
    let hash = canonical::hash(&event.canonical);
    let same = entries.iter().position(|entry| entry.hash == hash);
    (!entries.is_empty()).then(|| entries.remove(same.unwrap_or(0)))
}

/// Whether the events are those that the header speaks of.
fn fits(header: &Header, entries: &[Entry]) -> bool {
    header.events == entries.len() as u64
        && header.newest_event == entries.iter().map(|entry| entry.id).max()
        && header.merkle_root == Sha(seal::tree(entries).root())
}

/// What of a row is not as its event was sealed, or that its event is not of the time of its seal.
pub(super) fn trouble(
    entry: &Entry,
    row: &WholeEvent,
    window: Option<Window>,
) -> Option<EventTrouble> {
    if canonical::hash(&row.canonical) != entry.hash {
        return Some(EventTrouble::Changed);
    }
    if row.place.transaction.unsigned_abs() != entry.transaction {
        return Some(EventTrouble::Reordered);
    }
    let Ok(event) = RecordedEvent::parse(&row.canonical) else {
        // It was sealed like this: no vault wrote it.
        return Some(EventTrouble::Added);
    };
    let columns = [
        ("developer_id", row.place.developer == event.developer_id),
        ("id", row.place.id == event.id),
        (
            "principal_id",
            row.principal_id.as_deref() == event.principal_id.as_deref(),
        ),
        ("service_key", row.service_key == event.service_key()),
        (
            "credential_id",
            row.credential_id.as_deref() == event.credential_id.as_deref(),
        ),
        ("grant_id", row.grant_id.as_deref() == event.grant_id()),
        ("outcome", row.outcome == event.outcome),
    ];
    let wrong = columns.into_iter().find(|(_, same)| !same);
    let wrong = wrong.map(|(column, _)| EventTrouble::Column(column));
    let outside = || window.is_some_and(|window| !window.holds(&event));
    wrong.or_else(|| outside().then_some(EventTrouble::Time))
}
