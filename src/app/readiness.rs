//! What a server needs: checked once at start, and watched from then on.

use std::{
    error::Error,
    future::pending,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::time::timeout;

use super::{StartFault, master_keys::Holder};
use crate::{
    auth::jwks::{NoKey, VerificationKeys},
    config::{Config, ConfigFaults, Database},
    envelope::kms::KmsFault,
    health::{Health, Need, Probe},
    model::cause::chain,
    store::{
        Store, StoreFault, Writing,
        authority::{self, Authority},
        schema::{self, Durability, SchemaFault},
    },
};

/// How often the database is asked, and what was not there yet is tried again.
const SOON: Duration = Duration::from_secs(2);
/// How often a master key is asked for.
const MASTER_KEY_INTERVAL: Duration = Duration::from_secs(15);
/// The issuer's key set is fetched again this soon after a failure.
const KEYS_RETRY: Duration = Duration::from_secs(15);
/// How long the start waits for the issuer's keys; they may come later.
const KEYS_PATIENCE: Duration = Duration::from_secs(5);

/// Something outside that must be there and right.
pub(super) struct Check {
    subject: Subject,
    probe: Probe,
    /// What is wrong as far as the log knows.
    said: Option<String>,
    succeeded_once: bool,
}

enum Subject {
    /// The database has our schema and loses no writes.
    Database(Box<Database>, Store, Warned),
    /// The tables of another authority are only tables.
    AuthorityTables(Store),
    /// The master key is there and fit for use; asked no longer than this.
    MasterKey(Holder, Duration, MayDescribe),
    /// The issuer's keys can be fetched.
    IssuerKeys(Arc<VerificationKeys>, RefreshAt),
}

/// Whether we were ever allowed to describe a master key: who may use it need not be.
#[derive(Default)]
struct MayDescribe(AtomicBool);

/// Whether it was said that pages may be left half written.
#[derive(Default)]
struct Warned(AtomicBool);

/// When the issuer's keys are to be fetched again.
struct RefreshAt(Mutex<Instant>);

/// Why a check has not succeeded.
enum Unready {
    /// Somebody must act, and a server does not start before.
    Refused(StartFault),
    /// It may be well in a moment.
    NotYet {
        /// For the log.
        cause: String,
        /// For whoever looks at the probes.
        detail: &'static str,
    },
    /// It is there, and not everything works.
    Impaired {
        /// For the log.
        cause: String,
        /// For whoever looks at the probes.
        detail: &'static str,
    },
}

/// Everything that a server of this configuration needs.
pub(super) fn checks(
    config: &Config,
    store: &Store,
    holders: &[Holder],
    keys: &Arc<VerificationKeys>,
    health: &Arc<Health>,
) -> Vec<Check> {
    let database = Box::new(config.database.clone());
    let database = Subject::Database(database, store.clone(), Warned::default());
    let master_key = |holder: &Holder| {
        Subject::MasterKey(holder.clone(), config.kms_timeout, MayDescribe::default())
    };
    let issuer_keys = Subject::IssuerKeys(Arc::clone(keys), RefreshAt::now());
    let of_another = config.database.authority == Authority::Grantex;
    let tables = of_another.then(|| Subject::AuthorityTables(store.clone()));
    let subjects = [database, issuer_keys].into_iter().chain(tables);
    let subjects = subjects.chain(holders.iter().map(master_key));
    let check = |subject: Subject| Check {
        probe: health.need(subject.need()),
        subject,
        said: None,
        succeeded_once: false,
    };
    subjects.map(check).collect()
}

/// Makes every check once.
///
/// # Errors
///
/// What a person must act on. That nobody answered is none: it is waited for.
pub(super) async fn first(checks: &mut [Check]) -> Result<(), StartFault> {
    let outcomes = join_all(checks.iter_mut().map(Check::first)).await;
    outcomes.into_iter().collect()
}

// === impl Check ===

impl Check {
    async fn first(&mut self) -> Result<(), StartFault> {
        let patience = match self.subject {
            Subject::IssuerKeys(..) => KEYS_PATIENCE,
            Subject::Database(..) | Subject::AuthorityTables(_) | Subject::MasterKey(..) => {
                Duration::MAX
            }
        };
        let made = timeout(patience, self.subject.first()).await;
        match made.unwrap_or_else(|_| Err(Unready::not_yet(&KmsFault::TimedOut, "no answer"))) {
            Err(Unready::Refused(fault)) => Err(fault),
            outcome => {
                self.learn(outcome);
                Ok(())
            }
        }
    }

    /// Makes the check again and again, for health and for the log. A refusal is waited for too, now
    /// that we have started: an operator may mend it.
    pub(super) async fn watch(mut self) {
        loop {
            let _ = timeout(self.pause(), pending::<()>()).await;
            let outcome = if self.succeeded_once {
                self.subject.again().await
            } else {
                self.subject.first().await
            };
            self.learn(outcome);
        }
    }

    fn pause(&self) -> Duration {
        match self.subject {
            Subject::MasterKey(..) if self.succeeded_once => MASTER_KEY_INTERVAL,
            Subject::Database(..)
            | Subject::AuthorityTables(_)
            | Subject::MasterKey(..)
            | Subject::IssuerKeys(..) => SOON,
        }
    }

    /// Tells health, and the log what is new.
    fn learn(&mut self, outcome: Result<(), Unready>) {
        let subject = self.subject.name();
        // The room of the issuer's keys logs each failure itself.
        let logs = !matches!(self.subject, Subject::IssuerKeys(..));
        let said = match outcome {
            Ok(()) => {
                if self.said.is_some() {
                    tracing::info!("{subject} can be used");
                }
                self.succeeded_once = true;
                self.probe.succeeded();
                None
            }
            Err(Unready::NotYet { cause, detail }) => {
                if logs && self.said.as_ref() != Some(&cause) {
                    tracing::warn!(cause, "{subject} cannot be used now");
                }
                self.probe.failed(detail);
                Some(cause)
            }
            Err(Unready::Impaired { cause, detail }) => {
                if self.said.as_ref() != Some(&cause) {
                    tracing::warn!(cause, "{subject} does not do all that it should");
                }
                self.probe.impaired(detail);
                Some(cause)
            }
            Err(Unready::Refused(fault)) => {
                let cause = fault.to_string();
                if self.said.as_ref() != Some(&cause) {
                    tracing::error!(cause, "{subject} cannot be used");
                }
                self.probe.refused("refused: see the log");
                Some(cause)
            }
        };
        self.said = said;
    }
}

// === impl Subject ===

impl Subject {
    fn need(&self) -> Need {
        match self {
            Self::Database(..) | Self::AuthorityTables(_) => Need::Database,
            Self::MasterKey(..) => Need::MasterKeys,
            Self::IssuerKeys(..) => Need::IssuerKeys,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Database(..) => "the database".to_owned(),
            Self::AuthorityTables(_) => "the tables of the authority".to_owned(),
            Self::MasterKey(holder, ..) => format!("master key {}", holder.key),
            Self::IssuerKeys(..) => "the issuer's key set".to_owned(),
        }
    }

    async fn first(&self) -> Result<(), Unready> {
        match self {
            Self::Database(database, ..) => match check_database(database).await {
                Ok(()) => Ok(()),
                Err(SchemaFault::Unavailable(cause)) => {
                    let fault = StoreFault::Unavailable(cause);
                    Err(Unready::not_yet(&fault, fault.reason()))
                }
                // A standby may be promoted, and a full disk that made it read-only be emptied.
                Err(fault @ SchemaFault::TakesNoWrites(_)) => {
                    Err(Unready::not_yet(&fault, "takes no writes"))
                }
                Err(refused) => Err(Unready::Refused(refused.into())),
            },
            Self::MasterKey(holder, patience, may) => match check(holder, *patience).await {
                Ok(()) => {
                    may.0.store(true, Ordering::Relaxed);
                    Ok(())
                }
                Err(fault) => judge(holder, &fault),
            },
            Self::AuthorityTables(_) | Self::IssuerKeys(..) => self.again().await,
        }
    }

    /// The same for what was there once: by what it is used with, which costs less.
    async fn again(&self) -> Result<(), Unready> {
        match self {
            Self::Database(database, store, warned) => {
                let unreachable = |fault: StoreFault| Unready::not_yet(&fault, fault.reason());
                let writing = store.writing().await.map_err(unreachable)?;
                if database.durability == Durability::Required {
                    warned.look_at(writing)?;
                }
                if let Some(why) = writing.refused {
                    let fault = SchemaFault::TakesNoWrites(why);
                    return Err(Unready::impaired(&fault, "takes no writes"));
                }
                let missing = store.missing_privileges().await.map_err(unreachable)?;
                if !missing.is_empty() {
                    let fault = SchemaFault::MissingPrivileges(missing.join(", "));
                    return Err(Unready::impaired(&fault, "its role lacks a privilege"));
                }
                store.ping().await.map_err(unreachable)
            }
            Self::AuthorityTables(store) => match store.authority_fault().await {
                Ok(None) => Ok(()),
                Ok(Some(fault)) => Err(Unready::Refused(fault.into())),
                Err(fault) => Err(Unready::not_yet(&fault, fault.reason())),
            },
            Self::MasterKey(holder, patience, may) => match check(holder, *patience).await {
                Ok(()) => {
                    may.0.store(true, Ordering::Relaxed);
                    Ok(())
                }
                // That it may not be described was said when we started.
                Err(KmsFault::Denied(_)) if !may.0.load(Ordering::Relaxed) => Ok(()),
                Err(fault) => Err(Unready::not_yet(&fault, fault.name())),
            },
            Self::IssuerKeys(keys, refresh_at) => {
                if refresh_at.is_due() {
                    let refreshed = keys.refresh().await;
                    refresh_at.set(if refreshed.is_ok() {
                        keys.refresh_after()
                    } else {
                        KEYS_RETRY
                    });
                }
                // A request may have asked for an unknown key meanwhile.
                if !keys.could_be_fetched() {
                    return Err(Unready::not_yet(&NoKey::Unavailable, "cannot be fetched"));
                }
                if keys.usable() == 0 {
                    return Err(Unready::Impaired {
                        cause: "none of its keys verifies RS256 or ES256".to_owned(),
                        detail: "has no usable key",
                    });
                }
                Ok(())
            }
        }
    }
}

async fn check_database(database: &Database) -> Result<(), SchemaFault> {
    schema::check_once(&database.url, database.durability).await?;
    authority::check_once(&database.url, database.authority).await
}

async fn check(holder: &Holder, patience: Duration) -> Result<(), KmsFault> {
    let answer = timeout(patience, holder.kms.check()).await;
    answer.unwrap_or(Err(KmsFault::TimedOut)).map(|_| ())
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
        | KmsFault::Tampered(_) => Err(Unready::not_yet(fault, fault.name())),
    }
}

// === impl Warned ===

impl Warned {
    /// Refuses a server that does not flush; nothing that it acknowledges may leave.
    fn look_at(&self, writing: Writing) -> Result<(), Unready> {
        if !writing.full_page_writes && !self.0.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the database has full_page_writes=off: unless its storage writes whole pages, a \
                 crash of the machine can damage it; GRANTEX_VAULT_STORAGE_IS_DURABLE=true says that \
                 it does"
            );
        }
        if writing.fsync {
            return Ok(());
        }
        let fault = SchemaFault::LosesWrites(schema::FSYNC_OFF);
        Err(Unready::Refused(fault.into()))
    }
}

// === impl RefreshAt ===

impl RefreshAt {
    fn now() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    fn is_due(&self) -> bool {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) <= Instant::now()
    }

    fn set(&self, pause: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + pause;
    }
}

// === impl Unready ===

impl Unready {
    fn not_yet(fault: &(dyn Error + 'static), detail: &'static str) -> Self {
        Self::NotYet {
            cause: chain(fault),
            detail,
        }
    }

    fn impaired(fault: &(dyn Error + 'static), detail: &'static str) -> Self {
        Self::Impaired {
            cause: chain(fault),
            detail,
        }
    }
}
