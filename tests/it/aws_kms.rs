//! Master keys in AWS KMS, against a server that speaks its protocol.

mod end_to_end;
mod faults;
mod regions;

use std::{sync::Arc, time::Duration};

use aws_sdk_kms::types::{KeySpec, KeyUsageType};
use grantex_vault::{
    envelope::{
        aws_kms::AwsKms,
        context::{KmsContext, Place},
        data_key::DataKey,
        kms::{Kms, KmsFault},
        master_keys::MasterKeys,
    },
    model::{
        sealed::WrappedKey,
        service_name::ServiceName,
        text::{DeveloperId, PrincipalId},
    },
};

use crate::harness::Moto;

/// Longer than anything here takes.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What Moto puts before nonce, tag and ciphertext: the id of the key.
const KEY_ID_BYTES: usize = 36;

async fn connect(key: &str) -> AwsKms {
    AwsKms::new(key, &Moto::shared().await.config(), TIMEOUT)
}

fn context(developer: &str, principal: &str) -> KmsContext {
    let place = Place {
        developer: DeveloperId::parse(developer).unwrap(),
        principal: PrincipalId::parse(principal).unwrap(),
        service: ServiceName::parse("github").unwrap().key().clone(),
    };
    place.kms_context()
}

/// A data key that was wrapped by this KMS for [`context`] of acme's user.
async fn wrapped_by(kms: &dyn Kms) -> WrappedKey {
    let fresh = kms.generate(&context("acme", "user")).await.unwrap();
    fresh.wrapped().clone()
}

async fn unwrap(kms: &dyn Kms, key: &WrappedKey) -> Result<DataKey, KmsFault> {
    kms.unwrap(key, &context("acme", "user")).await
}

#[tokio::test]
async fn a_generated_data_key_comes_back_and_its_wrapped_form_does_not_hold_it() {
    let kms = connect(&Moto::shared().await.master_key().await).await;
    let fresh = kms.generate(&context("acme", "user")).await.unwrap();
    let again = unwrap(&kms, fresh.wrapped()).await.unwrap();
    assert_eq!(again.expose(), fresh.key().expose());
    let key = fresh.key().expose().as_slice();
    let mut windows = fresh.wrapped().bytes.windows(key.len());
    assert!(windows.all(|window| window != key));
    let other = kms.generate(&context("acme", "user")).await.unwrap();
    assert_ne!(other.key().expose(), fresh.key().expose());
}

#[tokio::test]
async fn the_resolved_arn_is_recorded_however_the_key_was_named() {
    let moto = Moto::shared().await;
    let arn = moto.master_key().await;
    let alias = moto.alias(&arn).await;
    let (account, id) = arn.split_once(":key/").unwrap();
    for name in [&arn, id, &alias, &format!("{account}:{alias}")] {
        let kms = connect(name).await;
        let wrapped = wrapped_by(&kms).await;
        assert_eq!(wrapped.master_key.as_str(), arn, "{name}");
        let another_replica = connect(name).await;
        assert!(unwrap(&another_replica, &wrapped).await.is_ok(), "{name}");
    }
}

#[tokio::test]
async fn wrapping_and_rewrapping_keep_the_data_key() {
    let moto = Moto::shared().await;
    let old = moto.master_key().await;
    let alias = moto.alias(&old).await;
    let kms = connect(&alias).await;
    let key = DataKey::make();
    let wrapped = kms.wrap(&key, &context("acme", "user")).await.unwrap();
    assert_eq!(wrapped.master_key.as_str(), old);

    let new = moto.master_key().await;
    point(&alias, &new).await;
    let rewrapped = kms.rewrap(&wrapped, &context("acme", "user")).await;
    let rewrapped = rewrapped.unwrap();
    assert_eq!(rewrapped.master_key.as_str(), new);
    for wrapped in [wrapped, rewrapped] {
        assert_eq!(unwrap(&kms, &wrapped).await.unwrap().expose(), key.expose());
    }
}

/// Points an alias elsewhere.
async fn point(alias: &str, arn: &str) {
    let kms = Moto::shared().await.kms();
    let request = kms.update_alias().alias_name(alias).target_key_id(arn);
    request.send().await.unwrap();
}

#[tokio::test]
async fn an_alias_that_is_pointed_elsewhere_is_followed_by_replicas_that_only_read() {
    let moto = Moto::shared().await;
    let alias = moto.alias(&moto.master_key().await).await;
    let (writer, reader) = (connect(&alias).await, connect(&alias).await);
    let old = wrapped_by(&reader).await;
    point(&alias, &moto.master_key().await).await;
    let new = wrapped_by(&writer).await;
    assert_ne!(new.master_key, old.master_key);
    for wrapped in [new, old] {
        assert!(unwrap(&reader, &wrapped).await.is_ok());
    }
}

