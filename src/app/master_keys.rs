//! The configured master keys: who holds each, and which setting names it.

use std::{path::Path, sync::Arc};

use crate::{
    clock::Clock,
    config::{ConfigFaults, MasterKey, MasterKeySettings},
    envelope::{
        aws_kms::{AwsHttp, AwsKms},
        breaker::GuardedKms,
        kms::Kms,
        local_keyring::LocalKeyring,
        master_keys::MasterKeys,
    },
    metrics::Metrics,
};

const PRIMARY: &str = "GRANTEX_VAULT_MASTER_KEY";
const OLD: &str = "GRANTEX_VAULT_OLD_MASTER_KEYS";

/// The holder of one configured key.
#[derive(Clone)]
pub(crate) struct Holder {
    /// The setting that names the key.
    pub(crate) setting: &'static str,
    /// The key, as the setting names it.
    pub(crate) key: String,
    pub(crate) kms: Arc<dyn Kms>,
}

/// The holders of the configured keys, the primary first. Those that are elsewhere are guarded by a
/// breaker. No call is made yet.
///
/// # Errors
///
/// When a keyring cannot be used, no region is known for a key of AWS, or `AWS_CA_BUNDLE` cannot be used.
pub(crate) async fn holders(
    settings: &MasterKeySettings,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
) -> Result<Vec<Holder>, ConfigFaults> {
    let mut holders = vec![holder(PRIMARY, &settings.primary, settings, clock, metrics).await?];
    for key in &settings.others {
        holders.push(holder(OLD, key, settings, clock, metrics).await?);
    }
    Ok(holders)
}

/// A holder that comes from outside takes the place of all, and is elsewhere.
pub(crate) fn from_outside(
    kms: Arc<dyn Kms>,
    settings: &MasterKeySettings,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
) -> Vec<Holder> {
    let key = name_of(&settings.primary);
    let kms = guarded(kms, &key, settings, clock, metrics);
    vec![Holder {
        setting: PRIMARY,
        key,
        kms,
    }]
}

/// All holders as one, which wraps with the first.
pub(crate) fn together(holders: &[Holder]) -> Arc<MasterKeys> {
    let mut all = holders.iter().map(|holder| Arc::clone(&holder.kms));
    let primary = all.next().expect("a primary is required");
    Arc::new(MasterKeys::new(primary, all.collect()))
}

async fn holder(
    setting: &'static str,
    key: &MasterKey,
    settings: &MasterKeySettings,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
) -> Result<Holder, ConfigFaults> {
    let name = name_of(key);
    let kms = match key {
        MasterKey::AwsKms(key) => {
            let http = aws_http(settings)?;
            let kms = AwsKms::connect(key, settings.kms_timeout, &http).await;
            let unknown = "is of AWS KMS, but no region is known: set AWS_REGION or give an ARN";
            let kms = kms.ok_or_else(|| ConfigFaults::one(setting, unknown))?;
            guarded(Arc::new(kms), &name, settings, clock, metrics)
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

fn aws_http(settings: &MasterKeySettings) -> Result<AwsHttp, ConfigFaults> {
    let bundle = settings.aws_ca_bundle.as_deref();
    AwsHttp::new(&settings.proxies, bundle).map_err(|fault| {
        let path = bundle.unwrap_or(Path::new("")).display();
        ConfigFaults::one("AWS_CA_BUNDLE", format_args!("names {path}, which {fault}"))
    })
}

fn guarded(
    kms: Arc<dyn Kms>,
    name: &str,
    settings: &MasterKeySettings,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
) -> Arc<dyn Kms> {
    let (name, clock) = (name.to_owned(), Arc::clone(clock));
    Arc::new(GuardedKms::new(
        kms,
        name,
        clock,
        settings.kms_timeout,
        metrics.clone(),
    ))
}

/// As the settings spell it.
fn name_of(key: &MasterKey) -> String {
    match key {
        MasterKey::AwsKms(key) => format!("aws-kms:{key}"),
        MasterKey::Local(path) => format!("local:{}", path.display()),
    }
}
