//! What `doctor` wants to know of a database.

use super::{
    database_url::DatabaseUrl,
    schema::{self, Durability, SchemaFault},
    serving_role,
};
use crate::model::timestamp::Timestamp;

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
    /// Whether its schema is one that we can serve.
    pub schema: Result<(), SchemaFault>,
    /// What serving needs and the role may not.
    pub missing: Vec<String>,
    /// What the role may do to the audit record: nothing, or what it proves is worth less.
    pub record_changes: Vec<String>,
}

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
                and name in ('fsync', 'full_page_writes') order by name)::text[]";
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
    Ok(Diagnosis {
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
