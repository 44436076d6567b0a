//! Makes seals, one after the other: of all replicas, one at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use thiserror::Error;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::seal::{self, Entry, Header, NotASeal, Sha};
use crate::{
    clock::Clock,
    envelope::{
        Envelope, EnvelopeError,
        signing_key::{PublicKey, SigningKey},
    },
    metrics::{Gauge, Metrics},
    model::id::EventId,
    store::{
        Connection, Store, StoreFault,
        audit_order::{HashedEvent, Horizon, Span},
        audit_seals::{SealRow, SigningKeyRow},
    },
};

/// How many events a seal has, or those of one transaction that has more. Each seal costs Postgres some:
/// in smaller ones its time was more, in larger ones the slowest percent of the requests at half load was
/// slower.
const MAX_EVENTS: usize = 512;
/// How many of one transaction are sealed together at most. The vault writes batches of some hundreds.
const MAX_OF_TRANSACTION: usize = 100_000;
/// How many seals are made at once, before others have a turn.
const MAX_SEALS: usize = 2_000;
/// How many times as long as the work of sealing are its pauses. Requests wait for the processors and
/// the disk that it takes: done at once, it was the slowest percent of them.
const PAUSES: u32 = 3;
/// How long a pause in the middle of a seal is at most: it keeps a connection that others may wait for.
const SHORT_PAUSE: Duration = Duration::from_millis(10);
/// How long the right to seal outlives the interval in which it is renewed.
const GRACE: Duration = Duration::from_secs(3);

/// The sealer of one replica.
pub struct Sealer {
    store: Store,
    envelope: Arc<Envelope>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    interval: Duration,
    /// Who this is, among the replicas.
    holder: String,
    key: Option<Arc<SigningKey>>,
    /// Whether another replica shall have the next turn.
    sits_out: bool,
    held_back: Arc<HeldBack>,
}

