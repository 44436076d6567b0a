//! `grantex-vault keyring …`

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::Outcome;
use crate::{
    clock::{Clock, SystemClock},
    dev,
    envelope::local_keyring::{KeyDescription, LocalKeyring},
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a keyring of one key, in a new file that only its owner can read.
    Create(Place),
    /// Add a key. It can be read with at once; new data keys are still wrapped by the primary.
    AddKey(Place),
    /// List the keys: identity, time, which one is primary. Never the keys themselves.
    List(Place),
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct Place {
    /// The keyring file.
    file: Option<PathBuf>,
    /// The keyring of a `dev` instance.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Place {
    fn path(&self) -> PathBuf {
        let of_dev = |directory: &PathBuf| dev::keyring_file(directory);
        self.data_dir
            .as_ref()
            .map(of_dev)
            .or_else(|| self.file.clone())
            .unwrap_or_default()
    }
}

pub(super) fn run(command: Command) -> Outcome {
    match command {
        Command::Create(place) => {
            let path = place.path();
            let keyring = LocalKeyring::create(&path, SystemClock.now())?;
            print(&keyring.list());
            advise(&path);
        }
        Command::AddKey(place) => {
            let path = place.path();
            let added = LocalKeyring::load(&path)?.add_key(SystemClock.now())?;
            print(&[added]);
        }
        Command::List(place) => print(&LocalKeyring::load(&place.path())?.list()),
    }
    Ok(())
}

fn print(keys: &[KeyDescription]) {
    for key in keys {
        let role = if key.primary { "primary" } else { "readable" };
        println!("{}\t{}\t{role}", key.id, key.created_at);
    }
}

fn advise(path: &Path) {
    eprintln!(
        "Use it with GRANTEX_VAULT_MASTER_KEY=local:{}; keep a copy where the database's backups are not.",
        path.display()
    );
}
