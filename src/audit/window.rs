//! When the events of a seal can have happened, as far as the seals say.
//!
//! A seal covers the transactions that were over when it was made, from where the one before ended. Once
//! nothing is left, what the next seal has was committed since. A seal has a bounded number of events,
//! though: when more wait, the next ones are as old as what waits.

use std::time::Duration;

use super::{canonical::RecordedEvent, seal::Header, sealer::MAX_EVENTS};
use crate::model::{id::EventId, timestamp::Timestamp};

/// How far outside of its window an event may be: clocks differ, and an event has its time before its
/// commit.
const LEEWAY: Duration = Duration::from_mins(10);

/// The windows of seals, one after the other.
pub(super) struct Windows {
    from: Option<Timestamp>,
    last: Option<Last>,
}

/// The last seal that has events.
struct Last {
    era: i32,
    events: u64,
    sealed_at: Timestamp,
}

/// Between which moments the events of a seal happened; the first is not always known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    from: Option<Timestamp>,
    to: Timestamp,
}

impl Windows {
    /// No event happened before this, as far as it is known.
    pub(super) fn since(from: Option<Timestamp>) -> Self {
        Self { from, last: None }
    }

    /// The window of the seal that follows the last one, and how many of its events are of the first
    /// transaction that it covers: all of them, for all one knows, when that is not known.
    pub(super) fn next(&mut self, header: &Header, of_first: Option<u64>) -> Window {
        if !header.prunes() {
            let of_first = of_first.unwrap_or(header.events);
            if let Some(last) = &self.last
                && last.era == header.era
                && !was_full(last.events, of_first)
            {
                self.from = Some(last.sealed_at);
            }
            self.last = Some(Last {
                era: header.era,
                events: header.events,
                sealed_at: header.sealed_at,
            });
        }
        Window {
            from: self.from,
            to: header.sealed_at,
        }
    }

    /// The last seal is not the one before the next.
    pub(super) fn gap(&mut self) {
        self.last = None;
    }
}

/// Whether a seal may have ended because it had enough: then the first transaction that was left had more
/// events than there was room for.
fn was_full(events: u64, of_next: u64) -> bool {
    events + of_next > MAX_EVENTS as u64
}

impl Window {
    /// Whether an event happened then, by its id and by what it says.
    pub(super) fn holds(&self, event: &RecordedEvent<'_>) -> bool {
        let id = EventId::parse(&event.id).map(EventId::time_ms);
        let said = Timestamp::parse(&event.occurred_at).map(|at| i128::from(at.as_millisecond()));
        let within = |at: i128| {
            let leeway = LEEWAY.as_millis().cast_signed();
            let millis = |moment: Timestamp| i128::from(moment.as_millisecond());
            self.from.is_none_or(|from| at >= millis(from) - leeway)
                && at <= millis(self.to) + leeway
        };
        id.is_some_and(within) && said.is_ok_and(within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::seal::Entry,
        envelope::{data_key::DataKey, signing_key::SigningKey},
        store::audit_order::Span,
    };

    const MINUTE: i64 = 60_000;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_millisecond(1_775_390_400_000 + minute * MINUTE).unwrap()
    }

    /// A seal of so many events that was made at this minute.
    fn sealed(minute: i64, events: usize, era: i32) -> Header {
        let key = SigningKey::from_data_key(&DataKey::from_bytes(&[7; 32]).unwrap());
        let entry = Entry {
            id: EventId::make(at(minute)),
            transaction: 7,
            hash: [0; 32],
        };
        let entries = vec![entry; events];
        let header = Header::after(None, &entries, &key.public_key(), at(minute));
        header.covering(Span {
            era,
            from: 7,
            to: 8,
        })
    }

    fn window(from: Option<i64>, to: i64) -> Window {
        Window {
            from: from.map(at),
            to: at(to),
        }
    }

    #[test]
    fn a_window_begins_when_nothing_was_left_to_seal() {
        let mut windows = Windows::since(None);
        assert_eq!(windows.next(&sealed(0, 3, 1), Some(1)), window(None, 0));
        assert_eq!(
            windows.next(&sealed(60, 512, 1), Some(1)),
            window(Some(0), 60)
        );
        // It had enough, and so had the next.
        assert_eq!(
            windows.next(&sealed(61, 500, 1), Some(1)),
            window(Some(0), 61)
        );
        assert_eq!(
            windows.next(&sealed(62, 20, 1), Some(20)),
            window(Some(0), 62)
        );
        // That one had not: of what it would have had next there was room for all.
        assert_eq!(
            windows.next(&sealed(90, 20, 1), Some(20)),
            window(Some(62), 90)
        );
        assert_eq!(
            windows.next(&sealed(95, 500, 1), None),
            window(Some(62), 95)
        );
        // What waits of a numbering of transactions that is over says nothing of the next.
        assert_eq!(
            windows.next(&sealed(96, 1, 2), Some(1)),
            window(Some(62), 96)
        );
        assert_eq!(
            windows.next(&sealed(98, 1, 2), Some(1)),
            window(Some(96), 98)
        );
        windows.gap();
        assert_eq!(
            windows.next(&sealed(99, 1, 2), Some(1)),
            window(Some(96), 99)
        );
        let mut pruning = sealed(200, 0, 2);
        pruning.from_transaction = pruning.to_transaction;
        assert_eq!(windows.next(&pruning, None), window(Some(96), 200));
        assert_eq!(
            windows.next(&sealed(201, 1, 2), Some(1)),
            window(Some(99), 201)
        );
    }
}