/// Why there is no next seal.
#[derive(Debug, Error)]
pub enum SealingFault {
    /// The database does not answer.
    #[error("the database cannot be used")]
    Store(#[from] StoreFault),
    /// The key cannot be unwrapped, or is another one than is recorded.
    #[error("the key that signs seals cannot be used")]
    Key(#[source] EnvelopeError),
    /// Somebody changed the key that is recorded, or its master key is retired.
    #[error("the key that signs seals is not the one that is recorded")]
    OtherKey,
    /// Somebody changed the last seal.
    #[error("the last seal is not one that the vault made")]
    LastSeal(#[from] NotASeal),
    /// Somebody removed the key that is recorded.
    #[error("events were sealed, and the key that signed is gone")]
    KeyGone,
    /// A dump was restored under our feet, we were led to a standby, or somebody changed the eras.
    #[error("this is not the cluster that the events are numbered by")]
    Elsewhere,
    /// Somebody wrote events that the vault did not.
    #[error("transaction {0} has more events than the vault writes in one")]
    Transaction(i64),
}

/// The pauses of a turn, so that its work is spread over the interval. With more to do than the interval
/// has time for there are none in the end.
#[derive(Debug)]
struct Pauses {
    end_of_turn: Instant,
    /// When the last one was over.
    working_since: Instant,
    /// How much longer the work so far wanted them.
    owed: Duration,
}

/// Since when an open transaction holds the sealing back.
#[derive(Debug)]
struct HeldBack {
    begin: Instant,
    /// Milliseconds after `begin`, plus one; zero when nothing does.
    since: AtomicU64,
    closed_below: AtomicU64,
}

impl Sealer {
    /// A sealer that looks for events this often.
    #[must_use]
    pub fn new(
        store: Store,
        envelope: Arc<Envelope>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        interval: Duration,
    ) -> Self {
        let held_back = Arc::new(HeldBack::not());
        let shown = Arc::clone(&held_back);
        metrics.gauge(Gauge::AuditSealingHeldBack, move || {
            Some(shown.time().as_secs_f64())
        });
        Self {
            store,
            envelope,
            clock,
            metrics,
            interval,
            holder: Uuid::new_v4().to_string(),
            key: None,
            sits_out: false,
            held_back,
        }
    }

    /// How often it wants a turn.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Seals what can be sealed now, unless another replica does.
    ///
    /// # Errors
    ///
    /// When there should be a seal and is none. Another replica may be able to make it, so this one lets
    /// it: it tries again in the turn after the next.
    pub async fn turn(&mut self) -> Result<(), SealingFault> {
        if std::mem::take(&mut self.sits_out) {
            return Ok(());
        }
        let done = self.seal_all().await;
        if done.is_err() {
            self.failed().await;
        }
        done
    }

    /// Notes that a turn failed.
    pub async fn failed(&mut self) {
        self.metrics.sealing_failed();
        self.held_back.ends();
        self.sits_out = true;
        let _ = self.store.seals_no_more(&self.holder).await;
    }

    /// Lets another replica seal at once, rather than after a while.
    pub async fn stop(self) {
        // It has time to find out by itself.
        let _ = self.store.seals_no_more(&self.holder).await;
    }

    async fn seal_all(&mut self) -> Result<(), SealingFault> {
        let mut pauses = Pauses::of_turn(self.interval);
        for _ in 0..MAX_SEALS {
            // Also between seals: another replica may have been given the right in a pause. And the seal
            // says which transaction was the next: no number after that of this one was given before.
            let time = self.interval + GRACE;
            if !self.store.may_seal(&self.holder, time).await? {
                self.held_back.ends();
                break;
            }
            let Some(key) = self.key().await? else {
                break;
            };
            if !self.seal_next(&key, &mut pauses).await? {
                break;
            }
            pauses.pause(Duration::MAX).await;
        }
        Ok(())
    }

    /// Makes the next seal; false when nothing is left to seal. What is recorded from now on is left to
    /// the next turn: a seal of the few that came meanwhile costs as much as one of many.
    ///
    /// All on one connection: what another server says, after a failover for example, must not be mixed
    /// with what this one says.
    async fn seal_next(&self, key: &SigningKey, pauses: &mut Pauses) -> Result<bool, SealingFault> {
        let connection = self.store.connection().await?;
        let horizon = connection.audit_horizon().await?;
        // When the horizon was, not when the seal is ready: verifying takes the one for the other.
        let now = self.clock.now();
        if !horizon.here {
            // The connection outlived a restore: a pooler led it elsewhere.
            connection.begin_audit_era().await?;
            return Err(SealingFault::Elsewhere);
        }
        self.held_back.looked(horizon);
        let public_key = key.public_key();
        let last = connection.last_seal().await?;
        let last = last.map(|row| verified(&row, &public_key)).transpose()?;
        let last = last.as_ref().map(|(header, hash)| (header, *hash));
        let Some((span, events)) = unsealed(&connection, last, horizon).await? else {
            return Ok(false);
        };
        pauses.pause(SHORT_PAUSE).await;
        let entries = entries(&events);
        let header = Header::after(last, &entries, &public_key, now).covering(span, horizon);
        let row = row(&header, key, Some(&entries));
        if !connection.add_seal(&row).await? {
            // Another replica thought that it was its turn too: the chain has no place for two.
            return Ok(false);
        }
        let hash = seal::hash(&row.header);
        self.metrics.sealed(entries.len());
        tracing::info!(number = header.number, %hash, events = header.events, "audit events sealed");
        Ok(span.era < horizon.era || span.to < horizon.closed_below)
    }

    /// The key that signs. It is made when there is none and nothing was sealed yet; `None` when there
    /// is nothing to sign with it either.
    async fn key(&mut self) -> Result<Option<Arc<SigningKey>>, SealingFault> {
        if self.key.is_none() {
            let key = match self.store.signing_key().await? {
                Some(row) => open_key(&self.envelope, &row).await?,
                None if self.store.last_seal().await?.is_some() => {
                    return Err(SealingFault::KeyGone);
                }
                None if self.store.has_audit_events().await? => self.make_key().await?,
                None => return Ok(None),
            };
            self.key = Some(Arc::new(key));
        }
        Ok(self.key.clone())
    }

    async fn make_key(&self) -> Result<SigningKey, SealingFault> {
        let made = self.envelope.make_signing_key().await;
        let (key, wrapped) = made.map_err(SealingFault::Key)?;
        let row = SigningKeyRow {
            public_key: key.public_key().as_bytes().to_vec(),
            wrapped,
        };
        self.store.add_signing_key(&row).await?;
        // Another replica may have been first.
        match self.store.signing_key().await? {
            Some(kept) => open_key(&self.envelope, &kept).await,
            None => Err(SealingFault::OtherKey),
        }
    }
}

/// The next events in the order of their commits, and which transactions they are all of.
async fn unsealed(
    connection: &Connection,
    last: Option<(&Header, Sha)>,
    horizon: Horizon,
) -> Result<Option<(Span, Vec<HashedEvent>)>, SealingFault> {
    let (mut era, mut from) = last.map_or((1, 0), |(header, _)| header.end());
    if era > horizon.era {
        return Err(SealingFault::Elsewhere);
    }
    while era <= horizon.era {
        // Of an era that is over, everything: its numbers say nothing here.
        let over = era < horizon.era;
        let to = if over { i64::MAX } else { horizon.closed_below };
        let (span, events) = whole_transactions(connection, Span { era, from, to }).await?;
        if !events.is_empty() {
            return Ok(Some((span, events)));
        }
        (era, from) = (era + 1, 0);
    }
    Ok(None)
}

/// The first transactions of a span, as many as a seal has, each with all of its events, and the span that
/// they cover.
async fn whole_transactions(
    connection: &Connection,
    span: Span,
) -> Result<(Span, Vec<HashedEvent>), SealingFault> {
    let limit = |many: usize| i64::try_from(many + 1).unwrap_or(i64::MAX);
    let mut events = connection.hashed_events(span, limit(MAX_EVENTS)).await?;
    let Some(last) = events.get(MAX_EVENTS).map(|event| event.transaction) else {
        let end = events.last().map_or(span.to, |event| event.transaction + 1);
        // To the horizon, which is beyond the last event; of an era that is over, to its last.
        let to = if span.to == i64::MAX { end } else { span.to };
        return Ok((Span { to, ..span }, events));
    };
    events.retain(|event| event.transaction < last);
    if !events.is_empty() {
        return Ok((Span { to: last, ..span }, events));
    }
    let to = last + 1;
    let of_one = Span {
        from: last,
        to,
        ..span
    };
    events = connection
        .hashed_events(of_one, limit(MAX_OF_TRANSACTION))
        .await?;
    if events.len() > MAX_OF_TRANSACTION {
        return Err(SealingFault::Transaction(last));
    }
    Ok((Span { to, ..span }, events))
}

/// Unwraps the key that is recorded.
///
/// # Errors
///
/// When no master key wrapped it for this, or it is not the private half of what stands beside it.
pub async fn open_key(
    envelope: &Envelope,
    row: &SigningKeyRow,
) -> Result<SigningKey, SealingFault> {
    let key = envelope.open_signing_key(&row.wrapped).await;
    let key = key.map_err(SealingFault::Key)?;
    let same = key.public_key().as_bytes()[..] == row.public_key[..];
    same.then_some(key).ok_or(SealingFault::OtherKey)
}

/// The last seal and its hash, if this key made it: nothing is built on what somebody else wrote.
pub(super) async fn last_seal(
    store: &Store,
    key: &PublicKey,
) -> Result<Option<(Header, Sha)>, SealingFault> {
    let row = store.last_seal().await?;
    row.map(|row| verified(&row, key)).transpose()
}

fn verified(row: &SealRow, key: &PublicKey) -> Result<(Header, Sha), SealingFault> {
    let header = Header::verified(row.number, &row.header, &row.signature, key)?;
    Ok((header, seal::hash(&row.header)))
}

/// A seal as it is stored.
pub(super) fn row(header: &Header, key: &SigningKey, entries: Option<&[Entry]>) -> SealRow {
    let signed = header.signed(key);
    SealRow {
        number: i64::try_from(header.number).expect("the one before is less than 2^63 - 1"),
        header: signed.header,
        signature: signed.signature.to_vec(),
        entries: entries.map(Entry::write),
    }
}

/// What a seal has of the events. One whose id is not ours is no event of the vault: it stays outside,
/// where verifying finds it.
fn entries(events: &[HashedEvent]) -> Vec<Entry> {
    let entry = |event: &HashedEvent| {
        let id = EventId::parse(&event.id);
        if id.is_none() {
            let id = event.id.escape_debug().to_string();
            tracing::error!(
                id,
                "a row of audit_events that the vault never wrote is not sealed"
            );
        }
        Some(Entry {
            id: id?,
            transaction: event.transaction.unsigned_abs(),
            hash: event.hash,
        })
    };
    events.iter().filter_map(entry).collect()
}

// === impl Pauses ===

impl Pauses {
    fn of_turn(interval: Duration) -> Self {
        let now = Instant::now();
        Self {
            end_of_turn: now + interval,
            working_since: now,
            owed: Duration::ZERO,
        }
    }

    /// Pauses for as long as the work so far wants it, the turn has time for it, and it may.
    async fn pause(&mut self, at_most: Duration) {
        self.owed += self.working_since.elapsed() * PAUSES;
        let left = self.end_of_turn.saturating_duration_since(Instant::now());
        let pause = self.owed.min(at_most).min(left);
        sleep(pause).await;
        self.owed -= pause;
        self.working_since = Instant::now();
    }
}

// === impl HeldBack ===

impl HeldBack {
    fn not() -> Self {
        Self {
            begin: Instant::now(),
            since: AtomicU64::new(0),
            closed_below: AtomicU64::new(0),
        }
    }

    /// Notes whether an open transaction is still the one that was open at the last look.
    fn looked(&self, horizon: Horizon) {
        let closed_below = horizon.closed_below.unsigned_abs();
        let same = self.closed_below.swap(closed_below, Ordering::Relaxed) == closed_below;
        if horizon.closed_below == horizon.next {
            self.ends();
        } else if !same || self.since.load(Ordering::Relaxed) == 0 {
            let now = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
            self.since.store(now + 1, Ordering::Relaxed);
        }
    }

    fn ends(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    fn time(&self) -> Duration {
        match self.since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self
                .begin
                .elapsed()
                .saturating_sub(Duration::from_millis(since - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// How long one part of the work and the pause after it take together.
    async fn worked(pauses: &mut Pauses, work: Duration, at_most: Duration) -> Duration {
        let since = Instant::now();
        advance(work).await;
        pauses.pause(at_most).await;
        since.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_short_pause_leaves_is_made_up_for_by_the_next() {
        let mut pauses = Pauses::of_turn(1000 * MS);
        assert_eq!(worked(&mut pauses, 2 * MS, 10 * MS).await, 8 * MS);
        assert_eq!(worked(&mut pauses, 5 * MS, 10 * MS).await, 15 * MS);
        assert_eq!(worked(&mut pauses, 2 * MS, Duration::MAX).await, 13 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_without_time_left_has_no_pauses() {
        let mut pauses = Pauses::of_turn(20 * MS);
        assert_eq!(worked(&mut pauses, 10 * MS, Duration::MAX).await, 20 * MS);
        assert_eq!(worked(&mut pauses, 10 * MS, Duration::MAX).await, 10 * MS);
    }
}
