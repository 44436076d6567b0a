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
    /// A page of a developer's events, newest first, of at most `size`; it may be shorter and still
    /// not the last one.
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
        // The bounds of ids are always there, so that partitions of other times are not looked at.
        macro_rules! select {
            ($of_principal:literal) => {
                concat!(
                    "select id, canonical from vault.audit_events
                     where developer_id = $1 and id >= $2 and id < $3
                       and ($4::text is null or service_key = $4)
                       and ($5::text is null or credential_id = $5)
                       and ($6::text is null or grant_id = $6)
                       and ($7::text is null or outcome = $7) ",
                    $of_principal,
                    " order by id desc limit $8"
                )
            };
        }
        const OF_ALL: &str = select!("");
        // `left` leads to the index, which has no more of a principal; the rest is compared in rows.
        const OF_PRINCIPAL: &str =
            select!("and left(principal_id, 64) = left($9::text, 64) and principal_id = $9");
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
        let events = rows.iter().map(event).collect::<Result<Vec<_>, _>>()?;
        let last = events.last().filter(|_| more);
        let next = last.map(|last| EventPosition(last.id));
        Ok(EventPage { events, next })
    }
}

fn event(row: &Row) -> Result<StoredEvent, StoreFault> {
    let columns = Columns { table: TABLE, row };
    Ok(StoredEvent {
        id: columns.parse_option("id", EventId::parse)?,
        canonical: columns.get("canonical")?,
    })
}
