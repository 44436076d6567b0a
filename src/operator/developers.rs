//! Developers: registering, suspending, deleting them.

use super::{KnownOperator, Operations, OperatorError, Page, revocations::revoked};
use crate::{
    audit::event::Outcome,
    model::{
        id::NewDeveloperId,
        invalid::InvalidInput,
        page::PageSize,
        request::Operation,
        revocation::{Revocation, Revoked},
        text::{self, DeveloperId},
        timestamp::Timestamp,
    },
    store::developers::DeveloperRow,
};

/// What their page tokens are of.
const LIST: [Option<&str>; 1] = [Some("developers")];

/// The most characters of a name or a label.
pub(super) const MAX_NAME_CHARS: usize = 512;

impl Operations {
    /// Registers a developer under a new id.
    ///
    /// # Errors
    ///
    /// See [`OperatorError`].
    pub async fn create_developer(
        &self,
        by: &KnownOperator,
        name: &str,
    ) -> Result<DeveloperRow, OperatorError> {
        self.developers_are_ours()?;
        text::check(name, MAX_NAME_CHARS).map_err(|rule| InvalidInput::breaks("name", rule))?;
        let now = self.clock.now();
        let id = DeveloperId::parse(&NewDeveloperId::make(now).to_string());
        let row = DeveloperRow {
            id: id.expect("a prefix and a ULID are short and visible"),
            name: name.to_owned(),
            created_at: now,
            suspended_at: None,
        };
        let event = by.event(Operation::CreateDeveloper, Some(&row.id), None);
        self.change(event, async |transaction, _| {
            Ok(transaction.create_developer(&row).await?)
        })
        .await?;
        Ok(row)
    }

    /// A page of the developers, oldest first.
    ///
    /// # Errors
    ///
    /// See [`OperatorError`].
    pub async fn developers(
        &self,
        by: &KnownOperator,
        size: PageSize,
        page_token: &str,
    ) -> Result<Page<DeveloperRow>, OperatorError> {
        self.developers_are_ours()?;
        let after = super::after(page_token, &LIST)?;
        let after = after.as_deref().and_then(place_of);
        let event = by.event(Operation::ListDevelopers, None, None);
        let after = after.as_ref().map(|(created_at, id)| (*created_at, id));
        let found = self.store.developers(after, super::limit(size)).await;
        let found = self
            .looked(event, found.map_err(OperatorError::from))
            .await?;
        Ok(super::page(found, size, &LIST, |row| {
            format!("{} {}", row.created_at, row.id)
        }))
    }

    /// Refuses everything of a developer, from now on: its API keys, and every grant that was given
    /// for its principals. Answers whether it was not so already.
    ///
    /// # Errors
    ///
    /// See [`OperatorError`].
    pub async fn suspend_developer(
        &self,
        by: &KnownOperator,
        developer: &DeveloperId,
    ) -> Result<bool, OperatorError> {
        let event = by.event(Operation::SuspendDeveloper, Some(developer), None);
        self.revoke(event, developer, suspension(self.clock.now()))
            .await
    }

    /// Takes a suspension back; answers whether there was one.
    ///
    /// # Errors
    ///
    /// See [`OperatorError`].
    pub async fn resume_developer(
        &self,
        by: &KnownOperator,
        developer: &DeveloperId,
    ) -> Result<bool, OperatorError> {
        let event = by.event(Operation::ResumeDeveloper, Some(developer), None);
        self.change(event, async |transaction, event| {
            self.known(transaction, developer).await?;
            let changed = transaction.resume_developer(developer).await?;
            if !changed {
                event.outcome = Outcome::Unchanged;
            }
            Ok(changed)
        })
        .await
    }

    /// Deletes a developer with its credentials and API keys, for good. It is suspended first and stays
    /// so: nothing is stored meanwhile, and no grant of it is worth anything afterwards. Answers how
    /// many credentials it had. When it ends early it is to be asked for again, and goes on.
    ///
    /// Somebody may have taken the suspension back meanwhile. So it is said once more together with the
    /// deletion, after which nobody can take it back, and what was stored until then goes too.
    ///
    /// # Errors
    ///
    /// See [`OperatorError`].
    pub async fn delete_developer(
        &self,
        by: &KnownOperator,
        developer: &DeveloperId,
    ) -> Result<u64, OperatorError> {
        self.suspend_for_deletion(by, developer).await?;
        let before = self.delete_credentials(developer).await?;
        let event = by.event(Operation::DeleteDeveloper, Some(developer), None);
        let suspension = suspension(self.clock.now());
        self.forbid(event, async |transaction, event| {
            let was_there = transaction.delete_developer(developer).await?;
            transaction.revoke(developer, &suspension).await?;
            event.outcome = if was_there || before > 0 {
                Outcome::Deleted
            } else {
                Outcome::Unchanged
            };
            Ok(())
        })
        .await?;
        Ok(before + self.delete_credentials(developer).await?)
    }

    /// Suspends a developer that is there, or that an earlier deletion left something of. How far that one
    /// came is not known, nor whether it waited for earlier requests; so all of it is done again.
    async fn suspend_for_deletion(
        &self,
        by: &KnownOperator,
        developer: &DeveloperId,
    ) -> Result<bool, OperatorError> {
        let event = by.event(Operation::SuspendDeveloper, Some(developer), None);
        let suspension = suspension(self.clock.now());
        self.forbid(event, async |transaction, event| {
            if let Err(error) = self.known(transaction, developer).await {
                // Asked only then: a suspension waits for nobody who has the credentials locked.
                let unknown = matches!(error, OperatorError::NotFound(_));
                if !(unknown && transaction.is_anything_left_of(developer).await?) {
                    return Err(error);
                }
            }
            revoked(transaction, event, developer, &suspension).await
        })
        .await
    }

    /// Deletes a developer's credentials, some at a time; answers how many there were.
    async fn delete_credentials(&self, developer: &DeveloperId) -> Result<u64, OperatorError> {
        let mut deleted = 0;
        loop {
            match self.store.delete_some_credentials(developer).await? {
                0 => return Ok(deleted),
                some => deleted += some,
            }
        }
    }
}

/// That everything of a developer is refused, from this moment on.
fn suspension(now: Timestamp) -> Revocation {
    Revocation {
        what: Revoked::Developer,
        revoked_at: now,
        expires_at: None,
    }
}

/// Time of registration, and id. Tokens are made here only, so others cannot come.
fn place_of(text: &str) -> Option<(Timestamp, DeveloperId)> {
    let (created_at, id) = text.split_once(' ')?;
    let created_at = Timestamp::parse(created_at).ok()?;
    Some((created_at, DeveloperId::parse(id).ok()?))
}
