//! What an exchange of a credential that was read before takes for granted, and Postgres makes sure of
//! in the moment in which the exchange is recorded.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use crate::model::{
    text::{GrantId, TokenId},
    timestamp::Timestamp,
};

/// The grant lives, and the credential of the event's developer, principal and service is the one that
/// was read.
#[derive(Debug, Clone)]
pub struct Precondition {
    /// The version of its row.
    pub version: RowVersion,
    /// Its wrapped data key: no two stores have the same. A version is of one cluster only, and after a
    /// failover that lost a commit two rows may have the same.
    pub wrapped_key: Vec<u8>,
    /// The token.
    pub token: TokenId,
    /// The grant that its grant was delegated from; the grant itself is the event's.
    pub parent_grant: Option<GrantId>,
    /// Now.
    pub at: Timestamp,
}

/// The transaction that wrote a row (`xmin`): whoever changes the row changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowVersion(u32);

/// The preconditions of events, a column for each field.
pub(super) struct Preconditions<'a> {
    versions: Vec<RowVersion>,
    wrapped_keys: Vec<&'a [u8]>,
    tokens: Vec<&'a str>,
    parent_grants: Vec<Option<&'a str>>,
    moments: Vec<Timestamp>,
}

impl<'a> Preconditions<'a> {
    pub(super) fn of(all: impl Iterator<Item = &'a Precondition> + Clone) -> Self {
        Self {
            versions: all.clone().map(|only_if| only_if.version).collect(),
            wrapped_keys: all
                .clone()
                .map(|only_if| only_if.wrapped_key.as_slice())
                .collect(),
            tokens: all.clone().map(|only_if| only_if.token.as_str()).collect(),
            parent_grants: all
                .clone()
                .map(|only_if| only_if.parent_grant.as_ref().map(GrantId::as_str))
                .collect(),
            moments: all.map(|only_if| only_if.at).collect(),
        }
    }

    /// In the order of the fields.
    pub(super) fn parameters(&self) -> [&(dyn ToSql + Sync); 5] {
        [
            &self.versions,
            &self.wrapped_keys,
            &self.tokens,
            &self.parent_grants,
            &self.moments,
        ]
    }
}

// === impl RowVersion ===

impl<'a> FromSql<'a> for RowVersion {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(u32::from_be_bytes(raw.try_into()?)))
    }

    accepts!(XID);
}

impl ToSql for RowVersion {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_u32(self.0);
        Ok(IsNull::No)
    }

    accepts!(XID);
    to_sql_checked!();
}
