//! When the events of a seal can have happened, as far as the signed headers say.
//!
//! An event happened before its seal was made. It also has the number of its transaction, and each seal
//! says which number was the next when it was made: an event with that number or a later one was recorded
//! after that seal. The seal right before says less: it ends where a transaction was still open, or where
//! it had enough, and events that were there already follow in the next one.

use std::{collections::BTreeMap, time::Duration};

use super::{canonical::RecordedEvent, seal::Header};
use crate::model::{id::EventId, timestamp::Timestamp};

/// How far outside of its window an event may be: clocks differ, and an event has its time before its
/// commit.
const LEEWAY: Duration = Duration::from_mins(10);
/// How many seals are remembered of which the next transactions are not sealed yet. With more, windows
/// are longer than they could be.
const MAX_AHEAD: usize = 100_000;

/// What the seals so far say of the times of transactions. Seals that are missing make windows longer,
/// never wrong.
pub(super) struct Windows {
    era: i32,
    /// What the next seal covers was recorded after this.
    from: Option<Timestamp>,
    /// When the seals were made whose next transactions are beyond the beginning of the last seal.
    ahead: BTreeMap<u64, Timestamp>,
}

/// Between which moments an event happened; the first is not always known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    from: Option<Timestamp>,
    to: Timestamp,
}

impl Windows {
    /// No event happened before this, as far as it is known.
    pub(super) fn since(from: Option<Timestamp>) -> Self {
        Self {
            era: 0,
            from,
            ahead: BTreeMap::new(),
        }
    }

    /// Takes up the seal that follows, the next or a later one. The key must have signed it.
    pub(super) fn begin(&mut self, header: &Header) {
        if header.era != self.era {
            // The numbers of one cluster say nothing of those of another.
            self.ahead.clear();
            self.era = header.era;
        }
        let first = header.from_transaction.unsigned_abs();
        let beyond = self.ahead.split_off(&first.saturating_add(1));
        let before = std::mem::replace(&mut self.ahead, beyond);
        self.from = before.into_values().next_back().or(self.from);
        if let Some(next) = header.next_transaction {
            if self.ahead.len() >= MAX_AHEAD {
                self.ahead.pop_first();
            }
            self.ahead.insert(next.unsigned_abs(), header.sealed_at);
        }
    }

    /// The window of an event of the seal that was taken up last, by the number of its transaction.
    pub(super) fn of(&self, header: &Header, transaction: u64) -> Window {
        let before = self.ahead.range(..=transaction).next_back();
        Window {
            from: before.map(|(_, sealed_at)| *sealed_at).or(self.from),
            to: header.sealed_at,
        }
    }
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
        envelope::{data_key::DataKey, signing_key::SigningKey},
        store::audit_order::{Horizon, Span},
    };

    const MINUTE: i64 = 60_000;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_millisecond(1_775_390_400_000 + minute * MINUTE).unwrap()
    }

    /// A seal of these transactions that was made at this minute, when a number was the next.
    fn sealed(minute: i64, era: i32, (from, to): (i64, i64), next: i64) -> Header {
        let key = SigningKey::from_data_key(&DataKey::from_bytes(&[7; 32]).unwrap());
        let header = Header::after(None, &[], &key.public_key(), at(minute));
        let horizon = Horizon {
            era,
            here: true,
            closed_below: to,
            next,
        };
        header.covering(Span { era, from, to }, horizon)
    }

    /// Since which minute an event of each of these transactions can have happened.
    fn since<const N: usize>(
        windows: &mut Windows,
        header: &Header,
        transactions: [u64; N],
    ) -> [Option<Timestamp>; N] {
        windows.begin(header);
        transactions.map(|transaction| {
            let window = windows.of(header, transaction);
            assert_eq!(window.to, header.sealed_at);
            window.from
        })
    }

    #[test]
    fn a_window_begins_with_the_last_seal_that_was_made_before_the_transaction() {
        let mut windows = Windows::since(None);
        let first = sealed(0, 1, (0, 100), 100);
        assert_eq!(since(&mut windows, &first, [7, 99]), [None, None]);
        // 120 was open, and others after it were there.
        let held_back = sealed(60, 1, (100, 120), 150);
        let began = Some(at(0));
        assert_eq!(since(&mut windows, &held_back, [100, 119]), [began; 2]);
        let next = sealed(61, 1, (120, 170), 180);
        let of_next = since(&mut windows, &next, [120, 149, 150, 169]);
        assert_eq!(of_next, [began, began, Some(at(60)), Some(at(60))]);
        // Seals that had enough were made of what was there.
        let full = sealed(62, 1, (170, 175), 500);
        assert_eq!(since(&mut windows, &full, [170]), [Some(at(60))]);
        let rest = sealed(63, 1, (175, 500), 510);
        let of_rest = since(&mut windows, &rest, [179, 180, 499]);
        assert_eq!(of_rest, [Some(at(60)), Some(at(61)), Some(at(61))]);
        // One that is missing makes the window longer.
        let later = sealed(90, 1, (600, 700), 700);
        assert_eq!(since(&mut windows, &later, [600]), [Some(at(63))]);
    }

    #[test]
    fn numbers_of_another_cluster_say_nothing() {
        let mut windows = Windows::since(Some(at(-1)));
        windows.begin(&sealed(0, 1, (0, 100), 100));
        windows.begin(&sealed(1, 1, (100, 120), 150));
        let rest = sealed(30, 1, (120, 130), 150);
        windows.begin(&rest);
        let other = sealed(60, 2, (0, 1000), 1000);
        assert_eq!(since(&mut windows, &other, [5, 999]), [Some(at(0)); 2]);
        let again = sealed(61, 2, (1000, 1001), 1001);
        assert_eq!(since(&mut windows, &again, [1000]), [Some(at(60))]);
    }

    #[test]
    fn an_era_that_is_over_has_no_next_transaction() {
        let mut header = sealed(0, 1, (0, 100), 100);
        assert_eq!(header.next_transaction, Some(100));
        let horizon = Horizon {
            era: 2,
            here: true,
            closed_below: 7,
            next: 7,
        };
        header = header.clone().covering(header.span(), horizon);
        assert_eq!(header.next_transaction, None);
        let mut windows = Windows::since(None);
        windows.begin(&header);
        let rest = sealed(1, 1, (100, 200), 200);
        assert_eq!(since(&mut windows, &rest, [100, 199]), [None; 2]);
    }

    #[test]
    fn memory_is_bounded_however_long_sealing_is_held_back() {
        let mut windows = Windows::since(None);
        let mut held_back = sealed(0, 1, (0, 0), 0);
        for next in 0..200_000 {
            held_back.next_transaction = Some(100 + next);
            held_back.sealed_at = at(next / 60);
            windows.begin(&held_back);
        }
        assert_eq!(windows.ahead.len(), MAX_AHEAD);
        let last = sealed(4000, 1, (100, 200_100), 200_100);
        windows.begin(&last);
        assert_eq!(windows.of(&last, 200_099).from, Some(at(199_999 / 60)));
    }
}
