//! What operators do: developers, API keys, revocations, keys in memory. The operators' listener and the
//! command line are thin over this room.
//!
//! Every operation of a known operator leaves an event: a change in its own transaction, anything else
//! before it is done or answered.

mod api_keys;
mod begun;
mod callers;
mod developers;
pub mod error;
mod keys;
mod revocations;
mod webhook_secrets;

use std::{sync::Arc, time::Duration};

use crate::{
    audit::{
        event::{AuditEvent, Outcome, Subject},
        journal::Journal,
    },
    clock::Clock,
    model::{
        invalid::InvalidInput, page::PageSize, page_token, request::Operation, text::DeveloperId,
    },
    store::{Ended, Store, Transaction, authority::Authority},
};

pub use api_keys::{KeyState, NewApiKey};
pub use begun::Work;
pub use callers::{KnownOperator, OperatorLogin};
pub use error::OperatorError;
pub use keys::Keys;

pub use crate::{
    rotation::KeyUse,
    store::{api_keys::ApiKeyRow, developers::DeveloperRow},
};

/// The operations.
pub struct Operations {
    store: Store,
    journal: Arc<Journal>,
    clock: Arc<dyn Clock>,
    authority: Authority,
    /// The longest life of a token that is taken, if there is a bound.
    max_token_lifetime: Option<Duration>,
}

/// A part of a list.
#[derive(Debug)]
pub struct Page<T> {
    /// In the order of the list.
    pub items: Vec<T>,
    /// What leads to the rest; `None` when there is none.
    pub next_page_token: Option<String>,
}

/// Where a list goes on: the place of a token, which must be of this list. An empty token is none.
fn after(token: &str, list: &[Option<&str>]) -> Result<Option<String>, InvalidInput> {
    if token.is_empty() {
        return Ok(None);
    }
    let place = page_token::place_in(token, list);
    let place = place.ok_or_else(|| InvalidInput::breaks("pageToken", "is not one of this list"));
    place.map(Some)
}

/// A list's page, of the rows that were asked for and one more.
fn page<T>(
    mut items: Vec<T>,
    size: PageSize,
    list: &[Option<&str>],
    place: impl FnOnce(&T) -> String,
) -> Page<T> {
    let more = items.len() > size.get();
    items.truncate(size.get());
    let end = items.last().filter(|_| more);
    let next_page_token = end.map(|end| page_token::of_place(&place(end), list));
    Page {
        items,
        next_page_token,
    }
}

/// How many rows are asked for: one more than the page has, to know whether there are more.
fn limit(size: PageSize) -> i64 {
    i64::try_from(size.get() + 1).expect("a page is small")
}

impl Operations {
    /// Acts on a database, records in it, and leaves to the authority what is the authority's.
    #[must_use]
    pub fn new(
        store: Store,
        journal: Arc<Journal>,
        clock: Arc<dyn Clock>,
        authority: Authority,
        max_token_lifetime: Option<Duration>,
    ) -> Self {
        Self {
            store,
            journal,
            clock,
            authority,
            max_token_lifetime,
        }
    }

    /// Makes a change and its event in one transaction, acknowledged after its commit. What was not
    /// there is recorded too.
    async fn change<T>(
        &self,
        mut event: AuditEvent,
        change: impl AsyncFnOnce(&Transaction<'_>, &mut AuditEvent) -> Result<T, OperatorError>,
    ) -> Result<T, OperatorError> {
        let mut connection = self.store.connection().await?;
        let transaction = connection.transaction().await?;
        match change(&transaction, &mut event).await {
            Ok(changed) => {
                self.journal.commit(transaction, &event).await?;
                Ok(changed)
            }
            Err(error) => {
                drop(transaction);
                drop(connection);
                self.refused(event, error).await
            }
        }
    }

    /// Makes a change that forbids something, and answers once nobody is left who had not seen it: what is
    /// forbidden does not happen any more.
    async fn forbid<T>(
        &self,
        event: AuditEvent,
        change: impl AsyncFnOnce(&Transaction<'_>, &mut AuditEvent) -> Result<T, OperatorError>,
    ) -> Result<T, OperatorError> {
        let changed = self.change(event, change).await?;
        match self.store.earlier_requests_have_ended().await? {
            Ended::All => Ok(changed),
            Ended::NotYet => Err(OperatorError::EarlierRequests),
        }
    }

    /// Records that something was looked at, before it is answered.
    async fn looked<T>(
        &self,
        mut event: AuditEvent,
        found: Result<T, OperatorError>,
    ) -> Result<T, OperatorError> {
        match found {
            Ok(found) => {
                event.outcome = Outcome::Listed;
                self.journal.record(&event).await?;
                Ok(found)
            }
            Err(error) => self.refused(event, error).await,
        }
    }

    async fn refused<T>(
        &self,
        mut event: AuditEvent,
        error: OperatorError,
    ) -> Result<T, OperatorError> {
        if let OperatorError::NotFound(_) = error {
            event.outcome = Outcome::NotFound;
            self.journal.record(&event).await?;
        }
        Err(error)
    }

    /// Refuses what only the authority can do.
    fn developers_are_ours(&self) -> Result<(), OperatorError> {
        match self.authority {
            Authority::Standalone => Ok(()),
            Authority::Grantex => Err(OperatorError::OtherAuthority),
        }
    }

    /// Refuses a developer that is not registered, where it is the vault that registers them.
    async fn known(
        &self,
        transaction: &Transaction<'_>,
        developer: &DeveloperId,
    ) -> Result<(), OperatorError> {
        let known =
            self.authority == Authority::Grantex || transaction.developer_exists(developer).await?;
        known
            .then_some(())
            .ok_or(OperatorError::NotFound(error::Missing::Developer))
    }
}

impl KnownOperator {
    fn event(
        &self,
        operation: Operation,
        developer: Option<&DeveloperId>,
        subject: Option<Subject>,
    ) -> AuditEvent {
        AuditEvent::of_operation(self.request, self.caller(), operation, developer, subject)
    }
}
