//! `vault.api_keys`: operator verbs only. Whose a key is that was presented, `authority` says.

use deadpool_postgres::GenericClient;
use tokio_postgres::types::ToSql;

use super::{Store, StoreFault, Transaction, columns::Columns};
use crate::model::{bearer::ApiKeyHash, id::ApiKeyId, text::DeveloperId, timestamp::Timestamp};

/// An API key, without the key.
#[derive(Debug, Clone)]
pub struct ApiKeyRow {
    /// Its id.
    pub id: ApiKeyId,
    /// Whose it is.
    pub developer_id: DeveloperId,
    /// What its owner calls it.
    pub label: String,
    /// The first characters of the key.
    pub prefix: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl Transaction<'_> {
    /// Stores a key by its hash.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn create_api_key(
        &self,
        hash: &ApiKeyHash,
        key: &ApiKeyRow,
    ) -> Result<(), StoreFault> {
        // Transaction::create_api_key
        const SQL: &str = "
            insert into vault.api_keys
                (hash, id, developer_id, label, prefix, created_at, expires_at, revoked_at)
            values ($1, $2, $3, $4, $5, $6, $7, $8)";
        let id = key.id.to_string();
        let parameters: [&(dyn ToSql + Sync); 8] = [
            &hash.as_bytes(),
            &id,
            &key.developer_id.as_str(),
            &key.label,
            &key.prefix,
            &key.created_at,
            &key.expires_at,
            &key.revoked_at,
        ];
        let work = self.inner.execute(SQL, &parameters);
        self.deadline(work).await.map(|_| ())
    }

    /// Revokes a key, keeping the time of an earlier revocation; answers whose it is and whether that
    /// changed anything, `None` when there is no such key.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn revoke_api_key(
        &self,
        id: ApiKeyId,
        at: Timestamp,
    ) -> Result<Option<(DeveloperId, bool)>, StoreFault> {
        // Transaction::revoke_api_key
        const SQL: &str = "
            with key as (
                select id, developer_id, revoked_at is null as live
                from vault.api_keys where id = $1 for update),
            revoked as (
                update vault.api_keys set revoked_at = $2
                where id = (select id from key where live))
            select id, developer_id, live from key";
        let id = id.to_string();
        let parameters: [&(dyn ToSql + Sync); 2] = [&id, &at];
        let work = self.inner.query_opt(SQL, &parameters);
        let row = self.deadline(work).await?;
        row.map(|row| {
            let columns = Columns {
                table: "api_keys",
                row: &row,
            };
            let developer = columns.parse("developer_id", DeveloperId::parse)?;
            Ok((developer, columns.get("live")?))
        })
        .transpose()
    }
}

impl Store {
    /// A developer's newest thousand keys, newest first.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn api_keys(&self, developer: &DeveloperId) -> Result<Vec<ApiKeyRow>, StoreFault> {
        // Store::api_keys
        const SQL: &str = "
            select id, developer_id, label, prefix, created_at, expires_at, revoked_at
            from vault.api_keys where developer_id = $1
            order by created_at desc, id desc limit 1000";
        let connection = self.connection().await?;
        let parameters = [&developer.as_str() as _];
        let work = connection.client().query(SQL, &parameters);
        connection
            .deadline(work)
            .await?
            .iter()
            .map(api_key_row)
            .collect()
    }
}

fn api_key_row(row: &tokio_postgres::Row) -> Result<ApiKeyRow, StoreFault> {
    let columns = Columns {
        table: "api_keys",
        row,
    };
    Ok(ApiKeyRow {
        id: columns.parse_option("id", ApiKeyId::parse)?,
        developer_id: columns.parse("developer_id", DeveloperId::parse)?,
        label: columns.get("label")?,
        prefix: columns.get("prefix")?,
        created_at: columns.get("created_at")?,
        expires_at: columns.get("expires_at")?,
        revoked_at: columns.get("revoked_at")?,
    })
}
