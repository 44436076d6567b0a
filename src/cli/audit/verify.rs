//! `grantex-vault audit verify`: the report of a verification.

use std::{num::NonZeroU32, time::Instant};

use clap::Args;

use super::Key;
use crate::{
    audit::{
        finding::{Finding, Watch},
        seal::Sha,
        verify::{Anchor, VerifyFault, verify},
    },
    cli::{
        Outcome,
        exit::{away, unusable},
        explain,
        output::outln,
        progress,
        target::Target,
    },
    pace::Pace,
    store::StoreFault,
};

#[derive(Args)]
pub(in crate::cli) struct VerifyArgs {
    /// A seal that was noted elsewhere, as the log and `verify` print it; a record that was cut off
    /// before it is found.
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

pub(super) async fn run(args: VerifyArgs) -> Outcome {
    let store = args.target.store().map_err(unusable)?;
    let key = args.key.get(&args.target, &store).await?;
    let report = |finding: &Finding| outln!("{finding}");
    let pace = Pace::new(1, args.max_per_second);
    let (watch, begin) = (Watch::new(&report), Instant::now());
    let verifying = verify(&store, key, args.anchor, &pace, &watch);
    let shown = || format!("{} events of {} seals", watch.events(), watch.seals());
    let verified = progress::while_waiting(Box::pin(verifying), &shown).await;
    let verified = match verified {
        Ok(verified) => verified,
        // What was found is found, though there may be more.
        Err(fault) if watch.findings() > 0 => return Err(explain(fault)),
        Err(fault @ VerifyFault::Store(StoreFault::Inconsistent { .. })) => {
            return Err(explain(fault));
        }
        Err(fault) => return Err(away(fault)),
    };

    let seconds = begin.elapsed().as_secs_f64();
    outln!(
        "{} events of {} seals in {seconds:.1} s, {:.0} a second",
        watch.events(),
        watch.seals(),
        per_second(watch.events(), seconds),
    );
    match verified.last {
        Some(Anchor { number, hash }) => outln!("last seal {number}:{hash}"),
        None if watch.seals() > 0 => outln!("no seal is one that the key signed"),
        None => outln!("nothing was sealed yet"),
    }
    if verified.unsealed > 0 {
        outln!(
            "{} events are not sealed yet: nothing is proven of them",
            verified.unsealed
        );
    }
    if args.anchor.is_none() {
        outln!(
            "the tail is unproven: --anchor with a seal that was noted elsewhere proves up to it"
        );
    }
    match verified.findings {
        0 if verified.last.is_none() => Err("nothing was sealed: nothing is proven".into()),
        0 => Ok(()),
        1 => Err("1 thing is not as it was sealed; it is named above".into()),
        many => {
            Err(format!("{many} things are not as they were sealed; they are named above").into())
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for a person")]
fn per_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds.max(0.001)
}

/// Reads `<number>:<hash>`.
pub(super) fn anchor(text: &str) -> Result<Anchor, &'static str> {
    let wrong = "must be <number>:<hash in hexadecimal>";
    let (number, hash) = text.split_once(':').ok_or(wrong)?;
    Ok(Anchor {
        number: number
            .parse()
            .ok()
            .filter(|number| *number > 0)
            .ok_or(wrong)?,
        hash: Sha::parse(hash).ok_or(wrong)?,
    })
}
