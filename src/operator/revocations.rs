//! Revoking grants and tokens, whatever their issuer says.

use super::{KnownOperator, Operations, OperatorError, Page};
use crate::{
    audit::event::{AuditEvent, Outcome, Subject},
    model::{
        page::PageSize,
        request::Operation,
        revocation::{Revocation, Revoked},
        text::{DeveloperId, GrantId, TokenId},
        timestamp::Timestamp,
    },
    store::Transaction,
};

impl Operations {
    /// Revokes a grant, its tokens, and those of grants that were delegated from it. For ever: its
    /// issuer does not know of it and may go on to give tokens for it. Answers whether it was not
    /// revoked already.
    ///
    /// # Errors
    ///
    /// See [`OperatorError`].
    pub async fn revoke_grant(
        &self,
        by: &KnownOperator,
        developer: &DeveloperId,
        grant: GrantId,
    ) -> Result<bool, OperatorError> {
        let subject = Subject::Grant(grant.clone());
        let event = by.event(Operation::RevokeGrant, Some(developer), Some(subject));
        let revocation = Revocation {
            what: Revoked::Grant(grant),
            revoked_at: self.clock.now(),
            expires_at: None,
        };
        self.revoke(event, developer, revocation).await
    }

    /// Revokes one token. It is remembered until the token expires, when that is known: from who
    /// revokes it, or because no token lives longer than some time. Answers whether it was not revoked
    /// already.
    ///
    /// # Errors
    ///
    /// See [`OperatorError`].
    pub async fn revoke_token(
        &self,
        by: &KnownOperator,
        developer: &DeveloperId,
        token: TokenId,
        expires_at: Option<Timestamp>,
    ) -> Result<bool, OperatorError> {
        let subject = Subject::Token(token.clone());
        let event = by.event(Operation::RevokeToken, Some(developer), Some(subject));
        let revoked_at = self.clock.now();
        let longest = self.max_token_lifetime;
        let at_the_latest = longest.and_then(|lifetime| revoked_at.after(lifetime).ok());
        let revocation = Revocation {
            what: Revoked::Token(token),
            revoked_at,
            expires_at: expires_at.or(at_the_latest),
        };
        self.revoke(event, developer, revocation).await
    }

    /// A page of what is revoked of a developer, by kind and subject.
    ///
    /// # Errors
    ///
    /// See [`OperatorError`].
    pub async fn revocations(
        &self,
        by: &KnownOperator,
        developer: &DeveloperId,
        size: PageSize,
        page_token: &str,
    ) -> Result<Page<Revocation>, OperatorError> {
        let list = [Some("revocations"), Some(developer.as_str())];
        let after = super::after(page_token, &list)?;
        let after = after.as_deref().and_then(|place| place.split_once(' '));
        let event = by.event(Operation::ListRevocations, Some(developer), None);
        let found = self.store.revocations(developer, after, super::limit(size));
        let found = found.await.map_err(OperatorError::from);
        let found = self.looked(event, found).await?;
        Ok(super::page(found, size, &list, |revocation| {
            let what = &revocation.what;
            format!("{} {}", what.kind(), what.subject(developer))
        }))
    }

    pub(super) async fn revoke(
        &self,
        event: AuditEvent,
        developer: &DeveloperId,
        revocation: Revocation,
    ) -> Result<bool, OperatorError> {
        self.forbid(event, async |transaction, event| {
            self.known(transaction, developer).await?;
            revoked(transaction, event, developer, &revocation).await
        })
        .await
    }
}

/// Revokes, and has the event say whether that changed anything.
pub(super) async fn revoked(
    transaction: &Transaction<'_>,
    event: &mut AuditEvent,
    developer: &DeveloperId,
    revocation: &Revocation,
) -> Result<bool, OperatorError> {
    let changed = transaction.revoke(developer, revocation).await?;
    if !changed {
        event.outcome = Outcome::Unchanged;
    }
    Ok(changed)
}
