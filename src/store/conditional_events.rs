//! Audit events that are appended if something holds.

use std::collections::HashSet;

use deadpool_postgres::GenericClient;

use super::{
    Query, Store, StoreFault,
    audit_events::{AuditEventRow, Events, Tried},
    authority::{Authority, revoked_sql},
    durable::{durably, waits_for_standbys},
    precondition::{Precondition, Preconditions},
    writers::read_committed,
};

/// An event that is appended if something holds.
#[derive(Debug, Clone)]
pub struct ConditionalEvent {
    /// The event.
    pub row: AuditEventRow,
    /// What must hold.
    pub only_if: Precondition,
}

impl Store {
    /// Appends those events whose preconditions hold, on a connection that is kept for it, in one
    /// statement and one commit; they are durable when this has answered. When that was tried before and
    /// its outcome is unknown, those that are there already are left as they are, and count while their
    /// grants live.
    ///
    /// The statement reads what others write and may lock, the auth service's grants say; so it has a
    /// connection of its own, and no other event waits behind it.
    ///
    /// It answers of each event whether it is there.
    ///
    /// # Errors
    ///
    /// [`StoreFault::Refused`] when it is an event that must change, and then none was appended; when
    /// the database does not answer.
    pub async fn append_conditional_events(
        &self,
        events: &[ConditionalEvent],
        tried: Tried,
    ) -> Result<Vec<bool>, StoreFault> {
        self.refuse_unfit()?;
        let connection = self.connection_of(&self.confirming).await?;
        let append = append(connection.client(), events, self.authority, tried);
        connection.deadline(append).await
    }
}

/// The events, each with its precondition.
macro_rules! asked_sql {
    () => {
        "(select pg_catalog.unnest($1::text[]) as developer_id, pg_catalog.unnest($2::text[]) as id,
            pg_catalog.unnest($3::text[]) as principal_id, pg_catalog.unnest($4::text[]) as service_key,
            pg_catalog.unnest($5::text[]) as credential_id, pg_catalog.unnest($6::text[]) as grant_id,
            pg_catalog.unnest($7::text[]) as outcome, pg_catalog.unnest($8::bytea[]) as canonical,
            pg_catalog.unnest($9::bytea[]) as hash,
            pg_catalog.unnest($10::xid[]) as version, pg_catalog.unnest($11::bytea[]) as wrapped_key,
            pg_catalog.unnest($12::text[]) as token, pg_catalog.unnest($13::text[]) as parent_grant_id,
            pg_catalog.unnest($14::timestamptz[]) as at
        ) asked"
    };
}

/// The insert of those events whose precondition holds in the snapshot of this statement; it answers the
/// ids of what was inserted.
///
/// The version is compared with that of one row, found by the limit: as a join it would be planned with
/// all of them.
macro_rules! append_sql {
    ($authority:ident, $there:expr) => {
        // conditional_events::append
        concat!(
            "insert into vault.audit_events (
                developer_id, id, principal_id, service_key, credential_id, grant_id, outcome,
                canonical, hash)
            select developer_id, id, principal_id, service_key, credential_id, grant_id, outcome,
                canonical, hash
            from ",
            asked_sql!(),
            " where ",
            durably!(),
            " and (
                select c.xmin = asked.version and c.wrapped_key = asked.wrapped_key
                from vault.credentials c
                where c.developer_id = asked.developer_id
                  and c.principal_id = asked.principal_id
                  and c.service_key = asked.service_key
                limit 1)
              and not ",
            revoked_sql!($authority),
            " and ",
            read_committed!(),
            $there,
            " returning id"
        )
    };
}

/// The same when it was tried before: it answers the ids of what was inserted now or then. An event of
/// then counts only while its grant lives: whoever revoked that meanwhile was told that nothing leaves any
/// more.
macro_rules! append_again_sql {
    ($authority:ident) => {
        // conditional_events::append
        concat!(
            "with inserted as (",
            append_sql!(
                $authority,
                concat!(" and ", waits_for_standbys!(), " on conflict do nothing")
            ),
            ")
            select id from inserted
            union all
            select e.id
            from ",
            asked_sql!(),
            " join vault.audit_events e
              on e.developer_id = asked.developer_id and e.id = asked.id
            where not ",
            revoked_sql!($authority),
            " and ",
            read_committed!()
        )
    };
}

async fn append(
    client: &impl GenericClient,
    events: &[ConditionalEvent],
    authority: Authority,
    tried: Tried,
) -> Query<Vec<bool>> {
    let statement = client
        .prepare_cached(match (authority, tried) {
            (Authority::Standalone, Tried::Never) => append_sql!(Standalone, ""),
            (Authority::Grantex, Tried::Never) => append_sql!(Grantex, ""),
            (Authority::Standalone, Tried::OutcomeUnknown) => append_again_sql!(Standalone),
            (Authority::Grantex, Tried::OutcomeUnknown) => append_again_sql!(Grantex),
        })
        .await?;
    let preconditions = Preconditions::of(events.iter().map(|event| &event.only_if));
    let events = Events::of(events.iter().map(|event| &event.row));
    let parameters = [&events.parameters()[..], &preconditions.parameters()[..]].concat();
    let rows = client.query(&statement, &parameters).await?;
    let there: HashSet<&str> = rows.iter().map(|row| row.get("id")).collect();
    Ok(events.ids().map(|id| there.contains(id)).collect())
}
