//! The configured master keys: who holds each, and which setting names it.

use std::sync::Arc;

use crate::{
    clock::Clock,
    config::{Config, ConfigFaults, MasterKey},
    envelope::{
        aws_kms::AwsKms, breaker::GuardedKms, kms::Kms, local_keyring::LocalKeyring,
        master_keys::MasterKeys,
    },
};

const PRIMARY: &str = "GRANTEX_VAULT_MASTER_KEY";
const OLD: &str = "GRANTEX_VAULT_OLD_MASTER_KEYS";

/// The holder of one configured key.
#[derive(Clone)]
pub(super) struct Holder {
    /// The setting that names the key.
    pub(super) setting: &'static str,
    /// The key, as the setting names it.
    pub(super) key: String,
    pub(super) kms: Arc<dyn Kms>,
}

/// The holders of a configuration's keys, the primary first. Those that are elsewhere are guarded by
/// a breaker. `outside` takes the place of all, and is elsewhere.
pub(super) async fn holders(
    config: &Config,
    outside: Option<Arc<dyn Kms>>,
    clock: &Arc<dyn Clock>,
) -> Result<Vec<Holder>, ConfigFaults> {
    if let Some(kms) = outside {
        let key = name_of(&config.master_key);
        let kms = guarded(kms, &key, config, clock);
        let setting = PRIMARY;
        return Ok(vec![Holder { setting, key, kms }]);
    }
    let mut holders = vec![holder(PRIMARY, &config.master_key, config, clock).await?];
    for key in &config.old_master_keys {
        holders.push(holder(OLD, key, config, clock).await?);
    }
    Ok(holders)
}

/// All holders as one, which wraps with the first.
pub(super) fn together(holders: &[Holder]) -> Arc<dyn Kms> {
    let mut all = holders.iter().map(|holder| Arc::clone(&holder.kms));
    let primary = all.next().expect("a primary is required");
    Arc::new(MasterKeys::new(primary, all.collect()))
}

async fn holder(
    setting: &'static str,
    key: &MasterKey,
    config: &Config,
    clock: &Arc<dyn Clock>,
) -> Result<Holder, ConfigFaults> {
    let name = name_of(key);
    let kms = match key {
        MasterKey::AwsKms(key) => {
            let kms = AwsKms::connect(key, config.kms_timeout).await;
            let unknown = "is of AWS KMS, but no region is known: set AWS_REGION or give an ARN";
            let kms = kms.ok_or_else(|| ConfigFaults::one(setting, unknown))?;
            guarded(Arc::new(kms), &name, config, clock)
        }
        MasterKey::Local(path) => {
            let refused =
                |fault| ConfigFaults::one(setting, format_args!("cannot be used: {fault}"));
            Arc::new(LocalKeyring::load(path).map_err(refused)?)
        }
    };
    let key = name;
    Ok(Holder { setting, key, kms })
}

fn guarded(kms: Arc<dyn Kms>, name: &str, config: &Config, clock: &Arc<dyn Clock>) -> Arc<dyn Kms> {
    let (name, clock) = (name.to_owned(), Arc::clone(clock));
    Arc::new(GuardedKms::new(kms, name, clock, config.kms_timeout))
}

/// As the settings spell it.
fn name_of(key: &MasterKey) -> String {
    match key {
        MasterKey::AwsKms(key) => format!("aws-kms:{key}"),
        MasterKey::Local(path) => format!("local:{}", path.display()),
    }
}
