//! `vault.audit_seals`, who makes them (`vault.audit_sealer`), and with which key
//! (`vault.audit_signing_key`). A seal is of all developers: its statements name none.

use std::time::Duration;

use tokio_postgres::{Row, types::ToSql};

use super::{
    Connection, Store, StoreFault, Transaction, columns::Columns, durable::durably, patiently,
};
use crate::model::{
    sealed::{MasterKeyId, WrappedKey},
    timestamp::Timestamp,
};

/// A seal as it is stored; `audit::seal` knows what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealRow {
    /// Its number.
    pub number: i64,
    /// What is hashed and signed.
    pub header: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
    /// Its events; `None` when all of them were pruned.
    pub entries: Option<Vec<u8>>,
}

/// The key that signs, as it is stored.
#[derive(Debug, Clone)]
pub struct SigningKeyRow {
    /// Its public half. Whoever can write the table can write this too.
    pub public_key: Vec<u8>,
    /// Its private half, as a wrapped data key.
    pub wrapped: WrappedKey,
}

impl Store {
    /// The last seal, without its events.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn last_seal(&self) -> Result<Option<SealRow>, StoreFault> {
        self.connection().await?.last_seal().await
    }

    /// Up to `limit` seals, the last first, without their events.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn last_seals(&self, limit: i64) -> Result<Vec<SealRow>, StoreFault> {
        // Store::last_seals
        const SQL: &str = "
            select number, substring(header for 4097) as header,
                substring(signature for 65) as signature, null::bytea as entries
            from vault.audit_seals order by number desc limit $1";
        let connection = self.connection().await?;
        let parameters: [&(dyn ToSql + Sync); 1] = [&limit];
        let work = connection.client().query(SQL, &parameters);
        let rows = connection.deadline(work).await?;
        rows.iter().map(seal).collect()
    }

    /// Becomes, or stays, the one that seals, for some time by the database's clock; false when
    /// somebody else is.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn may_seal(&self, holder: &str, time: Duration) -> Result<bool, StoreFault> {
        // Store::may_seal
        const SQL: &str = concat!(
            "
            update vault.audit_sealer
            set holder = $1, until = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $2)
            where (holder = $1 or until < pg_catalog.clock_timestamp()
                -- Longer than anybody asks for: the clock went back, or somebody wrote it.
                or until > pg_catalog.clock_timestamp() + interval '2 hours')
              and ",
            durably!()
        );
        let connection = self.connection().await?;
        let parameters: [&(dyn ToSql + Sync); 2] = [&holder, &time.as_secs_f64()];
        let work = async {
            let statement = connection.client().prepare_cached(SQL).await?;
            connection.client().execute(&statement, &parameters).await
        };
        connection.deadline(work).await.map(|changed| changed == 1)
    }

    /// Lets another one seal at once.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn seals_no_more(&self, holder: &str) -> Result<(), StoreFault> {
        // Store::seals_no_more
        const SQL: &str = concat!(
            "update vault.audit_sealer set until = '-infinity' where holder = $1 and ",
            durably!()
        );
        let connection = self.connection().await?;
        let parameters: [&(dyn ToSql + Sync); 1] = [&holder];
        let work = connection.client().execute(SQL, &parameters);
        connection.deadline(work).await.map(|_| ())
    }

    /// The first seal after a number.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn seal_after(&self, number: i64) -> Result<Option<SealRow>, StoreFault> {
        // Store::seal_after
        const SQL: &str = "
            select number, substring(header for 4097) as header,
                substring(signature for 65) as signature,
                case when pg_catalog.octet_length(entries) <= 16777216 then entries
                    when entries is not null then ''::bytea end as entries
            from vault.audit_seals where number > $1 order by number limit 1";
        let connection = self.connection().await?;
        let parameters: [&(dyn ToSql + Sync); 1] = [&number];
        let work = connection.client().query_opt(SQL, &parameters);
        let row = connection.deadline(work).await?;
        row.as_ref().map(seal).transpose()
    }

    /// Forgets the events of the seals of which none is left: their headers stay, and with them the
    /// chain. Operators only.
    ///
    /// # Errors
    ///
    /// When the database does not answer, or a header is none.
    pub async fn forget_pruned_entries(&self, before: Timestamp) -> Result<u64, StoreFault> {
        // Store::forget_pruned_entries
        const SQL: &str = concat!(
            "
            update vault.audit_seals set entries = null
            where entries is not null
              and (pg_catalog.convert_from(header, 'UTF8')::json ->> 'newestEvent'::text) collate \"C\"
                < vault.ulid_of($1)
              and ",
            durably!()
        );
        let connection = self.connection().await?;
        let parameters: [&(dyn ToSql + Sync); 1] = [&before];
        let work = connection.client().execute(SQL, &parameters);
        patiently(&connection.progress, work).await
    }

    /// The key that signs.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn signing_key(&self) -> Result<Option<SigningKeyRow>, StoreFault> {
        // Store::signing_key
        const SQL: &str = "select public_key, wrapped_key, master_key from vault.audit_signing_key";
        let connection = self.connection().await?;
        let work = connection.client().query_opt(SQL, &[]);
        let row = connection.deadline(work).await?;
        row.as_ref().map(signing_key).transpose()
    }

    /// Adds the key that signs, unless there is one or its master key is retired.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn add_signing_key(&self, key: &SigningKeyRow) -> Result<(), StoreFault> {
        let mut connection = self.connection().await?;
        let transaction = connection.transaction().await?;
        transaction.add_signing_key(key).await?;
        transaction.commit().await
    }

    /// Replaces the wrapped form of the key that signs; false when it is not as it was read.
    /// Operators only.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn rewrap_signing_key(
        &self,
        old: &WrappedKey,
        new: &WrappedKey,
    ) -> Result<bool, StoreFault> {
        let mut connection = self.connection().await?;
        let transaction = connection.transaction().await?;
        let changed = transaction.rewrap_signing_key(old, new).await?;
        transaction.commit().await?;
        Ok(changed)
    }
}

