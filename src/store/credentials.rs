//! `vault.credentials`.

use std::fmt::Write;

use deadpool_postgres::GenericClient;
use tokio_postgres::{Row, types::ToSql};
use tracing::Instrument;

use super::{
    Connection, Store, StoreFault, Transaction,
    authority::{Authority, key_is_valid_sql},
    columns::Columns,
    database_span, page,
};
use crate::model::{
    bearer::ApiKeyHash,
    caller::Developer,
    credential::Credential,
    id::CredentialId,
    metadata::Metadata,
    page::{CredentialFilter, Position},
    service_name::ServiceName,
    text::{CredentialType, DeveloperId, PrincipalId},
    timestamp::Timestamp,
};

/// One page of a list.
#[derive(Debug)]
pub struct CredentialPage {
    /// Newest first.
    pub credentials: Vec<Credential>,
    /// Where the next page begins; `None` when this was the last.
    pub next: Option<Position>,
}

impl Transaction<'_> {
    /// Deletes a credential for a developer at this moment; answers whose and for which service it was, or
    /// `None` when there was none.
    ///
    /// # Errors
    ///
    /// When the developer's API key is not valid any more; when the database does not answer.
    pub async fn delete_credential(
        &self,
        developer: &Developer,
        id: CredentialId,
        at: Timestamp,
    ) -> Result<Option<(PrincipalId, ServiceName)>, StoreFault> {
        // Transaction::delete_credential
        macro_rules! sql {
            ($authority:ident) => {
                concat!(
                    "with caller as (select ",
                    key_is_valid_sql!($authority, "$1", "$3", "$4"),
                    " as key_is_valid),
                    deleted as (
                        delete from vault.credentials
                        where developer_id = $1 and id = $2 and (select key_is_valid from caller)
                        returning id, principal_id, service)
                    select key_is_valid, id, principal_id, service
                    from caller left join deleted on true"
                )
            };
        }
        let sql = match self.authority {
            Authority::Standalone => sql!(Standalone),
            Authority::Grantex => sql!(Grantex),
        };
        let row = self
            .deadline(async {
                let statement = self.inner.prepare_cached(sql).await?;
                let parameters: [&(dyn ToSql + Sync); 4] = [
                    &developer.id.as_str(),
                    &id.to_string(),
                    &developer.api_key_hash.as_bytes(),
                    &at,
                ];
                self.inner.query_one(&statement, &parameters).await
            })
            .instrument(database_span!("delete", "credentials"))
            .await?;
        let columns = Columns {
            table: "credentials",
            row: &row,
        };
        if !columns.get::<bool>("key_is_valid")? {
            return Err(StoreFault::InvalidApiKey);
        }
        if columns.get::<Option<&str>>("id")?.is_none() {
            return Ok(None);
        }
        let principal = columns.parse("principal_id", PrincipalId::parse)?;
        Ok(Some((
            principal,
            columns.parse("service", ServiceName::parse)?,
        )))
    }
}

impl Store {
    /// One credential of a developer.
    ///
    /// # Errors
    ///
    /// When the database does not answer or the row is not one that the vault wrote.
    pub async fn credential(
        &self,
        developer: &DeveloperId,
        id: CredentialId,
    ) -> Result<Option<Credential>, StoreFault> {
        // Store::credential
        const SQL: &str = "
            select id, principal_id, service, credential_type, token_expires_at,
                metadata::text as metadata, created_at, updated_at, required_scopes, allowed_agents
            from vault.credentials
            where developer_id = $1 and id = $2";
        let parameters: [&(dyn ToSql + Sync); 2] = [&developer.as_str(), &id.to_string()];
        let row = self
            .read(SQL, &parameters)
            .instrument(database_span!("select", "credentials"))
            .await?;
        row.as_ref().map(credential).transpose()
    }

    /// A page of a developer's credentials, newest first, of at most `size`; it may be shorter and
    /// still not the last one.
    ///
    /// # Errors
    ///
    /// When the database does not answer or a row is not one that the vault wrote.
    pub async fn credentials(
        &self,
        developer: &DeveloperId,
        filter: &CredentialFilter,
        after: Option<Position>,
        size: usize,
    ) -> Result<CredentialPage, StoreFault> {
        let connection = self.connection().await?;
        connection
            .credentials(developer, None, filter, after, size)
            .await
    }

    /// The same of a list that began a while ago, if the developer's API key is still valid at this moment.
    ///
    /// # Errors
    ///
    /// When it is not; when the database does not answer or a row is not one that the vault wrote.
    pub async fn more_credentials(
        &self,
        developer: &Developer,
        at: Timestamp,
        filter: &CredentialFilter,
        after: Position,
        size: usize,
    ) -> Result<CredentialPage, StoreFault> {
        let connection = self.connection().await?;
        let asked_by = Some((&developer.api_key_hash, at));
        connection
            .credentials(&developer.id, asked_by, filter, Some(after), size)
            .await
    }
}

