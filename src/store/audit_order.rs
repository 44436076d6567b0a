//! `vault.audit_events` in the order of their commits, everybody's: what sealing, verifying and
//! operators read.
//!
//! A transaction has a number when it writes and is seen when it commits. Below the lowest number that
//! is still open nothing can appear any more.

use futures_util::join;
use tokio_postgres::{Row, types::ToSql};

use super::{Connection, Store, StoreFault, columns::Columns, durable::durably, patiently};
use crate::model::timestamp::Timestamp;

/// Which transactions are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// Whose numbers the other two are, if this is `here`.
    pub era: i32,
    /// Whether this is the cluster that the era is of, and not a standby of it.
    pub here: bool,
    /// Every transaction below is over.
    pub closed_below: i64,
    /// The number after the last transaction that is over. They are equal when none is open. Who asks after
    /// a transaction of its own was over knows that what has this number or a later one began after that.
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

/// An event as a seal needs it; in this order it is sealed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HashedEvent {
    /// Its transaction.
    pub transaction: i64,
    /// Its id, as it stands there.
    pub id: String,
    /// SHA-256 of its canonical bytes, as it was recorded with them or else made of them now.
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
        "pg_catalog.left(developer_id, 513) as developer_id, pg_catalog.left(id, 27) as id,
            least(xid, '9223372036854775807')::text::bigint as transaction,
            pg_catalog.left(principal_id, 513) as principal_id, pg_catalog.left(service_key, 65) as service_key,
            pg_catalog.left(credential_id, 65) as credential_id, pg_catalog.left(grant_id, 513) as grant_id,
            pg_catalog.left(outcome, 65) as outcome, substring(canonical for 65537) as canonical"
    };
}
pub(super) use whole_columns;

/// Whether an event has the keys of one that the vault wrote. Others are in no seal, and no page begins
/// with one.
macro_rules! in_form {
    () => {
        "pg_catalog.octet_length(id) = 26 and pg_catalog.octet_length(developer_id) <= 2048"
    };
}

impl Store {
    /// Which transactions are over now.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn audit_horizon(&self) -> Result<Horizon, StoreFault> {
        self.connection().await?.audit_horizon().await
    }

    /// When the first numbering of events began; nobody signed it.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn first_era_began_at(&self) -> Result<Option<Timestamp>, StoreFault> {
        // Store::first_era_began_at
        const SQL: &str = "select began_at from vault.audit_eras order by era limit 1";
        let rows = self.connection().await?.in_order(SQL, &[]).await?;
        let began_at = |row: &Row| {
            let table = "audit_eras";
            Columns { table, row }.get("began_at")
        };
        rows.first().map(began_at).transpose()
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
              and ",
            in_form!(),
            " order by xid, id, developer_id limit $7"
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
        let rows = self.connection().await?.in_order(SQL, &parameters).await?;
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
            select pg_catalog.count(*) from vault.audit_events
            where era = $1 and xid >= $2::bigint::text::xid8 and xid < $3::bigint::text::xid8";
        let parameters: [&(dyn ToSql + Sync); 3] = [&span.era, &span.from, &span.to];
        let rows = self.connection().await?.in_order(SQL, &parameters).await?;
        let count = rows.first().map_or(0, |row| row.get::<_, i64>(0));
        Ok(count.unsigned_abs())
    }

    /// Whether there is an event at all.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn has_audit_events(&self) -> Result<bool, StoreFault> {
        // Store::has_audit_events
        const SQL: &str = "select exists (select from vault.audit_events)";
        let rows = self.connection().await?.in_order(SQL, &[]).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
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
        let rows = self.connection().await?.in_order(SQL, &parameters).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    /// Events that are outside of every span: of eras that the vault never counted, or of a transaction
    /// that no cluster ever reaches.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn stray_events(&self, limit: i64) -> Result<Vec<WholeEvent>, StoreFault> {
        // Store::stray_events
        const SQL: &str = concat!(
            "select ",
            whole_columns!(),
            "
            from vault.audit_events
            where era < 1 or era > (select pg_catalog.max(era) from vault.audit_eras)
              or (era = any (array(select era from vault.audit_eras))
                and xid >= '9223372036854775807')
            limit $1"
        );
        let parameters: [&(dyn ToSql + Sync); 1] = [&limit];
        let rows = self.connection().await?.in_order(SQL, &parameters).await?;
        rows.iter().map(whole).collect()
    }

    /// Events of a span whose keys are none that the vault writes.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn misshapen_events(
        &self,
        span: Span,
        limit: i64,
    ) -> Result<Vec<WholeEvent>, StoreFault> {
        // Store::misshapen_events
        const SQL: &str = concat!(
            "select ",
            whole_columns!(),
            "
            from vault.audit_events
            where era = $1 and xid >= $2::bigint::text::xid8 and xid < $3::bigint::text::xid8
              and not (",
            in_form!(),
            ") limit $4"
        );
        let parameters: [&(dyn ToSql + Sync); 4] = [&span.era, &span.from, &span.to, &limit];
        let rows = self.connection().await?.in_order(SQL, &parameters).await?;
        rows.iter().map(whole).collect()
    }
}

impl Connection {
    /// Begins an era when this is not the cluster of the last one.
    ///
    /// # Errors
    ///
    /// When the database does not answer, or takes no writes.
    pub async fn begin_audit_era(&self) -> Result<(), StoreFault> {
        // Connection::begin_audit_era
        const BEGIN: &str = concat!("select vault.begin_audit_era() where ", durably!());
        let work = self.client().execute(BEGIN, &[]);
        self.deadline(work).await.map(|_| ())
    }

