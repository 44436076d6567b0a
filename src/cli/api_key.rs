//! `grantex-vault api-key …`

use std::time::Duration;

use clap::Subcommand;
use jiff::SignedDuration;

use super::output::{errln, outln};
use super::{Outcome, developer::or_already, explain, target::Target};
use crate::{
    auth::api_key::Mode,
    clock::{Clock, SystemClock},
    model::{id::ApiKeyId, text::DeveloperId},
    operator::{KeyState, NewApiKey},
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make an API key and print it. It is stored as a hash only: this is the one time to see it.
    Create {
        /// Whose it is.
        #[arg(long, value_name = "ID")]
        developer: String,
        /// What its owner calls it.
        #[arg(long, default_value = "")]
        label: String,
        /// Mint gx_test_… instead of gx_live_…; the prefix is the only difference.
        #[arg(long)]
        test: bool,
        /// When it stops working, such as 90d; never when not given.
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        expires_in: Option<Duration>,
        #[command(flatten)]
        target: Target,
    },
    /// List a developer's API keys, newest first: id, prefix, state, time, label.
    List {
        /// Whose.
        #[arg(long, value_name = "ID")]
        developer: String,
        #[command(flatten)]
        target: Target,
    },
    /// Revoke an API key; it stops working at once.
    Revoke {
        /// The key's id (ak_…), not the key.
        id: String,
        #[command(flatten)]
        target: Target,
    },
}

pub(super) async fn run(command: Command) -> Outcome {
    match command {
        Command::Create {
            developer,
            label,
            test,
            expires_in,
            target,
        } => {
            let new = NewApiKey {
                developer: &DeveloperId::parse(&developer)?,
                label: &label,
                mode: if test { Mode::Test } else { Mode::Live },
                expires_in,
            };
            let (operations, by) = target.operations()?;
            let made = operations.create_api_key(&by, &new).await;
            let (key, row) = made.map_err(explain)?;
            errln!("{} (shown this once; keep it safe):", row.id);
            outln!("{}", key.expose());
            Ok(())
        }
        Command::List { developer, target } => {
            let developer = DeveloperId::parse(&developer)?;
            let (operations, by) = target.operations()?;
            let keys = operations.api_keys(&by, &developer).await;
            let now = SystemClock.now();
            for key in keys.map_err(explain)? {
                let state = KeyState::of(&key, now).as_str();
                outln!(
                    "{}\t{}…\t{state}\t{}\t{}",
                    key.id,
                    key.prefix,
                    key.created_at,
                    key.label
                );
            }
            Ok(())
        }
        Command::Revoke { id, target } => {
            let id = ApiKeyId::parse(&id).ok_or("that is not the id of an API key (ak_…)")?;
            let (operations, by) = target.operations()?;
            let changed = operations.revoke_api_key(&by, id).await;
            let changed = changed.map_err(explain)?;
            outln!("{id} {}", or_already(changed, "revoked"));
            Ok(())
        }
    }
}

/// A positive length of time such as `15m`, `12h` or `90d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let days = text
        .strip_suffix('d')
        .and_then(|days| days.trim_end().parse::<u32>().ok());
    let duration = match days {
        Some(days) => Some(Duration::from_hours(24) * days),
        None => text
            .parse::<SignedDuration>()
            .ok()
            .and_then(|d| Duration::try_from(d).ok()),
    };
    duration
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "must be a duration such as 15m, 12h or 90d".to_owned())
}
