//! Which settings an instance takes, from where, and what it does without.

use std::{ffi::OsStr, fs, net::TcpListener, os::unix::ffi::OsStrExt, process::Command};

use serde_json::Value;

use super::{access_token, exchange, store};
use crate::harness::{
    Dev, FREE_PORTS, Process, connect, instance_directory, print, run, run_with, until,
};

#[tokio::test]
async fn it_honours_the_settings_of_the_vault() {
    let directory = instance_directory();
    let keyring = directory.path().join("other.json");
    print(&["keyring", "create", keyring.to_str().unwrap()]);
    let master_key = format!("local:{}", keyring.display());
    let in_file = directory.path().join("master-key");
    fs::write(&in_file, format!("{master_key}\n")).unwrap();
    for given in [
        ("GRANTEX_VAULT_MASTER_KEY", master_key.as_str()),
        ("GRANTEX_VAULT_MASTER_KEY_FILE", in_file.to_str().unwrap()),
    ] {
        let dev = Dev::start(directory.path(), &[given]).await;
        assert_eq!(store(&dev, dev.get("apiKey"), "x").await.status(), 201);
        let database = connect(dev.get("databaseUrl")).await;
        let row = database
            .query_one("select master_key from vault.credentials", &[])
            .await
            .unwrap();
        let used = print(&["keyring", "list", keyring.to_str().unwrap()]);
        assert_eq!(Some(row.get::<_, &str>(0)), used.split('\t').next());
        let at = ["--data-dir", directory.path().to_str().unwrap()];
        let verify = run_with(&[&["master-key", "verify"], &at[..]].concat(), &[given]);
        let said = String::from_utf8_lossy(&verify.stdout).into_owned();
        assert_eq!(said, "1 of 1 open\n");
    }
}

#[tokio::test]
async fn another_issuer_is_named_by_a_flag() {
    let directory = instance_directory();
    let at = ["--data-dir", directory.path().to_str().unwrap()];
    let issuer = ["--issuer=https://issuer.test"];
    let dev = Dev::start_with(directory.path(), &issuer, &[]).await;
    assert_eq!(dev.instance["issuer"], "https://issuer.test");
    assert_eq!(dev.instance["grantToken"], Value::Null);
    let mint = run(&[
        &["grant", "mint", "--principal", "p", "--service", "github"],
        &at[..],
    ]
    .concat());
    assert!(!mint.status.success(), "there is no development issuer");
}

#[tokio::test]
async fn the_database_and_the_issuer_of_another_vault_are_ignored_and_it_says_so() {
    let directory = instance_directory();
    let ignored = [
        ("DATABASE_URL", "postgres://u:canary@db.test/vault"),
        ("DATABASE_URL_FILE", "/does/not/exist"),
        ("GRANTEX_VAULT_MIGRATE_DATABASE_URL", "nonsense"),
        ("GRANTEX_VAULT_ISSUER", "https://issuer.test"),
        ("GRANTEX_VAULT_JWKS_URL", "https://issuer.test/keys"),
    ];
    let dev = Dev::start(directory.path(), &ignored).await;
    assert_eq!(dev.get("issuer"), dev.get("http"));
    assert_eq!(store(&dev, dev.get("apiKey"), "x").await.status(), 201);
    let token = exchange(&dev, dev.get("grantToken")).await;
    assert_eq!(access_token(token).await, "x");
    let log = dev.process.log();
    let line = log.lines().find(|line| line.contains("ignored in the env"));
    let names = ignored.map(|(name, _)| name).join(", ");
    assert!(line.is_some_and(|line| line.contains(&names)), "{log}");
    assert!(!log.contains("canary"), "{log}");
}

