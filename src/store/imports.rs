//! `vault.imports`: what was taken over from another vault, and whether it is still as it was taken.
//! Operator verbs only.

use deadpool_postgres::GenericClient;
use tokio_postgres::{Row, types::ToSql};

use super::{
    Connection, Store, StoreFault, Transaction,
    columns::{Columns, Microseconds},
    durable::durably,
};
use crate::model::{
    bearer::ApiKeyHash,
    id::{ApiKeyId, CredentialId},
    metadata::Metadata,
    sealed::{Sealed, SealedCredential},
    service_name::ServiceName,
    text::{CredentialType, DeveloperId, PrincipalId},
    timestamp::Timestamp,
};

/// How often an import is tried while others store into the same place.
const ATTEMPTS: usize = 5;

/// Which row of another vault, and in which place it belongs here. Texts as they stand there.
#[derive(Debug, Clone, Copy)]
pub struct ImportKey<'a> {
    /// Its id here.
    pub id: CredentialId,
    /// The tenant.
    pub developer: &'a str,
    /// The end user.
    pub principal: &'a str,
    /// The service, ASCII-lower-cased.
    pub service_key: &'a str,
    /// When it was changed there.
    pub updated_at: Microseconds,
}

/// A credential to take over.
pub struct ImportWrite<'a> {
    /// Its id here: the one there, or what is always derived of that.
    pub id: CredentialId,
    /// The tenant.
    pub developer: &'a DeveloperId,
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
    /// The first store there.
    pub created_at: Timestamp,
    /// The last store there.
    pub updated_at: Timestamp,
    /// The same, to the microsecond.
    pub source_updated_at: Microseconds,
}

/// What the vault has in the place of a row of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing, and never had.
    New,
    /// What was imported earlier and is older.
    Older,
    /// What was imported and is as new.
    AsNew,
    /// What was stored in the vault.
    Stored,
    /// Nothing any more: what was imported was deleted.
    Deleted,
}

/// What became of a developer that was to be taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeveloperImported {
    /// It or its key is new.
    Done,
    /// Both were there.
    Unchanged,
    /// The key is another developer's here.
    KeyOfAnother,
}

/// A credential that stands in the way.
struct Existing {
    id: String,
    updated_at: Timestamp,
    imported_as: Option<Microseconds>,
}

