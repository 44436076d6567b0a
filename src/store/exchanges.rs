//! What exchanges look up in `vault.credentials` and `vault.revocations`, many in one statement.
//!
//! Those that come while a statement is under way are asked for together by the next one: the more there
//! is to do, the less each of them costs.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};
use tokio_postgres::{Row, types::ToSql};
use tracing::Instrument;

use super::{
    MAX_WAITING, READERS, STATEMENT_TIMEOUT, Store, StoreFault, WAIT_TIMEOUT,
    authority::{Authority, revoked_sql},
    columns::Columns,
    database_span,
    precondition::RowVersion,
    readers::Readers,
};
use crate::{
    metrics::Metrics,
    model::{
        grant_state::GrantState,
        id::CredentialId,
        metadata::Metadata,
        restrictions::Restrictions,
        sealed::{MasterKeyId, Sealed, WrappedKey},
        secret::AccessToken,
        service_name::{ServiceKey, ServiceName},
        text::{CredentialType, DeveloperId, GrantId, PrincipalId, TokenId},
        timestamp::Timestamp,
    },
    underway,
};

/// How many are asked for by one statement.
const MAX_TOGETHER: usize = 64;
/// How long the next statement waits for the one before. One that takes longer, reading from the disk
/// say, is not waited for.
const PATIENCE: Duration = Duration::from_millis(2);
/// How many statements are under way, at most.
const MAX_UNDER_WAY: usize = 2 * READERS;

/// A credential as an exchange needs it.
#[derive(Debug)]
pub struct ExchangeRow {
    /// Its id.
    pub id: CredentialId,
    /// The version of the row.
    pub version: RowVersion,
    /// The spelling of the last store.
    pub service: ServiceName,
    /// What kind it is.
    pub credential_type: CredentialType,
    /// The upstream expiry.
    pub token_expires_at: Option<Timestamp>,
    /// The developer's data.
    pub metadata: Metadata,
    /// What an exchange needs beside a scope, as the row says.
    pub restrictions: Restrictions,
    /// The secret.
    pub access_token: Sealed<AccessToken>,
    /// The key of the secret.
    pub data_key: WrappedKey,
}

/// Which grant asks for which credential.
#[derive(Debug, Clone)]
pub struct ExchangeQuery {
    /// The tenant.
    pub developer: DeveloperId,
    /// Whose credential.
    pub principal: PrincipalId,
    /// For which service.
    pub service: ServiceKey,
    /// The token.
    pub token: TokenId,
    /// Its grant.
    pub grant: GrantId,
    /// The grant that its grant was delegated from.
    pub parent_grant: Option<GrantId>,
    /// Now.
    pub at: Timestamp,
}

/// The way to the statements; clones are the same.
#[derive(Clone)]
pub(super) struct Lookups(mpsc::Sender<Waiting>);

/// A query, and who waits for its row.
struct Waiting {
    query: ExchangeQuery,
    answer: oneshot::Sender<Result<Row, StoreFault>>,
}

/// The one who asks.
struct Asker {
    queue: mpsc::Receiver<Waiting>,
    statement: Statement,
    turns: Arc<Semaphore>,
}

/// What is asked, and where.
#[derive(Clone)]
struct Statement {
    sql: &'static str,
    readers: Readers,
    metrics: Metrics,
}

/// What exchanges ask, in one statement and so of one snapshot: is what they ask with revoked; and the
/// credential. One row for each, whose credential columns are null when there is none.
///
/// There is one credential at most. The limit says so to the planner, who might join with all of them.
macro_rules! exchange_sql {
    ($authority:ident) => {
        // Store::credential_for_exchange
        concat!(
            "select asked.number, ",
            revoked_sql!($authority),
            " as revoked,
                c.id, c.version, c.service, c.credential_type, c.token_expires_at,
                c.metadata, c.required_scopes, c.allowed_agents,
                c.access_token, c.wrapped_key, c.master_key
            from (
                select pg_catalog.unnest($1::text[]) as developer_id, pg_catalog.unnest($2::text[]) as principal_id,
                    pg_catalog.unnest($3::text[]) as service_key, pg_catalog.unnest($4::text[]) as token,
                    pg_catalog.unnest($5::text[]) as grant_id, pg_catalog.unnest($6::text[]) as parent_grant_id,
                    pg_catalog.unnest($7::timestamptz[]) as at, pg_catalog.unnest($8::int[]) as number
            ) asked
            left join lateral (
                select id, xmin as version, service, credential_type, token_expires_at,
                    metadata::text as metadata, required_scopes, allowed_agents,
                    access_token, wrapped_key, master_key
                from vault.credentials
                where developer_id = asked.developer_id and principal_id = asked.principal_id
                  and service_key = asked.service_key
                limit 1
            ) c on true"
        )
    };
}

impl Store {
    /// The credential that a grant asks for and whether the grant still holds, from one snapshot in
    /// one round trip.
    ///
    /// # Errors
    ///
    /// When the database does not answer or the row is not one that the vault wrote.
    pub async fn credential_for_exchange(
        &self,
        query: ExchangeQuery,
    ) -> Result<(Option<ExchangeRow>, GrantState), StoreFault> {
        self.refuse_unfit()?;
        // Until the row is here, not until its statement was answered.
        let reading = self.reading.begin();
        let row = self
            .lookups()
            .row_of(query)
            .instrument(database_span!("select", "credentials"))
            .await?;
        drop(reading);
        let columns = Columns {
            table: "credentials",
            row: &row,
        };
        let state = if columns.get("revoked")? {
            GrantState::Revoked
        } else {
            GrantState::Live
        };
        let found = columns.get::<Option<&str>>("id")?.is_some();
        Ok((found.then(|| exchange_row(&columns)).transpose()?, state))
    }

