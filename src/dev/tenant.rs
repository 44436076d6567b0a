//! The developer of an instance and its API key.

use std::{path::Path, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{DevFault, files};
use crate::{
    auth::api_key::{self, Mode},
    clock::Clock,
    config::Database,
    model::{
        bearer::ApiKey,
        id::{ApiKeyId, NewDeveloperId},
        text::DeveloperId,
    },
    store::{Store, StoreFault, api_keys::ApiKeyRow, developers::DeveloperRow},
};

/// What is kept of them, in a file that only its owner can read. Outside development a key is
/// stored nowhere.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tenant {
    pub(super) developer_id: String,
    pub(super) api_key: String,
}

impl Tenant {
    /// The tenant of the file when the database knows it, else a new one.
    pub(super) async fn ensure(
        directory: &Path,
        database: &Database,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, DevFault> {
        let path = directory.join("developer.json");
        let store = Store::open(&database.url, 1, database.durability)
            .map_err(|fault| DevFault::Database(fault.to_string()))?;
        if path.exists() {
            let kept: Self = files::read_json(&path)?;
            let known = kept.is_known(&store).await;
            if known.map_err(|fault| DevFault::Database(fault.to_string()))? {
                return Ok(kept);
            }
        }
        let made = Self::make(&store, &*clock).await;
        let made = made.map_err(|fault| DevFault::Database(fault.to_string()))?;
        files::write_json(&path, &made)?;
        Ok(made)
    }

    async fn is_known(&self, store: &Store) -> Result<bool, StoreFault> {
        let Some(key) = ApiKey::parse(&self.api_key) else {
            return Ok(false);
        };
        let found = store.key_owner(&api_key::hash(&key)).await?;
        Ok(found.is_some_and(|owner| {
            owner.developer.as_str() == self.developer_id && owner.revoked_at.is_none()
        }))
    }

    async fn make(store: &Store, clock: &dyn Clock) -> Result<Self, StoreFault> {
        let now = clock.now();
        let id = DeveloperId::parse(&NewDeveloperId::make(now).to_string());
        let id = id.expect("a prefix and a ULID are short and visible");
        let developer = DeveloperRow {
            id,
            name: "development".to_owned(),
            created_at: now,
            suspended_at: None,
        };
        let key = api_key::make(Mode::Test);
        let row = ApiKeyRow {
            id: ApiKeyId::make(now),
            developer_id: developer.id.clone(),
            label: "development".to_owned(),
            prefix: api_key::shown_prefix(&key),
            created_at: now,
            expires_at: None,
            revoked_at: None,
        };
        let mut connection = store.connection().await?;
        let transaction = connection.transaction().await?;
        transaction.create_developer(&developer).await?;
        transaction
            .create_api_key(&api_key::hash(&key), &row)
            .await?;
        transaction.commit().await?;
        Ok(Self {
            developer_id: developer.id.to_string(),
            api_key: key.expose().to_owned(),
        })
    }
}
