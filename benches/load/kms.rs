//! A vault in this program, with a KMS in its process that answers late: a local keyring that waits.

use std::{process::ExitCode, sync::Arc, time::Duration};

use async_trait::async_trait;
use grantex_vault::{
    app::{self, Outside},
    config::{self, Config, MasterKey, environment},
    envelope::{
        context::KmsContext,
        data_key::{DataKey, FreshDataKey},
        kms::{Kms, KmsFault},
        local_keyring::LocalKeyring,
    },
    memory,
    model::sealed::{MasterKeyId, WrappedKey},
    shutdown::StopSignals,
    telemetry,
};
use tokio::time::sleep;

struct LateKms {
    keyring: LocalKeyring,
    delay: Duration,
}

/// Serves as `grantex-vault serve` does, but for who holds the master key.
#[tokio::main]
pub(crate) async fn serve(delay: Duration) -> ExitCode {
    let telemetry = config::telemetry(&environment, []).expect("this program makes the settings");
    let _telemetry = telemetry::start(&telemetry).expect("no collector is named");
    memory::protect().expect("a process may protect itself");
    let mut signals = StopSignals::listen().expect("a process may listen to signals");
    let config = Config::read(&environment).expect("this program makes the settings");
    let MasterKey::Local(keyring) = config.master_keys().primary else {
        panic!("this program names a keyring")
    };
    let keyring = LocalKeyring::load(&keyring).expect("the instance made it");
    let outside = Outside {
        kms: Some(Arc::new(LateKms { keyring, delay })),
        ..Outside::default()
    };
    let running = app::start(&config, outside).await.expect("it starts");
    signals.next().await;
    app::stop_or_signal(running, config.drain_delay, &mut signals).await;
    ExitCode::SUCCESS
}

// === impl LateKms ===

impl LateKms {
    async fn wait(&self) {
        if !self.delay.is_zero() {
            sleep(self.delay).await;
        }
    }
}

#[async_trait]
impl Kms for LateKms {
    async fn generate(&self, context: &KmsContext) -> Result<FreshDataKey, KmsFault> {
        self.wait().await;
        self.keyring.generate(context).await
    }

    async fn wrap(&self, key: &DataKey, context: &KmsContext) -> Result<WrappedKey, KmsFault> {
        self.wait().await;
        self.keyring.wrap(key, context).await
    }

    async fn unwrap(&self, key: &WrappedKey, context: &KmsContext) -> Result<DataKey, KmsFault> {
        self.wait().await;
        self.keyring.unwrap(key, context).await
    }

    async fn rewrap(&self, key: &WrappedKey, context: &KmsContext) -> Result<WrappedKey, KmsFault> {
        self.wait().await;
        self.keyring.rewrap(key, context).await
    }

    async fn holds(&self, id: &MasterKeyId) -> Result<bool, KmsFault> {
        self.keyring.holds(id).await
    }

    fn holds_unasked(&self, id: &MasterKeyId) -> Option<bool> {
        self.keyring.holds_unasked(id)
    }

    fn rewraps_from(&self, id: &MasterKeyId) -> bool {
        self.keyring.rewraps_from(id)
    }

    async fn check(&self) -> Result<MasterKeyId, KmsFault> {
        self.keyring.check().await
    }
}
