//! How `vault.credentials` is written by a request: a credential and its event, in one statement.

use sha2::{Digest, Sha256};
use tokio_postgres::{Row, types::ToSql};
use tracing::Instrument;

use super::{
    Connection, StoreFault, audit_events::AuditEventRow, columns::Columns, database_span,
    durable::durably,
};
use crate::model::{
    id::CredentialId,
    metadata::Metadata,
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

/// The event of a write, of one id: the statement records the one that is true.
pub struct WriteEvent {
    /// What is recorded of a new credential.
    pub stored: AuditEventRow,
    /// What is recorded of one that takes the place of the credential that this event names. No other
    /// credential is replaced.
    pub replaced: Option<AuditEventRow>,
}

/// What became of a write.
#[derive(Debug, Clone, Copy)]
pub enum Outcome {
    /// It is durable, and so is its event.
    Written(Written),
    /// Nothing was written: a credential of this id is there, which the event does not name.
    Stands(CredentialId),
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

// Connection::write_credential
// xmax is 0 only on a row that this statement inserted. Nothing is written when the master key is
// retired; `Store::retire_master_key` says why none can slip through, but in READ COMMITTED only.
// Nothing is written either when a row is there whose id the event does not name: whoever reads the
// event must find the credential by it, and the bytes of an event are made by the vault alone. A row that
// is seen from the beginning is not even locked; one that comes meanwhile is found by the conflict.
const WRITE: &str = concat!(
    "
    with there as (
        select id from vault.credentials
        where developer_id = $1 and principal_id = $3 and service_key = $5),
    written as (
        insert into vault.credentials as c (
            developer_id, id, principal_id, service, service_key, credential_type,
            access_token, refresh_token, wrapped_key, master_key, token_expires_at, metadata,
            created_at, updated_at, required_scopes, allowed_agents)
        select $1, $2, $3, $4, $5, $6, $7::bytea, $8::bytea, $9::bytea, $10,
            $11::timestamptz, $12::text::json, $13::timestamptz, $13,
            $14::text[], $15::text[]
        where ",
    durably!(),
    "
          and current_setting('transaction_isolation') = 'read committed'
          and not exists (
            select from vault.master_keys where id = $10 and state = 'retired')
          and not exists (select from there where id is distinct from $20::text)
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
        where c.id = $20::text
          and c.created_at between '0001-01-01T00:00:00Z' and '9999-12-31T00:00:00Z'
        returning id, created_at, xmax <> 0 as replaced),
    recorded as (
        insert into vault.audit_events (
            developer_id, id, principal_id, service_key, credential_id, outcome, canonical, hash)
        select $1, $16, $3, $5, id,
            case when replaced then $21 else $17 end,
            case when replaced then $22::bytea else $18::bytea end,
            case when replaced then $23::bytea else $19::bytea end
        from written)
    select w.id, w.created_at, w.replaced, t.id as there
    from (values (true)) one
    left join written w on true
    left join there t on true"
);

impl Connection {
    /// The id that the credential of this place had when it was written last, as far as this replica
    /// knows: a guess to begin with.
    #[must_use]
    pub fn id_written_last(&self, write: &CredentialWrite<'_>) -> Option<CredentialId> {
        self.written_last.get(write)
    }

    /// Inserts a credential or replaces the one of the same developer, principal and service, together
    /// with its event, in one statement and one commit: both are durable when this has answered that they
    /// are written. Never under a master key that was retired, whatever the configuration of this replica
    /// says.
    ///
    /// # Errors
    ///
    /// When the master key is retired, or the row that would be replaced is not one that the vault wrote:
    /// then nothing is written. When the database does not answer, or refuses one of them: whether they
    /// are durable is then unknown.
    pub async fn write_credential(
        &self,
        write: &CredentialWrite<'_>,
        event: &WriteEvent,
    ) -> Result<Outcome, StoreFault> {
        let row = self
            .execute_write(write, event)
            .instrument(database_span!("insert", "credentials"))
            .await?;
        let columns = Columns {
            table: "credentials",
            row: &row,
        };
        let Some(created_at) = columns.get("created_at")? else {
            let there: Option<&str> = columns.get("there")?;
            let named = event.replaced.as_ref().and_then(|event| event.credential);
            return match there.and_then(CredentialId::parse) {
                Some(there) if Some(there) != named => Ok(Outcome::Stands(there)),
                _ => self.refuse(write).await,
            };
        };
        let written = Written {
            id: columns.parse_option("id", CredentialId::parse)?,
            created_at,
            replaced: columns.get("replaced")?,
        };
        self.written_last.keep(write, written.id);
        Ok(Outcome::Written(written))
    }

    async fn execute_write(
        &self,
        write: &CredentialWrite<'_>,
        event: &WriteEvent,
    ) -> Result<Row, StoreFault> {
        let scopes = write.restrictions.required_scopes().iter();
        let scopes = column(scopes.map(RequiredScope::as_str));
        let agents = write.restrictions.allowed_agents().iter();
        let agents = column(agents.map(AgentId::as_str));
        let replaced = event.replaced.as_ref();
        let hash = |event: &AuditEventRow| Sha256::digest(&event.canonical).to_vec();
        let kept = replaced.and_then(|event| event.credential);
        let parameters: [&(dyn ToSql + Sync); 23] = [
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
            &event.stored.canonical,
            &hash(&event.stored),
            &kept.map(|id| id.to_string()),
            &replaced.map(|event| event.outcome),
            &replaced.map(|event| &event.canonical),
            &replaced.map(hash),
        ];
        let work = async {
            let statement = self.client().prepare_cached(WRITE).await?;
            self.client().query_one(&statement, &parameters).await
        };
        self.deadline(work).await
    }

    /// Why a write wrote nothing that was not told at once: asked afterwards, so that only those pay for
    /// it.
    async fn refuse(&self, write: &CredentialWrite<'_>) -> Result<Outcome, StoreFault> {
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
            let id = columns.parse_option("id", CredentialId::parse)?;
            columns.get::<Timestamp>("created_at")?;
            return Ok(Outcome::Stands(id));
        }
        let why = "what kept a credential from being written is not there any more";
        Err(StoreFault::Unavailable(why.into()))
    }
}

/// A list that restricts a credential, as its column has it: null when there is none.
fn column<'a>(entries: impl Iterator<Item = &'a str>) -> Option<Vec<&'a str>> {
    let entries: Vec<_> = entries.collect();
    (!entries.is_empty()).then_some(entries)
}
