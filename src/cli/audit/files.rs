//! `grantex-vault audit export` and `audit verify-file`.

use std::{
    fs::File,
    io::{BufReader, BufWriter, stdin, stdout},
    num::NonZeroU32,
    path::PathBuf,
};

use clap::Args;

use super::{Key, read_key};
use crate::{
    audit::{
        export::{self, Selection, WrongLine},
        verify::Anchor,
    },
    cli::{Outcome, explain, target::Target},
    model::{text::DeveloperId, timestamp::Timestamp},
    operator::Work,
    pace::Pace,
};

#[derive(Args)]
pub(in crate::cli) struct ExportArgs {
    /// Only the events of one developer.
    #[arg(long, value_name = "ID", value_parser = DeveloperId::parse)]
    developer: Option<DeveloperId>,
    /// Only events of this moment or later (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    from: Option<Timestamp>,
    /// Only events before this moment (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    to: Option<Timestamp>,
    /// How many events are read a second, at most.
    #[arg(long, value_name = "N")]
    max_per_second: Option<NonZeroU32>,
    #[command(flatten)]
    key: Key,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub(in crate::cli) struct VerifyFileArgs {
    /// A file with the public key, as `public-key` prints it.
    #[arg(long, value_name = "FILE")]
    public_key: PathBuf,
    /// What `export` wrote; - is standard input.
    file: PathBuf,
}

pub(super) async fn export(args: ExportArgs) -> Outcome {
    let begun = Work::ExportAuditEvents(args.developer.as_ref());
    args.target.begins(begun).await?;
    let store = args.target.store()?;
    let key = args.key.get(&args.target, &store).await?;
    let selection = Selection {
        developer: args.developer,
        from: args.from,
        to: args.to,
    };
    let pace = Pace::new(1, args.max_per_second);
    let mut to = BufWriter::new(stdout());
    let exporting = export::export(&store, &key, &selection, &pace, &mut to);
    let exported = Box::pin(exporting).await.map_err(explain)?;
    eprintln!(
        "{} events with proofs; events that are not sealed yet have none",
        exported.events
    );
    match exported.unproven {
        0 => Ok(()),
        left_out => Err(format!(
            "{left_out} events are not as they were sealed and were left out: run `audit verify`"
        )
        .into()),
    }
}

pub(super) fn verify(args: &VerifyFileArgs) -> Outcome {
    let key = read_key(&args.public_key)?;
    let mut report = |line: u64, wrong: WrongLine| println!("line {line}\t{wrong}");
    let shown = args.file.display();
    let checked = if args.file.as_os_str() == "-" {
        export::check(BufReader::new(stdin()), &key, &mut report)
    } else {
        let file = File::open(&args.file).map_err(|error| format!("{shown}: {error}"))?;
        export::check(BufReader::new(file), &key, &mut report)
    };
    let checked = checked.map_err(|error| format!("{shown}: {error}"))?;
    println!(
        "{} events of {} seals are proven",
        checked.events, checked.seals
    );
    if let Some(Anchor { number, hash }) = checked.last {
        println!("last seal {number}:{hash}");
    }
    match checked.wrong {
        0 => Ok(()),
        1 => Err("1 line proves nothing; it is named above".into()),
        many => Err(format!("{many} lines prove nothing; they are named above").into()),
    }
}
