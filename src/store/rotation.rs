//! `vault.credentials` as a rotation of master keys sees it: everybody's, in the order of the primary
//! key, a page at a time. Operator verbs only.

use std::fmt;

use deadpool_postgres::GenericClient;
use tokio_postgres::{Row, types::ToSql};

use super::{
    Store, StoreFault,
    columns::Columns,
    durable::durably,
    patiently,
    writers::{not_read_committed, read_committed},
};
use crate::model::{
    metadata::Metadata,
    restrictions::Restrictions,
    sealed::{MasterKeyId, Sealed, SealedCredential, WrappedKey},
    service_name::{ServiceKey, ServiceName},
    text::{CredentialType, DeveloperId, PrincipalId},
    timestamp::Timestamp,
};

/// Which row: its primary key as it stands there, whatever that is. Also a position in a scan, whose
/// rows come after it; the first position is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    /// `developer_id`.
    pub developer: String,
    /// `id`.
    pub id: String,
}

/// A row of a scan. One that the vault never wrote does not end the scan.
#[derive(Debug)]
pub struct Scanned<T> {
    /// Which.
    pub key: RowKey,
    /// Its content, or why it is not one that the vault wrote.
    pub content: Result<T, StoreFault>,
}

/// For whom a row says that its credential is.
#[derive(Debug)]
pub struct Labels {
    /// The tenant.
    pub developer: DeveloperId,
    /// The end user.
    pub principal: PrincipalId,
    /// The service, by the key it compares by.
    pub service: ServiceKey,
}

/// What rewrapping needs: no ciphertext of a credential.
#[derive(Debug)]
pub struct DataKeyRow {
    /// For whom.
    pub labels: Labels,
    /// The data key.
    pub data_key: WrappedKey,
}

/// What opening needs.
#[derive(Debug)]
pub struct SealedRow {
    /// For whom.
    pub labels: Labels,
    /// The spelling of the last store.
    pub service: ServiceName,
    /// What kind it is.
    pub credential_type: CredentialType,
    /// The upstream expiry.
    pub token_expires_at: Option<Timestamp>,
    /// The developer's data.
    pub metadata: Metadata,
    /// What an exchange needs beside a scope.
    pub restrictions: Restrictions,
    /// The secrets.
    pub sealed: SealedCredential,
}

/// What became of a row that was to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// It was.
    Done,
    /// It was stored, rewrapped or deleted meanwhile, and is as that left it.
    Overtaken,
}

