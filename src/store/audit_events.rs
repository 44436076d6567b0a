//! `vault.audit_events`: append only.

use std::collections::HashSet;

use deadpool_postgres::GenericClient;
use tokio_postgres::{Statement, types::ToSql};

use super::{
    Query, Store, StoreFault,
    authority::{Authority, revoked_sql},
    precondition::{Precondition, Preconditions},
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

/// An event that is appended if something holds.
#[derive(Debug, Clone)]
pub struct ConditionalEvent {
    /// The event.
    pub row: AuditEventRow,
    /// What must hold; nothing for one that is appended in any case.
    pub only_if: Option<Precondition>,
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
    /// It answers of each whether it is there: one whose precondition does not hold is not.
    ///
    /// # Errors
    ///
    /// [`StoreFault::Refused`] when it is an event that must change, and then none was appended; when
    /// the database does not answer.
    pub async fn append_audit_events(
        &self,
        events: &[ConditionalEvent],
        tried: Tried,
    ) -> Result<Vec<bool>, StoreFault> {
        let connection = self.connection_of(&self.journal).await?;
        let client = connection.client();
        if events.iter().any(|event| event.only_if.is_some()) {
            let append = append_if(client, events, self.authority, tried);
            return connection.deadline(append).await;
        }
        connection.deadline(append(client, events, tried)).await?;
        Ok(vec![true; events.len()])
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

/// The insert of those events whose precondition holds in the snapshot of this statement, and of those
/// that have none; it answers the ids of what was inserted.
///
/// The version is compared with that of one row, found by the limit: as a join it would be planned with
/// all of them.
macro_rules! append_if_sql {
    ($authority:ident, $there:literal) => {
        // audit_events::append_if
        concat!(
            "insert into vault.audit_events (
                developer_id, id, principal_id, service_key, credential_id, grant_id, outcome,
                canonical)
            select developer_id, id, principal_id, service_key, credential_id, grant_id, outcome,
                canonical
            from (
                select unnest($1::text[]) as developer_id, unnest($2::text[]) as id,
                    unnest($3::text[]) as principal_id, unnest($4::text[]) as service_key,
                    unnest($5::text[]) as credential_id, unnest($6::text[]) as grant_id,
                    unnest($7::text[]) as outcome, unnest($8::bytea[]) as canonical,
                    unnest($9::xid[]) as version, unnest($10::bytea[]) as wrapped_key,
                    unnest($11::text[]) as token, unnest($12::text[]) as parent_grant_id,
                    unnest($13::timestamptz[]) as at
            ) asked
            where version is null
              or ((
                    select c.xmin = asked.version and c.wrapped_key = asked.wrapped_key
                    from vault.credentials c
                    where c.developer_id = asked.developer_id
                      and c.principal_id = asked.principal_id
                      and c.service_key = asked.service_key
                    limit 1)
                and not ",
            revoked_sql!($authority),
            ")",
            $there,
            " returning id"
        )
    };
}

/// The same when it was tried before: it answers the ids of what was inserted now or then.
macro_rules! append_if_again_sql {
    ($authority:ident) => {
        // audit_events::append_if
        concat!(
            "with inserted as (",
            append_if_sql!($authority, " on conflict do nothing"),
            ")
            select id from inserted
            union all
            select e.id
            from unnest($1::text[], $2::text[]) asked (developer_id, id)
            join vault.audit_events e
              on e.developer_id = asked.developer_id and e.id = asked.id"
        )
    };
}

async fn append(
    client: &impl GenericClient,
    events: &[ConditionalEvent],
    tried: Tried,
) -> Query<()> {
    let statement = prepare(client, tried).await?;
    execute(client, &statement, &rows(events)).await
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
    events: &[&AuditEventRow],
) -> Query<()> {
    let events = Events::of(events);
    client
        .execute(statement, &events.parameters())
        .await
        .map(|_| ())
}

/// Appends those events whose preconditions hold.
async fn append_if(
    client: &impl GenericClient,
    events: &[ConditionalEvent],
    authority: Authority,
    tried: Tried,
) -> Query<Vec<bool>> {
    let statement = client
        .prepare_cached(match (authority, tried) {
            (Authority::Standalone, Tried::Never) => append_if_sql!(Standalone, ""),
            (Authority::Grantex, Tried::Never) => append_if_sql!(Grantex, ""),
            (Authority::Standalone, Tried::OutcomeUnknown) => append_if_again_sql!(Standalone),
            (Authority::Grantex, Tried::OutcomeUnknown) => append_if_again_sql!(Grantex),
        })
        .await?;
    let preconditions = Preconditions::of(events);
    let events = Events::of(&rows(events));
    let parameters = [&events.parameters()[..], &preconditions.parameters()[..]].concat();
    let rows = client.query(&statement, &parameters).await?;
    let there: HashSet<&str> = rows.iter().map(|row| row.get("id")).collect();
    let is_there = |id: &String| there.contains(id.as_str());
    Ok(events.ids.iter().map(is_there).collect())
}

/// Events, a column for each field.
struct Events<'a> {
    developers: Vec<&'a str>,
    ids: Vec<String>,
    principals: Vec<Option<&'a str>>,
    services: Vec<Option<&'a str>>,
    credentials: Vec<Option<String>>,
    grants: Vec<Option<&'a str>>,
    outcomes: Vec<&'a str>,
    canonical: Vec<&'a [u8]>,
}

impl<'a> Events<'a> {
    fn of(rows: &[&'a AuditEventRow]) -> Self {
        Self {
            // No developer has an empty id.
            developers: column(rows, |row| {
                row.developer.as_ref().map_or("", DeveloperId::as_str)
            }),
            ids: column(rows, |row| row.id.to_string()),
            principals: column(rows, |row| row.principal.as_ref().map(PrincipalId::as_str)),
            services: column(rows, |row| row.service.as_ref().map(ServiceKey::as_str)),
            credentials: column(rows, |row| row.credential.map(|id| id.to_string())),
            grants: column(rows, |row| row.grant.as_ref().map(GrantId::as_str)),
            outcomes: column(rows, |row| row.outcome),
            canonical: column(rows, |row| row.canonical.as_slice()),
        }
    }

    /// In the order of the fields.
    fn parameters(&self) -> [&(dyn ToSql + Sync); 8] {
        [
            &self.developers,
            &self.ids,
            &self.principals,
            &self.services,
            &self.credentials,
            &self.grants,
            &self.outcomes,
            &self.canonical,
        ]
    }
}

fn column<'a, T>(rows: &[&'a AuditEventRow], value: impl FnMut(&'a AuditEventRow) -> T) -> Vec<T> {
    rows.iter().copied().map(value).collect()
}

fn rows(events: &[ConditionalEvent]) -> Vec<&AuditEventRow> {
    events.iter().map(|event| &event.row).collect()
}
