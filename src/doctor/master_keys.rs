//! Master keys: each is described, and the primary is used as a server uses it, on a data key that
//! protects nothing.

use std::sync::Arc;

use tokio::time::timeout;

use super::Finding;
use crate::{
    app::master_keys::{self, Holder},
    clock::Clock,
    config::MasterKeySettings,
    envelope::{
        context::{KmsContext, Place},
        kms::KmsFault,
    },
    metrics::Metrics,
    model::cause::chain,
    model::{
        service_name::ServiceName,
        text::{DeveloperId, PrincipalId},
    },
};

pub(super) async fn examine(settings: &MasterKeySettings, clock: &Arc<dyn Clock>) -> Vec<Finding> {
    let holders = master_keys::holders(settings, clock, &Metrics::unobserved()).await;
    let holders = match holders {
        Ok(holders) => holders,
        Err(faults) => {
            let fix = "change this setting";
            let wrong = |fault: &String| Finding::wrong("master key", fault.clone(), fix);
            return faults.all().iter().map(wrong).collect();
        }
    };
    let mut findings = Vec::new();
    for (number, holder) in holders.iter().enumerate() {
        findings.push(described(holder, settings).await);
        // What former primaries wrapped can be unwrapped; they need not make new keys.
        if number == 0 {
            findings.extend(used(holder, settings).await);
        }
    }
    findings
}

async fn described(holder: &Holder, settings: &MasterKeySettings) -> Finding {
    let subject = format!("master key {}", holder.key);
    match within(settings, holder.kms.check()).await {
        Ok(id) => Finding::fine(subject, format!("{} is fit for use", id.as_str())),
        Err(fault @ KmsFault::Denied(_)) => {
            let fix = "allow kms:DescribeKey, so that a server can check the key when it starts";
            Finding::doubtful(subject, chain(&fault), fix)
        }
        Err(fault) => Finding::wrong(subject, chain(&fault), fix_of(&fault, "kms:DescribeKey")),
    }
}

/// What a store, an exchange and a rotation ask of it.
async fn used(holder: &Holder, settings: &MasterKeySettings) -> Vec<Finding> {
    let (kms, context) = (&holder.kms, context());
    let finding = |operation, permission, outcome: Result<(), KmsFault>| {
        let subject = format!("master key {}", holder.key);
        match outcome {
            Ok(()) => Finding::fine(subject, format!("{operation} works")),
            Err(fault) => {
                let says = format!("{operation}: {}", chain(&fault));
                Finding::wrong(subject, says, fix_of(&fault, permission))
            }
        }
    };
    let made = within(settings, kms.generate(&context)).await;
    let fresh = match made {
        Ok(fresh) => fresh,
        Err(fault) => {
            return vec![finding(
                "GenerateDataKey",
                "kms:GenerateDataKey",
                Err(fault),
            )];
        }
    };
    let unwrapped = within(settings, kms.unwrap(fresh.wrapped(), &context)).await;
    let rewrapped = within(settings, kms.rewrap(fresh.wrapped(), &context)).await;
    vec![
        finding("GenerateDataKey", "kms:GenerateDataKey", Ok(())),
        finding("Decrypt", "kms:Decrypt", unwrapped.map(|_| ())),
        finding("ReEncrypt", "kms:ReEncrypt*", rewrapped.map(|_| ())),
    ]
}

async fn within<T>(
    settings: &MasterKeySettings,
    call: impl Future<Output = Result<T, KmsFault>>,
) -> Result<T, KmsFault> {
    let answer = timeout(settings.kms_timeout, call).await;
    answer.unwrap_or(Err(KmsFault::TimedOut))
}

fn fix_of(fault: &KmsFault, permission: &str) -> String {
    match fault {
        KmsFault::Denied(_) => format!("allow {permission} on this key to the vault's identity"),
        KmsFault::Disabled(_) => "enable the key".to_owned(),
        KmsFault::PendingDeletion(_) => "cancel the deletion of the key, now".to_owned(),
        KmsFault::Missing(_) => "check the key's name, account and region".to_owned(),
        KmsFault::WrongUsage(_) => "use a symmetric key for encryption".to_owned(),
        KmsFault::NotReady(_) => "wait, or import the key's material".to_owned(),
        KmsFault::NotConfigured(_) => "name the key by ARN or id, not by an alias".to_owned(),
        KmsFault::Throttled(_) => "try again, and look at the quota of the KMS".to_owned(),
        KmsFault::Unreachable(_)
        | KmsFault::TimedOut
        | KmsFault::BreakerOpen
        | KmsFault::Overloaded => {
            "check credentials, region, endpoint, and the network to the KMS".to_owned()
        }
        KmsFault::Tampered(_) => "the KMS does not open what it made: ask its operator".to_owned(),
    }
}

/// The encryption context of nobody's credential.
fn context() -> KmsContext {
    let service = ServiceName::parse("doctor").expect("six letters");
    let place = Place {
        developer: DeveloperId::parse("grantex-vault-doctor").expect("short and visible"),
        principal: PrincipalId::parse("grantex-vault-doctor").expect("short and visible"),
        service: service.key().clone(),
    };
    place.kms_context()
}
