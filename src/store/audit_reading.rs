//! `vault.audit_events` as a developer reads it: pages of its own events.

use tokio_postgres::{Row, types::ToSql};
use tracing::Instrument;

use super::{
    Connection, Store, StoreFault,
    columns::{BadColumn, Columns},
    database_span, page,
};
use crate::model::{
    event_filter::{EventPosition, OutcomeName},
    id::{CredentialId, EventId, ulid_time},
    service_name::ServiceKey,
    text::{DeveloperId, GrantId, PrincipalId},
    timestamp::Timestamp,
};

const TABLE: &str = "audit_events";

/// Compares above every id, and above a text that is none: a row with one is to be noticed.
const ABOVE_ALL: &str = "\u{10ffff}";

/// Which events of a developer are asked for, and where their page begins.
#[derive(Debug)]
pub struct EventQuery<'a> {
    /// The tenant.
    pub developer: &'a DeveloperId,
    /// Only about this principal's credentials.
    pub principal: Option<PrincipalId>,
    /// Only about this service.
    pub service: Option<ServiceKey>,
    /// Only about this credential.
    pub credential: Option<CredentialId>,
    /// Only what was asked with this grant.
    pub grant: Option<GrantId>,
    /// Only what ended like this.
    pub outcome: Option<OutcomeName>,
    /// Only of this moment and later.
    pub from: Option<Timestamp>,
    /// Only before this moment.
    pub to: Option<Timestamp>,
    /// The last event of the page before.
    pub after: Option<EventPosition>,
}

/// An event as it stands in its row. Nothing says yet that it is the event of that row.
#[derive(Debug)]
pub struct StoredEvent {
    /// The row's id.
    pub id: EventId,
    /// The event itself.
    pub canonical: Vec<u8>,
}

/// One page of a list.
#[derive(Debug)]
pub struct EventPage {
    /// Newest first.
    pub events: Vec<StoredEvent>,
    /// Where the next page begins; `None` when this was the last.
    pub next: Option<EventPosition>,
}

impl StoredEvent {
    /// What it holds is not the event of its row.
    #[must_use]
    pub fn inconsistent(&self) -> StoreFault {
        StoreFault::Inconsistent {
            table: TABLE,
            row: self.id.to_string(),
            column: BadColumn("canonical"),
        }
    }
}

impl EventQuery<'_> {
    /// The ids between which the events are: the first of them, and what is above the last.
    fn bounds(&self) -> (String, String) {
        let from = self.from.map(ulid_time).unwrap_or_default();
        let ends = [
            self.to.map(ulid_time),
            self.after.map(|EventPosition(id)| id.to_string()),
        ];
        let to = ends.into_iter().flatten().min();
        (from, to.unwrap_or_else(|| ABOVE_ALL.to_owned()))
    }
}

impl Store {
    /// A page of a developer's events, newest first, of at most `size`; it may be shorter, or empty, and
    /// still not the last one.
    ///
    /// # Errors
    ///
    /// When the database does not answer or a row is not one that the vault wrote.
    pub async fn audit_events(
        &self,
        query: &EventQuery<'_>,
        size: usize,
    ) -> Result<EventPage, StoreFault> {
        let connection = self.connection().await?;
        connection.audit_events(query, size).await
    }
}

impl Connection {
    async fn audit_events(
        &self,
        query: &EventQuery<'_>,
        size: usize,
    ) -> Result<EventPage, StoreFault> {
        // Connection::audit_events
        // The bounds of ids are always there, so that partitions of other times are not looked at. At
        // most 10,000 events are looked at, those that do not match included, so that a statement is
        // short however few match; the last of them is answered as the place to go on from.
        macro_rules! select {
            ($of_principal:literal) => {
                concat!(
                    "select id, matches, case when matches then canonical end as canonical,
                        place = 10000 as last_looked_at
                     from (
                        select id, canonical, pg_catalog.row_number() over (order by id desc) as place,
                            (($4::text is null or service_key = $4)
                             and ($5::text is null or credential_id = $5)
                             and ($6::text is null or grant_id = $6)
                             and ($7::text is null or outcome = $7)) is true as matches
                        from vault.audit_events
                        where developer_id = $1 and id >= $2 and id < $3 ",
                    $of_principal,
                    "   order by id desc limit 10000
                     ) as looked_at
                     where matches or place = 10000
                     order by id desc limit $8"
                )
            };
        }
        const OF_ALL: &str = select!("");
        // The hash leads to the index; others that have it are told apart in their rows.
        const OF_PRINCIPAL: &str = select!(
            "and pg_catalog.hashtextextended(principal_id, pg_catalog.hashtextextended(developer_id, 0::bigint))
                = pg_catalog.hashtextextended($9::text, pg_catalog.hashtextextended($1, 0::bigint)) and principal_id = $9 "
        );
        let (from, to) = query.bounds();
        let developer = query.developer.as_str();
        let service = query.service.as_ref().map(ServiceKey::as_str);
        let credential = query.credential.map(|id| id.to_string());
        let grant = query.grant.as_ref().map(GrantId::as_str);
        let outcome = query.outcome.map(OutcomeName::as_str);
        let principal = query.principal.as_ref().map(PrincipalId::as_str);
        let limit = page::limit(size);
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![
            &developer,
            &from,
            &to,
            &service,
            &credential,
            &grant,
            &outcome,
            &limit,
        ];
        let sql = if principal.is_some() {
            parameters.push(&principal);
            OF_PRINCIPAL
        } else {
            OF_ALL
        };
        let (rows, more) = self
            .deadline(async {
                let statement = self.client().prepare_cached(sql).await?;
                let rows = self.client().query_raw(&statement, parameters).await?;
                page::collect(rows, size).await
            })
            .instrument(database_span!("select", "audit_events"))
            .await?;
        page_of(&rows, more)
    }
}

fn page_of(rows: &[Row], more: bool) -> Result<EventPage, StoreFault> {
    let (mut events, mut next) = (Vec::new(), None);
    for row in rows {
        let columns = Columns { table: TABLE, row };
        let id = columns.parse_option("id", EventId::parse)?;
        if columns.get("matches")? {
            events.push(StoredEvent {
                id,
                canonical: columns.get("canonical")?,
            });
        }
        let goes_on = more || columns.get("last_looked_at")?;
        next = goes_on.then_some(EventPosition(id));
    }
    Ok(EventPage { events, next })
}
