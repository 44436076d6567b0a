//! `vault.developers`: the developers that the vault itself registered. Operator verbs only.

use deadpool_postgres::GenericClient;
use tokio_postgres::types::ToSql;

use super::{Store, StoreFault, columns::Columns};
use crate::model::{text::DeveloperId, timestamp::Timestamp};

/// A registered developer.
#[derive(Debug, Clone)]
pub struct DeveloperRow {
    /// The tenant.
    pub id: DeveloperId,
    /// What people call it.
    pub name: String,
    /// When it was registered.
    pub created_at: Timestamp,
}

impl Store {
    /// Registers a developer.
    ///
    /// # Errors
    ///
    /// When the database does not answer, or the id is taken.
    pub async fn create_developer(&self, developer: &DeveloperRow) -> Result<(), StoreFault> {
        // Store::create_developer
        const SQL: &str = "insert into vault.developers (id, name, created_at) values ($1, $2, $3)";
        let connection = self.connection().await?;
        let parameters: [&(dyn ToSql + Sync); 3] = [
            &developer.id.as_str(),
            &developer.name,
            &developer.created_at,
        ];
        let work = connection.client().execute(SQL, &parameters);
        connection.deadline(work).await.map(|_| ())
    }

    /// Whether a developer is registered.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn developer_exists(&self, id: &DeveloperId) -> Result<bool, StoreFault> {
        // Store::developer_exists
        const SQL: &str = "select from vault.developers where id = $1";
        let connection = self.connection().await?;
        let parameters = [&id.as_str() as _];
        let work = connection.client().query_opt(SQL, &parameters);
        connection.deadline(work).await.map(|row| row.is_some())
    }

    /// Up to a thousand developers, oldest first, after the given one.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn developers(
        &self,
        after: Option<&DeveloperRow>,
    ) -> Result<Vec<DeveloperRow>, StoreFault> {
        // Store::developers
        const SQL: &str = "
            select id, name, created_at from vault.developers
            where $1::timestamptz is null or (created_at, id) > ($1, $2)
            order by created_at, id limit 1000";
        let connection = self.connection().await?;
        let parameters = [
            &after.map(|row| row.created_at) as &(dyn ToSql + Sync),
            &after.map(|row| row.id.as_str()),
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
            })
        };
        rows.iter().map(read).collect()
    }
}
