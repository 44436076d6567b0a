//! `grantex-vault import …`

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use tokio::time::Instant;

use super::output::{errln, outln};
use super::{Outcome, explain, progress, settings_args, target::Target};
use crate::{
    app::master_keys,
    clock::{Clock, SystemClock},
    config::{self, ConfigFaults, IMPORT_SETTINGS, ImportSettings},
    envelope::legacy_grantex::{LegacyKey, MAX_STORED_CHARS},
    import::{Counts, Import, ImportFault, Report, Seals, Watch},
    metrics::Metrics,
    operator::Work,
    pace::Pace,
    store::grantex_source::GrantexSource,
};

const SOURCE: &str = "GRANTEX_VAULT_IMPORT_SOURCE";
const KEY: &str = "GRANTEX_VAULT_IMPORT_KEY";

/// From where.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Take over the credentials of the TypeScript vault, each sealed anew, with its id and times.
    ///
    /// Takes what was changed there since it was taken over, and nothing that was stored or deleted
    /// here since; run it as often as you like. Lines of what is reported: id, tab, what. Exit code 1
    /// when something was lost. docs/migrating.md describes the move.
    #[command(after_help = settings_args::from_environment(&IMPORT_SETTINGS))]
    Grantex(Grantex),
}

#[derive(Args)]
pub(super) struct Grantex {
    /// The database of the TypeScript vault, written as DATABASE_URL is; it is only read.
    #[arg(long, value_name = "DATABASE URL")]
    source: Option<String>,
    /// Read, decrypt and report everything; seal and write nothing. Needs no master key.
    #[arg(long)]
    dry_run: bool,
    /// Copy the developers too, with the hashes of their API keys: for a vault that stands alone.
    #[arg(long)]
    developers: bool,
    /// How many credentials are begun a second, at most: a share of the quota of the KMS.
    #[arg(long, value_name = "N")]
    max_per_second: Option<NonZeroU32>,
    /// How many are worked on at once; each may need a connection to the database.
    #[arg(long, value_name = "N", default_value_t = 8)]
    concurrency: u16,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(command: Command) -> Outcome {
    let Command::Grantex(arguments) = command;
    let settings = ImportSettings::read(&|name| {
        let flag = arguments.source.clone().filter(|_| name == SOURCE);
        flag.or_else(|| config::environment(name))
    })?;
    let key = LegacyKey::parse(&settings.key).ok_or_else(|| {
        let must = "must be 64 hexadecimal digits, or base64 of 32 bytes";
        ConfigFaults::one(KEY, must)
    })?;
    let import = arguments.open(key).await?;
    let source = GrantexSource::connect(&settings.source, MAX_STORED_CHARS).await;
    let mut source = source.map_err(explain)?;

    let mut lost = 0;
    if arguments.developers {
        let now = SystemClock.now();
        let work = async |watch: &Watch<'_>| import.developers(&mut source, now, watch).await;
        lost += arguments.watched("developers", None, work).await?;
    }
    let total = source.count().await.map_err(explain)?;
    let work = async |watch: &Watch<'_>| import.credentials(&mut source, watch).await;
    lost += arguments.watched("credentials", Some(total), work).await?;
    match lost {
        0 => Ok(()),
        1 => Err("1 row was lost; it is named above".into()),
        many => Err(format!("{many} rows were lost; they are named above").into()),
    }
}

// === impl Grantex ===

impl Grantex {
    async fn open(&self, key: LegacyKey) -> Result<Import, Box<dyn std::error::Error>> {
        let concurrency = usize::from(self.concurrency.max(1));
        let store = self.target.store_of(concurrency)?;
        let pace = Pace::new(concurrency, self.max_per_second);
        // One that only looks opens every credential of the source too.
        self.target.begins(Work::Import).await?;
        if self.dry_run {
            return Ok(Import::new(store, key, None, pace));
        }
        let settings = self.target.master_keys()?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let holders = master_keys::holders(&settings, &clock, &Metrics::unobserved()).await?;
        let seals = Seals {
            kms: master_keys::together(&holders),
            timeout: settings.kms_timeout,
        };
        Ok(Import::new(store, key, Some(seals), pace))
    }

    /// Runs work over rows and tells how far it is; what is to be reported is printed as it is found.
    /// Answers how many rows were lost.
    async fn watched(
        &self,
        rows: &str,
        total: Option<u64>,
        work: impl AsyncFnOnce(&Watch<'_>) -> Result<(), ImportFault>,
    ) -> Result<u64, Box<dyn std::error::Error>> {
        let report = |report: &Report<'_>| progress::print(report);
        let watch = Watch::new(&report);
        let started = Instant::now();
        let shown = || line(rows, total, watch.counts(), started.elapsed());
        let done = progress::while_waiting(Box::pin(work(&watch)), &shown).await;
        errln!("{}", shown());
        done.map_err(|fault| format!("{}; run it again to go on", explain(fault)))?;
        let Counts {
            imported,
            unchanged,
            kept,
            remarks,
            lost,
            ..
        } = watch.counts();
        let (imported_as, end) = if self.dry_run {
            ("would import", " (a dry run: nothing was written)")
        } else {
            ("imported", "")
        };
        outln!(
            "{rows}: {imported_as} {imported}, {remarks} of them with a remark, unchanged {unchanged}, kept as the vault has them {kept}, lost {lost}{end}"
        );
        Ok(lost)
    }
}

fn line(rows: &str, total: Option<u64>, counts: Counts, elapsed: Duration) -> String {
    let Counts {
        looked,
        imported,
        lost,
        ..
    } = counts;
    let rate = u128::from(looked) * 1000 / elapsed.as_millis().max(1);
    let far = total.map_or_else(String::new, |total| {
        // More may have been stored since they were counted.
        let percent = (looked * 100).checked_div(total).unwrap_or(100).min(100);
        format!("{percent}%, ")
    });
    let of = total.map_or_else(String::new, |total| format!(" of {total}"));
    format!(
        "import {rows}: {far}{looked}{of} looked at, {imported} imported, {lost} lost, {rate}/s"
    )
}
