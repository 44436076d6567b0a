//! `vault.audit_events`: append only.

use deadpool_postgres::GenericClient;
use tokio_postgres::types::ToSql;
use tracing::Instrument;

use super::{Query, Store, StoreFault, Transaction, database_span};
use crate::model::{id::EventId, timestamp::Timestamp};

/// An event as its columns.
#[derive(Debug, Clone)]
#[expect(
    missing_docs,
    reason = "the columns are described by the audit room's event"
)]
pub struct AuditEventRow<'a> {
    pub developer_id: &'a str,
    pub id: EventId,
    pub occurred_at: Timestamp,
    pub verb: &'static str,
    pub outcome: &'static str,
    pub reason: Option<&'static str>,
    pub principal_id: Option<&'a str>,
    pub service: Option<&'a str>,
    pub credential_id: Option<String>,
    pub api_key_id: Option<String>,
    pub agent_id: Option<&'a str>,
    pub grant_id: Option<&'a str>,
    pub token_id: Option<&'a str>,
    pub parent_agent_id: Option<&'a str>,
    pub parent_grant_id: Option<&'a str>,
    pub delegation_depth: Option<i64>,
    pub request_id: String,
    pub transport: &'static str,
    pub peer: String,
}

impl Store {
    /// Appends an event; it is durable when this has answered.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn append_audit_event(&self, event: &AuditEventRow<'_>) -> Result<(), StoreFault> {
        let connection = self.connection().await?;
        connection
            .deadline(append(connection.client(), event))
            .instrument(database_span!("insert", "audit_events"))
            .await
    }
}

impl Transaction<'_> {
    /// Appends an event; it is durable when the transaction is.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn append_audit_event(&self, event: &AuditEventRow<'_>) -> Result<(), StoreFault> {
        let append = self.deadline(append(&self.inner, event));
        append
            .instrument(database_span!("insert", "audit_events"))
            .await
    }
}

async fn append(client: &impl GenericClient, event: &AuditEventRow<'_>) -> Query<()> {
    // append_audit_event
    const SQL: &str = "
        insert into vault.audit_events (
            developer_id, id, occurred_at, verb, outcome, reason, principal_id, service,
            credential_id, api_key_id, agent_id, grant_id, token_id, parent_agent_id,
            parent_grant_id, delegation_depth, request_id, transport, peer)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)";
    let statement = client.prepare_cached(SQL).await?;
    let id = event.id.to_string();
    let parameters: [&(dyn ToSql + Sync); 19] = [
        &event.developer_id,
        &id,
        &event.occurred_at,
        &event.verb,
        &event.outcome,
        &event.reason,
        &event.principal_id,
        &event.service,
        &event.credential_id,
        &event.api_key_id,
        &event.agent_id,
        &event.grant_id,
        &event.token_id,
        &event.parent_agent_id,
        &event.parent_grant_id,
        &event.delegation_depth,
        &event.request_id,
        &event.transport,
        &event.peer,
    ];
    client.execute(&statement, &parameters).await.map(|_| ())
}