impl Store {
    /// The data keys of up to `limit` credentials after a position.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn data_keys(
        &self,
        after: &RowKey,
        limit: i64,
    ) -> Result<Vec<Scanned<DataKeyRow>>, StoreFault> {
        // Store::data_keys
        // Bounded by the rows that it looks at, not by those that are left to do: it stays short.
        const SQL: &str = "
            select developer_id, id, principal_id, service_key, wrapped_key, master_key
            from vault.credentials
            where (developer_id, id) > ($1, $2)
            order by developer_id, id limit $3";
        let rows = self
            .scan(SQL, &[&after.developer, &after.id, &limit])
            .await?;
        Ok(rows.iter().map(|row| scanned(row, data_key_row)).collect())
    }

    /// Up to `limit` credentials after a position, of one developer or of all.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn sealed_credentials(
        &self,
        developer: Option<&DeveloperId>,
        after: &RowKey,
        limit: i64,
    ) -> Result<Vec<Scanned<SealedRow>>, StoreFault> {
        // Store::sealed_credentials
        const ALL: &str = "
            select developer_id, id, principal_id, service_key, wrapped_key, master_key, service,
                credential_type, access_token, refresh_token, token_expires_at,
                metadata::text as metadata, required_scopes, allowed_agents
            from vault.credentials
            where (developer_id, id) > ($1, $2)
            order by developer_id, id limit $3";
        // Store::sealed_credentials
        const OF_ONE: &str = "
            select developer_id, id, principal_id, service_key, wrapped_key, master_key, service,
                credential_type, access_token, refresh_token, token_expires_at,
                metadata::text as metadata, required_scopes, allowed_agents
            from vault.credentials
            where (developer_id, id) > ($1, $2) and developer_id = $4
            order by developer_id, id limit $3";
        let rows = match developer.map(DeveloperId::as_str) {
            None => self.scan(ALL, &[&after.developer, &after.id, &limit]).await,
            Some(one) => {
                self.scan(OF_ONE, &[&after.developer, &after.id, &limit, &one])
                    .await
            }
        };
        Ok(rows?.iter().map(|row| scanned(row, sealed_row)).collect())
    }

    /// The credentials of these rows, as far as they are still there.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn sealed_credentials_at(
        &self,
        keys: &[RowKey],
    ) -> Result<Vec<Scanned<SealedRow>>, StoreFault> {
        // Store::sealed_credentials_at
        const SQL: &str = "
            select c.developer_id, c.id, principal_id, service_key, wrapped_key, master_key,
                service, credential_type, access_token, refresh_token, token_expires_at,
                metadata::text as metadata, required_scopes, allowed_agents
            from rows from (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) as wanted (developer_id, id)
            join vault.credentials c
                on c.developer_id = wanted.developer_id and c.id = wanted.id";
        let developers: Vec<&str> = keys.iter().map(|key| key.developer.as_str()).collect();
        let ids: Vec<&str> = keys.iter().map(|key| key.id.as_str()).collect();
        let rows = self.scan(SQL, &[&developers, &ids]).await?;
        Ok(rows.iter().map(|row| scanned(row, sealed_row)).collect())
    }

    /// How many credentials a developer has, or there are.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn count_credentials(
        &self,
        developer: Option<&DeveloperId>,
    ) -> Result<u64, StoreFault> {
        // Store::count_credentials
        const SQL: &str = "
            select pg_catalog.count(*) from vault.credentials where $1::text is null or developer_id = $1";
        let connection = self.connection().await?;
        let parameters: [&(dyn ToSql + Sync); 1] = [&developer.map(DeveloperId::as_str)];
        let work = connection.client().query_one(SQL, &parameters);
        let row = patiently(&connection.progress, work).await?;
        Ok(row.get::<_, i64>(0).unsigned_abs())
    }

    /// Up to `size` rows, at random.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn random_credentials(&self, size: i64) -> Result<Vec<RowKey>, StoreFault> {
        // Store::random_credentials
        const SQL: &str =
            "select developer_id, id from vault.credentials order by pg_catalog.random() limit $1";
        let connection = self.connection().await?;
        let parameters: [&(dyn ToSql + Sync); 1] = [&size];
        let work = connection.client().query(SQL, &parameters);
        let rows = patiently(&connection.progress, work).await?;
        Ok(rows.iter().map(row_key).collect())
    }

    /// Replaces a wrapped data key by the same key, wrapped by another master key. Nothing else of the
    /// row moves, and a credential that was stored meanwhile is left alone.
    ///
    /// # Errors
    ///
    /// When the new master key is retired; when the database does not answer.
    pub async fn replace_data_key(
        &self,
        row: &RowKey,
        old: &WrappedKey,
        new: &WrappedKey,
    ) -> Result<Replaced, StoreFault> {
        // Store::replace_data_key
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
                update vault.credentials set wrapped_key = $4, master_key = $5
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

    /// Replaces all that is secret of a credential, under another data key. Nothing else of the row
    /// moves, and a credential that was stored meanwhile is left alone.
    ///
    /// # Errors
    ///
    /// When the new master key is retired; when the database does not answer.
    pub async fn replace_sealed(
        &self,
        row: &RowKey,
        old: &WrappedKey,
        new: &SealedCredential,
    ) -> Result<Replaced, StoreFault> {
        // Store::replace_sealed
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
                update vault.credentials
                set wrapped_key = $4, master_key = $5, access_token = $6, refresh_token = $7
                where developer_id = $1 and id = $2 and wrapped_key = $3
                  and (select read_committed and not retired from target)
                returning id)
            select retired, read_committed, exists (select from replaced) as done from target"
        );
        let parameters: [&(dyn ToSql + Sync); 7] = [
            &row.developer,
            &row.id,
            &old.bytes,
            &new.data_key.bytes,
            &new.data_key.master_key.as_str(),
            &new.access_token.as_bytes(),
            &new.refresh_token.as_ref().map(Sealed::as_bytes),
        ];
        self.replace(SQL, &parameters, &new.data_key.master_key)
            .await
    }

    pub(super) async fn scan(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreFault> {
        let connection = self.connection().await?;
        let work = async {
            let statement = connection.client().prepare_cached(sql).await?;
            connection.client().query(&statement, parameters).await
        };
        connection.deadline(work).await
    }

    pub(super) async fn replace(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
        master_key: &MasterKeyId,
    ) -> Result<Replaced, StoreFault> {
        let connection = self.connection().await?;
        let work = async {
            let statement = connection.client().prepare_cached(sql).await?;
            connection.client().query_one(&statement, parameters).await
        };
        let row = connection.deadline(work).await?;
        let columns = Columns {
            table: "credentials",
            row: &row,
        };
        if !columns.get::<bool>("read_committed")? {
            return Err(not_read_committed());
        }
        match (columns.get("retired")?, columns.get("done")?) {
            (true, _) => Err(StoreFault::RetiredMasterKey(master_key.clone())),
            (false, true) => Ok(Replaced::Done),
            (false, false) => Ok(Replaced::Overtaken),
        }
    }
}

