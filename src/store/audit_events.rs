//! `vault.audit_events`: append only.

use deadpool_postgres::GenericClient;
use sha2::{Digest, Sha256};
use tokio_postgres::{Statement, types::ToSql};

use super::{
    Query, Store, StoreFault,
    durable::{durably, waits_for_standbys},
};
use crate::model::{
    id::{CredentialId, EventId},
    service_name::ServiceKey,
    text::{DeveloperId, GrantId, PrincipalId},
};

/// An event as it is stored: its bytes, and beside them what readers may ask for.
#[derive(Debug, Clone)]
pub struct AuditEventRow {
    /// The tenant, when it is about one.
    pub developer: Option<DeveloperId>,
    /// The event.
    pub id: EventId,
    /// Whose credential it was about.
    pub principal: Option<PrincipalId>,
    /// For which service.
    pub service: Option<ServiceKey>,
    /// Which one.
    pub credential: Option<CredentialId>,
    /// The grant that was asked with.
    pub grant: Option<GrantId>,
    /// What became of it.
    pub outcome: &'static str,
    /// The event itself.
    pub canonical: Vec<u8>,
}

/// Whether it was tried to append events before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    /// They are new.
    Never,
    /// Some may be there.
    OutcomeUnknown,
}

impl Store {
    /// Appends events on the connection that is kept for it, in one statement and one commit; they
    /// are durable when this has answered. When that was tried before and its outcome is unknown, those
    /// that are there already are left as they are.
    ///
    /// # Errors
    ///
    /// [`StoreFault::Refused`] when it is an event that must change, and then none was appended; when
    /// the database does not answer.
    pub async fn append_audit_events(
        &self,
        events: &[AuditEventRow],
        tried: Tried,
    ) -> Result<(), StoreFault> {
        self.refuse_unfit()?;
        let connection = self.connection_of(&self.recording).await?;
        let append = append(connection.client(), events, tried);
        connection.deadline(append).await
    }
}

/// The insert of events, and what becomes of those that are there.
///
/// Arrays that are unnested side by side go through no table in between, as they would after `from`:
/// a third of the time for it.
macro_rules! append_sql {
    ($there:expr) => {
        // audit_events::append
        concat!(
            "insert into vault.audit_events (
                developer_id, id, principal_id, service_key, credential_id, grant_id, outcome,
                canonical, hash)
            select pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[]),
                pg_catalog.unnest($5::text[]), pg_catalog.unnest($6::text[]), pg_catalog.unnest($7::text[]), pg_catalog.unnest($8::bytea[]),
                pg_catalog.unnest($9::bytea[])
            where ",
            durably!(),
            $there
        )
    };
}

async fn append(client: &impl GenericClient, events: &[AuditEventRow], tried: Tried) -> Query<()> {
    let statement = prepare(client, tried).await?;
    execute(client, &statement, events).await
}

/// The statement that appends, which is on its way to the server once only.
pub(super) async fn prepare(client: &impl GenericClient, tried: Tried) -> Query<Statement> {
    let sql = match tried {
        // Looking for rows that cannot be there costs a look into the index and a record of the WAL each.
        Tried::Never => append_sql!(""),
        // Without a conflict target: with one, the role would need to read what it writes.
        Tried::OutcomeUnknown => append_sql!(concat!(
            " and ",
            waits_for_standbys!(),
            " on conflict do nothing"
        )),
    };
    client.prepare_cached(sql).await
}

/// Appends events; the statement is sent when this is first polled.
pub(super) async fn execute(
    client: &impl GenericClient,
    statement: &Statement,
    events: &[AuditEventRow],
) -> Query<()> {
    let events = Events::of(events);
    client
        .execute(statement, &events.parameters())
        .await
        .map(|_| ())
}

/// Events, a column for each field.
pub(super) struct Events<'a> {
    developers: Vec<&'a str>,
    ids: Vec<String>,
    principals: Vec<Option<&'a str>>,
    services: Vec<Option<&'a str>>,
    credentials: Vec<Option<String>>,
    grants: Vec<Option<&'a str>>,
    outcomes: Vec<&'a str>,
    canonical: Vec<&'a [u8]>,
    hashes: Vec<Vec<u8>>,
}

impl<'a> Events<'a> {
    pub(super) fn of(rows: impl IntoIterator<Item = &'a AuditEventRow, IntoIter: Clone>) -> Self {
        let rows = rows.into_iter();
        Self {
            // No developer has an empty id.
            developers: column(&rows, |row| {
                row.developer.as_ref().map_or("", DeveloperId::as_str)
            }),
            ids: column(&rows, |row| row.id.to_string()),
            principals: column(&rows, |row| row.principal.as_ref().map(PrincipalId::as_str)),
            services: column(&rows, |row| row.service.as_ref().map(ServiceKey::as_str)),
            credentials: column(&rows, |row| row.credential.map(|id| id.to_string())),
            grants: column(&rows, |row| row.grant.as_ref().map(GrantId::as_str)),
            outcomes: column(&rows, |row| row.outcome),
            canonical: column(&rows, |row| row.canonical.as_slice()),
            // Here rather than by Postgres for each seal, whom one costs 2 µs.
            hashes: column(&rows, |row| Sha256::digest(&row.canonical).to_vec()),
        }
    }

    /// In the order of the events.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.ids.iter().map(String::as_str)
    }

    /// In the order of the fields.
    pub(super) fn parameters(&self) -> [&(dyn ToSql + Sync); 9] {
        [
            &self.developers,
            &self.ids,
            &self.principals,
            &self.services,
            &self.credentials,
            &self.grants,
            &self.outcomes,
            &self.canonical,
            &self.hashes,
        ]
    }
}

fn column<'a, T>(
    rows: &(impl Iterator<Item = &'a AuditEventRow> + Clone),
    value: impl FnMut(&'a AuditEventRow) -> T,
) -> Vec<T> {
    rows.clone().map(value).collect()
}
