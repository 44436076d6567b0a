//! `grantex-vault audit list` and `audit tail`.

use std::{io::Write, time::Duration};

use clap::{Args, value_parser};
use tokio::time::sleep;

use super::table::Printer;
use crate::{
    cli::{
        Outcome,
        exit::{away, unusable},
        output::Output,
        target::Target,
    },
    model::{text::DeveloperId, timestamp::Timestamp},
    operator::Work,
    store::{
        Store, StoreFault,
        audit_look::Look,
        audit_order::{Place, Span},
    },
};

/// How often it is looked for new events.
const POLL: Duration = Duration::from_millis(500);
/// How many are read at once.
const PAGE: i64 = 500;
/// How many that are there already `tail` begins with.
const BEFORE: i64 = 10;

#[derive(Args)]
pub(in crate::cli) struct ListArgs {
    /// How many, at most: 1 to 10000.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Only events of this moment or later (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    from: Option<Timestamp>,
    /// Only events before this moment (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    to: Option<Timestamp>,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub(in crate::cli) struct TailArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
struct Which {
    /// Only the events of one developer.
    #[arg(long, value_name = "ID")]
    developer: Option<String>,
    /// Only those about one principal.
    #[arg(long, value_name = "ID")]
    principal: Option<String>,
    /// Only those for one service, compared without case.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only those about one credential.
    #[arg(long, value_name = "ID")]
    credential: Option<String>,
    /// Only those with one grant.
    #[arg(long, value_name = "ID")]
    grant: Option<String>,
    /// Only those with one outcome: released, stored, denied, …
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
}

pub(super) async fn list(args: ListArgs) -> Outcome {
    let store = args.target.store().map_err(unusable)?;
    let developer = args.which.developer();
    let look = Look {
        from: args.from,
        to: args.to,
        ..args.which.look()
    };
    let events = store.last_audit_events(&look, args.limit.into()).await;
    let events = events.map_err(away)?;
    // Before any of them is shown, and after they were read: a list is not about itself.
    let shown = Work::ListAuditEvents(developer.as_ref());
    args.target.begins(shown).await?;
    let mut printer = Printer::new(Output, Output::is_terminal());
    for event in events {
        printer.print(&event)?;
    }
    Ok(())
}

pub(super) async fn tail(args: TailArgs) -> Outcome {
    let store = args.target.store().map_err(unusable)?;
    let developer = args.which.developer();
    let begun = Work::TailAuditEvents(developer.as_ref());
    args.target.begins(begun).await?;
    let look = args.which.look();
    let mut printer = Printer::new(Output, Output::is_terminal());
    Box::pin(follow(&store, &look, &mut printer)).await
}

/// Shows events in the order of their commits. What is below the horizon is complete, so that none is
/// passed over.
async fn follow(store: &Store, look: &Look, printer: &mut Printer<impl Write>) -> Outcome {
    let horizon = store.audit_horizon().await.map_err(away)?;
    let last = store.last_audit_events(look, BEFORE).await.map_err(away)?;
    let settled = |transaction| transaction < horizon.closed_below;
    for event in last
        .iter()
        .rev()
        .filter(|event| settled(event.place.transaction))
    {
        printer.print(event)?;
    }
    let (mut era, mut from) = (horizon.era, horizon.closed_below);
    loop {
        let now = store.audit_horizon().await.map_err(away)?;
        if now.era != era {
            // The database was restored into another cluster: numbers begin anew.
            (era, from) = (now.era, 0);
        }
        let to = now.closed_below;
        show(store, Span { era, from, to }, look, printer).await?;
        from = to;
        sleep(POLL).await;
    }
}

async fn show(
    store: &Store,
    span: Span,
    look: &Look,
    printer: &mut Printer<impl Write>,
) -> Outcome {
    let mut place = Place::default();
    loop {
        let page: Result<_, StoreFault> = store.whole_events(span, &place, PAGE).await;
        let page = page.map_err(away)?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        place = last.place.clone();
        for event in page.iter().filter(|event| look.takes(event)) {
            printer.print(event)?;
        }
    }
}

// === impl Which ===

impl Which {
    /// The developer, for the event of this look: what cannot be one matches nothing.
    fn developer(&self) -> Option<DeveloperId> {
        DeveloperId::parse(self.developer.as_deref()?).ok()
    }

    fn look(self) -> Look {
        Look {
            developer: self.developer,
            principal: self.principal,
            service_key: self.service.map(|name| name.to_ascii_lowercase()),
            credential: self.credential,
            grant: self.grant,
            outcome: self.outcome,
            from: None,
            to: None,
        }
    }
}
