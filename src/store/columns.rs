//! Columns to parsed types and back.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use thiserror::Error;
use tokio_postgres::{
    Row,
    types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked},
};

use super::StoreFault;
use crate::model::{restrictions::Restrictions, timestamp::Timestamp};

/// A column that holds what the vault never writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("column {0} holds what the vault never writes")]
pub struct BadColumn(pub &'static str);

/// Reads the columns of one row of a table.
pub(super) struct Columns<'a> {
    pub(super) table: &'static str,
    pub(super) row: &'a Row,
}

impl<'a> Columns<'a> {
    /// A column of the type that the schema gives it.
    pub(super) fn get<T: FromSql<'a>>(&self, column: &'static str) -> Result<T, StoreFault> {
        self.row
            .try_get(column)
            .map_err(|_| self.inconsistent(column))
    }

    /// A text column that has a form of its own.
    pub(super) fn parse<T, E>(
        &self,
        column: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, StoreFault> {
        parse(self.get(column)?).map_err(|_| self.inconsistent(column))
    }

    /// The same for a parser that answers with an option.
    pub(super) fn parse_option<T>(
        &self,
        column: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, StoreFault> {
        self.parse(column, |text| parse(text).ok_or(()))
    }

    /// The columns that restrict a credential.
    pub(super) fn restrictions(&self) -> Result<Restrictions, StoreFault> {
        let scopes: Option<Vec<&str>> = self.get("required_scopes")?;
        let agents: Option<Vec<&str>> = self.get("allowed_agents")?;
        Restrictions::from_stored(scopes.as_deref(), agents.as_deref())
            .ok_or_else(|| self.inconsistent("required_scopes or allowed_agents"))
    }

    /// A column is not what the vault writes.
    pub(super) fn inconsistent(&self, column: &'static str) -> StoreFault {
        let row = self.row.try_get("id").unwrap_or("without a readable id");
        StoreFault::Inconsistent {
            table: self.table,
            row: row.into(),
            column: BadColumn(column),
        }
    }
}

/// Milliseconds from 1970, where Postgres counts from, in the years before 2000.
const POSTGRES_EPOCH_MILLIS: i64 = 946_684_800_000;

/// A moment of another database, to the microsecond, as Postgres holds it; also what is no [`Timestamp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Microseconds(i64);

impl Microseconds {
    /// The moment that we keep of it; `None` when it is infinite or beyond the years 0001 to 9999.
    #[must_use]
    pub fn moment(self) -> Option<Timestamp> {
        let millis = self.0.div_euclid(1000).checked_add(POSTGRES_EPOCH_MILLIS)?;
        Timestamp::from_millisecond(millis).ok()
    }

    /// Whether it is later than everything (`infinity`).
    #[must_use]
    pub fn is_infinite(self) -> bool {
        self.0 == i64::MAX
    }
}

impl ToSql for Microseconds {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(self.0);
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Microseconds {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?)))
    }

    accepts!(TIMESTAMPTZ);
}

impl ToSql for Timestamp {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64((self.as_millisecond() - POSTGRES_EPOCH_MILLIS) * 1000);
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Timestamp {
    /// Refuses `infinity` and years beyond 9999, which the vault never writes.
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        let millis = micros.div_euclid(1000).checked_add(POSTGRES_EPOCH_MILLIS);
        Ok(Self::from_millisecond(millis.ok_or("out of range")?)?)
    }

    accepts!(TIMESTAMPTZ);
}
