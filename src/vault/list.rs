//! List: a developer's credentials, newest first.

use super::{KnownDeveloper, Vault, error::VaultError};
use crate::{
    audit::event::Outcome,
    model::{
        credential::Credential,
        invalid::InvalidInput,
        page::{CredentialFilter, PageSize, Position},
        request::Verb,
        service_name::ServiceName,
        text::PrincipalId,
    },
    store::credentials::CredentialPage,
};

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

    /// Goes on with a list that [`Self::list`] began and recorded.
    ///
    /// # Errors
    ///
    /// Unavailable, or internal when a row is inconsistent.
    pub async fn list_on(
        &self,
        KnownDeveloper { developer, .. }: &KnownDeveloper,
        filter: &CredentialFilter,
        after: Option<Position>,
        size: PageSize,
    ) -> Result<CredentialListing, VaultError> {
        let CredentialPage { credentials, next } = if can_match(filter) {
            self.store
                .credentials(&developer.id, filter, after, size.get())
                .await?
        } else {
            CredentialPage {
                credentials: Vec::new(),
                next: None,
            }
        };
        let next_page_token = next.map(|place| place.to_token(&developer.id, filter));
        Ok(CredentialListing {
            credentials,
            next,
            next_page_token,
        })
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
