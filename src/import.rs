//! Moving in: the credentials of another vault, each sealed under our envelope, as often as one likes.
//!
//! A run reads the source a page at a time, asks for what of it is not here yet, and takes that over
//! with one short transaction a credential, which also notes what was taken. So a kill loses nothing,
//! and running again does the rest.

mod credential;
mod developers;
mod metadata;
mod outcome;

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use thiserror::Error;

use crate::{
    envelope::{
        context::{Attributes, Place},
        kms::{Kms, KmsFault, persistently},
        legacy_grantex::LegacyKey,
    },
    model::sealed::SealedCredential,
    pace::Pace,
    store::{
        Store, StoreFault,
        grantex_source::{GrantexSource, SourceFault, SourceKey, SourceRow, Unreadable},
        imports::{ImportKey, ImportWrite, Standing},
    },
};
use credential::{Incoming, id_here};

pub use outcome::{Counts, Lost, Remark, Report, Watch};

/// What takes credentials over into a vault.
pub struct Import {
    store: Store,
    key: LegacyKey,
    seals: Option<Seals>,
    pace: Pace,
}

/// Who wraps the data keys of what is taken over.
pub struct Seals {
    /// The holder of the primary.
    pub kms: Arc<dyn Kms>,
    /// How long a call may take.
    pub timeout: Duration,
}

/// Why the work stopped. What was done is done; running again goes on.
#[derive(Debug, Error)]
pub enum ImportFault {
    /// The vault's database, or the configured primary is a retired key.
    #[error("{0}")]
    Store(#[from] StoreFault),
    /// The other one.
    #[error("{0}")]
    Source(#[from] SourceFault),
    /// Somebody who is not the vault does not end a transaction.
    #[error(
        "keys that were replaced are revoked from now on, but a transaction that began before has not \
         ended: look at pg_stat_activity if it does not end"
    )]
    EarlierRequests,
    /// The master key cannot be used now.
    #[error("the master key cannot be used")]
    MasterKey(#[source] KmsFault),
}

/// What stops the work on a row, or all of it.
enum Trouble {
    /// The row is to be reported.
    Row(Lost),
    /// Nothing more can be done now.
    Run(ImportFault),
}

impl Import {
    /// Takes over what this key opens. Without somebody who wraps data keys it is a rehearsal: all is
    /// read and decrypted, and nothing is sealed or written.
    #[must_use]
    pub fn new(store: Store, key: LegacyKey, seals: Option<Seals>, pace: Pace) -> Self {
        Self {
            store,
            key,
            seals,
            pace,
        }
    }

    /// Takes over every credential that is newer than what was taken over before, and that the vault
    /// has neither stored nor deleted since.
    ///
    /// # Errors
    ///
    /// When one of the databases or the master key cannot be used.
    pub async fn credentials(
        &self,
        source: &mut GrantexSource,
        watch: &Watch<'_>,
    ) -> Result<(), ImportFault> {
        let mut after = None;
        loop {
            let page = source.keys(after.as_deref()).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.id.clone());
            let mut wanted = self.wanted(page, watch).await?;
            while !wanted.is_empty() {
                let rows = source.take_rows(&mut wanted).await?;
                self.each(rows, watch).await?;
            }
        }
    }

    /// The ids, of the source, of those that are to be taken over; what the others are is counted.
    async fn wanted(
        &self,
        page: Vec<SourceKey>,
        watch: &Watch<'_>,
    ) -> Result<Vec<String>, ImportFault> {
        let (newest, other_spellings): (Vec<_>, Vec<_>) =
            page.into_iter().partition(|key| key.newest);
        for key in other_spellings {
            watch.looked();
            watch.lost(&key.id, Lost::AnotherSpelling);
        }
        let service_keys: Vec<String> = newest
            .iter()
            .map(|key| key.service.to_ascii_lowercase())
            .collect();
        let keys: Vec<ImportKey<'_>> = newest
            .iter()
            .zip(&service_keys)
            .map(|(key, service_key)| ImportKey {
                id: id_here(&key.developer, &key.id),
                developer: &key.developer,
                principal: &key.principal,
                service_key,
                updated_at: key.updated_at,
            })
            .collect();
        let standings = self.store.standings(&keys).await?;
        let mut wanted = Vec::new();
        for (key, standing) in newest.into_iter().zip(standings) {
            match standing {
                Standing::New | Standing::Older => wanted.push(key.id),
                found => {
                    watch.looked();
                    watch.left(found);
                }
            }
        }
        Ok(wanted)
    }

