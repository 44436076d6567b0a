//! `vault.master_keys`: which master keys nothing may be stored under any more. Operator verbs only,
//! but for the look that every store takes at it (`Connection::write_credential`).

use std::time::Duration;

use super::{
    Store, StoreFault, Transaction,
    audit_events::AuditEventRow,
    columns::Columns,
    patiently,
    writers::{Ended, Written, writers_have_ended},
};
use crate::model::sealed::MasterKeyId;

/// What a master key wraps keys in.
const WRAPPED: &[Written] = &[
    Written::Credentials,
    Written::WebhookSecrets,
    Written::AuditSigningKey,
];
/// How long those may take that were writing when a key was marked.
const WRITERS_TIMEOUT: Duration = Duration::from_mins(1);

/// How much a master key is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterKeyUse {
    /// Which.
    pub id: MasterKeyId,
    /// How many keys it wraps: those of credentials and webhook secrets, and the one that signs the
    /// audit record.
    pub wrapped: i64,
    /// Whether nothing may be stored under it any more.
    pub retired: bool,
}

/// What became of a key that was to be retired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retired {
    /// Nothing needs it, and nothing ever will.
    Done,
    /// Credentials need it, webhook secrets, or the audit's signing key does; it is as it was.
    Needed,
}

/// What an event of a retirement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retirement {
    /// Nothing is stored under the key from now on.
    Begun,
    /// Something needs the key after all: it is as it was.
    TakenBack,
}

impl Store {
    /// Every master key that wraps something or was retired, by its name.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn master_key_uses(&self) -> Result<Vec<MasterKeyUse>, StoreFault> {
        // Store::master_key_uses
        const SQL: &str = "
            select id, coalesce(wrapped, 0) as wrapped,
                coalesce(state = 'retired', false) as retired
            from vault.master_keys
            full join (
                select master_key as id, pg_catalog.count(*) as wrapped
                from (
                    select master_key from vault.credentials
                    union all
                    select master_key from vault.webhook_secrets
                    union all
                    select master_key from vault.audit_signing_key) as keys
                group by master_key) used using (id)
            order by id";
        let connection = self.connection().await?;
        let work = connection.client().query(SQL, &[]);
        let rows = patiently(&connection.progress, work).await?;
        let read = |row| {
            let columns = Columns {
                table: "master_keys",
                row,
            };
            Ok(MasterKeyUse {
                id: MasterKeyId::new(columns.get("id")?),
                wrapped: columns.get("wrapped")?,
                retired: columns.get("retired")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Whether a master key is retired.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn master_key_is_retired(&self, id: &MasterKeyId) -> Result<bool, StoreFault> {
        // Store::master_key_is_retired
        const SQL: &str = "select from vault.master_keys where id = $1 and state = 'retired'";
        let connection = self.connection().await?;
        let parameters = [&id.as_str() as _];
        let work = connection.client().query_opt(SQL, &parameters);
        connection.deadline(work).await.map(|row| row.is_some())
    }

    /// Retires a master key unless a credential needs it: from then on nothing is stored under it.
    ///
    /// No store slips through: those from before the mark are waited for, and then their rows are seen
    /// (`writers.rs`).
    ///
    /// When a credential needs the key after all the mark is taken back. A kill in between leaves it,
    /// which is safe: what is there can be read, and stores under the key stay refused.
    ///
    /// The mark is committed with its event, and so is taking it back.
    ///
    /// # Errors
    ///
    /// When the database does not answer, or transactions that write credentials do not end.
    pub async fn retire_master_key(
        &self,
        id: &MasterKeyId,
        event: &(dyn Fn(Retirement) -> AuditEventRow + Sync),
    ) -> Result<Retired, StoreFault> {
        let mut connection = self.connection().await?;
        // Refused without a mark: stores under a key that is in use go on.
        if connection.transaction().await?.is_needed(id).await? {
            return Ok(Retired::Needed);
        }
        loop {
            let transaction = connection.transaction().await?;
            let was = transaction.mark_retired(id).await?;
            transaction.commit_with(&event(Retirement::Begun)).await?;
            let transaction = connection.transaction().await?;
            // Somebody else who retires it too may have taken the mark back.
            if !transaction.lock_mark(id).await? {
                continue;
            }
            let ended = writers_have_ended(
                transaction.inner,
                transaction.progress,
                WRAPPED,
                WRITERS_TIMEOUT,
            );
            let answer = match ended.await {
                Ok(Ended::All) => transaction.is_needed(id).await,
                Ok(Ended::NotYet) => Err(StoreFault::Overloaded),
                Err(fault) => Err(fault),
            };
            if matches!(answer, Ok(false)) {
                transaction.commit().await?;
            } else {
                transaction.take_mark_back(id, was).await?;
                transaction
                    .commit_with(&event(Retirement::TakenBack))
                    .await?;
            }
            return answer.map(|needed| {
                if needed {
                    Retired::Needed
                } else {
                    Retired::Done
                }
            });
        }
    }
}

/// What stood there before a key was marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Active,
    Retired,
}

impl Transaction<'_> {
    async fn is_needed(&self, id: &MasterKeyId) -> Result<bool, StoreFault> {
        // Transaction::is_needed
        const SQL: &str = "
            select exists (select from vault.credentials where master_key = $1)
                or exists (select from vault.webhook_secrets where master_key = $1)
                or exists (select from vault.audit_signing_key where master_key = $1)";
        let parameters = [&id.as_str() as _];
        let work = self.inner.query_one(SQL, &parameters);
        patiently(self.progress, work).await.map(|row| row.get(0))
    }

    async fn mark_retired(&self, id: &MasterKeyId) -> Result<Before, StoreFault> {
        // Transaction::mark_retired
        // xmax is 0 only on a row that this statement inserted.
        const SQL: &str = "
            insert into vault.master_keys as m (id, state) values ($1, 'retired')
            on conflict (id) do update set state = 'retired'
            returning xmax = 0, (select o.state = 'active' from vault.master_keys o where o.id = $1)";
        let parameters = [&id.as_str() as _];
        let row = self
            .deadline(self.inner.query_one(SQL, &parameters))
            .await?;
        Ok(match (row.get(0), row.get::<_, Option<bool>>(1)) {
            (true, _) => Before::Nothing,
            (false, Some(true)) => Before::Active,
            (false, _) => Before::Retired,
        })
    }

    async fn lock_mark(&self, id: &MasterKeyId) -> Result<bool, StoreFault> {
        // Transaction::lock_mark
        const SQL: &str =
            "select from vault.master_keys where id = $1 and state = 'retired' for update";
        let parameters = [&id.as_str() as _];
        let work = self.inner.query_opt(SQL, &parameters);
        patiently(self.progress, work)
            .await
            .map(|row| row.is_some())
    }

    async fn take_mark_back(&self, id: &MasterKeyId, was: Before) -> Result<(), StoreFault> {
        // Transaction::take_mark_back
        const DELETE: &str = "delete from vault.master_keys where id = $1";
        // Transaction::take_mark_back
        const UPDATE: &str = "update vault.master_keys set state = 'active' where id = $1";
        let sql = match was {
            Before::Nothing => DELETE,
            Before::Active => UPDATE,
            Before::Retired => return Ok(()),
        };
        let parameters = [&id.as_str() as _];
        let work = self.inner.execute(sql, &parameters);
        self.deadline(work).await.map(|_| ())
    }
}
