//! `grantex-vault audit prune`.

use clap::Args;

use crate::{
    audit::prune::{PruneFault, prune},
    cli::{
        Outcome,
        exit::{away, unusable},
        explain,
        output::outln,
        target::Target,
    },
    clock::{Clock, SystemClock},
    model::timestamp::Timestamp,
    operator::Work,
};

#[derive(Args)]
pub(in crate::cli) struct PruneArgs {
    /// Events before this moment go (RFC 3339), but for those in a partition that has later ones too.
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    before: Timestamp,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(args: PruneArgs) -> Outcome {
    let now = SystemClock.now();
    if args.before > now {
        return Err(unusable("--before must not be in the future"));
    }
    let store = args.target.store().map_err(unusable)?;
    let key = super::signing_key(&args.target, &store).await?;
    args.target.begins(Work::PruneAuditEvents).await?;
    let pruning = prune(&store, &key, args.before, now);
    let pruned = Box::pin(pruning).await.map_err(|fault| match fault {
        PruneFault::Store(_) => away(fault),
        other => explain(other),
    })?;
    outln!(
        "events before {} are gone: {} partitions dropped, {} other events deleted, {} seals emptied",
        pruned.before,
        pruned.partitions,
        pruned.events,
        pruned.seals
    );
    Ok(())
}