    /// Works on rows, several at once. What is wrong with one is reported and does not stop the rest.
    async fn each(
        &self,
        rows: Vec<Result<SourceRow, Unreadable>>,
        watch: &Watch<'_>,
    ) -> Result<(), ImportFault> {
        let one = async |row: Result<SourceRow, Unreadable>| {
            self.pace.turn().await;
            let (id, worked) = match row {
                Ok(row) => (row.id.clone(), self.one(row, watch).await),
                Err(Unreadable { id }) => (id, Err(Trouble::Row(Lost::Unreadable))),
            };
            watch.looked();
            match worked {
                Ok(()) => Ok(()),
                Err(Trouble::Run(fault)) => Err(fault),
                Err(Trouble::Row(why)) => {
                    watch.lost(&id, why);
                    Ok(())
                }
            }
        };
        stream::iter(rows.into_iter().map(one))
            .buffer_unordered(self.pace.concurrency())
            .try_collect()
            .await
    }

    async fn one(&self, row: SourceRow, watch: &Watch<'_>) -> Result<(), Trouble> {
        let source_updated_at = row.updated_at;
        let (incoming, remarks) = Incoming::open(&row, &self.key).map_err(Trouble::Row)?;
        // The ciphertext of a large row is not kept while it is waited for others.
        let id_there = row.id.clone();
        drop(row);
        let standing = match &self.seals {
            None => Standing::New,
            Some(seals) => {
                let sealed = seals.seal(&incoming).await?;
                let Incoming { credential, .. } = &incoming;
                let write = ImportWrite {
                    id: incoming.id,
                    developer: &incoming.developer,
                    principal: &credential.principal_id,
                    service: &credential.service,
                    credential_type: &credential.credential_type,
                    sealed: &sealed,
                    token_expires_at: credential.token_expires_at,
                    metadata: &credential.metadata,
                    created_at: incoming.created_at,
                    updated_at: incoming.updated_at,
                    source_updated_at,
                };
                self.store.import_credential(&write).await?
            }
        };
        match standing {
            Standing::New | Standing::Older => {
                watch.imported();
                watch.remarks(&id_there, &remarks);
            }
            found => watch.left(found),
        }
        Ok(())
    }
}

// === impl Seals ===

impl Seals {
    async fn seal(&self, incoming: &Incoming) -> Result<SealedCredential, ImportFault> {
        let credential = &incoming.credential;
        let place = Place {
            developer: incoming.developer.clone(),
            principal: credential.principal_id.clone(),
            service: credential.service.key().clone(),
        };
        let attributes = Attributes {
            service: &credential.service,
            credential_type: &credential.credential_type,
            token_expires_at: credential.token_expires_at,
            metadata: &credential.metadata,
            restrictions: &credential.restrictions,
        };
        let context = place.kms_context();
        let fresh = persistently(self.timeout, async || self.kms.generate(&context).await).await;
        let fresh = fresh.map_err(ImportFault::MasterKey)?;
        let (access, refresh) = (&credential.access_token, credential.refresh_token.as_ref());
        let (sealed, _) = fresh.seal(&place, &attributes, access, refresh);
        Ok(sealed)
    }
}

// === impl Trouble ===

impl From<ImportFault> for Trouble {
    fn from(fault: ImportFault) -> Self {
        Self::Run(fault)
    }
}

impl From<StoreFault> for Trouble {
    fn from(fault: StoreFault) -> Self {
        match fault {
            StoreFault::Refused(_) => Self::Row(Lost::Refused),
            fault => Self::Run(fault.into()),
        }
    }
}
