//! API keys: making, listing, revoking them.

use std::time::Duration;

use super::{KnownOperator, Operations, OperatorError, developers::MAX_NAME_CHARS, error::Missing};
use crate::{
    audit::event::{Outcome, Subject},
    auth::api_key::{self, Mode},
    model::{
        bearer::ApiKey,
        id::ApiKeyId,
        invalid::InvalidInput,
        request::Operation,
        text::{self, DeveloperId, TextFault},
        timestamp::Timestamp,
    },
    store::api_keys::ApiKeyRow,
};

/// A key that is to be made.
#[derive(Debug)]
pub struct NewApiKey<'a> {
    /// Whose it is.
    pub developer: &'a DeveloperId,
    /// What its owner calls it; may be empty.
    pub label: &'a str,
    /// What its prefix says.
    pub mode: Mode,
    /// When it stops working; never, when `None`.
    pub expires_in: Option<Duration>,
}

/// Whether a key works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each says what it is")]
pub enum KeyState {
    Active,
    Expired,
    Revoked,
}

impl KeyState {
    /// Of a key, at a moment.
    #[must_use]
    pub fn of(key: &ApiKeyRow, now: Timestamp) -> Self {
        if key.revoked_at.is_some() {
            Self::Revoked
        } else if api_key::admits(key.expires_at, None, now) {
            Self::Active
        } else {
            Self::Expired
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl Operations {
    /// Makes a key. Only its hash is stored: what is answered is seen once.
    ///
    /// # Errors
    ///
    /// See [`OperatorError`].
    pub async fn create_api_key(
        &self,
        by: &KnownOperator,
        new: &NewApiKey<'_>,
    ) -> Result<(ApiKey, ApiKeyRow), OperatorError> {
        self.developers_are_ours()?;
        match text::check(new.label, MAX_NAME_CHARS) {
            Ok(()) | Err(TextFault::Empty) => {}
            Err(rule) => return Err(InvalidInput::breaks("label", rule).into()),
        }
        let now = self.clock.now();
        let expires_at = new.expires_in.map(|after| now.after(after)).transpose();
        let expires_at = expires_at
            .map_err(|_| InvalidInput::breaks("expiresIn", "ends after the year 9999"))?;
        let key = api_key::make(new.mode);
        let row = ApiKeyRow {
            id: ApiKeyId::make(now),
            developer_id: new.developer.clone(),
            label: new.label.to_owned(),
            prefix: api_key::shown_prefix(&key),
            created_at: now,
            expires_at,
            revoked_at: None,
        };
        let subject = Some(Subject::ApiKey(row.id));
        let event = by.event(Operation::CreateApiKey, Some(new.developer), subject);
        self.change(event, async |transaction, _| {
            self.known(transaction, new.developer).await?;
            Ok(transaction
                .create_api_key(&api_key::hash(&key), &row)
                .await?)
        })
        .await?;
        Ok((key, row))
    }

    /// A developer's newest thousand keys, newest first.
    ///
    /// # Errors
    ///
    /// See [`OperatorError`].
    pub async fn api_keys(
        &self,
        by: &KnownOperator,
        developer: &DeveloperId,
    ) -> Result<Vec<ApiKeyRow>, OperatorError> {
        self.developers_are_ours()?;
        let event = by.event(Operation::ListApiKeys, Some(developer), None);
        let found = self.store.api_keys(developer).await;
        self.looked(event, found.map_err(OperatorError::from)).await
    }

    /// Revokes a key: nothing is stored or deleted with it once this has answered. Answers whether it was
    /// not revoked already.
    ///
    /// # Errors
    ///
    /// See [`OperatorError`].
    pub async fn revoke_api_key(
        &self,
        by: &KnownOperator,
        id: ApiKeyId,
    ) -> Result<bool, OperatorError> {
        self.developers_are_ours()?;
        let event = by.event(Operation::RevokeApiKey, None, Some(Subject::ApiKey(id)));
        let now = self.clock.now();
        self.forbid(event, async |transaction, event| {
            let revoked = transaction.revoke_api_key(id, now).await?;
            let (developer, changed) = revoked.ok_or(OperatorError::NotFound(Missing::ApiKey))?;
            event.developer = Some(developer);
            if !changed {
                event.outcome = Outcome::Unchanged;
            }
            Ok(changed)
        })
        .await
    }
}
