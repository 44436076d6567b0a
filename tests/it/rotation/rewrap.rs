//! Rewrap and re-encrypt: complete, resumable, and nothing but keys changes.

use std::{num::NonZeroU32, sync::Arc};

use grantex_vault::{
    envelope::{kms::Kms, local_keyring::LocalKeyring},
    model::{text::DeveloperId, timestamp::Timestamp},
    pace::Pace,
    rotation::{Counts, Extent, Rotation, RotationFault, Watch},
    store::{StoreFault, rotation::RowKey},
};

use super::sealed_rows::{Rows, watched};
use crate::harness::until;

const EVERYTHING_ELSE: &str = "row(developer_id, id, principal_id, service, service_key,
    credential_type, access_token, refresh_token, token_expires_at, metadata::text, created_at,
    updated_at)";

async fn primary(keyring: &LocalKeyring) -> String {
    keyring.check().await.unwrap().to_string()
}

async fn assert_all_open(rotation: &Rotation, count: u64) {
    let (counts, lines) = watched(async |watch| rotation.verify(Extent::All, watch).await).await;
    assert_eq!((counts.done, counts.broken), (count, 0), "{lines:?}");
}

#[tokio::test]
async fn every_data_key_goes_to_the_other_keyring_and_nothing_else_changes() {
    let rows = Rows::none().await;
    let (old, new) = (rows.keyring("old"), rows.keyring("new"));
    rows.seal(&*old, 1100).await;
    let before = rows.column(EVERYTHING_ELSE).await;
    let rotation = rows.rotation(new.clone(), &[old]);
    let (counts, _) = watched(async |watch| rotation.rewrap(watch).await).await;
    assert_eq!((counts.looked, counts.done, counts.broken), (1100, 1100, 0));
    assert_eq!(rows.column(EVERYTHING_ELSE).await, before);
    assert_eq!(
        rows.count(&format!("master_key = '{}'", primary(&new).await))
            .await,
        1100
    );
    assert_all_open(&rows.rotation(new, &[]), 1100).await;
    let (again, _) = watched(async |watch| rotation.rewrap(watch).await).await;
    assert_eq!(
        (again.looked, again.done),
        (1100, 0),
        "there is nothing left to do"
    );
}

#[tokio::test]
async fn every_data_key_goes_to_the_new_primary_of_the_same_keyring() {
    let rows = Rows::none().await;
    let keyring = rows.keyring("keyring");
    rows.seal(&*keyring, 20).await;
    keyring
        .add_key(Timestamp::from_millisecond(0).unwrap())
        .unwrap();
    keyring.set_primary(2).unwrap();
    let rotation = rows.rotation(keyring.clone(), &[]);
    let (counts, _) = watched(async |watch| rotation.rewrap(watch).await).await;
    assert_eq!(counts.done, 20);
    assert_eq!(rows.count("master_key like '%/2'").await, 20);
    keyring.remove_key(1).unwrap();
    assert_all_open(&rotation, 20).await;
}

#[tokio::test]
async fn what_is_dropped_in_the_middle_is_done_by_the_next_run() {
    let rows = Rows::none().await;
    let (old, new) = (rows.keyring("old"), rows.keyring("new"));
    rows.seal(&*old, 1500).await;
    let others: [Arc<dyn Kms>; 1] = [old.clone()];
    let slow = rows.paced(new.clone(), &others, Pace::new(8, NonZeroU32::new(2000)));
    let watch = Watch::new(&|_| {});
    let some = async { until("some are rewrapped", async || watch.counts().done > 200).await };
    tokio::select! {
        _ = slow.rewrap(&watch) => panic!("it was to be dropped before its end"),
        () = some => {}
    }
    let old_ones = format!("master_key = '{}'", primary(&old).await);
    let left = rows.count(&old_ones).await;
    assert!(left > 0 && left < 1500, "{left} are left");
    let rotation = rows.rotation(new.clone(), &[old]);
    watched(async |watch| rotation.rewrap(watch).await).await;
    assert_eq!(rows.count(&old_ones).await, 0);
    assert_all_open(&rows.rotation(new, &[]), 1500).await;
}

