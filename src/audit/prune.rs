//! Pruning: events that are too old go, and what stays can still be verified.
//!
//! First a seal says, signed, that everything before a moment was pruned; then the partitions go. Whoever
//! is killed in between runs it again.

use std::time::Duration;

use thiserror::Error;
use tokio::time::sleep;

use super::{
    seal::Header,
    sealer::{self, SealingFault},
};
use crate::{
    envelope::signing_key::SigningKey,
    model::timestamp::Timestamp,
    store::{Store, StoreFault, audit_order::Span, audit_partitions::Partition},
};

/// How often a lock is tried for, and a number of a seal, and how long in between.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_secs(1);
/// How many events that lie in no partition of their own are deleted at once.
const STRAYS: i64 = 10_000;

/// What was pruned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// Everything before this.
    pub before: Timestamp,
    /// Partitions that were dropped.
    pub partitions: usize,
    /// Events that were deleted one by one.
    pub events: u64,
    /// Seals whose events were forgotten.
    pub seals: u64,
}

/// Why nothing, or not everything, was pruned.
#[derive(Debug, Error)]
pub enum PruneFault {
    /// The database does not answer, or a lock could not be had.
    #[error("the database cannot be used")]
    Store(#[from] StoreFault),
    /// No seal could be made.
    #[error("no seal can say what was pruned")]
    Sealing(#[from] SealingFault),
    /// Nobody could prove what they were.
    #[error("there are events before {0} that are not sealed yet")]
    Unsealed(Timestamp),
    /// Others sealed all the time.
    #[error("other seals were made all the time: try again")]
    Overtaken,
}

/// Prunes what is older than `before`, as far as partitions allow: one that has later events too stays
/// whole.
///
/// # Errors
///
/// See [`PruneFault`]. Running again goes on.
pub async fn prune(
    store: &Store,
    key: &SigningKey,
    before: Timestamp,
    now: Timestamp,
) -> Result<Pruned, PruneFault> {
    let before = store.prunable_before(before).await?;
    // Everything up to here is sealed, and nothing after it is dropped.
    let sealed_to = say_so(store, key, before, now).await?;
    let partitions = store.audit_partitions_before(before).await?;
    for partition in &partitions {
        drop_partition(store, partition, sealed_to, before).await?;
    }
    let mut events = 0;
    loop {
        let mut connection = store.connection().await?;
        let transaction = connection.transaction().await?;
        let deleted = transaction
            .delete_stray_events(before, sealed_to, STRAYS)
            .await?;
        transaction.commit().await?;
        events += deleted;
        if deleted == 0 {
            break;
        }
    }
    let seals = store.forget_pruned_entries(before).await?;
    // A run that finds all of it done commits nothing that waits.
    store.wait_for_standbys().await?;
    Ok(Pruned {
        before,
        partitions: partitions.len(),
        events,
        seals,
    })
}

/// Makes the seal that says what is pruned, unless one has said so; answers where the seals end.
async fn say_so(
    store: &Store,
    key: &SigningKey,
    before: Timestamp,
    now: Timestamp,
) -> Result<(i32, i64), PruneFault> {
    let public_key = key.public_key();
    for _ in 0..ATTEMPTS {
        let last = sealer::last_seal(store, &public_key).await?;
        let last = last.as_ref().map(|(header, hash)| (header, *hash));
        let end = last.map_or((1, 0), |(header, _)| header.end());
        refuse_unsealed(store, end, before).await?;
        let said = last.and_then(|(header, _)| header.pruned_before);
        if said.is_some_and(|said| said >= before) {
            return Ok(end);
        }
        let mut header = Header::after(last, &[], &public_key, now);
        header.pruned_before = Some(before);
        let row = sealer::row(&header, key, Some(&[]));
        if store.connection().await?.add_seal(&row).await? {
            return Ok(end);
        }
    }
    Err(PruneFault::Overtaken)
}

async fn refuse_unsealed(
    store: &Store,
    (last_era, end): (i32, i64),
    before: Timestamp,
) -> Result<(), PruneFault> {
    for era in last_era..=store.audit_horizon().await?.era {
        let from = if era == last_era { end } else { 0 };
        let to = i64::MAX;
        if store
            .has_events_before(Span { era, from, to }, before)
            .await?
        {
            return Err(PruneFault::Unsealed(before));
        }
    }
    Ok(())
}

/// A transaction that was open may have committed something since it was looked: what is not sealed is
/// looked for again behind the lock.
async fn drop_partition(
    store: &Store,
    partition: &Partition,
    sealed_to: (i32, i64),
    before: Timestamp,
) -> Result<(), PruneFault> {
    for attempt in 1.. {
        let mut connection = store.connection().await?;
        let transaction = connection.transaction().await?;
        match transaction.drop_audit_partition(partition, sealed_to).await {
            Ok(true) => return Ok(transaction.commit().await?),
            Ok(false) => return Err(PruneFault::Unsealed(before)),
            Err(fault) if attempt == ATTEMPTS => return Err(fault.into()),
            Err(_) => drop(transaction),
        }
        sleep(PAUSE).await;
    }
    unreachable!("the last attempt answers")
}
