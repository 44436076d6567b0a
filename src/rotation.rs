//! Moving credentials to another master key, and checking that they open: what operators run beside
//! the servers, as often and as many at once as they like.
//!
//! Every step is a scan over the primary key, a page at a time, and one short statement a credential
//! that changes it only when nobody else did. So a kill loses nothing, and running again goes on.

mod broken;
mod reencrypt;
mod rewrap;
mod status;
mod tally;
mod verify;

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use thiserror::Error;

use crate::{
    envelope::{
        context::{Attributes, KmsContext, Place},
        data_key::DataKey,
        kms::{Kms, KmsFault, persistently},
        master_keys::MasterKeys,
    },
    model::sealed::{MasterKeyId, WrappedKey},
    pace::Pace,
    store::{
        Store, StoreFault,
        rotation::{Labels, Scanned, SealedRow},
    },
};
use broken::Trouble;

pub use broken::{Broken, Reason};
pub use status::{KeyUse, Role, status};
pub use tally::{Counts, Watch};
pub use verify::Extent;

/// How many rows are looked at by a statement that reads no ciphertext.
const KEYS_PAGE: i64 = 500;
/// How many by one that does: a row may have half a megabyte.
const SEALED_PAGE: i64 = 50;

/// What works on the credentials of a database with the configured master keys.
pub struct Rotation {
    store: Store,
    keys: Arc<MasterKeys>,
    kms_timeout: Duration,
    pace: Pace,
}

/// Why the work stopped. What was done is done; running again goes on.
#[derive(Debug, Error)]
pub enum RotationFault {
    /// The database, or the configured primary is a retired key.
    #[error("{0}")]
    Store(#[from] StoreFault),
    /// A master key cannot be used now.
    #[error("a master key cannot be used")]
    MasterKey(#[source] KmsFault),
}

impl Rotation {
    /// Works with these keys, each call to them bounded in time, at this pace.
    #[must_use]
    pub fn new(store: Store, keys: Arc<MasterKeys>, kms_timeout: Duration, pace: Pace) -> Self {
        Self {
            store,
            keys,
            kms_timeout,
            pace,
        }
    }

    /// The identity of the key that wraps.
    ///
    /// # Errors
    ///
    /// When it cannot be used.
    pub async fn primary(&self) -> Result<MasterKeyId, RotationFault> {
        self.keys.primary().await.map_err(RotationFault::MasterKey)
    }

    /// The primary, if it may be stored under.
    async fn usable_primary(&self) -> Result<MasterKeyId, RotationFault> {
        let primary = self.primary().await?;
        if self.store.master_key_is_retired(&primary).await? {
            return Err(StoreFault::RetiredMasterKey(primary).into());
        }
        Ok(primary)
    }

    /// Works on rows, several at once. What is wrong with one is reported and does not stop the rest.
    async fn each<T>(
        &self,
        rows: Vec<Scanned<T>>,
        watch: &Watch<'_>,
        work: impl AsyncFn(&Scanned<T>, &T) -> Result<(), Trouble>,
    ) -> Result<(), RotationFault> {
        let one = async |row: Scanned<T>| {
            let worked = match &row.content {
                Ok(content) => work(&row, content).await,
                Err(_) => Err(Trouble::Row(Reason::Format)),
            };
            watch.looked();
            match worked {
                Ok(()) => Ok(()),
                Err(Trouble::Run(fault)) => Err(fault),
                Err(Trouble::Row(why)) => {
                    watch.broken(&Broken { row: row.key, why });
                    Ok(())
                }
            }
        };
        stream::iter(rows.into_iter().map(one))
            .buffer_unordered(self.pace.concurrency())
            .try_collect()
            .await
    }

    /// Calls a holder of keys: each call bounded in time, and tried again unless it is the row that
    /// must change.
    async fn call<T>(&self, call: impl AsyncFn() -> Result<T, KmsFault>) -> Result<T, Trouble> {
        let answer = persistently(self.kms_timeout, call).await;
        answer.map_err(|fault| match fault {
            KmsFault::Tampered(_) => Trouble::Row(Reason::DataKey),
            KmsFault::NotConfigured(id) => Trouble::Row(Reason::NotConfigured(id)),
            fault => Trouble::Run(RotationFault::MasterKey(fault)),
        })
    }

    async fn unwrap(&self, key: &WrappedKey, context: &KmsContext) -> Result<DataKey, Trouble> {
        self.call(async || self.keys.unwrap(key, context).await)
            .await
    }
}

/// The place that a row claims. A row that was re-labelled does not open there.
fn place_of(labels: &Labels) -> Place {
    Place {
        developer: labels.developer.clone(),
        principal: labels.principal.clone(),
        service: labels.service.clone(),
    }
}

fn attributes_of(row: &SealedRow) -> Attributes<'_> {
    Attributes {
        service: &row.service,
        credential_type: &row.credential_type,
        token_expires_at: row.token_expires_at,
        metadata: &row.metadata,
        restrictions: &row.restrictions,
    }
}