    /// Which transactions are over now.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn audit_horizon(&self) -> Result<Horizon, StoreFault> {
        // Connection::audit_horizon
        const SQL: &str = "
            select era, system_identifier = (select system_identifier::text from pg_catalog.pg_control_system())
                    and not pg_catalog.pg_is_in_recovery() as here,
                pg_catalog.pg_snapshot_xmin(now)::text::bigint as closed_below,
                pg_catalog.pg_snapshot_xmax(now)::text::bigint as next
            from pg_catalog.pg_current_snapshot() as now, vault.audit_eras
            order by era desc limit 1";
        let work = async {
            let statement = self.client().prepare_cached(SQL).await?;
            self.client().query_one(&statement, &[]).await
        };
        let row = self.deadline(work).await?;
        let columns = Columns {
            table: "audit_eras",
            row: &row,
        };
        Ok(Horizon {
            era: columns.get("era")?,
            here: columns.get("here")?,
            closed_below: columns.get("closed_below")?,
            next: columns.get("next")?,
        })
    }

    /// The first events of a span, in order. Of the last transaction, when there are as many events as
    /// `limit`, they may be any.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn hashed_events(
        &self,
        span: Span,
        limit: i64,
    ) -> Result<Vec<HashedEvent>, StoreFault> {
        // Connection::hashed_events
        // Along the index, whatever the statistics say: without any, as after a restore, Postgres would
        // sort all that is left for each seal (500 ms instead of 18 for 300,000 events). And as it is:
        // where much is left Postgres thinks it dear, and compiled it, in 20 ms for a statement of 4.
        // Planned once a connection: a plan for each seal is a quarter of its time.
        const ALONG_THE_INDEX: &str = "begin isolation level read committed;
            set local enable_sort = off; set local jit = off;
            set local enable_bitmapscan = off; set local enable_seqscan = off;
            set local plan_cache_mode = force_generic_plan";
        // Connection::hashed_events
        // In one value: a row for each costs both sides more, to write and to read. In the order of the
        // index alone: to sort the events of a transaction, Postgres copies them whole.
        const SQL: &str = concat!(
            "select pg_catalog.string_agg(event, '') as events from (
                select pg_catalog.xid8send(xid) || pg_catalog.textsend(id) ||
                    case pg_catalog.octet_length(hash) when 32 then hash else pg_catalog.sha256(canonical) end as event
                from vault.audit_events
                where era = $1 and xid >= $2::bigint::text::xid8 and xid < $3::bigint::text::xid8
                  and ",
            in_form!(),
            " order by xid limit $4) as in_order"
        );
        let parameters: [&(dyn ToSql + Sync); 4] = [&span.era, &span.from, &span.to, &limit];
        let client = self.client();
        let work = async {
            let statement = client.prepare_cached(SQL).await?;
            // Sent in this order, each when it is polled first, and answered together. The end of a
            // transaction that failed is a rollback.
            let (begun, row, ended) = join!(
                client.batch_execute(ALONG_THE_INDEX),
                client.query_one(&statement, &parameters),
                client.batch_execute("commit")
            );
            begun?;
            let row = row?;
            ended.map(|()| row)
        };
        let row = patiently(&self.progress, work).await?;
        let columns = Columns {
            table: "audit_events",
            row: &row,
        };
        // Of no events it is null.
        let events: Option<&[u8]> = columns.get("events")?;
        hashed(events.unwrap_or_default()).ok_or_else(|| columns.inconsistent("events"))
    }

    async fn in_order(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreFault> {
        let work = async {
            let statement = self.client().prepare_cached(sql).await?;
            self.client().query(&statement, parameters).await
        };
        patiently(&self.progress, work).await
    }
}

/// The bytes of a [`HashedEvent`]: its transaction, its id, its hash.
const HASHED_EVENT: usize = 8 + 26 + 32;

/// Reads events and sorts them.
fn hashed(bytes: &[u8]) -> Option<Vec<HashedEvent>> {
    let (events, []) = bytes.as_chunks() else {
        return None;
    };
    let event = |event: &[u8; HASHED_EVENT]| {
        let (transaction, rest) = event.split_first_chunk()?;
        let (id, hash) = rest.split_last_chunk()?;
        Some(HashedEvent {
            transaction: i64::try_from(u64::from_be_bytes(*transaction)).ok()?,
            id: str::from_utf8(id).ok()?.to_owned(),
            hash: *hash,
        })
    };
    let mut events: Vec<_> = events.iter().map(event).collect::<Option<_>>()?;
    events.sort_unstable();
    Some(events)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(transaction: u64, id: char, hash: u8) -> Vec<u8> {
        let id = id.to_string().repeat(26);
        [&transaction.to_be_bytes()[..], id.as_bytes(), &[hash; 32]].concat()
    }

    #[test]
    fn hashed_events_are_in_order_whatever_order_they_came_in() {
        let events = [
            bytes(7, 'B', 1),
            bytes(7, 'A', 2),
            bytes(6, 'C', 4),
            bytes(7, 'A', 3),
        ];
        let read = hashed(&events.concat()).unwrap();
        let read = read
            .iter()
            .map(|event| (event.transaction, &event.id[..1], event.hash[0]));
        let order = [(6, "C", 4), (7, "A", 2), (7, "A", 3), (7, "B", 1)];
        assert!(read.eq(order));
    }

    #[test]
    fn what_is_not_whole_hashed_events_is_none() {
        assert_eq!(hashed(&[]), Some(Vec::new()));
        let event = bytes(7, 'A', 1);
        assert_eq!(hashed(&event[1..]), None);
        assert_eq!(hashed(&[&event[..], &event[..1]].concat()), None);
        assert_eq!(
            hashed(&bytes(u64::MAX, 'A', 1)),
            None,
            "no such transaction"
        );
    }
}