#[tokio::test]
async fn another_context_is_tampering() {
    let kms = connect(&Moto::shared().await.master_key().await).await;
    let wrapped = wrapped_by(&kms).await;
    for (developer, principal) in [("acme", "other"), ("globex", "user")] {
        let elsewhere = context(developer, principal);
        let opened = kms.unwrap(&wrapped, &elsewhere).await;
        assert!(matches!(opened, Err(KmsFault::Tampered(_))), "{opened:?}");
        let rewrapped = kms.rewrap(&wrapped, &elsewhere).await;
        assert!(matches!(rewrapped, Err(KmsFault::Tampered(_))));
    }
}

#[tokio::test]
async fn a_changed_wrapped_key_is_tampering() {
    let kms = connect(&Moto::shared().await.master_key().await).await;
    let wrapped = wrapped_by(&kms).await;
    // AWS has no key id in clear there; Moto denies the use of a key that it does not know.
    let bytes = (0..wrapped.bytes.len()).filter(|at| !(1..=KEY_ID_BYTES).contains(at));
    let flipped = bytes.map(|at| {
        let mut bytes = wrapped.bytes.clone();
        bytes[at] ^= 1;
        bytes
    });
    let cut = [0, 2, 40, wrapped.bytes.len() - 1];
    let cut = cut.map(|length| wrapped.bytes[..length].to_vec());
    for bytes in flipped.chain(cut) {
        let changed = WrappedKey {
            master_key: wrapped.master_key.clone(),
            bytes,
        };
        let opened = unwrap(&kms, &changed).await;
        let length = changed.bytes.len();
        assert!(
            matches!(opened, Err(KmsFault::Tampered(_))),
            "{length}: {opened:?}"
        );
    }
}

#[tokio::test]
async fn a_missing_key_is_missing_to_every_call() {
    let arn = Moto::shared().await.master_key().await;
    let (account, _) = arn.split_once(":key/").unwrap();
    let missing = uuid::Uuid::new_v4();
    for name in [
        format!("{account}:key/{missing}"),
        missing.to_string(),
        format!("alias/{missing}"),
    ] {
        let kms = connect(&name).await;
        let generated = kms.generate(&context("acme", "user")).await;
        assert!(matches!(generated, Err(KmsFault::Missing(_))), "{name}");
        let wrapped = kms.wrap(&DataKey::make(), &context("acme", "user")).await;
        assert!(matches!(wrapped, Err(KmsFault::Missing(_))), "{name}");
        let checked = kms.check().await;
        assert!(matches!(checked, Err(KmsFault::Missing(_))), "{name}");
    }
}

#[tokio::test]
async fn a_check_answers_the_resolved_key_or_why_it_cannot_be_used() {
    let moto = Moto::shared().await;
    let arn = moto.master_key().await;
    let kms = connect(&moto.alias(&arn).await).await;
    assert_eq!(kms.check().await.unwrap().as_str(), arn);

    let admin = moto.kms();
    // Moto's administration wants ids.
    let (_, id) = arn.split_once(":key/").unwrap();
    admin.disable_key().key_id(id).send().await.unwrap();
    let checked = kms.check().await;
    assert!(matches!(checked, Err(KmsFault::Disabled(_))), "{checked:?}");
    admin.enable_key().key_id(id).send().await.unwrap();
    assert_eq!(kms.check().await.unwrap().as_str(), arn);

    let deletion = admin.schedule_key_deletion().key_id(id);
    deletion.pending_window_in_days(7).send().await.unwrap();
    let checked = kms.check().await;
    let pending = matches!(checked, Err(KmsFault::PendingDeletion(_)));
    assert!(pending, "{checked:?}");
}

#[tokio::test]
async fn a_key_that_signs_is_of_the_wrong_usage() {
    let admin = Moto::shared().await.kms();
    let made = admin.create_key().key_usage(KeyUsageType::SignVerify);
    let made = made.key_spec(KeySpec::Rsa2048).send().await.unwrap();
    let kms = connect(made.key_metadata().unwrap().arn().unwrap()).await;
    let checked = kms.check().await;
    let wrong_usage = matches!(checked, Err(KmsFault::WrongUsage(_)));
    assert!(wrong_usage, "{checked:?}");
}

#[tokio::test]
async fn a_key_of_somebody_else_is_not_configured() {
    let moto = Moto::shared().await;
    let foreign = wrapped_by(&connect(&moto.master_key().await).await).await;
    let arn = moto.master_key().await;
    for name in [&arn, &moto.alias(&arn).await] {
        let kms = MasterKeys::new(Arc::new(connect(name).await), Vec::new());
        for known in [false, true] {
            let opened = unwrap(&kms, &foreign).await;
            assert!(matches!(opened, Err(KmsFault::NotConfigured(_))), "{name}");
            let rewrapped = kms.rewrap(&foreign, &context("acme", "user")).await;
            assert!(matches!(rewrapped, Err(KmsFault::NotConfigured(_))));
            assert!(known || unwrap(&kms, &wrapped_by(&kms).await).await.is_ok());
        }
    }
}
