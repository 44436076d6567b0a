//! What `doctor` wants to know of a database.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, error::SqlState};

use super::{
    STATEMENT_TIMEOUT, StoreFault,
    database_url::DatabaseUrl,
    fault_of,
    schema::{self, Durability, SchemaFault},
    serving_role,
};
use crate::model::timestamp::Timestamp;

/// Grant tokens are taken this much too late or too early: a clock that is further off than the database's
/// refuses good ones, or takes bad ones.
pub const MAX_SKEW: Duration = Duration::from_secs(30);
/// What a statement needs now and then, when others hold a lock or the disk is slow.
pub const MIN_STATEMENT_TIMEOUT: Duration = Duration::from_secs(1);

/// A database as it was found.
#[derive(Debug)]
pub struct Diagnosis {
    /// What the server calls its version.
    pub version: String,
    /// The number before the first dot.
    pub major_version: i32,
    /// Who we are there.
    pub role: String,
    /// Settings that are off and must not be, or writes are lost.
    pub switched_off: Vec<String>,
    /// Its clock.
    pub now: Timestamp,
    /// How long it lets a statement take; zero is any time.
    pub statement_timeout: Duration,
    /// Why a file of it cannot grow now, if that could be tried.
    pub no_room: Option<StoreFault>,
    /// Whether its schema is one that we can serve.
    pub schema: Result<(), SchemaFault>,
    /// What serving needs and the role may not.
    pub missing: Vec<String>,
    /// What the role may do to the audit record: nothing, or what it proves is worth less.
    pub record_changes: Vec<String>,
}

/// Has the server write a megabyte of a file that goes at once: an empty page of a table would tell nothing.
/// A role that may make no temporary table cannot tell.
async fn has_room(client: &Client) -> Result<(), StoreFault> {
    // diagnosis::has_room
    const SQL: &str = "
        begin;
        create temporary table room on commit drop as
            select pg_catalog.repeat('x'::text, 2000) as filler from pg_catalog.generate_series(1::int, 512::int);
        rollback";
    let written = timeout(STATEMENT_TIMEOUT, client.batch_execute(SQL)).await;
    match written {
        Ok(Err(error)) if !CANNOT_TELL.contains(&error.code()) => Err(fault_of(error)),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// It may make none; it may write nothing at all, which is found elsewhere.
const CANNOT_TELL: [Option<&SqlState>; 2] = [
    Some(&SqlState::INSUFFICIENT_PRIVILEGE),
    Some(&SqlState::READ_ONLY_SQL_TRANSACTION),
];

/// Connects and looks; nothing is changed.
///
/// # Errors
///
/// When there is no answer.
pub async fn diagnose(url: &DatabaseUrl, durability: Durability) -> Result<Diagnosis, SchemaFault> {
    // diagnosis::diagnose
    const SQL: &str = "
        select pg_catalog.current_setting('server_version'), pg_catalog.current_setting('server_version_num')::int / 10000,
            current_user::text, pg_catalog.clock_timestamp(),
            array(select name from pg_catalog.pg_settings where setting = 'off'
                and name in ('fsync', 'full_page_writes') order by name)::text[],
            (select setting::bigint from pg_catalog.pg_settings where name = 'statement_timeout')";
    let client = schema::connect(url).await?;
    let row = schema::timed(client.query_one(SQL, &[])).await?;
    let schema = match schema::check(&client, durability).await {
        Ok(()) => schema::serves(&client).await,
        refused => refused,
    };
    let (missing, record_changes) = match schema {
        Ok(()) => (
            schema::timed(serving_role::missing(&client)).await?,
            serving_role::record_changes(&client).await?,
        ),
        Err(_) => (Vec::new(), Vec::new()),
    };
    let no_room = has_room(&client).await.err();
    Ok(Diagnosis {
        statement_timeout: Duration::from_millis(row.get::<_, i64>(5).unsigned_abs()),
        no_room,
        version: row.get(0),
        major_version: row.get(1),
        role: row.get(2),
        now: row.get(3),
        switched_off: row.get(4),
        schema,
        missing,
        record_changes,
    })
}
