//! `grantex-vault webhook-secret …`

use std::{
    io::{self, Read},
    sync::Arc,
};

use clap::Subcommand;
use zeroize::Zeroizing;

use super::output::outln;
use super::{Outcome, explain, target::Target};
use crate::{
    app::master_keys,
    clock::{Clock, SystemClock},
    envelope::{Envelope, cache::DataKeyCache},
    metrics::Metrics,
    model::{id::WebhookSecretId, secret::WebhookSecret, text::DeveloperId},
};

/// More than a secret and a line's end.
const MAX_BYTES: usize = 1024;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Read a secret from standard input, and take what is signed with it from now on. The one before
    /// stays valid, so that both sides can change at their own time; the one before that does not.
    ///
    /// It is sealed by the master key: GRANTEX_VAULT_MASTER_KEY, or that of the instance.
    Set {
        /// Whose Grantex signs with it.
        #[arg(long, value_name = "ID", value_parser = DeveloperId::parse)]
        developer: DeveloperId,
        #[command(flatten)]
        target: Target,
    },
    /// List those that are valid, the newest first: id, since when.
    List {
        /// Whose.
        #[arg(long, value_name = "ID", value_parser = DeveloperId::parse)]
        developer: DeveloperId,
        #[command(flatten)]
        target: Target,
    },
    /// Take nothing any more that is signed with one.
    Remove {
        /// Whose.
        #[arg(long, value_name = "ID", value_parser = DeveloperId::parse)]
        developer: DeveloperId,
        /// Its id, as `list` prints it.
        id: String,
        #[command(flatten)]
        target: Target,
    },
}

pub(super) async fn run(command: Command) -> Outcome {
    match command {
        Command::Set { developer, target } => {
            let secret = from_standard_input()?;
            let envelope = envelope(&target).await?;
            let (operations, by) = target.operations()?;
            let set = operations.set_webhook_secret(&by, &envelope, &developer, &secret);
            outln!("{}", set.await.map_err(explain)?);
            Ok(())
        }
        Command::List { developer, target } => {
            let (operations, by) = target.operations()?;
            let secrets = operations.webhook_secrets(&by, &developer).await;
            for secret in secrets.map_err(explain)? {
                outln!("{}\t{}", secret.id, secret.created_at);
            }
            Ok(())
        }
        Command::Remove {
            developer,
            id,
            target,
        } => {
            let id = WebhookSecretId::parse(&id).ok_or("that is not the id of a webhook secret")?;
            let (operations, by) = target.operations()?;
            let removed = operations.remove_webhook_secret(&by, &developer, id).await;
            let said = if removed.map_err(explain)? {
                "removed"
            } else {
                "was not there"
            };
            outln!("{id} {said}");
            Ok(())
        }
    }
}

/// The secret is no argument: other users of a machine can read those.
fn from_standard_input() -> Result<WebhookSecret, Box<dyn std::error::Error>> {
    // It is never moved to a larger place, which would leave a copy behind.
    let mut bytes = Zeroizing::new(vec![0; MAX_BYTES]);
    let mut filled = 0;
    let mut input = io::stdin().lock();
    while filled < MAX_BYTES {
        match input.read(&mut bytes[filled..])? {
            0 => break,
            some => filled += some,
        }
    }
    let text = str::from_utf8(&bytes[..filled]).unwrap_or_default();
    let text = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    let rule = "standard input must hold a secret of 16 to 512 visible ASCII characters";
    Ok(WebhookSecret::new(text).ok_or(rule)?)
}

/// It seals, and keeps no key.
async fn envelope(target: &Target) -> Result<Envelope, Box<dyn std::error::Error>> {
    let settings = target.master_keys()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = Metrics::unobserved();
    let holders = master_keys::holders(&settings, &clock, &metrics).await?;
    let cache = DataKeyCache::new(None, 0, clock, metrics.clone());
    let keys = master_keys::together(&holders);
    Ok(Envelope::new(keys, settings.kms_timeout, cache, metrics))
}
