//! `grantex-vault developer …`

use clap::Subcommand;

use super::{Outcome, explain, target::Target};
use crate::{
    clock::{Clock, SystemClock},
    model::{id::NewDeveloperId, text::DeveloperId},
    store::developers::DeveloperRow,
};

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
    /// List the developers, oldest first: id, time of registration, name.
    List {
        #[command(flatten)]
        target: Target,
    },
}

pub(super) async fn run(command: Command) -> Outcome {
    match command {
        Command::Create { name, target } => {
            let now = SystemClock.now();
            let id = DeveloperId::parse(&NewDeveloperId::make(now).to_string())?;
            let row = DeveloperRow {
                id,
                name,
                created_at: now,
            };
            target
                .store()?
                .create_developer(&row)
                .await
                .map_err(explain)?;
            println!("{}", row.id);
        }
        Command::List { target } => {
            let store = target.store()?;
            let mut last = None;
            loop {
                let page = store.developers(last.as_ref()).await.map_err(explain)?;
                for row in &page {
                    println!("{}\t{}\t{}", row.id, row.created_at, row.name);
                }
                let Some(end) = page.into_iter().next_back() else {
                    break;
                };
                last = Some(end);
            }
        }
    }
    Ok(())
}