    /// They begin with the first exchange: most who open a store never ask for one.
    fn lookups(&self) -> &Lookups {
        self.lookups.get_or_init(|| {
            Lookups::begin(Statement {
                sql: match self.authority {
                    Authority::Standalone => exchange_sql!(Standalone),
                    Authority::Grantex => exchange_sql!(Grantex),
                },
                readers: self.readers.clone(),
                metrics: self.metrics.clone(),
            })
        })
    }
}

// === impl Lookups ===

impl Lookups {
    /// Asks until nobody is left who could.
    fn begin(statement: Statement) -> Self {
        let (waiting, queue) = mpsc::channel(MAX_WAITING);
        let asker = Asker {
            queue,
            statement,
            turns: Arc::new(Semaphore::new(MAX_UNDER_WAY)),
        };
        tokio::spawn(asker.run());
        Self(waiting)
    }

    async fn row_of(&self, query: ExchangeQuery) -> Result<Row, StoreFault> {
        let (answer, row) = oneshot::channel();
        let waiting = self.0.try_send(Waiting { query, answer });
        waiting.map_err(|_| StoreFault::Overloaded)?;
        // A wait for the statements before it, and for its own.
        let row = timeout(WAIT_TIMEOUT + STATEMENT_TIMEOUT, row);
        match underway::on_database(row).await {
            Ok(Ok(row)) => row,
            Ok(Err(_)) | Err(_) => Err(StoreFault::Overloaded),
        }
    }
}

// === impl Asker ===

impl Asker {
    async fn run(mut self) {
        loop {
            let turn = Arc::clone(&self.turns).acquire_owned().await;
            let mut together = Vec::new();
            if self.queue.recv_many(&mut together, MAX_TOGETHER).await == 0 {
                return;
            }
            let statement = self.statement.clone();
            let answered = tokio::spawn(async move {
                statement.answer(together).await;
                drop(turn);
            });
            let _ = timeout(PATIENCE, answered).await;
        }
    }
}

// === impl Statement ===

impl Statement {
    /// Asks for all and tells everyone who waits.
    async fn answer(&self, mut together: Vec<Waiting>) {
        together.retain(|waiting| !waiting.answer.is_closed());
        if together.is_empty() {
            return;
        }
        let queries = together.iter().map(|waiting| &waiting.query);
        match self.ask(&queries.collect::<Vec<_>>()).await {
            Ok(rows) => {
                for (waiting, row) in together.into_iter().zip(rows) {
                    // Whoever has given up is told nothing.
                    let _ = waiting.answer.send(Ok(row));
                }
            }
            Err(fault) => {
                let fault = Arc::new(fault);
                for waiting in together {
                    let _ = waiting.answer.send(Err(share(&fault)));
                }
            }
        }
    }

    /// A row for each query, in their order.
    async fn ask(&self, queries: &[&ExchangeQuery]) -> Result<Vec<Row>, StoreFault> {
        let developers = column(queries, |query| query.developer.as_str());
        let principals = column(queries, |query| query.principal.as_str());
        let services = column(queries, |query| query.service.as_str());
        let tokens = column(queries, |query| query.token.as_str());
        let grants = column(queries, |query| query.grant.as_str());
        let parents = column(queries, |query| {
            query.parent_grant.as_ref().map(GrantId::as_str)
        });
        let moments = column(queries, |query| query.at);
        let numbers = (0_i32..).take(queries.len()).collect::<Vec<_>>();
        let parameters: [&(dyn ToSql + Sync); 8] = [
            &developers,
            &principals,
            &services,
            &tokens,
            &grants,
            &parents,
            &moments,
            &numbers,
        ];
        let read = self.readers.read(self.sql, &parameters, &self.metrics);
        let mut rows = read.await?;
        rows.sort_by_key(|row| row.get::<_, i32>("number"));
        assert_eq!(
            rows.len(),
            queries.len(),
            "a left join answers a row for each"
        );
        Ok(rows)
    }
}

fn column<'a, T>(
    queries: &[&'a ExchangeQuery],
    value: impl FnMut(&&'a ExchangeQuery) -> T,
) -> Vec<T> {
    queries.iter().map(value).collect()
}

/// The same fault for one of several.
fn share(fault: &Arc<StoreFault>) -> StoreFault {
    match **fault {
        StoreFault::Overloaded => StoreFault::Overloaded,
        _ => StoreFault::Unavailable(Box::new(Arc::clone(fault))),
    }
}

fn exchange_row(columns: &Columns<'_>) -> Result<ExchangeRow, StoreFault> {
    Ok(ExchangeRow {
        id: columns.parse_option("id", CredentialId::parse)?,
        version: columns.get("version")?,
        service: columns.parse("service", ServiceName::parse)?,
        credential_type: columns.parse("credential_type", CredentialType::parse)?,
        token_expires_at: columns.get("token_expires_at")?,
        metadata: columns.parse_option("metadata", Metadata::from_stored)?,
        restrictions: columns.restrictions()?,
        access_token: Sealed::from_stored(columns.get("access_token")?),
        data_key: WrappedKey {
            master_key: MasterKeyId::new(columns.get("master_key")?),
            bytes: columns.get("wrapped_key")?,
        },
    })
}
