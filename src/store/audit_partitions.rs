//! The partitions of `vault.audit_events`, by the time of their events. Making them ahead is the
//! server's, through a function of the schema's owner; dropping them is an operator's.

use std::str::FromStr;

use tokio_postgres::types::ToSql;

use super::{Store, StoreFault, Transaction, columns::Columns};
use crate::model::timestamp::Timestamp;

/// How much time a partition has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionUnit {
    /// A day (UTC).
    Day,
    /// A month (UTC).
    Month,
}

/// A partition with a time of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The table, in our schema.
    pub name: String,
    /// The first moment after it.
    pub to: Timestamp,
}

impl FromStr for PartitionUnit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "day" => Ok(Self::Day),
            "month" => Ok(Self::Month),
            _ => Err("must be day or month"),
        }
    }
}

impl PartitionUnit {
    fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

impl Store {
    /// Makes what partitions of events to come are missing; answers how many it made.
    ///
    /// # Errors
    ///
    /// When the database does not answer, or a lock cannot be had.
    pub async fn make_audit_partitions(&self, unit: PartitionUnit) -> Result<i32, StoreFault> {
        // Store::make_audit_partitions
        const SQL: &str = "select vault.make_audit_partitions($1)";
        let connection = self.connection().await?;
        let parameters: [&(dyn ToSql + Sync); 1] = [&unit.as_str()];
        let work = connection.client().query_one(SQL, &parameters);
        let row = connection.deadline(work).await?;
        Ok(row.get(0))
    }

    /// The latest moment, not after this one, before which whole partitions can go.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn prunable_before(&self, moment: Timestamp) -> Result<Timestamp, StoreFault> {
        // Store::prunable_before
        const SQL: &str = "
            select coalesce(min(from_time), $1) as before from vault.audit_partitions
            where name is not null and from_time < $1 and to_time > $1";
        let connection = self.connection().await?;
        let parameters: [&(dyn ToSql + Sync); 1] = [&moment];
        let work = connection.client().query_one(SQL, &parameters);
        let row = connection.deadline(work).await?;
        let columns = Columns {
            table: "audit_partitions",
            row: &row,
        };
        columns.get("before")
    }

    /// The partitions whose time is over at a moment, the oldest first. A name that is not that of a
    /// partition is left out: whoever can write the table must not choose what is dropped.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn audit_partitions_before(
        &self,
        moment: Timestamp,
    ) -> Result<Vec<Partition>, StoreFault> {
        // Store::audit_partitions_before
        const SQL: &str = "
            select name, to_time from vault.audit_partitions
            join pg_inherits on inhrelid = to_regclass(format('vault.%I', name))
            where to_time <= $1 and inhparent = 'vault.audit_events'::regclass
              and name <> 'audit_events_default'
            order by from_time";
        let connection = self.connection().await?;
        let parameters: [&(dyn ToSql + Sync); 1] = [&moment];
        let work = connection.client().query(SQL, &parameters);
        let rows = connection.deadline(work).await?;
        let read = |row| {
            let columns = Columns {
                table: "audit_partitions",
                row,
            };
            Ok(Partition {
                name: columns.get("name")?,
                to: columns.get("to_time")?,
            })
        };
        rows.iter().map(read).collect()
    }
}

impl Transaction<'_> {
    /// Drops a partition with its events. Requests wait behind the lock that it takes, so it gives up
    /// when it cannot have it within a second.
    ///
    /// # Errors
    ///
    /// When the lock cannot be had; when the database does not answer.
    pub async fn drop_audit_partition(&self, partition: &Partition) -> Result<(), StoreFault> {
        // Transaction::drop_audit_partition
        const FORGET: &str = "delete from vault.audit_partitions where name = $1";
        let name = partition.name.replace('"', "\"\"");
        let drop = format!("set local lock_timeout = '1s'; drop table vault.\"{name}\"");
        self.deadline(self.inner.batch_execute(&drop)).await?;
        let parameters: [&(dyn ToSql + Sync); 1] = [&partition.name];
        let work = self.inner.execute(FORGET, &parameters);
        self.deadline(work).await.map(|_| ())
    }

    /// Deletes up to `limit` events before a moment that lie in no partition of their own; answers how
    /// many it deleted.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn delete_stray_events(
        &self,
        before: Timestamp,
        limit: i64,
    ) -> Result<u64, StoreFault> {
        // Transaction::delete_stray_events
        const SQL: &str = "
            delete from vault.audit_events_default
            where ctid in (
                select ctid from vault.audit_events_default
                where id < vault.ulid_of($1) limit $2)";
        let parameters: [&(dyn ToSql + Sync); 2] = [&before, &limit];
        self.deadline(self.inner.execute(SQL, &parameters)).await
    }
}
