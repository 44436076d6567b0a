//! `vault.revocations`: what is refused, whoever says that it lives. Exchanges read it in their own
//! statement (`Store::credential_for_exchange`), API keys in theirs (`Store::api_key`).

use deadpool_postgres::GenericClient;
use tokio_postgres::types::ToSql;
use tracing::Instrument;

use super::{Store, StoreFault, Transaction, columns::Columns, database_span, durable::durably};
use crate::model::{
    revocation::{Revocation, Revoked},
    text::DeveloperId,
    timestamp::Timestamp,
};

impl Transaction<'_> {
    /// Revokes; answers whether that changed anything. What was revoked before keeps its time, and the
    /// later of two expiries counts, no expiry being the latest.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn revoke(
        &self,
        developer: &DeveloperId,
        revocation: &Revocation,
    ) -> Result<bool, StoreFault> {
        // Transaction::revoke
        // Answers no row when nothing is to be changed.
        const SQL: &str = "
            insert into vault.revocations as r (developer_id, kind, subject, revoked_at, expires_at)
            values ($1, $2, $3, $4, $5)
            on conflict (developer_id, kind, subject) do update set
                expires_at = case when excluded.expires_at is not null
                    then greatest(r.expires_at, excluded.expires_at) end
            where r.expires_at < coalesce(excluded.expires_at, 'infinity')
            returning xmax = 0 as is_new";
        let parameters: [&(dyn ToSql + Sync); 5] = [
            &developer.as_str(),
            &revocation.what.kind(),
            &revocation.what.subject(developer),
            &revocation.revoked_at,
            &revocation.expires_at,
        ];
        let work = async {
            let statement = self.inner.prepare_cached(SQL).await?;
            self.inner.query_opt(&statement, &parameters).await
        };
        let span = database_span!("insert", "revocations");
        let row = self.deadline(work).instrument(span).await?;
        Ok(row.is_some_and(|row| row.get("is_new")))
    }

    /// Takes the suspension of a developer back; answers whether there was one.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn resume_developer(&self, developer: &DeveloperId) -> Result<bool, StoreFault> {
        // Transaction::resume_developer
        const SQL: &str =
            "delete from vault.revocations where developer_id = $1 and kind = 'developer'";
        let parameters = [&developer.as_str() as _];
        let work = self.inner.execute(SQL, &parameters);
        self.deadline(work).await.map(|rows| rows > 0)
    }
}

impl Store {
    /// Up to `limit` revocations of a developer, by kind and subject, after these two.
    ///
    /// # Errors
    ///
    /// When the database does not answer, or a row is not one that the vault wrote.
    pub async fn revocations(
        &self,
        developer: &DeveloperId,
        after: Option<(&str, &str)>,
        limit: i64,
    ) -> Result<Vec<Revocation>, StoreFault> {
        // Store::revocations
        const SQL: &str = "
            select subject as id, kind, subject, revoked_at, expires_at from vault.revocations
            where developer_id = $1
              and ($2::text is null or (kind, subject) > ($2, $3::text))
            order by kind, subject limit $4";
        let connection = self.connection().await?;
        let parameters: [&(dyn ToSql + Sync); 4] = [
            &developer.as_str(),
            &after.map(|(kind, _)| kind),
            &after.map(|(_, subject)| subject),
            &limit,
        ];
        let work = connection.client().query(SQL, &parameters);
        let rows = connection.deadline(work).await?;
        let read = |row| {
            let columns = Columns {
                table: "revocations",
                row,
            };
            let kind: &str = columns.get("kind")?;
            Ok(Revocation {
                what: columns.parse_option("subject", |subject| Revoked::parse(kind, subject))?,
                revoked_at: columns.get("revoked_at")?,
                expires_at: columns.get("expires_at")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Forgets what was revoked and could not be used any more before this moment; answers how many
    /// revocations that were.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn prune_revocations(&self, before: Timestamp) -> Result<u64, StoreFault> {
        // Store::prune_revocations
        // A part at a time, so that the statement stays short.
        const SQL: &str = concat!(
            "
            delete from vault.revocations
            where ctid = any (array(
                select ctid from vault.revocations where expires_at < $1 limit 10000))
              and expires_at < $1 and ",
            durably!()
        );
        let connection = self.connection().await?;
        let parameters = [&before as &(dyn ToSql + Sync)];
        let mut pruned = 0;
        loop {
            let work = connection.client().execute(SQL, &parameters);
            match connection.deadline(work).await? {
                0 => return Ok(pruned),
                some => pruned += some,
            }
        }
    }
}
