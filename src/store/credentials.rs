//! `vault.credentials`.

use std::fmt::Write;

use deadpool_postgres::GenericClient;
use tokio_postgres::{Row, types::ToSql};
use tracing::Instrument;

use super::{
    Connection, Store, StoreFault, Transaction, audit_events::AuditEventRow, columns::Columns,
    database_span, page,
};
use crate::model::{
    credential::Credential,
    id::{CredentialId, credential_id_pattern},
    metadata::Metadata,
    page::{CredentialFilter, Position},
    restrictions::Restrictions,
    scope::RequiredScope,
    sealed::{Sealed, SealedCredential},
    service_name::ServiceName,
    text::{AgentId, CredentialType, DeveloperId, PrincipalId},
    timestamp::Timestamp,
};

/// A credential to write.
pub struct CredentialWrite<'a> {
    /// The tenant.
    pub developer: &'a DeveloperId,
    /// The id that it gets when it is new.
    pub id_if_new: CredentialId,
    /// Whose it is.
    pub principal: &'a PrincipalId,
    /// What it is for.
    pub service: &'a ServiceName,
    /// What kind it is.
    pub credential_type: &'a CredentialType,
    /// Its secrets.
    pub sealed: &'a SealedCredential,
    /// The upstream expiry.
    pub token_expires_at: Option<Timestamp>,
    /// The developer's data.
    pub metadata: &'a Metadata,
    /// What an exchange needs beside a scope.
    pub restrictions: &'a Restrictions,
    /// Now.
    pub at: Timestamp,
}

/// The event of a write, of one id. Both name the credential by the id that it gets when it is new: where
/// one is replaced the statement puts its id in that place.
pub struct WriteEvent<'a> {
    /// What is recorded of a new credential.
    pub stored: &'a AuditEventRow,
    /// What is recorded of one that takes the place of another.
    pub replaced: &'a AuditEventRow,
}

/// What a write did.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// The new id, or the one that was kept.
    pub id: CredentialId,
    /// The first store.
    pub created_at: Timestamp,
    /// Whether there was one before.
    pub replaced: bool,
}

/// One page of a list.
#[derive(Debug)]
pub struct CredentialPage {
    /// Newest first.
    pub credentials: Vec<Credential>,
    /// Where the next page begins; `None` when this was the last.
    pub next: Option<Position>,
}

impl Transaction<'_> {
    /// Deletes a credential; answers whose and for which service it was, or `None` when there was none.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn delete_credential(
        &self,
        developer: &DeveloperId,
        id: CredentialId,
    ) -> Result<Option<(PrincipalId, ServiceName)>, StoreFault> {
        // Transaction::delete_credential
        const SQL: &str = "
            delete from vault.credentials where developer_id = $1 and id = $2
            returning id, principal_id, service";
        let row = self
            .deadline(async {
                let statement = self.inner.prepare_cached(SQL).await?;
                let parameters: [&(dyn ToSql + Sync); 2] = [&developer.as_str(), &id.to_string()];
                self.inner.query_opt(&statement, &parameters).await
            })
            .instrument(database_span!("delete", "credentials"))
            .await?;
        row.map(|row| {
            let columns = Columns {
                table: "credentials",
                row: &row,
            };
            let principal = columns.parse("principal_id", PrincipalId::parse)?;
            Ok((principal, columns.parse("service", ServiceName::parse)?))
        })
        .transpose()
    }
}

impl Store {
    /// One credential of a developer.
    ///
    /// # Errors
    ///
    /// When the database does not answer or the row is not one that the vault wrote.
    pub async fn credential(
        &self,
        developer: &DeveloperId,
        id: CredentialId,
    ) -> Result<Option<Credential>, StoreFault> {
        // Store::credential
        const SQL: &str = "
            select id, principal_id, service, credential_type, token_expires_at,
                metadata::text as metadata, created_at, updated_at, required_scopes, allowed_agents
            from vault.credentials
            where developer_id = $1 and id = $2";
        let parameters: [&(dyn ToSql + Sync); 2] = [&developer.as_str(), &id.to_string()];
        let row = self
            .read(SQL, &parameters)
            .instrument(database_span!("select", "credentials"))
            .await?;
        row.as_ref().map(credential).transpose()
    }

    /// A page of a developer's credentials, newest first, of at most `size`; it may be shorter and
    /// still not the last one.
    ///
    /// # Errors
    ///
    /// When the database does not answer or a row is not one that the vault wrote.
    pub async fn credentials(
        &self,
        developer: &DeveloperId,
        filter: &CredentialFilter,
        after: Option<Position>,
        size: usize,
    ) -> Result<CredentialPage, StoreFault> {
        let connection = self.connection().await?;
        connection.credentials(developer, filter, after, size).await
    }
}

