//! What an operator verb acts on: a `dev` instance, or what the environment names.

use std::path::PathBuf;

use clap::Args;

use super::explain;
use crate::{
    config::{self, Database},
    dev::Instance,
    store::Store,
};

#[derive(Args)]
pub(super) struct Target {
    /// Act on the `dev` instance that runs in this directory, instead of on DATABASE_URL.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Target {
    /// The database of the target.
    pub(super) fn database(&self) -> Result<Database, Box<dyn std::error::Error>> {
        let Some(data_dir) = &self.data_dir else {
            return Ok(Database::read(&config::environment)?);
        };
        let url = Instance::running(data_dir)?.database_url;
        Ok(Database::read(&|name| {
            (name == "DATABASE_URL").then(|| url.clone())
        })?)
    }

    /// The store of the target; one connection is enough for an operator.
    pub(super) fn store(&self) -> Result<Store, Box<dyn std::error::Error>> {
        Store::open(&self.database()?.url, 1).map_err(explain)
    }
}
