//! What must have succeeded once before health says `SERVING`.

use std::{error::Error, time::Duration};

use futures_util::future::join_all;
use tokio::time::timeout;

use super::{StartFault, master_keys::Holder};
use crate::{
    config::{Config, ConfigFaults},
    envelope::kms::KmsFault,
    store::{
        database_url::DatabaseUrl,
        schema::{self, SchemaFault},
    },
    vault::error::chain,
};

/// How often what could not be reached is tried again before its first success.
const RETRY: Duration = Duration::from_secs(2);

/// Something outside that must be there and right.
pub(super) enum Check {
    /// The database has our schema and loses no writes.
    Database(Box<DatabaseUrl>),
    /// The master key is there and fit for use; asked no longer than this.
    MasterKey(Holder, Duration),
}

/// Why a check has not succeeded.
enum Unready {
    /// Somebody must act, and the server does not start before.
    Refused(StartFault),
    /// It may be well in a moment.
    NotYet(String),
}

/// Everything that a server of this configuration needs.
pub(super) fn checks(config: &Config, holders: &[Holder]) -> Vec<Check> {
    let database = Check::Database(Box::new(config.database.url.clone()));
    let master_key = |holder: &Holder| Check::MasterKey(holder.clone(), config.kms_timeout);
    std::iter::once(database)
        .chain(holders.iter().map(master_key))
        .collect()
}

/// Makes every check once; answers those that are to be made again, because nobody answered.
///
/// # Errors
///
/// What a person must act on.
pub(super) async fn first(checks: Vec<Check>) -> Result<Vec<Check>, StartFault> {
    let outcomes = join_all(checks.iter().map(Check::make)).await;
    let mut unready = Vec::new();
    for (check, outcome) in checks.into_iter().zip(outcomes) {
        match outcome {
            Ok(()) => {}
            Err(Unready::Refused(fault)) => return Err(fault),
            Err(Unready::NotYet(cause)) => {
                tracing::warn!(cause, "{} cannot be used yet", check.subject());
                unready.push(check);
            }
        }
    }
    Ok(unready)
}

/// Makes checks again until each has succeeded. A refusal is waited for too, now that we have started: an
/// operator may mend it.
pub(super) async fn all(checks: Vec<Check>) {
    join_all(checks.iter().map(Check::succeeded)).await;
}

// === impl Check ===

impl Check {
    async fn succeeded(&self) {
        let mut said = None;
        loop {
            let _ = timeout(RETRY, std::future::pending::<()>()).await;
            let cause = match self.make().await {
                Ok(()) => break,
                Err(Unready::NotYet(_)) => None,
                Err(Unready::Refused(fault)) => Some(fault.to_string()),
            };
            if let Some(cause) = cause.as_ref().filter(|cause| said.as_ref() != Some(*cause)) {
                tracing::error!(cause, "{} cannot be used", self.subject());
            }
            said = cause;
        }
        tracing::info!("{} can be used", self.subject());
    }

    async fn make(&self) -> Result<(), Unready> {
        match self {
            Self::Database(url) => match schema::check_once(url).await {
                Ok(()) => Ok(()),
                Err(fault @ SchemaFault::Unavailable(_)) => Err(Unready::not_yet(&fault)),
                Err(refused) => Err(Unready::Refused(refused.into())),
            },
            Self::MasterKey(holder, patience) => {
                let answer = timeout(*patience, holder.kms.check()).await;
                match answer.unwrap_or(Err(KmsFault::TimedOut)) {
                    Ok(_) => Ok(()),
                    Err(fault) => judge(holder, &fault),
                }
            }
        }
    }

    fn subject(&self) -> String {
        match self {
            Self::Database(_) => "the database".to_owned(),
            Self::MasterKey(holder, _) => format!("master key {}", holder.key),
        }
    }
}

/// Whether a server can start with a master key of which a check says this.
fn judge(holder: &Holder, fault: &KmsFault) -> Result<(), Unready> {
    let Holder { setting, key, .. } = holder;
    match fault {
        KmsFault::Disabled(_)
        | KmsFault::PendingDeletion(_)
        | KmsFault::Missing(_)
        | KmsFault::WrongUsage(_) => {
            let rule = format_args!("names {key}, which cannot be used: {fault}");
            Err(Unready::Refused(ConfigFaults::one(setting, rule).into()))
        }
        // Who may wrap and unwrap need not be allowed to describe the key.
        KmsFault::Denied(_) => {
            let cause = chain(fault);
            tracing::warn!(cause, "{setting} names {key}, which could not be checked");
            Ok(())
        }
        KmsFault::NotConfigured(_)
        | KmsFault::NotReady(_)
        | KmsFault::Throttled(_)
        | KmsFault::Unreachable(_)
        | KmsFault::TimedOut
        | KmsFault::BreakerOpen
        | KmsFault::Overloaded
        | KmsFault::Tampered(_) => Err(Unready::not_yet(fault)),
    }
}

// === impl Unready ===

impl Unready {
    fn not_yet(fault: &(dyn Error + 'static)) -> Self {
        Self::NotYet(chain(fault))
    }
}
