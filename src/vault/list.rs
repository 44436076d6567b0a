//! List: a developer's credentials, newest first.

use std::{convert::Infallible, mem, sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::timeout};

use super::{KnownDeveloper, Vault, error::VaultError};
use crate::{
    audit::event::Outcome,
    model::{
        credential::Credential,
        invalid::InvalidInput,
        page::{CredentialFilter, PageSize, Position},
        request::{Interruption, Verb},
        service_name::ServiceName,
        text::{DeveloperId, PrincipalId},
    },
    permits::Permit,
    store::credentials::CredentialPage,
};

/// How long a client may take to read a list without pages.
const READ_TIMEOUT: Duration = Duration::from_mins(5);

/// Where a list starts and how far it goes at once.
#[derive(Debug, Clone, Default)]
pub struct Paging {
    /// How many items are asked for at once.
    pub size: Option<PageSize>,
    /// The token of the page before; empty is absent.
    pub token: Option<String>,
}

/// A part of a list.
#[derive(Debug)]
pub struct CredentialListing {
    /// Newest first.
    pub credentials: Vec<Credential>,
    /// Where the rest begins.
    pub next: Option<Position>,
    /// The same for a caller, who can come back with it.
    pub next_page_token: Option<String>,
}

impl Paging {
    /// The place that its token leads back to.
    pub(super) fn after<T>(
        &self,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, InvalidInput> {
        let token = self.token.as_deref().filter(|token| !token.is_empty());
        let place = token.map(|token| {
            read(token).ok_or_else(|| InvalidInput::breaks("pageToken", "is not one of this list"))
        });
        place.transpose()
    }
}

/// A list that is read to its end, part by part. It holds its permit until it is dropped.
pub struct WholeList {
    vault: Arc<Vault>,
    developer: KnownDeveloper,
    filter: CredentialFilter,
    part: Part,
    lease: Lease,
}

/// The part that is next.
enum Part {
    Read(CredentialListing),
    After(Position),
    None,
}

/// A permit that is held for a client that reads, however slowly it does: not longer than
/// [`READ_TIMEOUT`], nor when others wait for one and its owner has more than its share.
struct Lease(oneshot::Sender<Infallible>);

impl Vault {
    /// Lists credentials. Its audit event is durable before the first of them is answered.
    ///
    /// # Errors
    ///
    /// Invalid input when the page token is not of this list; unavailable.
    pub async fn list(
        &self,
        developer: &KnownDeveloper,
        filter: &CredentialFilter,
        paging: &Paging,
    ) -> Result<CredentialListing, VaultError> {
        let _permit = self.permit(&developer.developer.id).await?;
        self.first_part(developer, filter, paging).await
    }

    /// Lists everything, part by part. Its audit event is durable before the first part is there.
    ///
    /// # Errors
    ///
    /// Unavailable.
    pub async fn whole_list(
        self: &Arc<Self>,
        developer: KnownDeveloper,
        filter: CredentialFilter,
    ) -> Result<WholeList, VaultError> {
        let permit = self.permit(&developer.developer.id).await?;
        let parts = Paging {
            size: Some(PageSize::MAX),
            token: None,
        };
        let first = self.first_part(&developer, &filter, &parts).await?;
        Ok(WholeList {
            vault: Arc::clone(self),
            developer,
            filter,
            part: Part::Read(first),
            lease: Lease::of(permit),
        })
    }

    async fn first_part(
        &self,
        developer: &KnownDeveloper,
        filter: &CredentialFilter,
        paging: &Paging,
    ) -> Result<CredentialListing, VaultError> {
        let tenant = &developer.developer.id;
        let after = paging.after(|token| Position::from_token(token, tenant, filter))?;
        let mut event = developer.event(Verb::List, Outcome::Listed);
        event.principal = filter
            .principal_id
            .as_deref()
            .and_then(|id| PrincipalId::parse(id).ok());
        event.service = filter
            .service
            .as_deref()
            .and_then(|name| ServiceName::parse(name).ok());
        let size = paging.size.unwrap_or(PageSize::DEFAULT);
        match self.list_on(developer, filter, after, size).await {
            Ok(listing) => {
                self.journal.record(&event).await?;
                Ok(listing)
            }
            Err(error) => Err(self.refused(event, error).await),
        }
    }

    /// A part of a list, which is recorded by now or will be.
    async fn list_on(
        &self,
        KnownDeveloper { developer, .. }: &KnownDeveloper,
        filter: &CredentialFilter,
        after: Option<Position>,
        size: PageSize,
    ) -> Result<CredentialListing, VaultError> {
        let page = if can_match(filter) {
            self.store
                .credentials(&developer.id, filter, after, size.get())
                .await?
        } else {
            CredentialPage {
                credentials: Vec::new(),
                next: None,
            }
        };
        Ok(listing(page, &developer.id, filter))
    }

    /// A further part of a list that began a while ago: its API key may have been revoked since.
    async fn list_further(
        &self,
        KnownDeveloper { developer, .. }: &KnownDeveloper,
        filter: &CredentialFilter,
        after: Position,
    ) -> Result<CredentialListing, VaultError> {
        let (now, size) = (self.clock.now(), PageSize::MAX.get());
        let page = self
            .store
            .more_credentials(developer, now, filter, after, size)
            .await?;
        Ok(listing(page, &developer.id, filter))
    }
}

fn listing(
    CredentialPage { credentials, next }: CredentialPage,
    developer: &DeveloperId,
    filter: &CredentialFilter,
) -> CredentialListing {
    CredentialListing {
        credentials,
        next,
        next_page_token: next.map(|place| place.to_token(developer, filter)),
    }
}

// === impl WholeList ===

impl WholeList {
    /// The next part; `None` at the end.
    ///
    /// # Errors
    ///
    /// Unauthenticated when its API key is not valid any more; unavailable, internal when a row is
    /// inconsistent; interrupted when it was read too slowly.
    pub async fn next_part(&mut self) -> Result<Option<CredentialListing>, VaultError> {
        let part = match mem::replace(&mut self.part, Part::None) {
            Part::None => return Ok(None),
            Part::Read(first) => first,
            Part::After(position) => {
                if self.lease.has_ended() {
                    return Err(VaultError::Interrupted(Interruption::TimedOut));
                }
                self.vault
                    .list_further(&self.developer, &self.filter, position)
                    .await?
            }
        };
        self.part = part.next.map_or(Part::None, Part::After);
        Ok(Some(part))
    }
}

// === impl Lease ===

impl Lease {
    fn of(permit: Permit) -> Self {
        let (lease, mut released) = oneshot::channel();
        tokio::spawn(async move {
            tokio::select! {
                _ = timeout(READ_TIMEOUT, &mut released) => {}
                () = permit.is_over_share() => {}
            }
            drop(permit);
        });
        Self(lease)
    }

    fn has_ended(&self) -> bool {
        self.0.is_closed()
    }
}

/// Whether any row can have what the filter asks for; what cannot be a principal or a service is
/// stored nowhere.
fn can_match(filter: &CredentialFilter) -> bool {
    let principal = filter
        .principal_id
        .as_deref()
        .is_none_or(|id| PrincipalId::parse(id).is_ok());
    let service = filter
        .service
        .as_deref()
        .is_none_or(|name| ServiceName::parse(name).is_ok());
    principal && service
}
