//! `grantex-vault keyring …`

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::output::{errln, outln};
use super::{Outcome, explain, target::Target};
use crate::{
    clock::{Clock, SystemClock},
    dev,
    envelope::local_keyring::{KeyDescription, LocalKeyring},
    operator::Work,
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a keyring of one key, in a new file that only its owner can read.
    Create(Place),
    /// Add a key. It can be read with at once; new data keys are still wrapped by the primary.
    AddKey(Change),
    /// Make a key the primary, which wraps new data keys. A running vault sees the changed file
    /// within seconds; where several machines have copies, every one must have the key before.
    SetPrimary {
        /// The key's number in the keyring: what follows the slash of its identity.
        version: u32,
        #[command(flatten)]
        change: Change,
    },
    /// Remove a key, for ever. Refused for the primary, and while a credential needs the key: the
    /// database of --data-dir or else of DATABASE_URL is asked, and the key retired there first, so
    /// that no replica can store under it any more. The file that is kept beside it (`<file>.bak`) has the
    /// key until the keyring is changed again.
    RemoveKey(Version),
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

/// A change, which is recorded in the database of --data-dir or else of DATABASE_URL before it is made.
#[derive(Args)]
pub(super) struct Change {
    #[command(flatten)]
    place: Place,
    /// Change the file without a record, where no database can be reached.
    #[arg(long)]
    unrecorded: bool,
}

#[derive(Args)]
pub(super) struct Version {
    /// The key's number in the keyring: what follows the slash of its identity.
    version: u32,
    #[command(flatten)]
    place: Place,
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

impl Change {
    async fn begins(&self, work: Work<'_>) -> Outcome {
        if self.unrecorded {
            return Ok(());
        }
        let data_dir = self.place.data_dir.clone();
        let recorded = Target { data_dir }.begins(work).await;
        recorded.map_err(|error| {
            format!(
                "{error}\nA change is recorded before it is made; --unrecorded makes it without"
            )
            .into()
        })
    }
}

pub(super) async fn run(command: Command) -> Outcome {
    match command {
        Command::Create(place) => {
            let path = place.path();
            let keyring = LocalKeyring::create(&path, SystemClock.now())?;
            print(&keyring.list());
            advise(&path);
        }
        Command::AddKey(change) => {
            let keyring = LocalKeyring::load(&change.place.path())?;
            change.begins(Work::AddKeyringKey).await?;
            print(&[keyring.add_key(SystemClock.now())?]);
        }
        Command::SetPrimary { version, change } => {
            let keyring = LocalKeyring::load(&change.place.path())?;
            let key = keyring.describe(version)?;
            change.begins(Work::SetKeyringPrimary(&key.id)).await?;
            print(&[keyring.set_primary(version)?]);
        }
        Command::RemoveKey(Version { version, place }) => {
            let keyring = LocalKeyring::load(&place.path())?;
            remove(&keyring, version, place.data_dir).await?;
            print(&keyring.list());
        }
        Command::List(place) => print(&LocalKeyring::load(&place.path())?.list()),
    }
    Ok(())
}

/// Retired before it is removed: a look at the table alone would miss a store that is under way on a
/// replica with an older configuration.
async fn remove(keyring: &LocalKeyring, version: u32, data_dir: Option<PathBuf>) -> Outcome {
    let key = keyring.removable(version)?;
    let target = Target { data_dir };
    let (operations, by) = target.operations()?;
    let primary = keyring.primary_id();
    let retiring = operations.retire_master_key(&by, &primary, &key.id);
    retiring.await.map_err(explain)?;
    let begun = operations.begins(&by, Work::RemoveKeyringKey(&key.id));
    begun.await.map_err(explain)?;
    Ok(keyring.remove_key(version)?)
}

fn print(keys: &[KeyDescription]) {
    for key in keys {
        let role = if key.primary { "primary" } else { "readable" };
        outln!("{}\t{}\t{role}", key.id, key.created_at);
    }
}

fn advise(path: &Path) {
    errln!(
        "Use it with GRANTEX_VAULT_MASTER_KEY=local:{}; keep a copy where the database's backups are not.",
        path.display()
    );
}
