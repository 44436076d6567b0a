//! `grantex-vault audit export` and `audit verify-file`.

use std::{
    fs::File,
    io::{BufReader, BufWriter, stdin},
    num::NonZeroU32,
    path::PathBuf,
};

use clap::Args;

use super::{Key, read_key, verify::anchor};
use crate::{
    audit::{
        export::{self, End, ExportFault, Selection, WrongLine},
        verify::Anchor,
    },
    cli::{
        Outcome,
        exit::{away, unusable},
        explain,
        output::{Output, errln, outln},
        target::Target,
    },
    clock::{Clock, SystemClock},
    model::{text::DeveloperId, timestamp::Timestamp},
    operator::Work,
    pace::Pace,
    store::StoreFault,
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
    /// A seal that was noted elsewhere: the record must have it, and its line is in the export, so that
    /// `verify-file --anchor` finds it.
    #[arg(long, value_name = "NUMBER:HASH", value_parser = anchor)]
    anchor: Option<Anchor>,
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
    /// A seal that was noted elsewhere, as the log and `verify` print it: an export of another record, or
    /// of one that was cut off before it, is found.
    #[arg(long, value_name = "NUMBER:HASH", value_parser = anchor)]
    anchor: Option<Anchor>,
    /// What `export` wrote; - is standard input.
    file: PathBuf,
}

pub(super) async fn export(args: ExportArgs) -> Outcome {
    let noted = args.key.noted()?;
    let store = args.target.store().map_err(unusable)?;
    let key = super::signing_key(&args.target, &store).await?;
    if noted.is_some_and(|noted| noted != key.public_key()) {
        return Err("the key that signs seals is not the one of --public-key".into());
    }
    let begun = Work::ExportAuditEvents(args.developer.as_ref());
    args.target.begins(begun).await?;
    let selection = Selection {
        developer: args.developer,
        from: args.from,
        to: args.to,
        anchor: args.anchor,
    };
    let pace = Pace::new(1, args.max_per_second);
    let mut to = BufWriter::new(Output);
    let now = SystemClock.now();
    let exporting = export::export(&store, &key, &selection, &pace, now, &mut to);
    let exported = Box::pin(exporting).await.map_err(|fault| match fault {
        ExportFault::Store(StoreFault::Inconsistent { .. }) => explain(fault),
        ExportFault::Store(_) => away(fault),
        ExportFault::Write(_) => unusable(explain(fault)),
        // Somebody changed the record.
        _ => explain(fault),
    })?;
    errln!(
        "{} events with proofs; events that are not sealed yet have none",
        exported.events
    );
    match exported.left_out {
        0 => Ok(()),
        left_out => Err(format!(
            "THE EXPORT IS NOT WHOLE: {left_out} sealed events are left out, because they are gone or not \
             as they were sealed; run `audit verify`"
        )
        .into()),
    }
}

pub(super) fn verify(args: &VerifyFileArgs) -> Outcome {
    let key = read_key(&args.public_key)?;
    let mut report = |line: u64, wrong: WrongLine| outln!("line {line}\t{wrong}");
    let cannot_be_read = |error| unusable(format!("{}: {error}", args.file.display()));
    let checked = if args.file.as_os_str() == "-" {
        export::check(BufReader::new(stdin()), &key, args.anchor, &mut report)
    } else {
        let file = File::open(&args.file).map_err(cannot_be_read)?;
        export::check(BufReader::new(file), &key, args.anchor, &mut report)
    };
    let checked = checked.map_err(cannot_be_read)?;
    outln!(
        "{} events of {} seals are proven",
        checked.events,
        checked.seals
    );
    if let Some(end) = &checked.end {
        print_end(end);
    }
    if let Some(Anchor { number, hash }) = checked.last {
        outln!("last seal {number}:{hash}");
    }
    let left_out = checked.end.as_ref().map_or(0, |end| end.left_out);
    match checked.wrong {
        0 if left_out > 0 => Err(format!(
            "the file is not whole: {left_out} sealed events were gone, or not as they were sealed, when \
             it was exported"
        )
        .into()),
        0 if checked.events == 0 => Err("no event is in the file: nothing is proven".into()),
        0 => Ok(()),
        1 => Err("1 thing is not proven; it is named above".into()),
        many => Err(format!("{many} things are not proven; they are named above").into()),
    }
}

/// What the events are all of, as it was signed.
fn print_end(end: &End) {
    let developer = end.developer.as_ref().map(DeveloperId::as_str);
    let whose = developer.map_or_else(
        || "everybody's".to_owned(),
        |id| format!("those of {}", id.escape_debug()),
    );
    let from = end
        .from
        .map_or(String::new(), |from| format!(" from {from}"));
    let to = end.to.map_or(String::new(), |to| format!(" before {to}"));
    let all = match end.left_out {
        0 => "all that was asked for",
        _ => "NOT all that was asked for",
    };
    outln!(
        "they are {all}: {whose}{from}{to}, exported at {}",
        end.exported_at
    );
}