#[tokio::test]
async fn two_runners_at_once_do_every_credential_once() {
    let rows = Rows::none().await;
    let (old, new) = (rows.keyring("old"), rows.keyring("new"));
    rows.seal(&*old, 1500).await;
    let others: [Arc<dyn Kms>; 1] = [old];
    let [one, two] = [(), ()].map(|()| rows.rotation(new.clone(), &others));
    let (one, two) = tokio::join!(
        watched(async |watch| one.rewrap(watch).await),
        watched(async |watch| two.rewrap(watch).await),
    );
    let counts = |(counts, _): &(Counts, Vec<String>)| *counts;
    assert_eq!(counts(&one).done + counts(&two).done, 1500);
    assert_eq!(counts(&one).broken + counts(&two).broken, 0);
    assert_all_open(&rows.rotation(new, &[]), 1500).await;
}

#[tokio::test]
async fn what_cannot_be_rewrapped_is_named_and_does_not_stop_the_rest() {
    let rows = Rows::none().await;
    let (old, new) = (rows.keyring("old"), rows.keyring("new"));
    rows.seal(&*old, 10).await;
    rows.execute(
        "update vault.credentials set principal_id = 'mallory' where principal_id = 'user-1';
         update vault.credentials set master_key = E'arn:evil\\x1b[2J' where principal_id = 'user-2';
         update vault.credentials set service_key = 'No Service' where principal_id = 'user-3'",
    )
    .await;
    let rotation = rows.rotation(new, &[old]);
    let (counts, mut lines) = watched(async |watch| rotation.rewrap(watch).await).await;
    assert_eq!((counts.done, counts.broken), (7, 3));
    lines.sort_by_key(|line| line.split('\t').nth(1).map(str::to_owned));
    for (line, why) in lines
        .iter()
        .zip(["data key: ", "format: ", "master key not configured: "])
    {
        assert!(
            line.starts_with("acme/vc_") && line.contains(&format!("\t{why}")),
            "{line}"
        );
        assert!(!line.contains('\x1b'), "{line:?}");
    }
}

#[tokio::test]
async fn nothing_is_rewrapped_to_a_retired_key() {
    let rows = Rows::none().await;
    let (old, new) = (rows.keyring("old"), rows.keyring("new"));
    rows.seal(&*old, 3).await;
    let retired = primary(&new).await;
    rows.execute(&format!(
        "insert into vault.master_keys values ('{retired}', 'retired')"
    ))
    .await;
    let rotation = rows.rotation(new, &[old]);
    let watch = Watch::new(&|_| {});
    for refused in [
        rotation.rewrap(&watch).await,
        rotation
            .reencrypt(None, RowKey::default(), &watch, &|_| {})
            .await,
    ] {
        let retired = matches!(
            refused,
            Err(RotationFault::Store(StoreFault::RetiredMasterKey(_)))
        );
        assert!(retired, "{refused:?}");
    }
    assert_eq!(
        rows.count("true").await,
        rows.count(&format!("master_key <> '{retired}'")).await
    );
}

#[tokio::test]
async fn reencrypting_gives_chosen_credentials_new_keys_and_ciphertext() {
    let rows = Rows::none().await;
    let keyring = rows.keyring("keyring");
    rows.seal(&*keyring, 120).await;
    let columns = ["access_token", "refresh_token", "wrapped_key", "updated_at"];
    let mut before = Vec::new();
    for column in columns {
        before.push(rows.column(column).await);
    }
    let rotation = rows.rotation(keyring, &[]);
    let [acme, globex] = ["acme", "globex"].map(|id| DeveloperId::parse(id).unwrap());
    let run = async |developer, after: RowKey| {
        let reached = std::cell::RefCell::new(Vec::new());
        let note = |place: &RowKey| reached.borrow_mut().push(place.clone());
        let (counts, _) =
            watched(async |watch| rotation.reencrypt(developer, after, watch, &note).await).await;
        (counts.done, reached.into_inner())
    };
    assert_eq!(run(Some(&globex), RowKey::default()).await.0, 0);
    let (done, reached) = run(Some(&acme), RowKey::default()).await;
    assert_eq!((done, reached.len()), (120, 3));
    for (column, before) in columns.iter().zip(&before) {
        let after = rows.column(column).await;
        let same = before.iter().zip(&after).filter(|(a, b)| a == b).count();
        assert_eq!(
            same,
            if *column == "updated_at" { 120 } else { 0 },
            "{column}"
        );
    }
    assert_all_open(&rotation, 120).await;
    assert_eq!(
        run(None, reached[1].clone()).await.0,
        20,
        "it goes on from a place"
    );
}