fn scanned<T>(row: &Row, read: fn(&Columns<'_>) -> Result<T, StoreFault>) -> Scanned<T> {
    let columns = Columns {
        table: "credentials",
        row,
    };
    Scanned {
        key: row_key(row),
        content: read(&columns),
    }
}

pub(super) fn row_key(row: &Row) -> RowKey {
    RowKey {
        developer: row.get("developer_id"),
        id: row.get("id"),
    }
}

fn data_key_row(columns: &Columns<'_>) -> Result<DataKeyRow, StoreFault> {
    Ok(DataKeyRow {
        labels: labels(columns)?,
        data_key: data_key(columns)?,
    })
}

fn sealed_row(columns: &Columns<'_>) -> Result<SealedRow, StoreFault> {
    let refresh_token: Option<Vec<u8>> = columns.get("refresh_token")?;
    Ok(SealedRow {
        labels: labels(columns)?,
        service: columns.parse("service", ServiceName::parse)?,
        credential_type: columns.parse("credential_type", CredentialType::parse)?,
        token_expires_at: columns.get("token_expires_at")?,
        metadata: columns.parse_option("metadata", Metadata::from_stored)?,
        restrictions: columns.restrictions()?,
        sealed: SealedCredential {
            access_token: Sealed::from_stored(columns.get("access_token")?),
            refresh_token: refresh_token.map(Sealed::from_stored),
            data_key: data_key(columns)?,
        },
    })
}

fn labels(columns: &Columns<'_>) -> Result<Labels, StoreFault> {
    Ok(Labels {
        developer: columns.parse("developer_id", DeveloperId::parse)?,
        principal: columns.parse("principal_id", PrincipalId::parse)?,
        service: columns.parse_option("service_key", |text| {
            let name = ServiceName::parse(text).ok()?;
            (name.key().as_str() == text).then(|| name.key().clone())
        })?,
    })
}

pub(super) fn data_key(columns: &Columns<'_>) -> Result<WrappedKey, StoreFault> {
    Ok(WrappedKey {
        master_key: MasterKeyId::new(columns.get("master_key")?),
        bytes: columns.get("wrapped_key")?,
    })
}

// === impl RowKey ===

impl fmt::Display for RowKey {
    /// Whoever can write the table chooses these texts: nothing in them reaches a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (developer, id) = (self.developer.escape_debug(), self.id.escape_debug());
        write!(f, "{developer}/{id}")
    }
}
