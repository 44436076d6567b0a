//! `vault.webhook_secrets`.

use deadpool_postgres::GenericClient;
use tokio_postgres::{Row, types::ToSql};
use tracing::Instrument;

use super::{
    Store, StoreFault, Transaction,
    columns::Columns,
    database_span,
    durable::durably,
    rotation::{Replaced, RowKey, Scanned, data_key, row_key},
    writers::read_committed,
};
use crate::model::{
    id::WebhookSecretId,
    sealed::{Sealed, SealedWebhookSecret, WrappedKey},
    text::DeveloperId,
    timestamp::Timestamp,
};

/// How many secrets of a developer are valid at once.
const VALID: i64 = 2;

/// A webhook secret that an operator is shown, without the secret.
#[derive(Debug, Clone)]
pub struct WebhookSecretRow {
    /// Which.
    pub id: WebhookSecretId,
    /// When it was set.
    pub created_at: Timestamp,
}

/// What rewrapping needs: no ciphertext of a secret.
#[derive(Debug)]
pub struct SecretKeyRow {
    /// Whose secret.
    pub developer: DeveloperId,
    /// Its data key.
    pub data_key: WrappedKey,
}

impl Transaction<'_> {
    /// Adds a secret, and forgets all but the two newest.
    ///
    /// # Errors
    ///
    /// When the master key is retired; when the database does not answer.
    pub async fn add_webhook_secret(
        &self,
        developer: &DeveloperId,
        sealed: &SealedWebhookSecret,
        at: Timestamp,
    ) -> Result<(), StoreFault> {
        // Transaction::add_webhook_secret
        // No row when the master key is retired, as in `write_credential`.
        const INSERT: &str = "
            insert into vault.webhook_secrets
                (developer_id, id, secret, wrapped_key, master_key, created_at)
            select $1, $2, $3::bytea, $4::bytea, $5, $6::timestamptz
            where not exists (
                select from vault.master_keys where id = $5 and state = 'retired')";
        // Transaction::add_webhook_secret
        const DELETE: &str = "
            delete from vault.webhook_secrets
            where developer_id = $1 and id not in (
                select id from vault.webhook_secrets where developer_id = $1
                order by created_at desc, id desc limit $2)";
        let parameters: [&(dyn ToSql + Sync); 6] = [
            &developer.as_str(),
            &sealed.id.to_string(),
            &sealed.secret.as_bytes(),
            &sealed.data_key.bytes,
            &sealed.data_key.master_key.as_str(),
            &at,
        ];
        if self
            .deadline(self.inner.execute(INSERT, &parameters))
            .await?
            == 0
        {
            let retired = sealed.data_key.master_key.clone();
            return Err(StoreFault::RetiredMasterKey(retired));
        }
        let parameters: [&(dyn ToSql + Sync); 2] = [&developer.as_str(), &VALID];
        let delete = self.inner.execute(DELETE, &parameters);
        self.deadline(delete).await.map(|_| ())
    }

    /// Whether there is this secret. Until the transaction ends there is: whoever removes it waits for that.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn keep_webhook_secret(
        &self,
        developer: &DeveloperId,
        id: WebhookSecretId,
    ) -> Result<bool, StoreFault> {
        // Transaction::keep_webhook_secret
        const SQL: &str =
            "select from vault.webhook_secrets where developer_id = $1 and id = $2 for key share";
        let parameters: [&(dyn ToSql + Sync); 2] = [&developer.as_str(), &id.to_string()];
        let work = self.inner.query_opt(SQL, &parameters);
        self.deadline(work).await.map(|row| row.is_some())
    }

    /// Forgets a secret; answers whether there was one.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn remove_webhook_secret(
        &self,
        developer: &DeveloperId,
        id: WebhookSecretId,
    ) -> Result<bool, StoreFault> {
        // Transaction::remove_webhook_secret
        const SQL: &str = "delete from vault.webhook_secrets where developer_id = $1 and id = $2";
        let parameters: [&(dyn ToSql + Sync); 2] = [&developer.as_str(), &id.to_string()];
        let work = self.inner.execute(SQL, &parameters);
        self.deadline(work).await.map(|rows| rows > 0)
    }
}

