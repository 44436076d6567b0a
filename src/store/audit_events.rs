//! `vault.audit_events`: append only.

use deadpool_postgres::GenericClient;
use tokio_postgres::{Statement, types::ToSql};

use super::{Query, Store, StoreFault};
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
        let connection = self.connection_of(&self.journal).await?;
        connection
            .deadline(append(connection.client(), events, tried))
            .await
    }
}

/// The insert of events, and what becomes of those that are there.
///
/// Arrays that are unnested side by side go through no table in between, as they would after `from`:
/// a third of the time for it.
macro_rules! append_sql {
    ($there:literal) => {
        // audit_events::append
        concat!(
            "insert into vault.audit_events (
                developer_id, id, principal_id, service_key, credential_id, grant_id, outcome,
                canonical)
            select unnest($1::text[]), unnest($2::text[]), unnest($3::text[]), unnest($4::text[]),
                unnest($5::text[]), unnest($6::text[]), unnest($7::text[]), unnest($8::bytea[])",
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
        Tried::OutcomeUnknown => append_sql!(" on conflict do nothing"),
    };
    client.prepare_cached(sql).await
}

/// Appends events; the statement is sent when this is first polled.
pub(super) async fn execute(
    client: &impl GenericClient,
    statement: &Statement,
    events: &[AuditEventRow],
) -> Query<()> {
    // No developer has an empty id.
    let developers = column(events, |event| {
        event.developer.as_ref().map_or("", DeveloperId::as_str)
    });
    let ids = column(events, |event| event.id.to_string());
    let principals = column(events, |event| {
        event.principal.as_ref().map(PrincipalId::as_str)
    });
    let services = column(events, |event| {
        event.service.as_ref().map(ServiceKey::as_str)
    });
    let credentials = column(events, |event| event.credential.map(|id| id.to_string()));
    let grants = column(events, |event| event.grant.as_ref().map(GrantId::as_str));
    let outcomes = column(events, |event| event.outcome);
    let canonical = column(events, |event| event.canonical.as_slice());
    let parameters: [&(dyn ToSql + Sync); 8] = [
        &developers,
        &ids,
        &principals,
        &services,
        &credentials,
        &grants,
        &outcomes,
        &canonical,
    ];
    client.execute(statement, &parameters).await.map(|_| ())
}

fn column<'a, T>(events: &'a [AuditEventRow], value: impl FnMut(&'a AuditEventRow) -> T) -> Vec<T> {
    events.iter().map(value).collect()
}
