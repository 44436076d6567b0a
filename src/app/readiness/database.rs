//! Whether the database has what serving needs: checked in full when we start, and then by what it is used
//! with, which costs less.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::Unready;
use crate::{
    clock::Clock,
    config::Database,
    store::{
        Store, StoreFault, Writing, authority,
        diagnosis::{MAX_SKEW, MIN_STATEMENT_TIMEOUT},
        schema::{self, Durability, SchemaFault},
    },
};

/// The check of a database.
pub(super) struct DatabaseCheck {
    settings: Database,
    store: Store,
    /// The time, if it is the one that the database should have too.
    clock: Option<Arc<dyn Clock>>,
    /// Whether it was said that pages may be left half written.
    warned: AtomicBool,
}

impl DatabaseCheck {
    pub(super) fn new(settings: Database, store: Store, clock: Option<Arc<dyn Clock>>) -> Self {
        Self {
            settings,
            store,
            clock,
            warned: AtomicBool::new(false),
        }
    }

    pub(super) async fn first(&self) -> Result<(), Unready> {
        match self.has_our_schema().await {
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
        }
    }

    async fn has_our_schema(&self) -> Result<(), SchemaFault> {
        let Database {
            url,
            durability,
            authority,
            ..
        } = &self.settings;
        schema::check_once(url, *durability).await?;
        authority::check_once(url, *authority).await
    }

    pub(super) async fn again(&self) -> Result<(), Unready> {
        let unreachable = |fault: StoreFault| Unready::not_yet(&fault, fault.reason());
        let writing = self.store.writing().await.map_err(unreachable)?;
        if self.settings.durability == Durability::Required {
            self.flushes(&writing)?;
        }
        if let Some(why) = writing.refused {
            let fault = SchemaFault::TakesNoWrites(why);
            return Err(Unready::impaired(&fault, "takes no writes"));
        }
        let missing = self.store.missing_privileges().await.map_err(unreachable)?;
        if !missing.is_empty() {
            let fault = SchemaFault::MissingPrivileges(missing.join(", "));
            return Err(Unready::impaired(&fault, "its role lacks a privilege"));
        }
        gives_statements_time(&writing)?;
        self.has_our_time(&writing)?;
        self.store.ping().await.map_err(unreachable)
    }

    /// Refuses a server that does not flush; nothing that it acknowledges may leave.
    fn flushes(&self, writing: &Writing) -> Result<(), Unready> {
        if !writing.full_page_writes && !self.warned.swap(true, Ordering::Relaxed) {
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

    fn has_our_time(&self, writing: &Writing) -> Result<(), Unready> {
        let Some(clock) = &self.clock else {
            return Ok(());
        };
        let now = clock.now();
        let skew = now.since(writing.now).max(writing.now.since(now));
        if skew < MAX_SKEW {
            return Ok(());
        }
        Err(Unready::Impaired {
            cause: format!(
                "the clock here and the database's are {} s apart",
                skew.as_secs()
            ),
            detail: "its clock and the one here differ",
        })
    }
}

fn gives_statements_time(writing: &Writing) -> Result<(), Unready> {
    let limit = writing.statement_timeout;
    if limit.is_zero() || limit >= MIN_STATEMENT_TIMEOUT {
        return Ok(());
    }
    Err(Unready::Impaired {
        cause: format!("its statement_timeout is {} ms", limit.as_millis()),
        detail: "its statement_timeout is too short",
    })
}
