//! The events of one seal, and which of them still stand in the table as they were sealed.

use std::collections::BTreeMap;

use super::super::{
    canonical,
    merkle::{self, Tree},
    seal::{self, Entry, Header, Sha},
    verify::trouble,
};
use crate::{model::id::EventId, store::audit_order::WholeEvent};

/// The events of a seal.
pub(super) struct SealedEvents {
    entries: Vec<Entry>,
    tree: Tree,
    /// Where the entries of an id are: those of several developers may have the same.
    by_id: BTreeMap<EventId, Vec<usize>>,
    /// What stands in the table of each entry.
    rows: Vec<Row>,
}

/// What stands in the table of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    Missing,
    Changed,
    Intact,
}

/// What a row is to the seal of its transaction.
pub(super) enum Match {
    /// The event of the entry at this index, as it was sealed.
    Intact(usize),
    /// An event that is not as it was sealed. Its entry counts as left out.
    Changed,
    /// No event of the seal.
    Unsealed,
}

impl SealedEvents {
    /// Reads the entries; `None` when they are not those that the header signs.
    pub(super) fn read(header: &Header, entries: &[u8]) -> Option<Self> {
        let entries = Entry::read(entries)?;
        let tree = seal::tree(&entries);
        if Sha(tree.root()) != header.merkle_root {
            return None;
        }
        let mut by_id = BTreeMap::<_, Vec<_>>::new();
        for (index, entry) in entries.iter().enumerate() {
            by_id.entry(entry.id).or_default().push(index);
        }
        Some(Self {
            rows: vec![Row::Missing; entries.len()],
            entries,
            tree,
            by_id,
        })
    }

    /// Finds the entry of a row, which is no other row's then: the one with its bytes, else any of its id.
    pub(super) fn find(&mut self, row: &WholeEvent) -> Match {
        let id = EventId::parse(&row.place.id);
        let indices = id.and_then(|id| self.by_id.get(&id));
        let free = indices.into_iter().flatten().copied();
        let mut free = free.filter(|index| self.rows[*index] != Row::Intact);
        let hash = canonical::hash(&row.canonical);
        let same = free.clone().find(|index| self.entries[*index].hash == hash);
        let Some(index) = same.or_else(|| free.next()) else {
            return Match::Unsealed;
        };
        if trouble(&self.entries[index], row, None).is_some() {
            self.rows[index] = Row::Changed;
            return Match::Changed;
        }
        self.rows[index] = Row::Intact;
        Match::Intact(index)
    }

    /// An entry, and the hashes that lead from it to the root.
    pub(super) fn proof(&self, index: usize) -> (&Entry, Vec<merkle::Hash>) {
        let path = self.tree.path(index).unwrap_or_default();
        (&self.entries[index], path)
    }

    /// Counts the selected events that no row has as they were sealed. Only those that were pruned may be
    /// missing. Which developer an event was of, an entry does not say.
    pub(super) fn left_out(
        &self,
        selected: impl Fn(EventId) -> bool,
        pruned: impl Fn(EventId) -> bool,
    ) -> u64 {
        let entries = self.entries.iter().zip(&self.rows);
        let left_out = entries.filter(|(entry, row)| match row {
            Row::Intact => false,
            Row::Changed => selected(entry.id),
            Row::Missing => selected(entry.id) && !pruned(entry.id),
        });
        left_out.count() as u64
    }
}
