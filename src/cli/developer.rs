//! `grantex-vault developer …`

use clap::Subcommand;

use super::output::outln;
use super::{Outcome, explain, target::Target};
use crate::model::{page::PageSize, text::DeveloperId};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Register a developer and print its id.
    Create {
        /// What people call it.
        #[arg(long)]
        name: String,
        #[command(flatten)]
        target: Target,
    },
    /// List the developers, oldest first: id, time of registration, state, name.
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Refuse everything of a developer from now on, under whichever authority: its API keys, and
    /// every grant for its principals. Nothing is deleted.
    Suspend {
        /// Whose.
        #[arg(value_name = "ID", value_parser = DeveloperId::parse)]
        developer: DeveloperId,
        #[command(flatten)]
        target: Target,
    },
    /// Take a suspension back.
    Resume {
        /// Whose.
        #[arg(value_name = "ID", value_parser = DeveloperId::parse)]
        developer: DeveloperId,
        #[command(flatten)]
        target: Target,
    },
    /// Delete a developer with its credentials, API keys and webhook secrets, for good. It stays
    /// suspended, and its part of the audit record stays. Run it again when it ends early.
    Delete {
        /// Whose.
        #[arg(value_name = "ID", value_parser = DeveloperId::parse)]
        developer: DeveloperId,
        /// That this is meant.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        target: Target,
    },
}

pub(super) async fn run(command: Command) -> Outcome {
    match command {
        Command::Create { name, target } => {
            let (operations, by) = target.operations()?;
            let made = operations.create_developer(&by, &name).await;
            outln!("{}", made.map_err(explain)?.id);
            Ok(())
        }
        Command::List { target } => list(&target).await,
        Command::Suspend { developer, target } => {
            let (operations, by) = target.operations()?;
            let changed = operations.suspend_developer(&by, &developer).await;
            let changed = changed.map_err(explain)?;
            outln!("{developer} {}", or_already(changed, "suspended"));
            Ok(())
        }
        Command::Resume { developer, target } => {
            let (operations, by) = target.operations()?;
            let changed = operations.resume_developer(&by, &developer).await;
            let said = if changed.map_err(explain)? {
                "resumed"
            } else {
                "was not suspended"
            };
            outln!("{developer} {said}");
            Ok(())
        }
        Command::Delete {
            developer,
            yes,
            target,
        } => {
            if !yes {
                return Err(format!("this deletes all that {developer} has: say --yes").into());
            }
            let (operations, by) = target.operations()?;
            let deleted = operations.delete_developer(&by, &developer).await;
            let credentials = deleted.map_err(explain)?;
            outln!("{developer} deleted, with {credentials} credentials");
            Ok(())
        }
    }
}

async fn list(target: &Target) -> Outcome {
    let (operations, by) = target.operations()?;
    let mut token = String::new();
    loop {
        let page = operations.developers(&by, PageSize::MAX, &token).await;
        let page = page.map_err(explain)?;
        for row in &page.items {
            let state = row.suspended_at.map_or("active", |_| "suspended");
            outln!("{}\t{}\t{state}\t{}", row.id, row.created_at, row.name);
        }
        let Some(next) = page.next_page_token else {
            return Ok(());
        };
        token = next;
    }
}

/// Says that something was changed, or was like that.
pub(super) fn or_already(changed: bool, what: &str) -> String {
    if changed {
        what.to_owned()
    } else {
        format!("was {what} already")
    }
}