impl Transaction<'_> {
    async fn add_signing_key(&self, key: &SigningKeyRow) -> Result<(), StoreFault> {
        // Transaction::add_signing_key
        const SQL: &str = "
            insert into vault.audit_signing_key (public_key, wrapped_key, master_key)
            select $1, $2, $3
            where not exists (
                select from vault.master_keys where id = $3 and state = 'retired')
            on conflict do nothing";
        let parameters: [&(dyn ToSql + Sync); 3] = [
            &key.public_key,
            &key.wrapped.bytes,
            &key.wrapped.master_key.as_str(),
        ];
        let work = self.inner.execute(SQL, &parameters);
        self.deadline(work).await.map(|_| ())
    }

    async fn rewrap_signing_key(
        &self,
        old: &WrappedKey,
        new: &WrappedKey,
    ) -> Result<bool, StoreFault> {
        // Transaction::rewrap_signing_key
        const SQL: &str = "
            update vault.audit_signing_key set wrapped_key = $2, master_key = $3
            where wrapped_key = $1 and not exists (
                select from vault.master_keys where id = $3 and state = 'retired')";
        let parameters: [&(dyn ToSql + Sync); 3] =
            [&old.bytes, &new.bytes, &new.master_key.as_str()];
        let work = self.inner.execute(SQL, &parameters);
        self.deadline(work).await.map(|changed| changed == 1)
    }
}

impl Connection {
    /// The last seal, without its events.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn last_seal(&self) -> Result<Option<SealRow>, StoreFault> {
        // Connection::last_seal
        const SQL: &str = "
            select number, substring(header for 4097) as header,
                substring(signature for 65) as signature, null::bytea as entries
            from vault.audit_seals order by number desc limit 1";
        let work = async {
            let statement = self.client().prepare_cached(SQL).await?;
            self.client().query_opt(&statement, &[]).await
        };
        let row = self.deadline(work).await?;
        row.as_ref().map(seal).transpose()
    }

    /// Adds a seal; false when there is one of this number.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn add_seal(&self, seal: &SealRow) -> Result<bool, StoreFault> {
        // Connection::add_seal
        const SQL: &str = concat!(
            "
            insert into vault.audit_seals (number, header, signature, entries)
            select $1::bigint, $2::bytea, $3::bytea, $4::bytea
            where ",
            durably!(),
            " on conflict do nothing"
        );
        let parameters: [&(dyn ToSql + Sync); 4] =
            [&seal.number, &seal.header, &seal.signature, &seal.entries];
        let work = async {
            let statement = self.client().prepare_cached(SQL).await?;
            self.client().execute(&statement, &parameters).await
        };
        self.deadline(work).await.map(|added| added == 1)
    }
}

fn seal(row: &Row) -> Result<SealRow, StoreFault> {
    let columns = Columns {
        table: "audit_seals",
        row,
    };
    Ok(SealRow {
        number: columns.get("number")?,
        header: columns.get("header")?,
        signature: columns.get("signature")?,
        entries: columns.get("entries")?,
    })
}

fn signing_key(row: &Row) -> Result<SigningKeyRow, StoreFault> {
    let columns = Columns {
        table: "audit_signing_key",
        row,
    };
    Ok(SigningKeyRow {
        public_key: columns.get("public_key")?,
        wrapped: WrappedKey {
            master_key: MasterKeyId::new(columns.get("master_key")?),
            bytes: columns.get("wrapped_key")?,
        },
    })
}
