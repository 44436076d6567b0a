//! Settings as they arrive: from secrets of Kubernetes, editors, and shells of another encoding.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStrExt,
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::harness::{Dev, Process, instance_directory, run_with};

/// Stores at one vault and exchanges at another of the same database.
async fn stored_and_exchanged(dev: &Dev, http: &str) -> Value {
    let client = reqwest::Client::new();
    let body =
        json!({"principalId": dev.get("principalId"), "service": "github", "accessToken": "gho"});
    let url = format!("{}/v1/vault/credentials", dev.get("http"));
    let store = client.post(url).bearer_auth(dev.get("apiKey")).json(&body);
    assert_eq!(store.send().await.unwrap().status(), 201);
    let url = format!("http://{http}/v1/vault/credentials/exchange");
    let exchange = client.post(url).bearer_auth(dev.get("grantToken"));
    let exchange = exchange.json(&json!({"service": "github"}));
    exchange.send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn a_newline_at_the_end_of_every_variable_and_file_changes_nothing() {
    let directory = instance_directory();
    let dev = Dev::start(directory.path(), &[]).await;
    let at = directory.path().to_str().unwrap();
    let settings = [
        ("DATABASE_URL", dev.get("databaseUrl").to_owned()),
        (
            "GRANTEX_VAULT_MASTER_KEY",
            format!("local:{at}/keyring.json"),
        ),
        ("GRANTEX_VAULT_ISSUER", dev.get("issuer").to_owned()),
        ("GRANTEX_VAULT_JWKS_FILE", format!("{at}/jwks.json")),
        ("GRANTEX_VAULT_HTTP_ADDR", "127.0.0.1:0".to_owned()),
        ("GRANTEX_VAULT_GRPC_ADDR", "127.0.0.1:0".to_owned()),
        ("GRANTEX_VAULT_ADMIN_ADDR", "127.0.0.1:0".to_owned()),
        ("GRANTEX_VAULT_LOG_FORMAT", "pretty".to_owned()),
        ("RUST_LOG", "info".to_owned()),
    ];
    for newline in ["\n", "\r\n"] {
        let in_variables = settings.clone().map(|(name, value)| {
            let value = format!("{value}{newline}");
            (name.to_owned(), value)
        });
        let in_files = in_variables.clone().map(|(name, value)| {
            if !matches!(
                &*name,
                "DATABASE_URL" | "GRANTEX_VAULT_MASTER_KEY" | "GRANTEX_VAULT_ISSUER"
            ) {
                return (name, value);
            }
            let path = directory.path().join(&name);
            fs::write(&path, value).unwrap();
            (
                format!("{name}_FILE"),
                format!("{}{newline}", path.display()),
            )
        });
        for given in [in_variables, in_files] {
            let given: Vec<_> = given.iter().map(|(n, v)| (n.as_str(), &**v)).collect();
            let served = Process::start(&["serve"], &given);
            let http = served.logged_field("http").await;
            let exchanged = stored_and_exchanged(&dev, &http).await;
            assert_eq!(exchanged["accessToken"], "gho", "{given:?}: {exchanged}");
            let doctor = run_with(&["doctor"], &given);
            let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
            let wrong: Vec<_> = said
                .lines()
                .filter(|line| line.starts_with("FAIL"))
                .collect();
            // The role of a development instance owns the schema.
            assert!(
                wrong.len() == 1 && wrong[0].starts_with("FAIL  role: "),
                "{given:?}: {said}"
            );
        }
    }
}

/// Runs `serve` with variables that need not be text.
fn serve(variables: &[(&str, &OsStr)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grantex-vault"));
    let command = command.arg("serve").env_clear();
    command.envs(variables.iter().copied()).output().unwrap()
}

#[test]
fn what_nobody_sees_in_a_setting_is_refused_all_at_once_and_by_name() {
    let not_utf8 = OsStr::from_bytes(b"grantex_v\xFFult");
    let escape = OsString::from("https://canary.test/\u{1b}[0m");
    let refused = serve(&[
        (
            "DATABASE_URL",
            OsStr::new("postgres://canary@localhost/v\nult"),
        ),
        ("GRANTEX_VAULT_MASTER_KEY", OsStr::new("aws-kms:alias/v\t")),
        ("GRANTEX_VAULT_ISSUER", &escape),
        ("GRANTEX_VAULT_AUDIENCE", OsStr::new("canary ")),
        ("GRANTEX_VAULT_DB_ROLE", not_utf8),
    ]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    for fault in [
        "DATABASE_URL contains the control character U+000A",
        "GRANTEX_VAULT_MASTER_KEY contains the control character U+0009",
        "GRANTEX_VAULT_ISSUER contains the control character U+001B",
        "GRANTEX_VAULT_AUDIENCE begins or ends with white space",
        "GRANTEX_VAULT_DB_ROLE is not UTF-8",
    ] {
        let count = said.lines().filter(|line| line.trim() == fault).count();
        assert_eq!(count, 1, "{fault:?} in {said}");
    }
    assert!(!said.contains("canary"), "{said}");
    assert_eq!(said.lines().count(), 1 + 5, "{said}");
}
