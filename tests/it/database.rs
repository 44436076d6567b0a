//! The database that the vault stands on: its schema, its settings, and the way to it.

mod connecting;
mod durability;
mod isolation;
mod migrations;
mod passwords;
mod planted;
mod refusals;
mod serving;
mod tls;

use std::error::Error;

use grantex_vault::store::{
    database_url::DatabaseUrl,
    schema::{self, Durability, SchemaFault},
};

fn parse(url: &str) -> DatabaseUrl {
    url.parse().expect("the test's own URL")
}

/// Whether a server would serve this database.
async fn check(url: &str) -> Result<(), SchemaFault> {
    schema::check_once(&parse(url), Durability::Required).await
}

/// An error with all that caused it.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}
