//! Makes seals, one after the other: of all replicas, one at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use thiserror::Error;
use uuid::Uuid;

use super::seal::{self, Entry, Header, NotASeal, Sha};
use crate::{
    clock::Clock,
    envelope::{Envelope, EnvelopeError, signing_key::SigningKey},
    metrics::{Gauge, Metrics},
    model::id::EventId,
    store::{
        Store, StoreFault,
        audit_order::{HashedEvent, Horizon, Span},
        audit_seals::{SealRow, SigningKeyRow},
    },
};

/// How many events a seal has, but for the rest of its last transaction.
const MAX_EVENTS: usize = 10_000;
/// How many of one transaction are sealed together at most. The vault writes batches of some hundreds.
const MAX_OF_TRANSACTION: usize = 100_000;
/// How many seals are made at once, before others have a turn.
const MAX_SEALS: usize = 100;
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
    key: Option<SigningKey>,
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
    /// Somebody wrote events that the vault did not.
    #[error("transaction {0} has more events than the vault writes in one")]
    Transaction(i64),
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
    /// When there should be a seal and is none; the next turn tries again.
    pub async fn turn(&mut self) -> Result<(), SealingFault> {
        let done = self.seal_all().await;
        if done.is_err() {
            self.metrics.sealing_failed();
        }
        done
    }

    /// Lets another replica seal at once, rather than after a while.
    pub async fn stop(self) {
        // It has time to find out by itself.
        let _ = self.store.seals_no_more(&self.holder).await;
    }

    async fn seal_all(&mut self) -> Result<(), SealingFault> {
        let time = self.interval + GRACE;
        if !self.store.may_seal(&self.holder, time).await? {
            self.held_back.ends();
            return Ok(());
        }
        for _ in 0..MAX_SEALS {
            if !self.seal_next().await? {
                break;
            }
        }
        Ok(())
    }

    /// Makes the next seal; false when there is nothing to seal.
    async fn seal_next(&mut self) -> Result<bool, SealingFault> {
        let last = last_seal(&self.store).await?;
        let horizon = self.store.audit_horizon().await?;
        self.held_back.looked(horizon);
        let last_header = last.as_ref().map(|(header, hash)| (header, *hash));
        let Some((span, events)) = self.unsealed(last_header, horizon).await? else {
            return Ok(false);
        };
        let entries = entries(&events);
        let now = self.clock.now();
        let key = self.key().await?;
        let header = Header::after(last_header, &entries, &key.public_key(), now).covering(span);
        let row = row(&header, key, Some(&entries));
        if !self.store.add_seal(&row).await? {
            // Another replica thought that it was its turn too: the chain has no place for two.
            return Ok(false);
        }
        let hash = seal::hash(&row.header);
        self.metrics.sealed(entries.len());
        tracing::info!(number = header.number, %hash, events = header.events, "audit events sealed");
        Ok(true)
    }

    /// The next events in the order of their commits, and which transactions they are all of.
    async fn unsealed(
        &self,
        last: Option<(&Header, Sha)>,
        horizon: Horizon,
    ) -> Result<Option<(Span, Vec<HashedEvent>)>, SealingFault> {
        let (mut era, mut from) = last.map_or((1, 0), |(header, _)| header.end());
        while era <= horizon.era {
            // Of an era that is over, everything: its numbers say nothing here.
            let over = era < horizon.era;
            let to = if over { i64::MAX } else { horizon.closed_below };
            let (span, events) = self.whole_transactions(Span { era, from, to }).await?;
            if !events.is_empty() {
                return Ok(Some((span, events)));
            }
            (era, from) = (era + 1, 0);
        }
        Ok(None)
    }

    /// The first transactions of a span, each with all of its events, and the span that they cover.
    async fn whole_transactions(
        &self,
        span: Span,
    ) -> Result<(Span, Vec<HashedEvent>), SealingFault> {
        let limit = i64::try_from(MAX_EVENTS + 1).unwrap_or(i64::MAX);
        let mut events = self.store.hashed_events(span, limit).await?;
        let Some(last) = events.get(MAX_EVENTS).map(|event| event.transaction) else {
            let end = events.last().map_or(span.to, |event| event.transaction + 1);
            // To the horizon, which is beyond the last event; of an era that is over, to its last.
            let to = if span.to == i64::MAX { end } else { span.to };
            return Ok((Span { to, ..span }, events));
        };
        events.retain(|event| event.transaction < last);
        if events.is_empty() {
            let of_one = Span {
                from: last,
                to: last + 1,
                ..span
            };
            let limit = i64::try_from(MAX_OF_TRANSACTION + 1).unwrap_or(i64::MAX);
            events = self.store.hashed_events(of_one, limit).await?;
            if events.len() > MAX_OF_TRANSACTION {
                return Err(SealingFault::Transaction(last));
            }
            return Ok((
                Span {
                    to: last + 1,
                    ..span
                },
                events,
            ));
        }
        Ok((Span { to: last, ..span }, events))
    }

    /// The key that signs, made by whoever seals first.
    async fn key(&mut self) -> Result<&SigningKey, SealingFault> {
        if self.key.is_none() {
            let key = match self.store.signing_key().await? {
                Some(row) => open_key(&self.envelope, &row).await?,
                None => self.make_key().await?,
            };
            self.key = Some(key);
        }
        Ok(self.key.as_ref().expect("it was set"))
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

/// The last seal and its hash.
pub(super) async fn last_seal(store: &Store) -> Result<Option<(Header, Sha)>, SealingFault> {
    let Some(row) = store.last_seal().await? else {
        return Ok(None);
    };
    let header = Header::parse(&row.header)?;
    Ok(Some((header, seal::hash(&row.header))))
}

/// A seal as it is stored.
pub(super) fn row(header: &Header, key: &SigningKey, entries: Option<&[Entry]>) -> SealRow {
    let signed = header.signed(key);
    SealRow {
        number: i64::try_from(header.number).expect("nobody makes 2^63 seals"),
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