impl Store {
    /// What the vault has for each of these rows, in their order.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn standings(&self, keys: &[ImportKey<'_>]) -> Result<Vec<Standing>, StoreFault> {
        // Store::standings
        // A row here for each credential that has the id or the place; one without a credential for
        // what was imported and is gone.
        const SQL: &str = "
            with wanted as (
                select developer_id, id, principal_id, service_key, at
                from rows from (
                    pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]),
                    pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[])) with ordinality
                    as wanted (developer_id, id, principal_id, service_key, at))
            select w.at, e.id, e.updated_at, i.source_updated_at
            from wanted w
            cross join lateral (
                select c.id, c.updated_at from vault.credentials c
                where c.developer_id = w.developer_id and c.id = w.id
                union
                select c.id, c.updated_at from vault.credentials c
                where c.developer_id = w.developer_id and c.principal_id = w.principal_id
                  and c.service_key = w.service_key) e
            left join vault.imports i on i.developer_id = w.developer_id and i.id = e.id
            union all
            select w.at, null, null, i.source_updated_at
            from wanted w
            join vault.imports i on i.developer_id = w.developer_id and i.id = w.id
            where not exists (
                select from vault.credentials c
                where c.developer_id = w.developer_id and c.id = w.id)";
        let column = |of: fn(&ImportKey<'_>) -> String| keys.iter().map(of).collect::<Vec<_>>();
        let developers = column(|key| key.developer.to_owned());
        let ids = column(|key| key.id.to_string());
        let principals = column(|key| key.principal.to_owned());
        let services = column(|key| key.service_key.to_owned());
        let parameters: [&(dyn ToSql + Sync); 4] = [&developers, &ids, &principals, &services];
        let connection = self.connection().await?;
        // Not prepared once for all pages: its plan is for as much as there is now.
        let work = connection.client().query(SQL, &parameters);
        let rows = connection.deadline(work).await?;
        let mut found: Vec<(Vec<Existing>, bool)> =
            keys.iter().map(|_| (Vec::new(), false)).collect();
        for row in &rows {
            let at: i64 = row.get("at");
            let at = usize::try_from(at - 1).unwrap_or(usize::MAX);
            let Some((existing, deleted)) = found.get_mut(at) else {
                continue;
            };
            match existing_of(row)? {
                Some(one) => existing.push(one),
                None => *deleted = true,
            }
        }
        let standing = |(key, (existing, deleted)): (&ImportKey<'_>, &(Vec<Existing>, bool))| {
            let found = Standing::of(existing, key.updated_at, &key.id.to_string());
            match found {
                Standing::New if *deleted => Standing::Deleted,
                found => found,
            }
        };
        Ok(keys.iter().zip(&found).map(standing).collect())
    }

    /// Takes a credential over, unless the vault has stored or deleted it since, or has it as new;
    /// answers what was found. It is written when that is [`Standing::New`] or [`Standing::Older`].
    ///
    /// # Errors
    ///
    /// When the master key is retired; when the database does not answer, or refuses a value.
    pub async fn import_credential(&self, write: &ImportWrite<'_>) -> Result<Standing, StoreFault> {
        for _ in 0..ATTEMPTS {
            let mut connection = self.connection().await?;
            if let Some(standing) = import_once(&mut connection, write).await? {
                return Ok(standing);
            }
        }
        Err(StoreFault::Overloaded)
    }

    /// Takes a developer over with the hash of its key. A key that was taken over earlier and is not
    /// the developer's any more is revoked.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn import_developer(
        &self,
        developer: &DeveloperId,
        name: &str,
        hash: &ApiKeyHash,
        prefix: &str,
        key_id: ApiKeyId,
        now: Timestamp,
    ) -> Result<DeveloperImported, StoreFault> {
        // Store::import_developer
        const SQL: &str = concat!(
            "
            with others as (
                select exists (
                    select from vault.api_keys where hash = $3 and developer_id <> $1) as others
                where ",
            durably!(),
            "),
            developer as (
                insert into vault.developers (id, name, created_at)
                select $1, $2, $6::timestamptz from others where not others
                on conflict (id) do nothing returning id),
            key as (
                insert into vault.api_keys (hash, id, developer_id, label, prefix, created_at)
                select $3::bytea, $5, $1, 'imported from grantex', $4, $6::timestamptz
                from others where not others
                on conflict (hash) do nothing returning id),
            former as (
                update vault.api_keys set revoked_at = $6::timestamptz
                where developer_id = $1 and label = 'imported from grantex' and hash <> $3
                  and revoked_at is null and not (select others from others)
                returning id)
            select others, exists (select from developer) or exists (select from key)
                or exists (select from former) as done
            from others"
        );
        let connection = self.connection().await?;
        let key_id = key_id.to_string();
        let parameters: [&(dyn ToSql + Sync); 6] = [
            &developer.as_str(),
            &name,
            &hash.as_bytes(),
            &prefix,
            &key_id,
            &now,
        ];
        let work = connection.client().query_one(SQL, &parameters);
        connection
            .deadline(work)
            .await
            .map(|row| developer_imported(&row))
    }

    /// What taking a developer over would do.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn developer_import(
        &self,
        developer_id: &DeveloperId,
        hash: &ApiKeyHash,
    ) -> Result<DeveloperImported, StoreFault> {
        // Store::developer_import
        const SQL: &str = "
            select exists (
                    select from vault.api_keys where hash = $2 and developer_id <> $1) as others,
                not exists (select from vault.developers where id = $1)
                or not exists (select from vault.api_keys where hash = $2) as done";
        let connection = self.connection().await?;
        let parameters: [&(dyn ToSql + Sync); 2] = [&developer_id.as_str(), &hash.as_bytes()];
        let work = connection.client().query_one(SQL, &parameters);
        connection
            .deadline(work)
            .await
            .map(|row| developer_imported(&row))
    }
}

