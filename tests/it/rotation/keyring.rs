//! A rotation within one local keyring, while `dev` serves with it and is not started again.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    thread,
};

use grantex_vault::config::environment;
use serde_json::{Value, json};

use crate::harness::{Dev, connect, instance_directory, print, run, until};

async fn store(dev: &Dev, token: &str) {
    let body =
        json!({"principalId": dev.get("principalId"), "service": "github", "accessToken": token});
    let url = format!("{}/v1/vault/credentials", dev.get("http"));
    let request = reqwest::Client::new()
        .post(url)
        .bearer_auth(dev.get("apiKey"));
    assert_eq!(request.json(&body).send().await.unwrap().status(), 201);
}

async fn exchanged(dev: &Dev) -> Value {
    let url = format!("{}/v1/vault/credentials/exchange", dev.get("http"));
    let request = reqwest::Client::new()
        .post(url)
        .bearer_auth(dev.get("grantToken"));
    let answer = request
        .json(&json!({"service": "github"}))
        .send()
        .await
        .unwrap();
    answer.json::<Value>().await.unwrap()["accessToken"].clone()
}

#[tokio::test]
async fn a_running_vault_moves_to_the_next_key_of_its_keyring_without_a_restart() {
    let directory = instance_directory();
    let dev = Dev::start(
        directory.path(),
        &[("GRANTEX_VAULT_AUDIT_SEAL_INTERVAL", "0")],
    )
    .await;
    let at = ["--data-dir", directory.path().to_str().unwrap()];
    let say = |arguments: &[&str]| print(&[arguments, &at].concat());
    let refuse = |arguments: &[&str], why: &str| {
        let output = run(&[arguments, &at].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{said}");
    };
    store(&dev, "first").await;
    let listed = say(&["keyring", "list"]);
    let old = listed.split('\t').next().unwrap().to_owned();
    refuse(&["keyring", "set-primary", "2"], "has no version 2");
    refuse(&["keyring", "remove-key", "1"], "is the primary");
    say(&["keyring", "add-key"]);
    assert!(say(&["keyring", "set-primary", "2"]).contains("/2\t"));
    refuse(&["keyring", "remove-key", "1"], "is needed");
    assert_eq!(exchanged(&dev).await, "first");

    let rewrapped = say(&["master-key", "rewrap"]);
    assert!(
        rewrapped.contains("rewrapped 1,") && rewrapped.contains("/2\tprimary\t1"),
        "{rewrapped}"
    );
    assert_eq!(exchanged(&dev).await, "first");
    let database = connect(dev.get("databaseUrl")).await;
    until("the running vault wraps with the new key", async || {
        store(&dev, "second").await;
        let sql = "select master_key like '%/2' from vault.credentials";
        database.query_one(sql, &[]).await.unwrap().get(0)
    })
    .await;
    assert_eq!(say(&["keyring", "remove-key", "1"]).lines().count(), 1);
    let status = say(&["master-key", "status"]);
    assert!(status.contains(&format!("{old}\tretired\t0")), "{status}");
    assert_eq!(exchanged(&dev).await, "second");
    assert!(say(&["master-key", "verify"]).contains("1 of 1 open"));
    assert!(
        environment("GRANTEX_VAULT_MASTER_KEY").is_none(),
        "the instance's keyring was used"
    );
}

#[test]
fn twenty_keys_that_are_added_at_once_are_all_there() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keyring.json");
    let path = file.to_str().unwrap();
    print(&["keyring", "create", path]);
    let added: Vec<_> = thread::scope(|scope| {
        let adding =
            [(); 20].map(|()| scope.spawn(|| print(&["keyring", "add-key", "--unrecorded", path])));
        adding.map(|one| one.join().unwrap()).into()
    });
    let listed = print(&["keyring", "list", path]);
    let listed: Vec<&str> = listed.lines().collect();
    assert_eq!(listed.len(), 21);
    for one in added {
        assert!(listed.contains(&&*one), "{one} in {listed:?}");
    }
}

#[test]
fn a_keyring_keeps_its_mode_owner_and_group_and_the_last_version_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keyring.json");
    let path = file.to_str().unwrap();
    print(&["keyring", "create", path]);
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    if rustix::process::geteuid().is_root() {
        chown(&file, Some(12_345), Some(54_321)).unwrap();
    }
    let kept = |path: &std::path::Path| {
        let metadata = fs::metadata(path).unwrap();
        (metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
    };
    let (before, content) = (kept(&file), fs::read(&file).unwrap());
    let last = directory.path().join("keyring.json.bak");
    for change in [
        &["add-key", "--unrecorded", path][..],
        &["set-primary", "--unrecorded", "2", path],
    ] {
        let before_change = fs::read(&file).unwrap();
        print(&[&["keyring"], change].concat());
        assert_eq!(kept(&file), before);
        assert_eq!(kept(&last), before);
        assert_eq!(fs::read(&last).unwrap(), before_change);
    }
    assert_ne!(fs::read(&file).unwrap(), content);
    // What does not succeed changes neither.
    let (now, then) = (fs::read(&file).unwrap(), fs::read(&last).unwrap());
    assert!(
        !run(&["keyring", "set-primary", "--unrecorded", "9", path])
            .status
            .success()
    );
    assert_eq!(
        (fs::read(&file).unwrap(), fs::read(&last).unwrap()),
        (now, then)
    );
}

#[test]
fn a_keyring_that_is_a_link_stays_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kept.json");
    print(&["keyring", "create", file.to_str().unwrap()]);
    let link = directory.path().join("keyring.json");
    std::os::unix::fs::symlink("kept.json", &link).unwrap();
    print(&["keyring", "add-key", "--unrecorded", link.to_str().unwrap()]);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(
        print(&["keyring", "list", file.to_str().unwrap()])
            .lines()
            .count(),
        2
    );
}
