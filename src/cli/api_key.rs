//! `grantex-vault api-key …`

use std::time::Duration;

use clap::Subcommand;
use jiff::SignedDuration;

use super::{Outcome, explain, target::Target};
use crate::{
    auth::api_key::{self, Mode},
    clock::{Clock, SystemClock},
    model::{id::ApiKeyId, text::DeveloperId, timestamp::Timestamp},
    store::api_keys::ApiKeyRow,
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
            let mode = if test { Mode::Test } else { Mode::Live };
            create(&developer, label, mode, expires_in, &target).await
        }
        Command::List { developer, target } => {
            let developer = DeveloperId::parse(&developer)?;
            let keys = target
                .store()?
                .api_keys(&developer)
                .await
                .map_err(explain)?;
            let now = SystemClock.now();
            for key in keys {
                let state = state(&key, now);
                println!(
                    "{}\t{}…\t{state}\t{}\t{}",
                    key.id, key.prefix, key.created_at, key.label
                );
            }
            Ok(())
        }
        Command::Revoke { id, target } => {
            let id = ApiKeyId::parse(&id).ok_or("that is not the id of an API key (ak_…)")?;
            let now = SystemClock.now();
            if target
                .store()?
                .revoke_api_key(id, now)
                .await
                .map_err(explain)?
            {
                println!("revoked {id}");
                Ok(())
            } else {
                Err(format!("there is no API key {id}").into())
            }
        }
    }
}

async fn create(
    developer: &str,
    label: String,
    mode: Mode,
    expires_in: Option<Duration>,
    target: &Target,
) -> Outcome {
    let developer_id = DeveloperId::parse(developer)?;
    let store = target.store()?;
    if !store
        .developer_exists(&developer_id)
        .await
        .map_err(explain)?
    {
        return Err(format!("there is no developer {developer_id}").into());
    }
    let now = SystemClock.now();
    let key = api_key::make(mode);
    let row = ApiKeyRow {
        id: ApiKeyId::make(now),
        developer_id,
        label,
        prefix: api_key::shown_prefix(&key),
        created_at: now,
        expires_at: expires_in.map(|after| now.after(after)).transpose()?,
        revoked_at: None,
    };
    store
        .create_api_key(&api_key::hash(&key), &row)
        .await
        .map_err(explain)?;
    eprintln!("{} (shown this once; keep it safe):", row.id);
    println!("{}", key.expose());
    Ok(())
}

fn state(key: &ApiKeyRow, now: Timestamp) -> &'static str {
    if key.revoked_at.is_some() {
        "revoked"
    } else if api_key::admits(key.expires_at, None, now) {
        "active"
    } else {
        "expired"
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