/// `None` when somebody stored into the place meanwhile: look again.
async fn import_once(
    connection: &mut Connection,
    write: &ImportWrite<'_>,
) -> Result<Option<Standing>, StoreFault> {
    let transaction = connection.transaction().await?;
    let id = write.id.to_string();
    let existing = transaction.lock_existing(write, &id).await?;
    let standing = Standing::of(&existing, write.source_updated_at, &id);
    match standing {
        Standing::New => {}
        Standing::Older => transaction.clear(write, &existing).await?,
        Standing::AsNew | Standing::Stored | Standing::Deleted => return Ok(Some(standing)),
    }
    match transaction.insert_import(write, &id).await? {
        Inserted::Done => {
            transaction.commit().await?;
            Ok(Some(standing))
        }
        Inserted::Deleted => Ok(Some(Standing::Deleted)),
        Inserted::Overtaken => Ok(None),
    }
}

enum Inserted {
    Done,
    Deleted,
    Overtaken,
}

impl Transaction<'_> {
    /// The credentials that have the id or the place, which nobody changes from here on.
    async fn lock_existing(
        &self,
        write: &ImportWrite<'_>,
        id: &str,
    ) -> Result<Vec<Existing>, StoreFault> {
        // Transaction::lock_existing
        // Not prepared once for all: a plan that was made while the table was nearly empty looks through
        // all that the developer has, until the table is analysed.
        const SQL: &str = "
            with by_id as (
                select id, updated_at from vault.credentials
                where developer_id = $1 and id = $2
                for update),
            by_place as (
                select id, updated_at from vault.credentials
                where developer_id = $1 and principal_id = $3 and service_key = $4
                for update)
            select e.id, e.updated_at, (
                    select i.source_updated_at from vault.imports i
                    where i.developer_id = $1 and i.id = e.id) as source_updated_at
            from (select id, updated_at from by_id union select id, updated_at from by_place) e";
        let parameters: [&(dyn ToSql + Sync); 4] = [
            &write.developer.as_str(),
            &id,
            &write.principal.as_str(),
            &write.service.key().as_str(),
        ];
        let rows = self.deadline(self.inner.query(SQL, &parameters)).await?;
        let existing = rows.iter().filter_map(|row| existing_of(row).transpose());
        existing.collect()
    }

    /// Removes what an import left and a newer one takes the place of.
    async fn clear(
        &self,
        write: &ImportWrite<'_>,
        existing: &[Existing],
    ) -> Result<(), StoreFault> {
        // Transaction::clear
        const SQL: &str = "
            with imports as (
                delete from vault.imports where developer_id = $1 and id = any ($2))
            delete from vault.credentials where developer_id = $1 and id = any ($2)";
        let ids: Vec<&str> = existing.iter().map(|one| one.id.as_str()).collect();
        let parameters: [&(dyn ToSql + Sync); 2] = [&write.developer.as_str(), &ids];
        self.deadline(async {
            let statement = self.inner.prepare_cached(SQL).await?;
            self.inner.execute(&statement, &parameters).await
        })
        .await
        .map(|_| ())
    }

    async fn insert_import(
        &self,
        write: &ImportWrite<'_>,
        id: &str,
    ) -> Result<Inserted, StoreFault> {
        // Transaction::insert_import
        // `Store::retire_master_key` says why nothing slips through under a retired key. What is still
        // in imports was not cleared: without its credential, that was deleted in the vault; with it, another
        // run was faster.
        const SQL: &str = "
            with target as (
                select exists (
                        select from vault.master_keys where id = $10 and state = 'retired') as retired,
                    exists (
                        select from vault.imports i where i.developer_id = $1 and i.id = $2
                          and not exists (
                            select from vault.credentials c
                            where c.developer_id = $1 and c.id = $2)) as deleted),
            credential as (
                insert into vault.credentials (
                    developer_id, id, principal_id, service, service_key, credential_type,
                    access_token, refresh_token, wrapped_key, master_key,
                    token_expires_at, metadata, created_at, updated_at)
                select $1, $2, $3, $4, $5, $6, $7::bytea, $8::bytea, $9::bytea, $10,
                    $11::timestamptz, $12::text::json, $13::timestamptz, $14::timestamptz
                from target where not retired and not deleted
                on conflict do nothing
                returning developer_id, id),
            import as (
                insert into vault.imports (developer_id, id, source_updated_at)
                select developer_id, id, $15::timestamptz from credential)
            select retired, deleted, exists (select from credential) as done from target";
        let master_key = &write.sealed.data_key.master_key;
        let parameters: [&(dyn ToSql + Sync); 15] = [
            &write.developer.as_str(),
            &id,
            &write.principal.as_str(),
            &write.service.as_str(),
            &write.service.key().as_str(),
            &write.credential_type.as_str(),
            &write.sealed.access_token.as_bytes(),
            &write.sealed.refresh_token.as_ref().map(Sealed::as_bytes),
            &write.sealed.data_key.bytes,
            &master_key.as_str(),
            &write.token_expires_at,
            &write.metadata.as_str(),
            &write.created_at,
            &write.updated_at,
            &write.source_updated_at,
        ];
        let row = self
            .deadline(async {
                let statement = self.inner.prepare_cached(SQL).await?;
                self.inner.query_one(&statement, &parameters).await
            })
            .await?;
        let is = |column: &str| row.get::<_, bool>(column);
        if is("retired") {
            return Err(StoreFault::RetiredMasterKey(master_key.clone()));
        }
        Ok(match (is("deleted"), is("done")) {
            (true, _) => Inserted::Deleted,
            (false, true) => Inserted::Done,
            (false, false) => Inserted::Overtaken,
        })
    }
}