impl Connection {
    /// An API key that asks must be valid at its moment: the page and the answer to that are of one snapshot.
    async fn credentials(
        &self,
        developer: &DeveloperId,
        asked_by: Option<(&ApiKeyHash, Timestamp)>,
        filter: &CredentialFilter,
        after: Option<Position>,
        size: usize,
    ) -> Result<CredentialPage, StoreFault> {
        let (developer, after_id) = (developer.as_str(), after.map(|place| place.id.to_string()));
        let service_key = filter.service.as_deref().map(str::to_ascii_lowercase);
        let limit = page::limit(size);
        let hash = asked_by.map(|(hash, _)| hash.as_bytes());
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&developer, &limit];
        // Connection::credentials
        // A statement for each set of filters, so that each gets the plan and index of its own.
        let mut sql = String::from(
            "select id, principal_id, service, credential_type, token_expires_at,
                metadata::text as metadata, created_at, updated_at, required_scopes, allowed_agents
            from vault.credentials
            where developer_id = $1",
        );
        if let (Some(hash), Some((_, at))) = (&hash, &asked_by) {
            parameters.extend([hash as &(dyn ToSql + Sync), at]);
            sql.push_str(" and (select key_is_valid from caller)");
        }
        if let Some(principal) = &filter.principal_id {
            parameters.push(principal);
            append(
                &mut sql,
                format_args!(" and principal_id = ${}", parameters.len()),
            );
        }
        if let Some(key) = &service_key {
            parameters.push(key);
            append(
                &mut sql,
                format_args!(" and service_key = ${}", parameters.len()),
            );
        }
        if let (Some(place), Some(id)) = (&after, &after_id) {
            parameters.push(&place.created_at);
            parameters.push(id);
            let id = parameters.len();
            append(
                &mut sql,
                format_args!(" and (created_at, id) < (${}, ${id})", id - 1),
            );
        }
        sql.push_str(" order by created_at desc, id desc limit $2");
        if asked_by.is_some() {
            sql = asked_by_key(self.authority, &sql);
        }
        let (rows, more) = self
            .deadline(async {
                let statement = self.client().prepare_cached(&sql).await?;
                let rows = self.client().query_raw(&statement, parameters).await?;
                page::collect(rows, size).await
            })
            .instrument(database_span!("select", "credentials"))
            .await?;
        let rows = match asked_by {
            Some(_) => of_valid_key(&rows)?,
            None => &rows[..],
        };
        let credentials = rows.iter().map(credential).collect::<Result<Vec<_>, _>>()?;
        let last = credentials.last().filter(|_| more);
        let next = last.map(|last| Position {
            created_at: last.created_at,
            id: last.id,
        });
        Ok(CredentialPage { credentials, next })
    }
}

/// A page with the answer whether the key that asks for it is valid. It has a row where the page has none.
fn asked_by_key(authority: Authority, page: &str) -> String {
    let key_is_valid = match authority {
        Authority::Standalone => key_is_valid_sql!(Standalone, "$1", "$3", "$4"),
        Authority::Grantex => key_is_valid_sql!(Grantex, "$1", "$3", "$4"),
    };
    format!(
        "with caller as (select {key_is_valid} as key_is_valid)
        select key_is_valid, page.* from caller left join ({page}) page on true
        order by created_at desc, id desc"
    )
}

/// The rows of such a page.
fn of_valid_key(rows: &[Row]) -> Result<&[Row], StoreFault> {
    let Some(row) = rows.first() else {
        return Err(StoreFault::InvalidApiKey);
    };
    let columns = Columns {
        table: "credentials",
        row,
    };
    if !columns.get::<bool>("key_is_valid")? {
        return Err(StoreFault::InvalidApiKey);
    }
    let is_empty = columns.get::<Option<&str>>("id")?.is_none();
    Ok(if is_empty { &[] } else { rows })
}

fn append(sql: &mut String, text: std::fmt::Arguments<'_>) {
    sql.write_fmt(text).expect("a string takes what is written");
}

fn credential(row: &Row) -> Result<Credential, StoreFault> {
    let columns = Columns {
        table: "credentials",
        row,
    };
    Ok(Credential {
        id: columns.parse_option("id", CredentialId::parse)?,
        principal_id: columns.parse("principal_id", PrincipalId::parse)?,
        service: columns.parse("service", ServiceName::parse)?,
        credential_type: columns.parse("credential_type", CredentialType::parse)?,
        token_expires_at: columns.get("token_expires_at")?,
        metadata: columns.parse_option("metadata", Metadata::from_stored)?,
        created_at: columns.get("created_at")?,
        updated_at: columns.get("updated_at")?,
        restrictions: columns.restrictions()?,
    })
}
