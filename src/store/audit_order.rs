//! `vault.audit_events` in the order of their commits, everybody's: what sealing, verifying and
//! operators read.
//!
//! A transaction has a number when it writes and is seen when it commits. Below the lowest number that
//! is still open nothing can appear any more.

use tokio_postgres::{Row, types::ToSql};

use super::{Store, StoreFault, columns::Columns, patiently};
use crate::model::timestamp::Timestamp;

/// Which transactions are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// Whose numbers the other two are.
    pub era: i32,
    /// Every transaction below is over.
    pub closed_below: i64,
    /// The next transaction's number. They are equal when none is open.
    pub next: i64,
}

/// A part of the order: the events of some transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Whose numbers.
    pub era: i32,
    /// The first transaction.
    pub from: i64,
    /// The first one that does not belong to it.
    pub to: i64,
}

/// A place in the order: after this event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Its transaction.
    pub transaction: i64,
    /// Its id, as it stands there.
    pub id: String,
    /// Its developer, as it stands there.
    pub developer: String,
}

/// An event as a seal needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashedEvent {
    /// Its id, as it stands there.
    pub id: String,
    /// Its transaction.
    pub transaction: i64,
    /// SHA-256 of its canonical bytes.
    pub hash: [u8; 32],
}

/// An event with everything that stands in its row, whatever that is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of the table")]
pub struct WholeEvent {
    pub place: Place,
    pub principal_id: Option<String>,
    pub service_key: Option<String>,
    pub credential_id: Option<String>,
    pub grant_id: Option<String>,
    pub outcome: String,
    pub canonical: Vec<u8>,
}

/// The columns of a [`WholeEvent`]. None is longer when the vault wrote it, and whoever can write the
/// table must not choose how much memory a reader needs: what is cut off is not what was sealed.
macro_rules! whole_columns {
    () => {
        "developer_id, id, xid::text::bigint as transaction,
            left(principal_id, 513) as principal_id, left(service_key, 65) as service_key,
            left(credential_id, 65) as credential_id, left(grant_id, 513) as grant_id,
            left(outcome, 65) as outcome, substring(canonical for 65537) as canonical"
    };
}
pub(super) use whole_columns;

impl Store {
    /// Which transactions are over now.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn audit_horizon(&self) -> Result<Horizon, StoreFault> {
        // Store::audit_horizon
        const SQL: &str = "
            select (select max(era) from vault.audit_eras) as era,
                pg_snapshot_xmin(now)::text::bigint as closed_below,
                pg_snapshot_xmax(now)::text::bigint as next
            from pg_current_snapshot() as now";
        let connection = self.connection().await?;
        let work = connection.client().query_one(SQL, &[]);
        let row = connection.deadline(work).await?;
        let columns = Columns {
            table: "audit_eras",
            row: &row,
        };
        Ok(Horizon {
            era: columns.get("era")?,
            closed_below: columns.get("closed_below")?,
            next: columns.get("next")?,
        })
    }

    /// The first events of a span, in order.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn hashed_events(
        &self,
        span: Span,
        limit: i64,
    ) -> Result<Vec<HashedEvent>, StoreFault> {
        // Store::hashed_events
        const SQL: &str = "
            select id, xid::text::bigint as transaction, sha256(canonical) as hash
            from vault.audit_events
            where era = $1 and xid >= $2::bigint::text::xid8 and xid < $3::bigint::text::xid8
            order by xid, id, developer_id limit $4";
        let parameters: [&(dyn ToSql + Sync); 4] = [&span.era, &span.from, &span.to, &limit];
        let rows = self.in_order(SQL, &parameters).await?;
        rows.iter().map(hashed).collect()
    }

    /// Events of a span after a place, in order, with everything that stands there.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn whole_events(
        &self,
        span: Span,
        after: &Place,
        limit: i64,
    ) -> Result<Vec<WholeEvent>, StoreFault> {
        // Store::whole_events
        const SQL: &str = concat!(
            "select ",
            whole_columns!(),
            "
            from vault.audit_events
            where era = $1 and xid >= $2::bigint::text::xid8 and xid < $3::bigint::text::xid8
              and (xid, id, developer_id) > ($4::bigint::text::xid8, $5::text, $6::text)
            order by xid, id, developer_id limit $7"
        );
        let from = span.from.max(after.transaction);
        let parameters: [&(dyn ToSql + Sync); 7] = [
            &span.era,
            &from,
            &span.to,
            &after.transaction,
            &after.id,
            &after.developer,
            &limit,
        ];
        let rows = self.in_order(SQL, &parameters).await?;
        rows.iter().map(whole).collect()
    }

    /// How many events a span has.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn count_events(&self, span: Span) -> Result<u64, StoreFault> {
        // Store::count_events
        const SQL: &str = "
            select count(*) from vault.audit_events
            where era = $1 and xid >= $2::bigint::text::xid8 and xid < $3::bigint::text::xid8";
        let parameters: [&(dyn ToSql + Sync); 3] = [&span.era, &span.from, &span.to];
        let rows = self.in_order(SQL, &parameters).await?;
        let count = rows.first().map_or(0, |row| row.get::<_, i64>(0));
        Ok(count.unsigned_abs())
    }

    /// Whether a span has events of a time before this.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn has_events_before(
        &self,
        span: Span,
        moment: Timestamp,
    ) -> Result<bool, StoreFault> {
        // Store::has_events_before
        const SQL: &str = "
            select exists (
                select from vault.audit_events
                where era = $1 and xid >= $2::bigint::text::xid8 and xid < $3::bigint::text::xid8
                  and id < vault.ulid_of($4))";
        let parameters: [&(dyn ToSql + Sync); 4] = [&span.era, &span.from, &span.to, &moment];
        let rows = self.in_order(SQL, &parameters).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    /// Events of eras that the vault never counted.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn events_of_no_era(&self, limit: i64) -> Result<Vec<WholeEvent>, StoreFault> {
        // Store::events_of_no_era
        const SQL: &str = concat!(
            "select ",
            whole_columns!(),
            "
            from vault.audit_events
            where era < 1 or era > (select max(era) from vault.audit_eras)
            order by era, xid limit $1"
        );
        let parameters: [&(dyn ToSql + Sync); 1] = [&limit];
        let rows = self.in_order(SQL, &parameters).await?;
        rows.iter().map(whole).collect()
    }

    async fn in_order(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreFault> {
        let connection = self.connection().await?;
        let work = async {
            let statement = connection.client().prepare_cached(sql).await?;
            connection.client().query(&statement, parameters).await
        };
        patiently(&connection.progress, work).await
    }
}

fn hashed(row: &Row) -> Result<HashedEvent, StoreFault> {
    let columns = Columns {
        table: "audit_events",
        row,
    };
    let hash: &[u8] = columns.get("hash")?;
    Ok(HashedEvent {
        id: columns.get("id")?,
        transaction: columns.get("transaction")?,
        hash: hash.try_into().expect("SHA-256 has 32 bytes"),
    })
}

pub(super) fn whole(row: &Row) -> Result<WholeEvent, StoreFault> {
    let columns = Columns {
        table: "audit_events",
        row,
    };
    Ok(WholeEvent {
        place: Place {
            transaction: columns.get("transaction")?,
            id: columns.get("id")?,
            developer: columns.get("developer_id")?,
        },
        principal_id: columns.get("principal_id")?,
        service_key: columns.get("service_key")?,
        credential_id: columns.get("credential_id")?,
        grant_id: columns.get("grant_id")?,
        outcome: columns.get("outcome")?,
        canonical: columns.get("canonical")?,
    })
}
