//! Many credentials at once: really sealed, written by `copy`.

use std::{fmt::Write, path::Path, sync::Arc};

use bytes::Bytes;
use futures_util::SinkExt;
use grantex_vault::{
    clock::Clock,
    envelope::{
        context::{Attributes, Place},
        kms::Kms,
        local_keyring::LocalKeyring,
        master_keys::MasterKeys,
    },
    model::{
        id::CredentialId,
        metadata::Metadata,
        restrictions::Restrictions,
        secret::{AccessToken, RefreshToken},
        service_name::ServiceName,
        text::{CredentialType, DeveloperId, PrincipalId},
    },
    pace::Pace,
    rotation::{Broken, Counts, Rotation, RotationFault, Watch},
    store::{Store, schema::Durability},
};
use zeroize::Zeroizing;

use crate::harness::{Cluster, ManualClock, connect};

/// What every token of these rows begins with.
pub(super) const CANARY: &str = "canary";

/// Keyrings in a directory, and a database.
pub(super) struct Rows {
    pub(super) directory: tempfile::TempDir,
    pub(super) url: String,
    pub(super) store: Store,
    pub(super) sql: tokio_postgres::Client,
}

impl Rows {
    pub(super) async fn none() -> Self {
        let url = Cluster::shared().await.database().await;
        Self {
            directory: tempfile::tempdir().unwrap(),
            store: Store::open(&url.parse().unwrap(), 16, Durability::Required).unwrap(),
            sql: connect(&url).await,
            url,
        }
    }

    /// A new keyring, or the one of this name.
    pub(super) fn keyring(&self, name: &str) -> Arc<LocalKeyring> {
        let path = self.directory.path().join(name);
        if !Path::exists(&path) {
            LocalKeyring::create(&path, ManualClock::start().now()).unwrap();
        }
        Arc::new(LocalKeyring::load(&path).unwrap())
    }

    /// The setting that names a keyring.
    pub(super) fn setting(&self, name: &str) -> String {
        format!("local:{}", self.directory.path().join(name).display())
    }

    /// Writes credentials of the developer `acme`, a principal each, under the primary of a holder.
    pub(super) async fn seal(&self, kms: &dyn Kms, count: usize) {
        let mut text = String::new();
        for number in 0..count {
            text.push_str(&line(kms, number).await);
        }
        let copy = "copy vault.credentials (developer_id, id, principal_id, service, service_key,
            credential_type, access_token, refresh_token, wrapped_key, master_key,
            token_expires_at, metadata, created_at, updated_at) from stdin";
        let mut sink = Box::pin(self.sql.copy_in(copy).await.unwrap());
        sink.send(Bytes::from(text)).await.unwrap();
        assert_eq!(
            sink.as_mut().finish().await.unwrap(),
            u64::try_from(count).unwrap()
        );
    }

    pub(super) async fn execute(&self, sql: &str) {
        self.sql.batch_execute(sql).await.unwrap();
    }

    pub(super) async fn count(&self, condition: &str) -> i64 {
        let sql = format!("select count(*) from vault.credentials where {condition}");
        self.sql.query_one(&sql, &[]).await.unwrap().get(0)
    }

    /// A column of every row, in the order of their ids.
    pub(super) async fn column(&self, column: &str) -> Vec<String> {
        let sql = format!("select ({column})::text from vault.credentials order by id");
        let rows = self.sql.query(&sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    pub(super) fn rotation(&self, primary: Arc<dyn Kms>, others: &[Arc<dyn Kms>]) -> Rotation {
        self.paced(primary, others, Pace::new(8, None))
    }

    pub(super) fn paced(
        &self,
        primary: Arc<dyn Kms>,
        others: &[Arc<dyn Kms>],
        pace: Pace,
    ) -> Rotation {
        let keys = MasterKeys::new(primary, others.to_vec());
        let timeout = std::time::Duration::from_secs(3);
        Rotation::new(self.store.clone(), Arc::new(keys), timeout, pace)
    }
}

/// Works, and answers the counts and the lines that were reported.
pub(super) async fn watched(
    work: impl AsyncFnOnce(&Watch<'_>) -> Result<(), RotationFault>,
) -> (Counts, Vec<String>) {
    let lines = std::sync::Mutex::new(Vec::new());
    let report = |broken: &Broken| lines.lock().unwrap().push(broken.to_string());
    let watch = Watch::new(&report);
    work(&watch).await.unwrap();
    let counts = watch.counts();
    (counts, lines.into_inner().unwrap())
}

async fn line(kms: &dyn Kms, number: usize) -> String {
    let principal = format!("user-{number}");
    let service = ServiceName::parse("GitHub").unwrap();
    let place = Place {
        developer: DeveloperId::parse("acme").unwrap(),
        principal: PrincipalId::parse(&principal).unwrap(),
        service: service.key().clone(),
    };
    let metadata = format!(r#"{{"n":{number}}}"#);
    let attributes = Attributes {
        service: &service,
        credential_type: &CredentialType::default(),
        token_expires_at: None,
        metadata: &Metadata::from_stored(&metadata).unwrap(),
        restrictions: &Restrictions::default(),
    };
    let access = AccessToken::new(Zeroizing::new(format!("{CANARY} {number}"))).unwrap();
    let refresh = RefreshToken::new(Zeroizing::new(format!("{CANARY} refresh"))).unwrap();
    let fresh = kms.generate(&place.kms_context()).await.unwrap();
    let (sealed, _) = fresh.seal(&place, &attributes, &access, Some(&refresh));
    let id = CredentialId::make(ManualClock::start().now());
    let [access, refresh, wrapped] = [
        sealed.access_token.as_bytes(),
        sealed.refresh_token.as_ref().unwrap().as_bytes(),
        &sealed.data_key.bytes,
    ]
    .map(hex);
    let master_key = &sealed.data_key.master_key;
    format!(
        "acme\t{id}\t{principal}\tGitHub\tgithub\toauth2\t{access}\t{refresh}\t{wrapped}\t{master_key}\t\\N\t{metadata}\t2026-01-01\t2026-01-02\n"
    )
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::from("\\\\x");
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}
