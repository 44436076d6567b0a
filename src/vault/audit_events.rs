//! Audit: a developer's own events, newest first.

use super::{KnownDeveloper, Paging, Vault, error::VaultError};
use crate::{
    audit::{canonical::RecordedEvent, event::Outcome},
    model::{
        event_filter::{EventFilter, EventPosition},
        id::{CredentialId, ulid_time},
        page::PageSize,
        request::Verb,
        service_name::ServiceName,
        text::{DeveloperId, GrantId, PrincipalId},
        timestamp::Timestamp,
    },
    store::audit_reading::{EventPage, EventQuery, StoredEvent},
};

/// A page of the audit record.
#[derive(Debug)]
pub struct EventListing {
    /// Newest first.
    pub events: Vec<ListedEvent>,
    /// What a caller comes back with for the rest.
    pub next_page_token: Option<String>,
}

/// An event as it was recorded, found to be the one of its row.
#[derive(Debug)]
pub struct ListedEvent {
    /// What its `occurred_at` says.
    pub occurred_at: Timestamp,
    /// All of it.
    pub recorded: RecordedEvent<'static>,
}

/// A filter's texts as what they name; `None` where one names nothing.
struct Named {
    principal: Option<PrincipalId>,
    service: Option<ServiceName>,
    credential: Option<CredentialId>,
    grant: Option<GrantId>,
}

impl Vault {
    /// Lists a developer's events. Its own event is durable before the first of them is answered, and
    /// not among them.
    ///
    /// # Errors
    ///
    /// Invalid input when the page token is not of this list; unavailable; internal when an event is
    /// not the one of its row.
    pub async fn audit_events(
        &self,
        developer: &KnownDeveloper,
        filter: &EventFilter,
        paging: &Paging,
    ) -> Result<EventListing, VaultError> {
        let _permit = self.permit(&developer.developer.id).await?;
        let tenant = &developer.developer.id;
        let after = paging.after(|token| EventPosition::from_token(token, tenant, filter))?;
        let named = Named::by(filter);
        let mut event = developer.event(Verb::Audit, Outcome::Listed);
        event.principal.clone_from(&named.principal);
        event.service.clone_from(&named.service);
        event.credential = named.credential;
        let size = paging.size.unwrap_or(PageSize::DEFAULT);
        match self.events_of(tenant, filter, named, after, size).await {
            Ok(listing) => {
                self.journal.record(&event).await?;
                Ok(listing)
            }
            Err(error) => Err(self.refused(event, error).await),
        }
    }

    async fn events_of(
        &self,
        tenant: &DeveloperId,
        filter: &EventFilter,
        named: Named,
        after: Option<EventPosition>,
        size: PageSize,
    ) -> Result<EventListing, VaultError> {
        if !named.all_of(filter) {
            return Ok(EventListing {
                events: Vec::new(),
                next_page_token: None,
            });
        }
        let query = EventQuery {
            developer: tenant,
            principal: named.principal,
            service: named.service.map(|name| name.key().clone()),
            credential: named.credential,
            grant: named.grant,
            outcome: filter.outcome,
            from: filter.from,
            to: filter.to,
            after,
        };
        let EventPage { events, next } = self.store.audit_events(&query, size.get()).await?;
        let found = events.iter().map(|stored| {
            let listed = listed(stored, tenant);
            listed.ok_or_else(|| stored.inconsistent().into())
        });
        Ok(EventListing {
            events: found.collect::<Result<_, VaultError>>()?,
            next_page_token: next.map(|place| place.to_token(tenant, filter)),
        })
    }
}

/// The event in a row of this developer's, unless it is another one: a row that was given to another
/// developer or another time must not be shown as what it is not.
fn listed(stored: &StoredEvent, tenant: &DeveloperId) -> Option<ListedEvent> {
    let recorded = RecordedEvent::parse(&stored.canonical).ok()?;
    let occurred_at = Timestamp::parse(&recorded.occurred_at).ok()?;
    let id = stored.id.to_string();
    let same = recorded.developer_id == tenant.as_str()
        && recorded.id == id
        && recorded.occurred_at == occurred_at.to_string()
        && id.starts_with(&ulid_time(occurred_at));
    same.then(|| ListedEvent {
        occurred_at,
        recorded: recorded.into_owned(),
    })
}

// === impl Named ===

impl Named {
    fn by(filter: &EventFilter) -> Self {
        fn parsed<T>(text: Option<&String>, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
            text.and_then(|text| parse(text))
        }
        Self {
            principal: parsed(filter.principal_id.as_ref(), |id| {
                PrincipalId::parse(id).ok()
            }),
            service: parsed(filter.service.as_ref(), |name| {
                ServiceName::parse(name).ok()
            }),
            credential: parsed(filter.credential_id.as_ref(), CredentialId::parse),
            grant: parsed(filter.grant_id.as_ref(), |id| GrantId::parse(id).ok()),
        }
    }

    /// Whether any event can have what the filter asks for: what names nothing is in no event.
    fn all_of(&self, filter: &EventFilter) -> bool {
        self.principal.is_some() == filter.principal_id.is_some()
            && self.service.is_some() == filter.service.is_some()
            && self.credential.is_some() == filter.credential_id.is_some()
            && self.grant.is_some() == filter.grant_id.is_some()
    }
}
