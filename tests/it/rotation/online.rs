//! A whole rotation while two servers serve.

use std::{cell::Cell, sync::Arc};

use grantex_vault::{
    envelope::{kms::Kms, master_keys::MasterKeys},
    operator::OperatorError,
    rotation::Extent,
};

use super::{
    retire,
    sealed_rows::{Rows, watched},
};
use crate::harness::{FakeIssuer, Server, Setup, Tenant, Via};

type Keys = Arc<dyn Kms>;

/// Two replicas of one vault.
struct Replicas {
    rows: Rows,
    issuer: Arc<FakeIssuer>,
    tenant: Option<Tenant>,
    stored: Cell<usize>,
}

impl Replicas {
    async fn new() -> Self {
        Self {
            rows: Rows::none().await,
            issuer: Arc::new(FakeIssuer::start()),
            tenant: None,
            stored: Cell::new(0),
        }
    }

    /// A replica with other master keys than before.
    async fn start(&mut self, primary: &Keys, others: &[&Keys]) -> Server {
        let mut setup = Setup::new().with("DATABASE_URL", &self.rows.url);
        setup.issuer = Arc::clone(&self.issuer);
        let others = others.iter().map(|key| Arc::clone(key)).collect();
        setup.master_keys = Some(Arc::new(MasterKeys::new(Arc::clone(primary), others)));
        let server = setup.start().await;
        if self.tenant.is_none() {
            self.tenant = Some(server.tenant("acme").await);
        }
        server
    }

    /// Each replica stores a new credential and replaces an old one, over both transports; every
    /// replica exchanges both.
    async fn serve(&self, replicas: [&Server; 2]) {
        let tenant = self.tenant.as_ref().unwrap();
        for (writer, via) in replicas
            .iter()
            .zip(Via::BOTH)
            .chain(replicas.iter().zip([Via::Grpc, Via::Rest]))
        {
            let number = self.stored.replace(self.stored.get() + 1);
            let (fresh, token) = (format!("p{number}"), format!("t{number}"));
            for principal in [&fresh, "user-7"] {
                let developer = writer.client(via, &tenant.key);
                developer.store_token(principal, "github", &token).await;
                for reader in replicas {
                    let exchanged = reader
                        .agent(via, tenant, principal)
                        .exchange("github")
                        .await;
                    assert_eq!(
                        exchanged.expect("none fails")["accessToken"],
                        token.as_str()
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn through_all_steps_of_a_rotation_nothing_fails_on_two_servers_with_different_primaries() {
    let mut vault = Replicas::new().await;
    let (old, new): (Keys, Keys) = (vault.rows.keyring("old"), vault.rows.keyring("new"));
    let [old_id, new_id] = [old.check().await.unwrap(), new.check().await.unwrap()];
    vault.rows.seal(&*old, 1500).await;
    let mut a = vault.start(&old, &[]).await;
    let mut b = vault.start(&old, &[]).await;
    vault.serve([&a, &b]).await;

    // Readable everywhere.
    a = vault.start(&old, &[&new]).await;
    vault.serve([&a, &b]).await;
    b = vault.start(&old, &[&new]).await;
    vault.serve([&a, &b]).await;

    // Primary.
    a = vault.start(&new, &[&old]).await;
    vault.serve([&a, &b]).await;
    b = vault.start(&new, &[&old]).await;
    vault.serve([&a, &b]).await;

    // Rewrap, with both at work.
    let rotation = vault.rows.rotation(Arc::clone(&new), &[Arc::clone(&old)]);
    let refused = retire(&vault.rows.store, &new_id, &old_id).await;
    assert!(
        matches!(refused, Err(OperatorError::NeededKey(_))),
        "{refused:?}"
    );
    let rewrapped = Cell::new(false);
    let rewrap = async {
        let (counts, lines) = watched(async |watch| rotation.rewrap(watch).await).await;
        assert_eq!(counts.broken, 0, "{lines:?}");
        rewrapped.set(true);
    };
    let serve = async {
        while !rewrapped.get() {
            vault.serve([&a, &b]).await;
        }
    };
    tokio::join!(rewrap, serve);

    // Retire.
    let refused = retire(&vault.rows.store, &new_id, &new_id).await;
    assert!(
        matches!(refused, Err(OperatorError::PrimaryKey(_))),
        "{refused:?}"
    );
    retire(&vault.rows.store, &new_id, &old_id).await.unwrap();
    vault.serve([&a, &b]).await;

    // Remove.
    a = vault.start(&new, &[]).await;
    vault.serve([&a, &b]).await;
    b = vault.start(&new, &[]).await;
    vault.serve([&a, &b]).await;
    let rotation = vault.rows.rotation(new, &[]);
    let (counts, lines) = watched(async |watch| rotation.verify(Extent::All, watch).await).await;
    let count = u64::try_from(vault.rows.count("true").await).unwrap();
    assert_eq!((counts.done, counts.broken), (count, 0), "{lines:?}");
}

#[tokio::test]
async fn while_a_replica_stores_under_the_old_key_it_is_retired_without_leaving_a_row_behind() {
    let mut vault = Replicas::new().await;
    let (old, new): (Keys, Keys) = (vault.rows.keyring("old"), vault.rows.keyring("new"));
    let [old_id, new_id] = [old.check().await.unwrap(), new.check().await.unwrap()];
    let forgotten = vault.start(&old, &[&new]).await;
    let rotation = vault.rows.rotation(Arc::clone(&new), &[Arc::clone(&old)]);
    let tenant = vault.tenant.clone().unwrap();
    let store = async |via: Via, name: &str| {
        let mut stored = 0;
        for number in 0..60 {
            let fields = serde_json::json!({
                "principalId": format!("{name}-{number}"), "service": "github", "accessToken": "t",
            });
            match forgotten.client(via, &tenant.key).store(fields).await {
                Ok(_) => stored += 1,
                Err(refused) => assert_eq!(refused.status, 503, "{refused:?}"),
            }
        }
        stored
    };
    let retire = async {
        loop {
            watched(async |watch| rotation.rewrap(watch).await).await;
            match retire(&vault.rows.store, &new_id, &old_id).await {
                Ok(()) => break,
                Err(OperatorError::NeededKey(_)) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    };
    let (one, two, ()) = tokio::join!(store(Via::Rest, "a"), store(Via::Grpc, "b"), retire);
    assert_eq!(
        vault.rows.count(&format!("master_key = '{old_id}'")).await,
        0
    );
    assert_eq!(
        vault.rows.count("true").await,
        one + two,
        "none is lost, none half stored"
    );
}