impl Connection {
    /// Inserts a credential or replaces the one of the same developer, principal and service, together
    /// with its event, in one statement and one commit: both are durable when this has answered. Never
    /// under a master key that was retired, whatever the configuration of this replica says.
    ///
    /// # Errors
    ///
    /// When the master key is retired, or the row that would be replaced is not one that the vault wrote:
    /// then nothing is written. When the database does not answer, or refuses one of them: whether they
    /// are durable is then unknown.
    pub async fn write_credential(
        &self,
        write: &CredentialWrite<'_>,
        event: &WriteEvent<'_>,
    ) -> Result<Written, StoreFault> {
        // Connection::write_credential
        // xmax is 0 only on a row that this statement inserted. Nothing is written when the master key is
        // retired; `Store::retire_master_key` says why none can slip through, but in READ COMMITTED only.
        // The id of a new credential is nowhere else in its event: nobody has seen it before. The one
        // that was kept is put into JSON, so it must be an id: somebody may have changed the row.
        const SQL: &str = concat!(
            "
            with written as (
                insert into vault.credentials as c (
                    developer_id, id, principal_id, service, service_key, credential_type,
                    access_token, refresh_token, wrapped_key, master_key, token_expires_at, metadata,
                    created_at, updated_at, required_scopes, allowed_agents)
                select $1, $2, $3, $4, $5, $6, $7::bytea, $8::bytea, $9::bytea, $10,
                    $11::timestamptz, $12::text::json, $13::timestamptz, $13,
                    $14::text[], $15::text[]
                where current_setting('transaction_isolation') = 'read committed'
                  and not exists (
                    select from vault.master_keys where id = $10 and state = 'retired')
                on conflict (developer_id, principal_id, service_key) do update set
                    service = excluded.service,
                    credential_type = excluded.credential_type,
                    access_token = excluded.access_token,
                    refresh_token = excluded.refresh_token,
                    wrapped_key = excluded.wrapped_key,
                    master_key = excluded.master_key,
                    token_expires_at = excluded.token_expires_at,
                    metadata = excluded.metadata,
                    required_scopes = excluded.required_scopes,
                    allowed_agents = excluded.allowed_agents,
                    updated_at = greatest(
                        excluded.updated_at, c.updated_at + interval '1 millisecond')
                where c.id ~ '",
            credential_id_pattern!(),
            "'
                  and c.created_at between '0001-01-01T00:00:00Z' and '9999-12-31T00:00:00Z'
                returning id, created_at, xmax <> 0 as replaced),
            recorded as (
                insert into vault.audit_events (
                    developer_id, id, principal_id, service_key, credential_id, outcome, canonical)
                select $1, $16, $3, $5, id, case when replaced then $19 else $17 end,
                    convert_to(replace(case when replaced then $20 else $18 end, $2, id), 'UTF8')
                from written)
            select id, created_at, replaced from written"
        );
        let scopes = write.restrictions.required_scopes().iter();
        let scopes = column(scopes.map(RequiredScope::as_str));
        let agents = write.restrictions.allowed_agents().iter();
        let agents = column(agents.map(AgentId::as_str));
        let row = self
            .deadline(async {
                let statement = self.client().prepare_cached(SQL).await?;
                let parameters: [&(dyn ToSql + Sync); 20] = [
                    &write.developer.as_str(),
                    &write.id_if_new.to_string(),
                    &write.principal.as_str(),
                    &write.service.as_str(),
                    &write.service.key().as_str(),
                    &write.credential_type.as_str(),
                    &write.sealed.access_token.as_bytes(),
                    &write.sealed.refresh_token.as_ref().map(Sealed::as_bytes),
                    &write.sealed.data_key.bytes,
                    &write.sealed.data_key.master_key.as_str(),
                    &write.token_expires_at,
                    &write.metadata.as_str(),
                    &write.at,
                    &scopes,
                    &agents,
                    &event.stored.id.to_string(),
                    &event.stored.outcome,
                    &canonical_text(event.stored),
                    &event.replaced.outcome,
                    &canonical_text(event.replaced),
                ];
                self.client().query_opt(&statement, &parameters).await
            })
            .instrument(database_span!("insert", "credentials"))
            .await?;
        let Some(row) = row else {
            return self.refuse(write).await;
        };
        let columns = Columns {
            table: "credentials",
            row: &row,
        };
        Ok(Written {
            id: columns.parse_option("id", CredentialId::parse)?,
            created_at: columns.get("created_at")?,
            replaced: columns.get("replaced")?,
        })
    }

