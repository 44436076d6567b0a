//! Credentials that were exchanged lately, as their rows were then: ciphertext, and what stands beside
//! it. Nothing of it is believed. Postgres confirms a row when its exchange is recorded, so that an
//! exchange asks it once rather than twice: a seventh more of them a second, and as much less of
//! Postgres' time for each. ARCHITECTURE.md says why that is safe: *An exchange asks Postgres once*.

use std::sync::Arc;

use moka::sync::Cache;

use crate::{
    envelope::context::Place,
    model::{restrictions::Restrictions, scope::RequiredScope, text::AgentId},
    store::exchanges::ExchangeRow,
};

/// How much the rows in memory may weigh, in bytes: more than 20,000 of them, mostly.
const MAX_BYTES: u64 = 32 * 1024 * 1024;
/// What a row weighs beside its variable parts.
const ROW_BYTES: usize = 1024;

/// Rows by their place; the ones that are asked for least go first.
pub(super) struct Recent(Cache<Place, Arc<ExchangeRow>>);

impl Recent {
    pub(super) fn new() -> Self {
        let rows = Cache::builder()
            .max_capacity(MAX_BYTES)
            .weigher(|_, row: &Arc<ExchangeRow>| u32::try_from(weight(row)).unwrap_or(u32::MAX));
        Self(rows.build())
    }

    pub(super) fn get(&self, place: &Place) -> Option<Arc<ExchangeRow>> {
        self.0.get(place)
    }

    /// Keeps a row that was just opened.
    pub(super) fn keep(&self, place: Place, row: Arc<ExchangeRow>) {
        self.0.insert(place, row);
    }

    /// Forgets a row that is not there any more.
    pub(super) fn forget(&self, place: &Place) {
        self.0.invalidate(place);
    }
}

fn weight(row: &ExchangeRow) -> usize {
    ROW_BYTES
        + row.access_token.as_bytes().len()
        + row.data_key.bytes.len()
        + row.metadata.as_str().len()
        + weight_of_restrictions(&row.restrictions)
}

fn weight_of_restrictions(restrictions: &Restrictions) -> usize {
    let scopes = restrictions.required_scopes().iter();
    let agents = restrictions.allowed_agents().iter();
    let texts = scopes
        .map(RequiredScope::as_str)
        .chain(agents.map(AgentId::as_str));
    texts.map(|text| text.len() + size_of::<String>()).sum()
}