fn developer_imported(row: &Row) -> DeveloperImported {
    match (row.get("others"), row.get("done")) {
        (true, _) => DeveloperImported::KeyOfAnother,
        (false, true) => DeveloperImported::Done,
        (false, false) => DeveloperImported::Unchanged,
    }
}

fn existing_of(row: &Row) -> Result<Option<Existing>, StoreFault> {
    let columns = Columns {
        table: "credentials",
        row,
    };
    let Some(id) = columns.get("id")? else {
        return Ok(None);
    };
    Ok(Some(Existing {
        id,
        updated_at: columns.get("updated_at")?,
        imported_as: columns.get("source_updated_at")?,
    }))
}

// === impl Existing ===

impl Existing {
    /// Nobody stored into it since: a store moves `updated_at`, and a rotation does not.
    fn is_as_imported(&self) -> bool {
        let imported_as = self.imported_as.and_then(Microseconds::moment);
        imported_as == Some(self.updated_at)
    }
}

// === impl Standing ===

impl Standing {
    /// What those are that have the id or the place of a row which was changed at this moment.
    fn of(existing: &[Existing], updated_at: Microseconds, id: &str) -> Self {
        if existing.is_empty() {
            return Self::New;
        }
        if !existing.iter().all(Existing::is_as_imported) {
            return Self::Stored;
        }
        // Of rows of one moment the source says which one is to be taken: another one is older here.
        let as_new = |one: &Existing| {
            let same_moment = one.imported_as == Some(updated_at);
            one.imported_as > Some(updated_at) || (same_moment && one.id == id)
        };
        if existing.iter().any(as_new) {
            return Self::AsNew;
        }
        Self::Older
    }
}
