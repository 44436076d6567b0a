//! `grantex-vault master-key …`

use std::{cell::RefCell, num::NonZeroU32, str::FromStr, sync::Arc};

use clap::{Args, Subcommand};

use super::output::outln;
use super::{Outcome, explain, progress, target::Target};
use crate::{
    app::master_keys,
    clock::{Clock, SystemClock},
    metrics::Metrics,
    model::{sealed::MasterKeyId, text::DeveloperId},
    operator,
    pace::Pace,
    rotation::{self, Counts, Extent, Rotation},
    store::{Store, rotation::RowKey},
};

/// Which master keys: GRANTEX_VAULT_MASTER_KEY is the primary, GRANTEX_VAULT_OLD_MASTER_KEYS may be
/// read; with --data-dir and without these, the keyring of the instance.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Wrap every data key by the primary that another master key wraps. No credential is decrypted.
    /// Run it as often, and on as many machines at once, as you like.
    Rewrap {
        #[command(flatten)]
        work: Work,
    },
    /// Seal credentials anew, under new data keys: after a data key may have leaked.
    Reencrypt {
        #[command(flatten)]
        which: Which,
        /// Go on after this place, which a run before has printed: developer/credential.
        #[arg(long, value_name = "PLACE")]
        after: Option<Place>,
        #[command(flatten)]
        work: Work,
    },
    /// List the master keys: identity, what it is for, how many keys it wraps.
    Status {
        #[command(flatten)]
        target: Target,
    },
    /// Retire a master key: nothing is stored under it any more, whatever a replica is configured
    /// to do. Refused for the primary, and while a credential needs it.
    Retire {
        /// The identity, as `status` prints it.
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// Open credentials without showing them, and name those that do not open: after a restore, and
    /// before a key is removed. Exit code 1 when there are any.
    Verify {
        /// Only so many, chosen at random.
        #[arg(long, value_name = "N")]
        sample: Option<u32>,
        #[command(flatten)]
        work: Work,
    },
}

#[derive(Args)]
pub(super) struct Work {
    /// How many credentials are begun a second, at most: a share of the quota of the KMS.
    #[arg(long, value_name = "N")]
    max_per_second: Option<NonZeroU32>,
    /// How many are worked on at once; each may need a connection to the database.
    #[arg(long, value_name = "N", default_value_t = 8)]
    concurrency: u16,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// Those of one developer.
    #[arg(long, value_name = "ID", value_parser = DeveloperId::parse)]
    developer: Option<DeveloperId>,
    /// Everybody's.
    #[arg(long)]
    all: bool,
}

/// A position in a scan, as it is printed.
#[derive(Debug, Clone)]
pub(super) struct Place(RowKey);

pub(super) async fn run(command: Command) -> Outcome {
    match command {
        Command::Rewrap { work } => rewrap(&work).await,
        Command::Reencrypt { which, after, work } => reencrypt(&which, after, &work).await,
        Command::Status { target } => {
            target.begins(operator::Work::ShowMasterKeys).await?;
            let store = target.store()?;
            let rotation = open(&target, &store).await?;
            summarise(&store, &rotation).await
        }
        Command::Retire { id, target } => {
            let store = target.store()?;
            let rotation = open(&target, &store).await?;
            let primary = rotation.primary().await.map_err(explain)?;
            let (operations, by) = target.operations()?;
            let id = MasterKeyId::new(&id);
            let retiring = operations.retire_master_key(&by, &primary, &id);
            retiring.await.map_err(explain)?;
            summarise(&store, &rotation).await
        }
        Command::Verify { sample, work } => verify(sample, &work).await,
    }
}

async fn rewrap(work: &Work) -> Outcome {
    work.target.begins(operator::Work::Rewrap).await?;
    let (store, rotation) = work.open().await?;
    let total = store.count_credentials(None).await.map_err(explain)?;
    let (done, counts) = progress::watch("rewrap", "rewrapped", total, async |watch| {
        rotation.rewrap(watch).await
    })
    .await;
    done.map_err(explain)?;
    outln!(
        "rewrapped {}, stored meanwhile {}",
        counts.done,
        counts.overtaken
    );
    summarise(&store, &rotation).await?;
    none_broken(counts)
}

