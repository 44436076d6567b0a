//! Work of an operator that is recorded before it begins: it takes long, or cannot fail, or only shows
//! something.

use super::{KnownOperator, Operations, OperatorError};
use crate::{
    audit::event::Subject,
    model::{request::Operation, sealed::MasterKeyId, text::DeveloperId},
};

/// What is about to begin.
#[derive(Debug, Clone, Copy)]
pub enum Work<'a> {
    /// Credentials are taken over from another vault.
    Import,
    /// Data keys are wrapped by the primary.
    Rewrap,
    /// Credentials are sealed anew: of one developer, or of all.
    Reencrypt(Option<&'a DeveloperId>),
    /// Credentials are opened, and shown to nobody.
    VerifyCredentials,
    /// The use of every master key is shown.
    ShowMasterKeys,
    /// A keyring gets one more key.
    AddKeyringKey,
    /// A key of a keyring becomes the one that wraps.
    SetKeyringPrimary(&'a MasterKeyId),
    /// A key of a keyring goes.
    RemoveKeyringKey(&'a MasterKeyId),
    /// Events are shown: of one developer, or of all.
    ListAuditEvents(Option<&'a DeveloperId>),
    /// Events are shown as they come.
    TailAuditEvents(Option<&'a DeveloperId>),
    /// Events are written to a file.
    ExportAuditEvents(Option<&'a DeveloperId>),
    /// Old events are dropped.
    PruneAuditEvents,
}

impl Operations {
    /// Records that work is about to begin. Nothing of it is to be done before this has answered.
    ///
    /// # Errors
    ///
    /// See [`OperatorError`].
    pub async fn begins(&self, by: &KnownOperator, work: Work<'_>) -> Result<(), OperatorError> {
        let (operation, developer, key) = work.described();
        let subject = key.cloned().map(Subject::MasterKey);
        let event = by.event(operation, developer, subject);
        self.journal.record(&event).await?;
        Ok(())
    }
}

// === impl Work ===

impl<'a> Work<'a> {
    fn described(self) -> (Operation, Option<&'a DeveloperId>, Option<&'a MasterKeyId>) {
        match self {
            Self::Import => (Operation::Import, None, None),
            Self::Rewrap => (Operation::Rewrap, None, None),
            Self::Reencrypt(developer) => (Operation::Reencrypt, developer, None),
            Self::VerifyCredentials => (Operation::VerifyCredentials, None, None),
            Self::ShowMasterKeys => (Operation::ShowMasterKeys, None, None),
            Self::AddKeyringKey => (Operation::AddKeyringKey, None, None),
            Self::SetKeyringPrimary(key) => (Operation::SetKeyringPrimary, None, Some(key)),
            Self::RemoveKeyringKey(key) => (Operation::RemoveKeyringKey, None, Some(key)),
            Self::ListAuditEvents(developer) => (Operation::ListAuditEvents, developer, None),
            Self::TailAuditEvents(developer) => (Operation::TailAuditEvents, developer, None),
            Self::ExportAuditEvents(developer) => (Operation::ExportAuditEvents, developer, None),
            Self::PruneAuditEvents => (Operation::PruneAuditEvents, None, None),
        }
    }
}
