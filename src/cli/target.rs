//! What an operator verb acts on: a `dev` instance, or what the environment names.

use std::path::PathBuf;

use clap::Args;

use super::{
    exit::{away, unusable},
    explain,
};
use crate::{
    app,
    config::{self, Database, MasterKeySettings},
    dev::{self, Instance},
    operator::{KnownOperator, Operations, Work},
    store::Store,
};

#[derive(Args)]
pub(super) struct Target {
    /// Act on the `dev` instance that runs in this directory, instead of on DATABASE_URL.
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
}

impl Target {
    /// The database of the target.
    pub(super) fn database(&self) -> Result<Database, Box<dyn std::error::Error>> {
        let Some(data_dir) = &self.data_dir else {
            return Ok(Database::read(&config::environment)?);
        };
        let url = Instance::running(data_dir)?.database_url;
        // An instance has its own database; whether its storage is durable, it was told by the environment.
        Ok(Database::read(&|name| match name {
            "DATABASE_URL" => Some(url.clone()),
            "GRANTEX_VAULT_STORAGE_IS_DURABLE" => config::environment(name),
            _ => None,
        })?)
    }

    /// The store of the target; one connection is enough for an operator.
    pub(super) fn store(&self) -> Result<Store, Box<dyn std::error::Error>> {
        self.store_of(1)
    }

    /// The store of the target, with so many connections.
    pub(super) fn store_of(&self, connections: usize) -> Result<Store, Box<dyn std::error::Error>> {
        let database = self.database()?;
        Store::open(&database.url, connections, database.durability).map_err(explain)
    }

    /// The operations of the target, and whoever runs this command.
    pub(super) fn operations(
        &self,
    ) -> Result<(Operations, KnownOperator), Box<dyn std::error::Error>> {
        let lifetime = config::max_token_lifetime(&config::environment)?;
        let operations = app::operations(self.store()?, self.database()?.authority, lifetime);
        let user = rustix::process::getuid().as_raw();
        Ok((operations, KnownOperator::at_the_command_line(user)))
    }

    /// Records that work on the target is about to begin.
    pub(super) async fn begins(&self, work: Work<'_>) -> Result<(), Box<dyn std::error::Error>> {
        let (operations, by) = self.operations().map_err(unusable)?;
        operations.begins(&by, work).await.map_err(away)
    }

    /// The master keys that the environment names, else those of the instance.
    pub(super) fn master_keys(&self) -> Result<MasterKeySettings, Box<dyn std::error::Error>> {
        let keyring = self.data_dir.as_deref().map(dev::keyring_file);
        Ok(MasterKeySettings::read(&|name| {
            config::environment(name).or_else(|| {
                let named = config::environment("GRANTEX_VAULT_MASTER_KEY_FILE").is_some();
                let wanted = name == "GRANTEX_VAULT_MASTER_KEY" && !named;
                let keyring = keyring.as_ref().filter(|_| wanted)?;
                Some(format!("local:{}", keyring.display()))
            })
        })?)
    }
}