#[tokio::test]
async fn the_printed_token_is_taken_whatever_is_asked_of_tokens() {
    let directory = instance_directory();
    let asked = [
        ("GRANTEX_VAULT_AUDIENCE", "https://vault.test"),
        ("GRANTEX_VAULT_AUDIENCE_MODE", "require"),
        ("GRANTEX_VAULT_MAX_TOKEN_LIFETIME", "1h"),
        ("GRANTEX_VAULT_MAX_DELEGATION_DEPTH", "0"),
    ];
    let dev = Dev::start(directory.path(), &asked).await;
    assert_eq!(store(&dev, dev.get("apiKey"), "x").await.status(), 201);
    let principal = dev.get("principalId");
    let at = directory.path().to_str().unwrap();
    let mint = ["grant", "mint", "--principal", principal];
    let minted = print(&[&mint[..], &["--service", "github", "--data-dir", at]].concat());
    for token in [dev.get("grantToken"), &minted] {
        assert_eq!(access_token(exchange(&dev, token).await).await, "x");
    }
}

/// Listens on a port, unless somebody else does already.
fn taken(port: u16) -> Option<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).ok()
}

#[tokio::test]
async fn where_the_usual_ports_are_in_use_it_takes_others_and_says_so() {
    let others = [8080, 50051, 9090].map(taken);
    let directory = instance_directory();
    let path = directory.path().to_str().unwrap();
    let mut process = Process::start(&["dev", "--json", "--data-dir", path], &[]);
    until("dev is ready or has failed", async || {
        process.output().ends_with('\n') || process.ended().is_some()
    })
    .await;
    let log = process.log();
    let instance: Value = serde_json::from_str(&process.output()).expect(&log);
    for (usual, setting, field) in [
        (8080, "GRANTEX_VAULT_HTTP_ADDR", "http"),
        (50051, "GRANTEX_VAULT_GRPC_ADDR", "grpc"),
        (9090, "GRANTEX_VAULT_ADMIN_ADDR", "admin"),
    ] {
        let address = instance[field].as_str().unwrap();
        let address = address.trim_start_matches("http://");
        let says = format!("port {usual} is in use: {setting} is {address} this time");
        assert!(log.contains(&says), "{says:?} in {log}");
        assert!(!address.ends_with(&format!(":{usual}")), "{address}");
    }
    let livez = reqwest::get(format!("{}/livez", instance["admin"].as_str().unwrap())).await;
    assert_eq!(livez.unwrap().status(), 200);
    drop(others);
}

#[test]
fn a_port_that_is_asked_for_and_in_use_is_a_failure() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let directory = instance_directory();
    let path = directory.path().to_str().unwrap();
    for name in ["--http-addr", "--grpc-addr", "--admin-addr"] {
        let free = FREE_PORTS.iter().filter(|flag| !flag.starts_with(name));
        let free: Vec<&str> = free.copied().collect();
        let arguments = [&["dev", "--data-dir", path, name, &address], &free[..]].concat();
        let output = run(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let says = format!("cannot listen on {address}");
        assert!(said.contains(&says), "{name}: {said}");
    }
}

#[test]
fn a_directory_whose_name_no_setting_can_hold_is_refused() {
    let directory = instance_directory();
    for name in [&b"a\nb"[..], b"\xFF", b"a "] {
        let path = directory.path().join(OsStr::from_bytes(name));
        let mut command = Command::new(env!("CARGO_BIN_EXE_grantex-vault"));
        let command = command.args(["dev", "--data-dir"]).arg(path);
        let output = command.env_clear().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("cannot be the directory of an instance"),
            "{said}"
        );
    }
}

#[test]
fn it_serves_on_loopback_only() {
    let directory = instance_directory();
    let path = directory.path().to_str().unwrap();
    for flags in [
        &["--http-addr"][..],
        &["--grpc-addr"],
        &["--admin-addr"],
        &["--operator-token-file=token", "--operator-addr"],
    ] {
        let name = flags[flags.len() - 1];
        let free = FREE_PORTS.iter().filter(|flag| !flag.starts_with(name));
        let free: Vec<&str> = free.copied().collect();
        let arguments = [
            &["dev", "--data-dir", path],
            &free[..],
            flags,
            &["0.0.0.0:0"],
        ]
        .concat();
        let output = run(&arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains("loopback"),
            "{said}"
        );
    }
}
