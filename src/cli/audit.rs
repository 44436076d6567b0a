//! `grantex-vault audit …`

mod files;
mod look;
mod prune;
mod table;
mod verify;

use std::{error::Error, fs, path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, Subcommand};

use super::{
    Outcome,
    exit::{away, unusable},
    explain,
    output::write,
    target::Target,
};
use crate::{
    app::master_keys,
    audit::sealer::{self, SealingFault},
    clock::{Clock, SystemClock},
    envelope::{
        Envelope, EnvelopeError,
        cache::{DataKeyCache, TimeToLive},
        signing_key::{PublicKey, SigningKey},
    },
    metrics::Metrics,
    store::Store,
};

/// Prove, show and prune the audit record. What needs the key that signs seals finds it in the database
/// and unwraps it by GRANTEX_VAULT_MASTER_KEY, unless --public-key says what to verify with.
///
/// Exit codes: 0 when all is well; 1 when something was found, or nothing is proven; 2 when the input
/// (an argument, a setting, a file) cannot be used or the output cannot be written; 3 when the database or
/// the master key cannot be used now.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Show the last events that were committed: a table on a terminal, else a line of JSON each.
    List(look::ListArgs),
    /// Show events as they are committed, until it is interrupted.
    Tail(look::TailArgs),
    /// Find every event that was changed, removed, added or reordered after it was sealed, and every
    /// seal that was changed or removed. Exit code 1 when there is any, or when nothing was sealed; 2 when
    /// the input cannot be used; 3 when the database or the master key cannot be used now.
    Verify(verify::VerifyArgs),
    /// Print the public key that seals are verified with.
    PublicKey {
        #[command(flatten)]
        target: Target,
    },
    /// Write events as lines of JSON, each with a proof that it was sealed, and a signed end that says how
    /// many there are. It needs the master key. Exit code 1 when a sealed event is left out, because it is
    /// gone or not as it was sealed.
    Export(files::ExportArgs),
    /// Check an export with the public key and nothing else. Exit code 1 when a line proves nothing, a line
    /// is missing or the file proves no event; 2 when a file cannot be read or is no public key.
    VerifyFile(files::VerifyFileArgs),
    /// Drop what is older than a moment, as far as whole partitions allow; what stays can still be
    /// verified. Run it as the owner of the schema.
    Prune(prune::PruneArgs),
}

/// What to verify with.
#[derive(Args)]
pub(super) struct Key {
    /// A file with the public key, as `public-key` prints it.
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
}

pub(super) async fn run(command: Command) -> Outcome {
    match command {
        Command::List(args) => look::list(args).await,
        Command::Tail(args) => look::tail(args).await,
        Command::Verify(args) => verify::run(args).await,
        Command::PublicKey { target } => {
            let store = target.store().map_err(unusable)?;
            let key = signing_key(&target, &store).await?;
            write(format_args!("{}", key.public_key().to_pem()));
            Ok(())
        }
        Command::Export(args) => files::export(args).await,
        Command::VerifyFile(args) => files::verify(&args),
        Command::Prune(args) => prune::run(args).await,
    }
}

impl Key {
    /// The key of the file, if there is one.
    fn noted(&self) -> Result<Option<PublicKey>, Box<dyn Error>> {
        self.public_key.as_ref().map(read_key).transpose()
    }

    async fn get(&self, target: &Target, store: &Store) -> Result<PublicKey, Box<dyn Error>> {
        match self.noted()? {
            Some(key) => Ok(key),
            None => Ok(signing_key(target, store).await?.public_key()),
        }
    }
}

fn read_key(path: &PathBuf) -> Result<PublicKey, Box<dyn Error>> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|error| unusable(format!("{shown}: {error}")))?;
    PublicKey::from_pem(&text).map_err(|fault| unusable(format!("{shown}: {fault}")))
}

/// The key that signs seals, by the master keys of the target.
async fn signing_key(target: &Target, store: &Store) -> Result<SigningKey, Box<dyn Error>> {
    let settings = target.master_keys().map_err(unusable)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = Metrics::unobserved();
    let holders = master_keys::holders(&settings, &clock, &metrics).await;
    let holders = holders.map_err(unusable)?;
    let cache = DataKeyCache::new(TimeToLive::new(Duration::ZERO), 0, clock, metrics.clone());
    let keys = master_keys::together(&holders);
    let envelope = Envelope::new(keys, settings.kms_timeout, cache, metrics);
    let row = store.signing_key().await.map_err(away)?;
    let Some(row) = row else {
        let sealed = store.last_seal().await.map_err(away)?;
        return Err(match sealed {
            None => "nothing was sealed yet: there is no key that signs".into(),
            Some(_) => "events were sealed, and the key that signed is gone from the database: \
                        verify with the --public-key that was noted"
                .into(),
        });
    };
    let opened = sealer::open_key(&envelope, &row).await;
    opened.map_err(|fault| match fault {
        SealingFault::Key(EnvelopeError::MasterKey(_)) | SealingFault::Store(_) => away(fault),
        // Somebody changed it.
        other => explain(other),
    })
}
