//! The partitions of `vault.audit_events`, by the time of their events. Making them ahead is the
//! server's, through a function of the schema's owner; dropping them is an operator's.

use std::str::FromStr;

use tokio_postgres::types::ToSql;

use super::{
    Store, StoreFault, Transaction,
    columns::Columns,
    durable::{durably, waits_for_standbys},
    patiently,
};
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
        const SQL: &str = concat!("select vault.make_audit_partitions($1) where ", durably!());
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
            select coalesce(pg_catalog.min(from_time), $1) as before from vault.audit_partitions
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

    /// The partitions whose time is over at a moment, the oldest first, by the bounds that Postgres knows:
    /// whoever can write the table of partitions must not choose what is dropped.
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
            select name from vault.audit_partitions
            join pg_catalog.pg_inherits on inhrelid = pg_catalog.to_regclass('vault.' || pg_catalog.quote_ident(name))::oid
            join pg_catalog.pg_class on pg_catalog.pg_class.oid = inhrelid
            where inhparent = 'vault.audit_events'::regclass::oid
              and substring(pg_catalog.pg_get_expr(relpartbound, inhrelid) from 'TO \\(''([0-9A-Z]{10})''\\)')
                    collate \"C\" <= vault.ulid_of($1)
            order by name";
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
            })
        };
        rows.iter().map(read).collect()
    }

    /// Waits until everything that is committed is on the synchronous standbys too: an earlier run may
    /// have committed what this one finds done, and have ended before it was there.
    ///
    /// # Errors
    ///
    /// When the database does not answer, or this wait ends early as well.
    pub async fn wait_for_standbys(&self) -> Result<(), StoreFault> {
        // Store::wait_for_standbys
        const SQL: &str = concat!("select where ", durably!(), " and ", waits_for_standbys!());
        let connection = self.connection().await?;
        let work = connection.client().execute(SQL, &[]);
        connection.deadline(work).await.map(|_| ())
    }
}

impl Transaction<'_> {
    /// Drops a partition with its events, unless one of them is not sealed: of an era and transaction
    /// from `sealed_to` on. Answers whether it did. Requests wait behind the lock that it takes, so it
    /// gives up when it cannot have it within a second.
    ///
    /// # Errors
    ///
    /// When the lock cannot be had; when the database does not answer.
    pub async fn drop_audit_partition(
        &self,
        partition: &Partition,
        (era, transaction): (i32, i64),
    ) -> Result<bool, StoreFault> {
        // Transaction::drop_audit_partition
        const FORGET: &str = "delete from vault.audit_partitions where name = $1";
        let name = partition.name.replace('"', "\"\"");
        // In the order in which requests lock: the table, then its partition.
        let lock = format!(
            "set local lock_timeout = '1s';
             lock table only vault.audit_events in access exclusive mode;
             lock table vault.\"{name}\" in access exclusive mode"
        );
        self.deadline(self.inner.batch_execute(&lock)).await?;
        let unsealed = format!(
            "select exists (
                select from vault.\"{name}\"
                where era > $1 or (era = $1 and xid >= $2::bigint::text::xid8))"
        );
        let parameters: [&(dyn ToSql + Sync); 2] = [&era, &transaction];
        let row = self
            .deadline(self.inner.query_one(&unsealed, &parameters))
            .await?;
        if row.get(0) {
            return Ok(false);
        }
        let drop = format!("drop table vault.\"{name}\"");
        self.deadline(self.inner.batch_execute(&drop)).await?;
        let parameters: [&(dyn ToSql + Sync); 1] = [&partition.name];
        let work = self.inner.execute(FORGET, &parameters);
        self.deadline(work).await.map(|_| true)
    }

    /// Deletes up to `limit` events before a moment that lie in no partition of their own and are sealed;
    /// answers how many it deleted.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn delete_stray_events(
        &self,
        before: Timestamp,
        (era, transaction): (i32, i64),
        limit: i64,
    ) -> Result<u64, StoreFault> {
        // Transaction::delete_stray_events
        const SQL: &str = "
            delete from vault.audit_events_default
            where ctid in (
                select ctid from vault.audit_events_default
                where id < vault.ulid_of($1)
                  and (era < $2 or (era = $2 and xid < $3::bigint::text::xid8))
                limit $4)";
        let parameters: [&(dyn ToSql + Sync); 4] = [&before, &era, &transaction, &limit];
        let work = self.inner.execute(SQL, &parameters);
        patiently(self.progress, work).await
    }
}