async fn reencrypt(which: &Which, after: Option<Place>, work: &Work) -> Outcome {
    let developer = which.developer.as_ref();
    let begun = operator::Work::Reencrypt(developer);
    work.target.begins(begun).await?;
    let (store, rotation) = work.open().await?;
    let total = store.count_credentials(developer).await.map_err(explain)?;
    let after = after.map(|place| place.0).unwrap_or_default();
    let reached = RefCell::new(after.clone());
    let places = progress::Places::default();
    let (done, counts) = progress::watch("reencrypt", "re-encrypted", total, async |watch| {
        let note = |place: &RowKey| {
            places.reached(place);
            place.clone_into(&mut reached.borrow_mut());
        };
        rotation.reencrypt(developer, after, watch, &note).await
    })
    .await;
    done.map_err(|fault| {
        let place = reached.borrow();
        format!("{}; go on with --after '{place}'", explain(fault))
    })?;
    outln!(
        "re-encrypted {}, stored meanwhile {}",
        counts.done,
        counts.overtaken
    );
    summarise(&store, &rotation).await?;
    none_broken(counts)
}

async fn verify(sample: Option<u32>, work: &Work) -> Outcome {
    work.target
        .begins(operator::Work::VerifyCredentials)
        .await?;
    let (store, rotation) = work.open().await?;
    let total = store.count_credentials(None).await.map_err(explain)?;
    let (extent, total) = match sample {
        Some(size) => (Extent::Sample(size), total.min(size.into())),
        None => (Extent::All, total),
    };
    let (done, counts) = progress::watch("verify", "open", total, async |watch| {
        rotation.verify(extent, watch).await
    })
    .await;
    done.map_err(explain)?;
    outln!("{} of {} open", counts.done, counts.looked);
    none_broken(counts)
}

fn none_broken(counts: Counts) -> Outcome {
    match counts.broken {
        0 => Ok(()),
        1 => Err("1 credential does not open; it is named above".into()),
        many => Err(format!("{many} credentials do not open; they are named above").into()),
    }
}

/// What needs which master key now.
async fn summarise(store: &Store, rotation: &Rotation) -> Outcome {
    let primary = rotation.primary().await.map_err(explain)?;
    for key in rotation::status(store, &primary).await.map_err(explain)? {
        let id = key.id.as_str().escape_debug();
        outln!("{id}\t{}\t{}", key.role.as_str(), key.wrapped);
    }
    Ok(())
}

async fn open(target: &Target, store: &Store) -> Result<Rotation, Box<dyn std::error::Error>> {
    rotation(target, store, Pace::new(1, None)).await
}

async fn rotation(
    target: &Target,
    store: &Store,
    pace: Pace,
) -> Result<Rotation, Box<dyn std::error::Error>> {
    let settings = target.master_keys()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let keys = master_keys::together(
        &master_keys::holders(&settings, &clock, &Metrics::unobserved()).await?,
    );
    Ok(Rotation::new(
        store.clone(),
        keys,
        settings.kms_timeout,
        pace,
    ))
}

// === impl Work ===

impl Work {
    async fn open(&self) -> Result<(Store, Rotation), Box<dyn std::error::Error>> {
        let concurrency = usize::from(self.concurrency.max(1));
        let store = self.target.store_of(concurrency)?;
        let pace = Pace::new(concurrency, self.max_per_second);
        let rotation = rotation(&self.target, &store, pace).await?;
        Ok((store, rotation))
    }
}

// === impl Place ===

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (developer, id) = text
            .rsplit_once('/')
            .ok_or("must be developer/credential")?;
        Ok(Self(RowKey {
            developer: developer.to_owned(),
            id: id.to_owned(),
        }))
    }
}
