//! Credentials that were exchanged lately, as their rows were then: ciphertext, and what stands beside
//! it. Nothing of it is believed. Postgres confirms a row when its exchange is recorded, so that an
//! exchange asks it once rather than twice: a seventh more of them a second, and as much less of
//! Postgres' time for each. ARCHITECTURE.md says why that is safe: *An exchange asks Postgres once*.

use std::sync::Arc;

use quick_cache::{Weighter, sync::Cache};

use crate::{
    envelope::context::Place,
    model::{restrictions::Restrictions, scope::RequiredScope, text::AgentId},
    store::exchanges::ExchangeRow,
};

/// How much the rows in memory may weigh, in bytes.
const MAX_BYTES: u64 = 32 * 1024 * 1024;
/// How many of them that is, mostly.
const ROWS: usize = 20_000;
/// What a row weighs beside its variable parts.
const ROW_BYTES: usize = 1024;

/// Rows by their place; the ones that are asked for least go first.
pub(super) struct Recent(Cache<Place, Arc<ExchangeRow>, Weight>);

/// What a row weighs.
#[derive(Clone)]
struct Weight;

impl Recent {
    pub(super) fn new() -> Self {
        Self(Cache::with_weighter(ROWS, MAX_BYTES, Weight))
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
        self.0.remove(place);
    }
}

impl Weighter<Place, Arc<ExchangeRow>> for Weight {
    fn weight(&self, _: &Place, row: &Arc<ExchangeRow>) -> u64 {
        weight(row) as u64
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio_postgres::types::{FromSql, Type};

    use super::*;
    use crate::{
        clock::{Clock, FakeClock},
        model::{
            id::CredentialId,
            metadata::Metadata,
            sealed::{MasterKeyId, Sealed, WrappedKey},
            service_name::ServiceName,
            text::{CredentialType, DeveloperId, PrincipalId},
        },
    };

    fn place(number: usize) -> Place {
        Place {
            developer: DeveloperId::parse("acme").unwrap(),
            principal: PrincipalId::parse(&format!("user-{number}")).unwrap(),
            service: ServiceName::parse("github").unwrap().key().clone(),
        }
    }

    fn row(metadata_bytes: usize, agents: usize) -> ExchangeRow {
        let metadata = json!({"note": "x".repeat(metadata_bytes)}).to_string();
        let agents: Vec<_> = (0..agents).map(|n| format!("did:agent:{n}")).collect();
        ExchangeRow {
            id: CredentialId::make(FakeClock::default().now()),
            version: FromSql::from_sql(&Type::XID, &[0; 4]).unwrap(),
            service: ServiceName::parse("github").unwrap(),
            credential_type: CredentialType::parse("oauth2").unwrap(),
            token_expires_at: None,
            metadata: Metadata::from_stored(&metadata).unwrap(),
            restrictions: Restrictions::parse(&[], &agents).unwrap(),
            access_token: Sealed::from_stored(vec![0; 100]),
            data_key: WrappedKey {
                master_key: MasterKeyId::new("local:1/1"),
                bytes: vec![0; 60],
            },
        }
    }

    #[test]
    fn rows_are_kept_until_they_weigh_too_much_together() {
        let recent = Recent::new();
        let large = Arc::new(row(60 * 1024, 0));
        for number in 0..1000 {
            recent.keep(place(number), Arc::clone(&large));
        }
        assert!(recent.0.weight() <= MAX_BYTES);
        let kept = (0..1000).filter(|number| recent.get(&place(*number)).is_some());
        let kept = kept.count();
        assert!((400..=540).contains(&kept), "{kept} of 60 KiB each");
        let number = (0..1000).find(|number| recent.get(&place(*number)).is_some());
        let place = place(number.unwrap());
        recent.forget(&place);
        assert!(recent.get(&place).is_none());
    }

    #[test]
    fn the_restrictions_of_a_row_have_their_weight() {
        let more = weight(&row(0, 64)) - weight(&row(0, 0));
        assert!(more >= 64 * "did:agent:0".len(), "{more}");
    }
}
