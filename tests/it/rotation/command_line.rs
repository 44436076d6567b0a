//! `grantex-vault master-key`: killed and run again, its exit codes, and what it prints.

use std::process::Output;

use grantex_vault::envelope::kms::Kms;
use rustix::process::Signal;

use super::sealed_rows::{CANARY, Rows};
use crate::harness::{Process, run_with, until};

const MASTER_KEY: &str = "GRANTEX_VAULT_MASTER_KEY";
const OLD_MASTER_KEYS: &str = "GRANTEX_VAULT_OLD_MASTER_KEYS";

/// The environment of an operator in the middle of a rotation.
fn environment(rows: &Rows) -> [(&'static str, String); 3] {
    [
        ("DATABASE_URL", rows.url.clone()),
        (MASTER_KEY, rows.setting("new")),
        (OLD_MASTER_KEYS, rows.setting("old")),
    ]
}

/// Runs a command; nothing that it says may be secret.
fn say(rows: &Rows, arguments: &[&str]) -> (bool, String) {
    let variables = environment(rows);
    let variables = variables
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let Output {
        status,
        stdout,
        stderr,
    } = run_with(&[&["master-key"], arguments].concat(), &variables);
    let (stdout, stderr) = (
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    );
    for text in [&stdout, &stderr] {
        assert!(!text.contains(CANARY) && !text.contains("user-"), "{text}");
    }
    (status.success(), stdout + &stderr)
}

#[tokio::test]
async fn a_rewrap_that_is_killed_is_finished_by_the_next_one() {
    let rows = Rows::none().await;
    let (old, new) = (rows.keyring("old"), rows.keyring("new"));
    rows.seal(&*old, 20_000).await;
    let [old, new] = [old.check().await.unwrap(), new.check().await.unwrap()];
    let (on_old, on_new) = (
        format!("master_key = '{old}'"),
        format!("master_key = '{new}'"),
    );
    let variables = environment(&rows);
    let variables = variables
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let slow = ["master-key", "rewrap", "--max-per-second", "5000"];
    let mut killed = Process::start(&slow, &variables);
    until("some are rewrapped", async || {
        rows.count(&on_new).await > 2000
    })
    .await;
    killed.signal(Signal::KILL);
    assert!(!killed.end().await.success());
    let left = rows.count(&on_old).await;
    assert!(left > 0, "it was killed in the middle");

    let (done, said) = say(&rows, &["status"]);
    assert!(done && said.contains(&format!("{old}\tactive\t")), "{said}");
    let (done, said) = say(&rows, &["retire", old.as_str()]);
    assert!(!done && said.contains("is needed"), "{said}");
    let (done, said) = say(&rows, &["rewrap"]);
    assert!(
        done && said.contains(&format!("{new}\tprimary\t20000")),
        "{said}"
    );
    assert!(said.contains("100%, 20000 of 20000 looked at"), "{said}");
    assert_eq!(rows.count(&on_old).await, 0);
    let (done, said) = say(&rows, &["verify"]);
    assert!(done && said.contains("20000 of 20000 open"), "{said}");
    let (done, said) = say(&rows, &["retire", old.as_str()]);
    assert!(
        done && said.contains(&format!("{old}\tretired\t0")),
        "{said}"
    );
    let (done, said) = say(&rows, &["retire", new.as_str()]);
    assert!(!done && said.contains("is the primary"), "{said}");
}

#[tokio::test]
async fn verify_names_what_does_not_open_and_fails() {
    let rows = Rows::none().await;
    let (old, _) = (rows.keyring("old"), rows.keyring("new"));
    rows.seal(&*old, 30).await;
    rows.execute(
        "update vault.credentials set principal_id = 'mallory' where principal_id = 'user-1';
         update vault.credentials set metadata = '{}' where principal_id = 'user-2';
         update vault.credentials set master_key = 'arn:evil' where principal_id = 'user-3';
         update vault.credentials set access_token = access_token || '\\x00'
            where principal_id = 'user-4'",
    )
    .await;
    let (done, said) = say(&rows, &["verify", "--sample", "30"]);
    assert!(
        !done && said.contains("4 credentials do not open"),
        "{said}"
    );
    for why in [
        "data key: ",
        "access token: an attribute",
        "master key not configured: arn:evil",
    ] {
        assert!(said.contains(&format!("\t{why}")), "{why} in {said}");
    }
    assert!(said.contains("26 of 30 open"), "{said}");
}

#[tokio::test]
async fn reencrypt_asks_for_whom_and_goes_on_from_a_place() {
    let rows = Rows::none().await;
    let (old, _) = (rows.keyring("old"), rows.keyring("new"));
    rows.seal(&*old, 60).await;
    assert!(!say(&rows, &["reencrypt"]).0, "for whom?");
    let (done, said) = say(&rows, &["reencrypt", "--developer", "globex"]);
    assert!(done && said.contains("re-encrypted 0"), "{said}");
    let (done, said) = say(&rows, &["reencrypt", "--all"]);
    assert!(done && said.contains("re-encrypted 60"), "{said}");
    let place = said.split("--after '").nth(1).unwrap();
    let place = place.split('\'').next().unwrap();
    let (done, said) = say(&rows, &["reencrypt", "--all", "--after", place]);
    assert!(done && said.contains("re-encrypted 10"), "{said}");
    let (done, said) = say(&rows, &["verify"]);
    assert!(done && said.contains("60 of 60 open"), "{said}");
}

#[tokio::test]
async fn without_settings_it_says_what_is_missing() {
    let output = run_with(&["master-key", "status"], &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && said.contains("DATABASE_URL is required"),
        "{said}"
    );
    let rows = Rows::none().await;
    let output = run_with(&["master-key", "status"], &[("DATABASE_URL", &rows.url)]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && said.contains("GRANTEX_VAULT_MASTER_KEY is required"),
        "{said}"
    );
}
