//! How `vault.credentials` is written by a request: a credential and its event, in one statement.

use sha2::{Digest, Sha256};
use tokio_postgres::{Row, types::ToSql};
use tracing::Instrument;

use super::{
    Connection, StoreFault,
    audit_events::AuditEventRow,
    authority::{Authority, key_is_valid_sql},
    columns::Columns,
    database_span,
    durable::durably,
    writers::{not_read_committed, read_committed},
};
use crate::model::{
    bearer::ApiKeyHash,
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
    /// The API key that the tenant came with.
    pub api_key: &'a ApiKeyHash,
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
    /// Nothing was written: a credential is there that the event does not name; of this id, unless it has
    /// gone since.
    Stands(Option<CredentialId>),
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

/// The insert of a credential. Nothing is written when the master key is retired or the API key is not
/// valid any more; `writers.rs` says why none can slip through, but in READ COMMITTED only.
macro_rules! insert_sql {
    ($authority:ident) => {
        // Connection::write_credential
        concat!(
            "
            insert into vault.credentials as c (
                developer_id, id, principal_id, service, service_key, credential_type,
                access_token, refresh_token, wrapped_key, master_key, token_expires_at, metadata,
                created_at, updated_at, required_scopes, allowed_agents)
            select $1, $2, $3, $4, $5, $6, $7::bytea, $8::bytea, $9::bytea, $10,
                $11::timestamptz, $12::text::json, $13::timestamptz, $13,
                $14::text[], $15::text[]
            where ",
            durably!(),
            " and ",
            key_is_valid_sql!($authority, "$1", "$20", "$13"),
            " and ",
            read_committed!(),
            "
              and not exists (
                select from vault.master_keys where id = $10 and state = 'retired')
            on conflict (developer_id, principal_id, service_key) "
        )
    };
}

// Connection::write_credential
// Of a credential that is believed to be new: where there is one, nothing is even locked.
macro_rules! write_new_sql {
    ($authority:ident) => {
        concat!(
            "with written as (",
            insert_sql!($authority),
            "do nothing
                returning id, created_at, false as replaced),
            recorded as (
                insert into vault.audit_events (
                    developer_id, id, principal_id, service_key, credential_id, outcome, canonical, hash)
                select $1, $16, $3, $5, id, $17, $18::bytea, $19::bytea
                from written)
            select id, created_at, replaced from written"
        )
    };
}