    /// The error of a write that wrote nothing, and always one. Why is asked afterwards, so that only those
    /// pay for it.
    async fn refuse(&self, write: &CredentialWrite<'_>) -> Result<Written, StoreFault> {
        // Connection::refuse
        const SQL: &str = "
            select
                current_setting('transaction_isolation') = 'read committed' as read_committed,
                exists (
                    select from vault.master_keys where id = $4 and state = 'retired') as retired,
                c.id is not null as stands, c.id, c.created_at
            from (values (true)) one
            left join vault.credentials c
                on c.developer_id = $1 and c.principal_id = $2 and c.service_key = $3";
        let master_key = &write.sealed.data_key.master_key;
        let row = self
            .deadline(async {
                let statement = self.client().prepare_cached(SQL).await?;
                let parameters: [&(dyn ToSql + Sync); 4] = [
                    &write.developer.as_str(),
                    &write.principal.as_str(),
                    &write.service.key().as_str(),
                    &master_key.as_str(),
                ];
                self.client().query_one(&statement, &parameters).await
            })
            .instrument(database_span!("select", "credentials"))
            .await?;
        let columns = Columns {
            table: "credentials",
            row: &row,
        };
        if !columns.get::<bool>("read_committed")? {
            let why = "the database's transactions are not READ COMMITTED";
            return Err(StoreFault::Unavailable(why.into()));
        }
        if columns.get("retired")? {
            return Err(StoreFault::RetiredMasterKey(master_key.clone()));
        }
        if columns.get("stands")? {
            columns.parse_option("id", CredentialId::parse)?;
            columns.get::<Timestamp>("created_at")?;
        }
        let why = "what kept a credential from being written is not there any more";
        Err(StoreFault::Unavailable(why.into()))
    }

    async fn credentials(
        &self,
        developer: &DeveloperId,
        filter: &CredentialFilter,
        after: Option<Position>,
        size: usize,
    ) -> Result<CredentialPage, StoreFault> {
        let (developer, after_id) = (developer.as_str(), after.map(|place| place.id.to_string()));
        let service_key = filter.service.as_deref().map(str::to_ascii_lowercase);
        let limit = page::limit(size);
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&developer, &limit];
        // Connection::credentials
        // A statement for each set of filters, so that each gets the plan and index of its own.
        let mut sql = String::from(
            "select id, principal_id, service, credential_type, token_expires_at,
                metadata::text as metadata, created_at, updated_at, required_scopes, allowed_agents
            from vault.credentials
            where developer_id = $1",
        );
        if let Some(principal) = &filter.principal_id {
            parameters.push(principal);
            append(
                &mut sql,
                format_args!(" and principal_id = ${}", parameters.len()),
            );
        }
        if let Some(key) = &service_key {
            parameters.push(key);
            append(
                &mut sql,
                format_args!(" and service_key = ${}", parameters.len()),
            );
        }
        if let (Some(place), Some(id)) = (&after, &after_id) {
            parameters.push(&place.created_at);
            parameters.push(id);
            let id = parameters.len();
            append(
                &mut sql,
                format_args!(" and (created_at, id) < (${}, ${id})", id - 1),
            );
        }
        sql.push_str(" order by created_at desc, id desc limit $2");
        let (rows, more) = self
            .deadline(async {
                let statement = self.client().prepare_cached(&sql).await?;
                let rows = self.client().query_raw(&statement, parameters).await?;
                page::collect(rows, size).await
            })
            .instrument(database_span!("select", "credentials"))
            .await?;
        let credentials = rows.iter().map(credential).collect::<Result<Vec<_>, _>>()?;
        let last = credentials.last().filter(|_| more);
        let next = last.map(|last| Position {
            created_at: last.created_at,
            id: last.id,
        });
        Ok(CredentialPage { credentials, next })
    }
}

/// A list that restricts a credential, as its column has it: null when there is none.
fn column<'a>(entries: impl Iterator<Item = &'a str>) -> Option<Vec<&'a str>> {
    let entries: Vec<_> = entries.collect();
    (!entries.is_empty()).then_some(entries)
}

fn canonical_text(event: &AuditEventRow) -> &str {
    str::from_utf8(&event.canonical).expect("canonical bytes are JSON")
}

fn append(sql: &mut String, text: std::fmt::Arguments<'_>) {
    sql.write_fmt(text).expect("a string takes what is written");
}

fn credential(row: &Row) -> Result<Credential, StoreFault> {
    let columns = Columns {
        table: "credentials",
        row,
    };
    Ok(Credential {
        id: columns.parse_option("id", CredentialId::parse)?,
        principal_id: columns.parse("principal_id", PrincipalId::parse)?,
        service: columns.parse("service", ServiceName::parse)?,
        credential_type: columns.parse("credential_type", CredentialType::parse)?,
        token_expires_at: columns.get("token_expires_at")?,
        metadata: columns.parse_option("metadata", Metadata::from_stored)?,
        created_at: columns.get("created_at")?,
        updated_at: columns.get("updated_at")?,
        restrictions: columns.restrictions()?,
    })
}
