//! A row of the TypeScript vault as one of ours: decrypted, and held against every rule of a field.

use super::{
    metadata,
    outcome::{Lost, Remark},
};
use crate::{
    envelope::legacy_grantex::{LegacyFault, LegacyKey},
    model::{
        credential::NewCredential,
        id::CredentialId,
        restrictions::Restrictions,
        secret::RefreshToken,
        service_name::ServiceName,
        text::{CredentialType, DeveloperId, PrincipalId},
        timestamp::Timestamp,
    },
    store::grantex_source::{Bounded, Microseconds, SourceRow},
};

/// A credential that can be taken over.
pub(super) struct Incoming {
    pub(super) id: CredentialId,
    pub(super) developer: DeveloperId,
    pub(super) credential: NewCredential,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
}

/// The id under which a row of the source is here: its own, or else one that is always the same.
pub(super) fn id_here(developer: &str, id: &str) -> CredentialId {
    CredentialId::parse(id).unwrap_or_else(|| CredentialId::derive(developer, id))
}

impl Incoming {
    /// Reads a row, with what had to be changed of it.
    pub(super) fn open(row: &SourceRow, key: &LegacyKey) -> Result<(Self, Vec<Remark>), Lost> {
        let developer = DeveloperId::parse(&row.developer).map_err(Lost::Developer)?;
        let principal_id = PrincipalId::parse(&row.principal).map_err(Lost::Principal)?;
        let service = ServiceName::parse(&row.service).map_err(|_| Lost::Service)?;
        let credential_type =
            CredentialType::parse(&row.credential_type).map_err(Lost::CredentialType)?;
        let access_token = match &row.access_token {
            Bounded::Null => Err(LegacyFault::Empty),
            Bounded::TooLong => Err(LegacyFault::TooLarge),
            Bounded::Text(stored) => key.open_access_token(stored),
        };
        let (metadata, problem) = metadata::unwrapped(&row.metadata);
        let id = id_here(&row.developer, &row.id);
        let is_new_id = CredentialId::parse(&row.id) != Some(id);
        let incoming = Self {
            id,
            developer,
            credential: NewCredential {
                principal_id,
                service,
                credential_type,
                access_token: access_token.map_err(Lost::AccessToken)?,
                refresh_token: refresh_token(&row.refresh_token, key)?,
                token_expires_at: expiry(row.token_expires_at)?,
                metadata,
                // There is nothing like it there, and an import writes none.
                restrictions: Restrictions::default(),
            },
            created_at: moment("created_at", row.created_at)?,
            updated_at: moment("updated_at", row.updated_at)?,
        };
        let new_id = is_new_id.then_some(Remark::Id(id));
        let remarks = new_id.into_iter().chain(problem.map(Remark::Metadata));
        Ok((incoming, remarks.collect()))
    }
}

fn refresh_token(stored: &Bounded, key: &LegacyKey) -> Result<Option<RefreshToken>, Lost> {
    let opened = match stored {
        Bounded::Null => Ok(None),
        Bounded::TooLong => Err(LegacyFault::TooLarge),
        Bounded::Text(stored) if stored.is_empty() => Ok(None),
        Bounded::Text(stored) => key.open_refresh_token(stored),
    };
    opened.map_err(Lost::RefreshToken)
}

/// What expires never has no expiry.
fn expiry(at: Option<Microseconds>) -> Result<Option<Timestamp>, Lost> {
    at.filter(|at| !at.is_infinite())
        .map(|at| moment("token_expires_at", at))
        .transpose()
}

fn moment(column: &'static str, at: Microseconds) -> Result<Timestamp, Lost> {
    at.moment().ok_or(Lost::Moment(column))
}