// Connection::write_credential
// xmax is 0 only on a row that this statement inserted. A row whose id the event does not name is not
// replaced: whoever reads the event must find the credential by it, and the bytes of an event are made by
// the vault alone.
macro_rules! write_over_sql {
    ($authority:ident) => {
        concat!(
            "with written as (",
            insert_sql!($authority),
            "do update set
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
                where c.id = $21::text
                  and c.created_at between '0001-01-01T00:00:00Z' and '9999-12-31T00:00:00Z'
                returning id, created_at, xmax <> 0 as replaced),
            recorded as (
                insert into vault.audit_events (
                    developer_id, id, principal_id, service_key, credential_id, outcome, canonical, hash)
                select $1, $16, $3, $5, id,
                    case when replaced then $22 else $17 end,
                    case when replaced then $23::bytea else $18::bytea end,
                    case when replaced then $24::bytea else $19::bytea end
                from written)
            select id, created_at, replaced from written"
        )
    };
}

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
    /// When the API key is not valid any more, the master key is retired, or the row that would be replaced is not one that the vault wrote:
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
        let Some(row) = row else {
            return self.refuse(write).await;
        };
        let columns = Columns {
            table: "credentials",
            row: &row,
        };
        let written = Written {
            id: columns.parse_option("id", CredentialId::parse)?,
            created_at: columns.get("created_at")?,
            replaced: columns.get("replaced")?,
        };
        self.written_last.keep(write, written.id);
        Ok(Outcome::Written(written))
    }

    async fn execute_write(
        &self,
        write: &CredentialWrite<'_>,
        event: &WriteEvent,
    ) -> Result<Option<Row>, StoreFault> {
        let scopes = write.restrictions.required_scopes().iter();
        let scopes = column(scopes.map(RequiredScope::as_str));
        let agents = write.restrictions.allowed_agents().iter();
        let agents = column(agents.map(AgentId::as_str));
        let hash = |event: &AuditEventRow| Sha256::digest(&event.canonical).to_vec();
        let kept = event.replaced.as_ref();
        let kept = kept.and_then(|event| Some((event.credential?.to_string(), event)));
        let of_kept = kept.as_ref().map(|(id, event)| (id, event, hash(event)));
        let (id, stored) = (write.id_if_new.to_string(), &event.stored);
        let (event_id, stored_hash) = (stored.id.to_string(), hash(stored));
        let mut parameters: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(24);
        let (developer, principal) = (write.developer.as_str(), write.principal.as_str());
        let (service, key) = (write.service.as_str(), write.service.key().as_str());
        let (kind, metadata) = (write.credential_type.as_str(), write.metadata.as_str());
        let (sealed, api_key) = (write.sealed, write.api_key.as_bytes());
        let access_token = sealed.access_token.as_bytes();
        let refresh_token = sealed.refresh_token.as_ref().map(Sealed::as_bytes);
        let master_key = sealed.data_key.master_key.as_str();
        let common: [&(dyn ToSql + Sync); 20] = [
            &developer,
            &id,
            &principal,
            &service,
            &key,
            &kind,
            &access_token,
            &refresh_token,
            &sealed.data_key.bytes,
            &master_key,
            &write.token_expires_at,
            &metadata,
            &write.at,
            &scopes,
            &agents,
            &event_id,
            &stored.outcome,
            &stored.canonical,
            &stored_hash,
            &api_key,
        ];
        parameters.extend(common);
        let over = of_kept.is_some();
        if let Some((id, event, hash)) = &of_kept {
            let of_kept: [&(dyn ToSql + Sync); 4] = [id, &event.outcome, &event.canonical, hash];
            parameters.extend(of_kept);
        }
        let sql = match (self.authority, over) {
            (Authority::Standalone, false) => write_new_sql!(Standalone),
            (Authority::Standalone, true) => write_over_sql!(Standalone),
            (Authority::Grantex, false) => write_new_sql!(Grantex),
            (Authority::Grantex, true) => write_over_sql!(Grantex),
        };
        let work = async {
            let statement = self.client().prepare_cached(sql).await?;
            self.client().query_opt(&statement, &parameters).await
        };
        self.deadline(work).await
    }

    /// Why a write wrote nothing. It is asked afterwards, so that only those pay for it.
    async fn refuse(&self, write: &CredentialWrite<'_>) -> Result<Outcome, StoreFault> {
        // Connection::refuse
        macro_rules! sql {
            ($authority:ident) => {
                concat!(
                    "
            select ",
                    key_is_valid_sql!($authority, "$1", "$5", "$6"),
                    " as key_is_valid, ",
                    read_committed!(),
                    " as read_committed,
                exists (
                    select from vault.master_keys where id = $4 and state = 'retired') as retired,
                c.id is not null as stands, c.id, c.created_at
            from (values (true)) one
            left join vault.credentials c
                on c.developer_id = $1 and c.principal_id = $2 and c.service_key = $3"
                )
            };
        }
        let sql = match self.authority {
            Authority::Standalone => sql!(Standalone),
            Authority::Grantex => sql!(Grantex),
        };
        let master_key = &write.sealed.data_key.master_key;
        let row = self
            .deadline(async {
                let statement = self.client().prepare_cached(sql).await?;
                let parameters: [&(dyn ToSql + Sync); 6] = [
                    &write.developer.as_str(),
                    &write.principal.as_str(),
                    &write.service.key().as_str(),
                    &master_key.as_str(),
                    &write.api_key.as_bytes(),
                    &write.at,
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
            return Err(not_read_committed());
        }
        if !columns.get::<bool>("key_is_valid")? {
            return Err(StoreFault::InvalidApiKey);
        }
        if columns.get("retired")? {
            return Err(StoreFault::RetiredMasterKey(master_key.clone()));
        }
        if columns.get("stands")? {
            let id = columns.parse_option("id", CredentialId::parse)?;
            columns.get::<Timestamp>("created_at")?;
            return Ok(Outcome::Stands(Some(id)));
        }
        Ok(Outcome::Stands(None))
    }
}

/// A list that restricts a credential, as its column has it: null when there is none.
fn column<'a>(entries: impl Iterator<Item = &'a str>) -> Option<Vec<&'a str>> {
    let entries: Vec<_> = entries.collect();
    (!entries.is_empty()).then_some(entries)
}
