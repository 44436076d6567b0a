//! Which audit events a list asks for, and a place in it.

use std::fmt;

use thiserror::Error;

use super::{id::EventId, page_token, text::DeveloperId, timestamp::Timestamp};

/// What became of a verb, as events are asked for by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "`audit::event::Outcome` describes them")]
pub enum OutcomeName {
    Released,
    Stored,
    Replaced,
    Deleted,
    Listed,
    Read,
    Denied,
    NotFound,
    Failed,
    Done,
    Unchanged,
}

/// The text is not the name of an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub struct NotAnOutcome;

/// Which events a list asks for; an event must match each filter that is there. Texts are the
/// caller's: one that no event can have matches nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only about this principal's credentials.
    pub principal_id: Option<String>,
    /// Only about this service, compared without ASCII case.
    pub service: Option<String>,
    /// Only about this credential.
    pub credential_id: Option<String>,
    /// Only what was asked with this grant.
    pub grant_id: Option<String>,
    /// Only what ended like this.
    pub outcome: Option<OutcomeName>,
    /// Only of this moment and later.
    pub from: Option<Timestamp>,
    /// Only before this moment.
    pub to: Option<Timestamp>,
}

/// The last event of a page: the next page starts after it. Lists are newest first, by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPosition(pub EventId);

// === impl OutcomeName ===

impl OutcomeName {
    /// Every one.
    pub const ALL: [Self; 11] = [
        Self::Released,
        Self::Stored,
        Self::Replaced,
        Self::Deleted,
        Self::Listed,
        Self::Read,
        Self::Denied,
        Self::NotFound,
        Self::Failed,
        Self::Done,
        Self::Unchanged,
    ];

    /// The name in events and filters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Stored => "stored",
            Self::Replaced => "replaced",
            Self::Deleted => "deleted",
            Self::Listed => "listed",
            Self::Read => "read",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::Failed => "failed",
            Self::Done => "done",
            Self::Unchanged => "unchanged",
        }
    }

    /// Reads what [`Self::as_str`] writes.
    ///
    /// # Errors
    ///
    /// Any other text.
    pub fn parse(text: &str) -> Result<Self, NotAnOutcome> {
        let mut all = Self::ALL.into_iter();
        all.find(|name| name.as_str() == text).ok_or(NotAnOutcome)
    }
}

impl fmt::Display for NotAnOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = OutcomeName::ALL.map(OutcomeName::as_str);
        write!(f, "must be one of {}", names.join(", "))
    }
}

// === impl EventPosition ===

impl EventPosition {
    /// The page token: of use only with the developer and filter that it was made for.
    #[must_use]
    pub fn to_token(self, developer: &DeveloperId, filter: &EventFilter) -> String {
        let id = self.0.to_string();
        let service = filter.service.as_deref().map(str::to_ascii_lowercase);
        let [from, to] = [filter.from, filter.to].map(|moment| moment.map(|at| at.to_string()));
        page_token::make(
            &id,
            &[id.as_bytes()],
            &[
                Some(developer.as_str()),
                filter.principal_id.as_deref(),
                service.as_deref(),
                filter.credential_id.as_deref(),
                filter.grant_id.as_deref(),
                filter.outcome.map(OutcomeName::as_str),
                from.as_deref(),
                to.as_deref(),
            ],
        )
    }

    /// Reads a page token; `None` when it was altered or belongs to another list.
    #[must_use]
    pub fn from_token(token: &str, developer: &DeveloperId, filter: &EventFilter) -> Option<Self> {
        let position = Self(EventId::parse(&page_token::claimed_place(token)?)?);
        (position.to_token(developer, filter) == token).then_some(position)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*};

    use super::*;

    fn filters() -> impl Strategy<Value = EventFilter> {
        let text = || option::of("[a-bA]{0,2}");
        let moment =
            || option::of((0_i64..3).prop_map(|ms| Timestamp::from_millisecond(ms).unwrap()));
        let outcome = option::of(proptest::sample::select(&OutcomeName::ALL[..2]));
        (text(), text(), text(), text(), outcome, moment(), moment()).prop_map(
            |(principal_id, service, credential_id, grant_id, outcome, from, to)| EventFilter {
                principal_id,
                service,
                credential_id,
                grant_id,
                outcome,
                from,
                to,
            },
        )
    }

    fn position() -> EventPosition {
        EventPosition(EventId::make(
            Timestamp::from_millisecond(1_775_390_400_000).unwrap(),
        ))
    }

    fn same_list(one: &EventFilter, two: &EventFilter) -> bool {
        let folded = |filter: &EventFilter| EventFilter {
            service: filter.service.as_deref().map(str::to_ascii_lowercase),
            ..filter.clone()
        };
        folded(one) == folded(two)
    }

    proptest! {
        #[test]
        fn a_token_leads_back_to_its_place_in_its_own_list_only(
            filter in filters(), other in filters(), stranger in "[a-c]{1,2}",
        ) {
            let (place, developer) = (position(), DeveloperId::parse("a").unwrap());
            let token = place.to_token(&developer, &filter);
            prop_assert_eq!(EventPosition::from_token(&token, &developer, &filter), Some(place));
            let found = EventPosition::from_token(&token, &developer, &other);
            prop_assert_eq!(found.is_some(), same_list(&filter, &other));
            let stranger = DeveloperId::parse(&stranger).unwrap();
            let found = EventPosition::from_token(&token, &stranger, &filter);
            prop_assert_eq!(found.is_some(), stranger == developer);
        }

        #[test]
        fn an_altered_token_is_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let (developer, all) = (DeveloperId::parse("a").unwrap(), EventFilter::default());
            let mut bytes = position().to_token(&developer, &all).into_bytes();
            let at = at.index(bytes.len());
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            if let Ok(altered) = String::from_utf8(bytes) {
                prop_assert!(EventPosition::from_token(&altered, &developer, &all).is_none());
            }
        }

        #[test]
        fn any_other_text_is_no_outcome(text in ".{0,10}") {
            if let Ok(outcome) = OutcomeName::parse(&text) {
                prop_assert_eq!(outcome.as_str(), text);
            }
        }
    }

    #[test]
    fn every_outcome_is_read_by_its_name() {
        for outcome in OutcomeName::ALL {
            assert_eq!(OutcomeName::parse(outcome.as_str()), Ok(outcome));
        }
    }
}
