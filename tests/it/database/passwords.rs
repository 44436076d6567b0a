//! Whatever goes wrong on the way to the database, its password is not shown.

use std::process::Command;

use grantex_vault::store::{
    Store,
    schema::{self, Durability},
};

use super::{chain, parse};
use crate::harness::Setup;

/// Ways that lead nowhere. The password stands in each.
const NOWHERE: [&str; 5] = [
    "postgres://vault:canary@127.0.0.1:1/vault",
    "postgres://vault:canary@127.0.0.1:1/vault?sslmode=verify-full",
    "postgres://vault:canary@nowhere.invalid/vault?sslmode=require",
    "postgres://vault:canary@nowhere.invalid/vault?sslmode=disable",
    "postgres:///vault?host=/nowhere&user=vault&password=canary",
];

/// What is not even a way.
const MALFORMED: [&str; 7] = [
    "mysql://vault:canary@db/vault",
    "vault:canary@db",
    "postgres://vault:canary@db:port/vault",
    "postgres://vault:canary@db/vault?sslmode=canary",
    "postgres://vault:canary@db/vault?sslmode=prefer",
    "postgres://vault:canary@db/vault?canary=canary",
    "postgres://vault:can%ary@[db/vault",
];

fn assert_hidden(text: &str, url: &str) {
    assert!(!text.contains("canary"), "{url}: {text}");
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_does_not_show_its_password() {
    for url in NOWHERE {
        let parsed = parse(url);
        assert_hidden(&format!("{parsed:?}"), url);
        for fault in [
            schema::check_once(&parsed, Durability::Required)
                .await
                .err()
                .unwrap(),
            schema::migrate(&parsed, None).await.err().unwrap(),
        ] {
            assert_hidden(&format!("{} {fault:?}", chain(&fault)), url);
        }
        let store = Store::open(&parsed, 1, Durability::Required).unwrap();
        let fault = store.connection().await.err().expect("nobody is there");
        assert_hidden(&format!("{} {fault:?}", chain(&fault)), url);
    }
}

#[tokio::test]
async fn a_url_that_cannot_be_read_does_not_show_its_password() {
    for url in MALFORMED {
        let started = Setup::new().with("DATABASE_URL", url).try_start().await;
        let fault = started.err().expect("no server starts");
        assert_hidden(&format!("{fault} {fault:?}"), url);
    }
}

#[test]
fn the_command_line_does_not_show_the_password() {
    for url in NOWHERE.iter().chain(&MALFORMED) {
        for arguments in [&["migrate"][..], &["developer", "list"]] {
            let output = Command::new(env!("CARGO_BIN_EXE_grantex-vault"))
                .args(arguments)
                .env_clear()
                .env("DATABASE_URL", url)
                .env("RUST_LOG", "trace")
                .output()
                .expect("the binary runs");
            assert!(!output.status.success());
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(said.contains("grantex-vault: "), "{url}: {said}");
            assert_hidden(&said, url);
        }
    }
}
