//! `vault.developers`: the developers that the vault itself registered. Operator verbs only.

use deadpool_postgres::GenericClient;
use tokio_postgres::types::ToSql;

use super::{Store, StoreFault, Transaction, columns::Columns, durable::durably};
use crate::model::{text::DeveloperId, timestamp::Timestamp};

/// How many credentials are deleted by one statement.
const DELETED_AT_ONCE: i64 = 1000;

/// A registered developer.
#[derive(Debug, Clone)]
pub struct DeveloperRow {
    /// The tenant.
    pub id: DeveloperId,
    /// What people call it.
    pub name: String,
    /// When it was registered.
    pub created_at: Timestamp,
    /// Since when it is suspended.
    pub suspended_at: Option<Timestamp>,
}

impl Transaction<'_> {
    /// Registers a developer.
    ///
    /// # Errors
    ///
    /// When the database does not answer, or the id is taken.
    pub async fn create_developer(&self, developer: &DeveloperRow) -> Result<(), StoreFault> {
        // Transaction::create_developer
        const SQL: &str = "insert into vault.developers (id, name, created_at) values ($1, $2, $3)";
        let parameters: [&(dyn ToSql + Sync); 3] = [
            &developer.id.as_str(),
            &developer.name,
            &developer.created_at,
        ];
        let work = self.inner.execute(SQL, &parameters);
        self.deadline(work).await.map(|_| ())
    }

    /// Whether a developer is registered, and stays so until the end of this transaction: nothing is made
    /// for one that is being deleted.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn developer_exists(&self, id: &DeveloperId) -> Result<bool, StoreFault> {
        // Transaction::developer_exists
        const SQL: &str = "select from vault.developers where id = $1 for key share";
        let parameters = [&id.as_str() as _];
        let work = self.inner.query_opt(SQL, &parameters);
        self.deadline(work).await.map(|row| row.is_some())
    }

    /// Whether there are credentials of a developer, registered or not, or it is suspended: a deletion leaves
    /// its suspension.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn is_anything_left_of(&self, id: &DeveloperId) -> Result<bool, StoreFault> {
        // Transaction::is_anything_left_of
        const SQL: &str = "
            select exists (
                    select from vault.revocations where developer_id = $1 and kind = 'developer')
                or exists (select from vault.credentials where developer_id = $1)";
        let parameters = [&id.as_str() as _];
        let work = self.inner.query_one(SQL, &parameters);
        self.deadline(work).await.map(|row| row.get(0))
    }

    /// Deletes what there is of a developer beside its credentials; answers whether there was anything.
    /// What was revoked stays revoked, and the audit record stays.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn delete_developer(&self, id: &DeveloperId) -> Result<bool, StoreFault> {
        // Transaction::delete_developer
        const DEVELOPER: &str = "delete from vault.developers where id = $1";
        // Transaction::delete_developer
        // A statement of its own: whoever was making a key for the developer has ended by now.
        const OTHERS: &str = "
            with keys as (delete from vault.api_keys where developer_id = $1 returning id),
            secrets as (delete from vault.webhook_secrets where developer_id = $1 returning id)
            select exists (select from keys union all select from secrets)";
        let parameters = [&id.as_str() as _];
        let developers = self.inner.execute(DEVELOPER, &parameters);
        let developers = self.deadline(developers).await?;
        let others = self.inner.query_one(OTHERS, &parameters);
        let others: bool = self.deadline(others).await?.get(0);
        Ok(developers > 0 || others)
    }
}

impl Store {
    /// Deletes some credentials of a developer; answers how many, none when none is left.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn delete_some_credentials(
        &self,
        developer: &DeveloperId,
    ) -> Result<u64, StoreFault> {
        // Store::delete_some_credentials
        const SQL: &str = concat!(
            "
            delete from vault.credentials
            where developer_id = $1 and id in (
                select id from vault.credentials where developer_id = $1 limit $2)
              and ",
            durably!()
        );
        let connection = self.connection().await?;
        let parameters: [&(dyn ToSql + Sync); 2] = [&developer.as_str(), &DELETED_AT_ONCE];
        let work = connection.client().execute(SQL, &parameters);
        connection.deadline(work).await
    }

    /// Up to `limit` developers, oldest first, after the given one.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn developers(
        &self,
        after: Option<(Timestamp, &DeveloperId)>,
        limit: i64,
    ) -> Result<Vec<DeveloperRow>, StoreFault> {
        // Store::developers
        const SQL: &str = "
            select id, name, created_at, r.revoked_at as suspended_at
            from vault.developers d
            left join vault.revocations r on r.developer_id = d.id and r.kind = 'developer'
            where $1::timestamptz is null or (created_at, id) > ($1, $2)
            order by created_at, id limit $3";
        let connection = self.connection().await?;
        let parameters: [&(dyn ToSql + Sync); 3] = [
            &after.map(|(created_at, _)| created_at),
            &after.map(|(_, id)| id.as_str()),
            &limit,
        ];
        let work = connection.client().query(SQL, &parameters);
        let rows = connection.deadline(work).await?;
        let read = |row| {
            let columns = Columns {
                table: "developers",
                row,
            };
            Ok(DeveloperRow {
                id: columns.parse("id", DeveloperId::parse)?,
                name: columns.get("name")?,
                created_at: columns.get("created_at")?,
                suspended_at: columns.get("suspended_at")?,
            })
        };
        rows.iter().map(read).collect()
    }
}