impl Store {
    /// The secrets of a developer, the newest first.
    ///
    /// # Errors
    ///
    /// When the database does not answer or a row is not one that the vault wrote.
    pub async fn webhook_secrets(
        &self,
        developer: &DeveloperId,
    ) -> Result<Vec<SealedWebhookSecret>, StoreFault> {
        // Store::webhook_secrets
        const SQL: &str = "
            select id, secret, wrapped_key, master_key from vault.webhook_secrets
            where developer_id = $1 order by created_at desc, id desc limit $2";
        let rows = self.query_webhook_secrets(SQL, developer).await?;
        rows.iter().map(sealed).collect()
    }

    /// The same for an operator.
    ///
    /// # Errors
    ///
    /// When the database does not answer or a row is not one that the vault wrote.
    pub async fn described_webhook_secrets(
        &self,
        developer: &DeveloperId,
    ) -> Result<Vec<WebhookSecretRow>, StoreFault> {
        // Store::described_webhook_secrets
        const SQL: &str = "
            select id, created_at from vault.webhook_secrets
            where developer_id = $1 order by created_at desc, id desc limit $2";
        let rows = self.query_webhook_secrets(SQL, developer).await?;
        let described = |row| {
            let columns = columns(row);
            Ok(WebhookSecretRow {
                id: columns.parse_option("id", WebhookSecretId::parse)?,
                created_at: columns.get("created_at")?,
            })
        };
        rows.iter().map(described).collect()
    }

    /// The data keys of up to `limit` secrets after a position, for a rotation.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn webhook_secret_keys(
        &self,
        after: &RowKey,
        limit: i64,
    ) -> Result<Vec<Scanned<SecretKeyRow>>, StoreFault> {
        // Store::webhook_secret_keys
        const SQL: &str = "
            select developer_id, id, wrapped_key, master_key from vault.webhook_secrets
            where (developer_id, id) > ($1, $2)
            order by developer_id, id limit $3";
        let rows = self
            .scan(SQL, &[&after.developer, &after.id, &limit])
            .await?;
        let scanned = |row: &Row| {
            let (key, content) = (row_key(row), secret_key(row));
            Scanned { key, content }
        };
        Ok(rows.iter().map(scanned).collect())
    }

    /// Replaces a wrapped data key by the same key, wrapped by another master key, unless the row is not
    /// as it was read.
    ///
    /// # Errors
    ///
    /// When the new master key is retired; when the database does not answer.
    pub async fn replace_webhook_secret_key(
        &self,
        row: &RowKey,
        old: &WrappedKey,
        new: &WrappedKey,
    ) -> Result<Replaced, StoreFault> {
        // Store::replace_webhook_secret_key
        const SQL: &str = concat!(
            "
            with target as (
                select exists (
                    select from vault.master_keys where id = $5 and state = 'retired') as retired,
                    ",
            read_committed!(),
            " as read_committed
                where ",
            durably!(),
            "),
            replaced as (
                update vault.webhook_secrets set wrapped_key = $4, master_key = $5
                where developer_id = $1 and id = $2 and wrapped_key = $3
                  and (select read_committed and not retired from target)
                returning id)
            select retired, read_committed, exists (select from replaced) as done from target"
        );
        let parameters: [&(dyn ToSql + Sync); 5] = [
            &row.developer,
            &row.id,
            &old.bytes,
            &new.bytes,
            &new.master_key.as_str(),
        ];
        self.replace(SQL, &parameters, &new.master_key).await
    }

    async fn query_webhook_secrets(
        &self,
        sql: &str,
        developer: &DeveloperId,
    ) -> Result<Vec<Row>, StoreFault> {
        let connection = self.connection().await?;
        let work = async {
            let statement = connection.client().prepare_cached(sql).await?;
            let parameters: [&(dyn ToSql + Sync); 2] = [&developer.as_str(), &VALID];
            connection.client().query(&statement, &parameters).await
        };
        let span = database_span!("select", "webhook_secrets");
        connection.deadline(work).instrument(span).await
    }
}

fn columns(row: &Row) -> Columns<'_> {
    Columns {
        table: "webhook_secrets",
        row,
    }
}

fn secret_key(row: &Row) -> Result<SecretKeyRow, StoreFault> {
    let columns = columns(row);
    Ok(SecretKeyRow {
        developer: columns.parse("developer_id", DeveloperId::parse)?,
        data_key: data_key(&columns)?,
    })
}

fn sealed(row: &Row) -> Result<SealedWebhookSecret, StoreFault> {
    let columns = columns(row);
    Ok(SealedWebhookSecret {
        id: columns.parse_option("id", WebhookSecretId::parse)?,
        secret: Sealed::from_stored(columns.get("secret")?),
        data_key: data_key(&columns)?,
    })
}
