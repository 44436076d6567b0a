//! `grantex-vault dev`: one command, nothing to start first.

mod settings;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use grantex_vault::store::schema::SCHEMA_VERSION;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{
    Certificates, Dev, FREE_PORTS, Process, connect, instance_directory, print, run, until,
};

async fn store(dev: &Dev, key: &str, token: &str) -> reqwest::Response {
    let body =
        json!({"principalId": dev.get("principalId"), "service": "github", "accessToken": token});
    let request = reqwest::Client::new().post(format!("{}/v1/vault/credentials", dev.get("http")));
    let request = request
        .bearer_auth(key)
        .header("content-type", "application/json");
    request.body(body.to_string()).send().await.unwrap()
}

async fn exchange(dev: &Dev, token: &str) -> reqwest::Response {
    let url = format!("{}/v1/vault/credentials/exchange", dev.get("http"));
    let request = reqwest::Client::new().post(url).bearer_auth(token);
    let request = request.header("content-type", "application/json");
    request
        .body(r#"{"service":"github"}"#)
        .send()
        .await
        .unwrap()
}

async fn access_token(response: reqwest::Response) -> Value {
    assert_eq!(response.status(), 200);
    response.json::<Value>().await.unwrap()["accessToken"].clone()
}

/// Runs what an instance with these settings prints.
async fn try_what_is_printed(variables: &[(&str, &str)]) {
    let directory = instance_directory();
    let path = directory.path().to_str().unwrap();
    let arguments = [&["dev", "--data-dir", path], &FREE_PORTS[..]].concat();
    let process = Process::start(&arguments, variables);
    until("dev says how to stop it", async || {
        process.output().contains("Ctrl-C")
    })
    .await;
    let text = process.output();
    let calls: Vec<&str> = text
        .split("\n\n")
        .filter(|part| part.contains("\ncurl "))
        .collect();
    assert_eq!(calls.len(), 4, "store, list, exchange, metrics in {text}");
    let expected = [
        r#""id":"vc_"#,
        r#"{"credentials":[{"id":"vc_"#,
        r#""accessToken":"gho_example""#,
        r#"grantex_vault_exchanges_total{cache="hit",outcome="released"} 1"#,
    ];
    for (call, expected) in calls.iter().zip(expected) {
        let output = Command::new("sh")
            .args(["-c", call])
            .output()
            .expect("sh runs");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && printed.contains(expected),
            "{call}\n{printed}"
        );
    }
}

#[tokio::test]
async fn every_printed_line_works_as_printed() {
    try_what_is_printed(&[]).await;
}

#[tokio::test]
async fn every_printed_line_works_as_printed_over_tls() {
    let certificates = Certificates::new();
    let (certificate, key) = (certificates.path("tls.crt"), certificates.path("tls.key"));
    try_what_is_printed(&[
        ("GRANTEX_VAULT_TLS_CERT_FILE", &certificate),
        ("GRANTEX_VAULT_TLS_KEY_FILE", &key),
    ])
    .await;
}

#[tokio::test]
async fn over_tls_it_is_its_own_issuer_still() {
    let certificates = Certificates::new();
    let (certificate, key) = (certificates.path("tls.crt"), certificates.path("tls.key"));
    let settings = [
        ("GRANTEX_VAULT_TLS_CERT_FILE", &*certificate),
        ("GRANTEX_VAULT_TLS_KEY_FILE", &key),
    ];
    let directory = instance_directory();
    let dev = Dev::start(directory.path(), &settings).await;
    let http = dev.get("http");
    assert!(http.starts_with("https://127.0.0.1:"), "{http}");
    assert_eq!(dev.get("issuer"), http);
    assert_eq!(dev.instance["tls"]["certificate"], certificate);
    let jwks = certificates.trust().http().get(dev.get("jwksUrl"));
    let jwks: Value = jwks.send().await.unwrap().json().await.unwrap();
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 2);
    let at = ["--data-dir", directory.path().to_str().unwrap()];
    let mint = ["grant", "mint", "--principal", "p", "--service", "github"];
    let grant = print(&[&mint[..], &at].concat());
    let url = format!("{http}/v1/vault/credentials/exchange");
    let request = certificates.trust().http().post(url).bearer_auth(grant);
    let answer = request.json(&json!({"service": "github"})).send().await;
    assert_eq!(answer.unwrap().status(), 404, "the token is accepted");
}

#[tokio::test]
async fn a_second_start_keeps_data_and_keys() {
    let directory = instance_directory();
    let mut first = Dev::start(directory.path(), &[]).await;
    assert_eq!(
        store(&first, first.get("apiKey"), "kept").await.status(),
        201
    );
    first.process.signal(Signal::INT);
    assert!(first.process.end().await.success());

    let second = Dev::start(directory.path(), &[]).await;
    for name in ["apiKey", "developerId", "principalId"] {
        assert_eq!(first.get(name), second.get(name));
    }
    assert_eq!(
        access_token(exchange(&second, second.get("grantToken")).await).await,
        "kept"
    );
    assert_eq!(
        store(&second, first.get("apiKey"), "again").await.status(),
        201
    );
}

#[tokio::test]
async fn the_next_start_cleans_up_after_a_kill() {
    let directory = instance_directory();
    let mut first = Dev::start(directory.path(), &[]).await;
    assert_eq!(
        store(&first, first.get("apiKey"), "survives")
            .await
            .status(),
        201
    );
    let leftover = first.get("databaseUrl").to_owned();
    first.process.signal(Signal::KILL);
    assert!(!first.process.end().await.success());
    drop(connect(&leftover).await);

    let second = Dev::start(directory.path(), &[]).await;
    assert!(
        tokio_postgres::connect(&leftover, tokio_postgres::NoTls)
            .await
            .is_err()
    );
    assert_eq!(
        access_token(exchange(&second, second.get("grantToken")).await).await,
        "survives"
    );
}

#[tokio::test]
async fn a_kill_is_cleaned_up_after_whatever_the_directory_is_called() {
    let directory = instance_directory();
    let locale = [("LC_ALL", "C")];
    for name in ["Łódź 東京", "a,b \"c\" 'd'", "with\\backslash"] {
        let path = directory.path().join(name);
        let mut first = Dev::start(&path, &locale).await;
        let leftover = first.get("databaseUrl").to_owned();
        first.process.signal(Signal::KILL);
        assert!(!first.process.end().await.success());
        drop(connect(&leftover).await);

        let second = Dev::start(&path, &locale).await;
        assert!(
            tokio_postgres::connect(&leftover, tokio_postgres::NoTls)
                .await
                .is_err(),
            "{name}"
        );
        assert_eq!(
            store(&second, second.get("apiKey"), "x").await.status(),
            201
        );
    }
}

#[tokio::test]
async fn its_issuer_signs_every_form_with_either_algorithm() {
    let directory = instance_directory();
    let dev = Dev::start(directory.path(), &[]).await;
    store(&dev, dev.get("apiKey"), "secret").await;
    let at = directory.path().to_str().unwrap();
    let mint = [
        "grant",
        "mint",
        "--data-dir",
        at,
        "--principal",
        dev.get("principalId"),
    ];
    for form in ["standard", "short", "both"] {
        for alg in ["RS256", "ES256"] {
            let chosen = ["--form", form, "--alg", alg];
            let of_service = print(&[&mint[..], &chosen, &["--service", "GitHub"]].concat());
            let answer = exchange(&dev, &of_service).await;
            assert_eq!(access_token(answer).await, "secret", "{form} {alg}");
            let of_scope = print(&[&mint[..], &chosen, &["--scope", "github:read"]].concat());
            assert_eq!(
                exchange(&dev, &of_scope).await.status(),
                403,
                "{form} {alg}"
            );
        }
    }
    for wrong in [
        &["--form", "long"][..],
        &["--alg", "PS256"],
        &["--service", "a b"],
        &[],
    ] {
        let output = run(&[&mint[..], wrong].concat());
        assert!(!output.status.success(), "{wrong:?}");
    }
}

#[tokio::test]
async fn two_at_once_on_one_directory_are_refused() {
    let directory = instance_directory();
    let _first = Dev::start(directory.path(), &[]).await;
    let path = directory.path().to_str().unwrap();
    let second = run(&["dev", "--data-dir", path]);
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(
        said.contains("another `grantex-vault dev` is running in"),
        "{said}"
    );
}

#[tokio::test]
async fn its_files_are_for_its_user_only_and_its_database_url_works() {
    let directory = instance_directory();
    let dev = Dev::start(directory.path(), &[]).await;
    for entry in fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        let expected = if entry.path().is_dir() {
            continue;
        } else {
            0o600
        };
        assert_eq!(mode, expected, "{}", entry.path().display());
    }
    let database = connect(dev.get("databaseUrl")).await;
    let version = database
        .query_one("select version from vault.schema_version", &[])
        .await;
    assert_eq!(version.unwrap().get::<_, i32>(0), SCHEMA_VERSION);
    let without_password = dev
        .get("databaseUrl")
        .replacen(':', "\n", 2)
        .replacen('\n', ":", 1);
    let (user, rest) = without_password.split_once('\n').expect("a password");
    let (_, host) = rest.split_once('@').expect("a host");
    let open = tokio_postgres::connect(&format!("{user}@{host}"), tokio_postgres::NoTls).await;
    assert!(open.is_err(), "TCP needs the password");
}

#[tokio::test]
async fn operator_verbs_act_on_the_instance() {
    let directory = instance_directory();
    let dev = Dev::start(directory.path(), &[]).await;
    let at = ["--data-dir", directory.path().to_str().unwrap()];
    let say = |arguments: &[&str]| print(&[arguments, &at].concat());

    let developer = say(&["developer", "create", "--name", "Acme"]);
    assert!(
        say(&["developer", "list"])
            .lines()
            .any(|line| line.starts_with(&developer))
    );
    let key = say(&[
        "api-key",
        "create",
        "--developer",
        &developer,
        "--label",
        "ci",
    ]);
    assert!(key.starts_with("gx_live_"), "{key}");
    assert_eq!(store(&dev, &key, "of acme").await.status(), 201);

    let principal = dev.get("principalId");
    let mint = [
        "grant",
        "mint",
        "--principal",
        principal,
        "--scope",
        "vault:github:exchange",
    ];
    let grant = say(&[&mint[..], &["--developer", &developer]].concat());
    assert_eq!(access_token(exchange(&dev, &grant).await).await, "of acme");
    let other_scope = [
        "grant",
        "mint",
        "--principal",
        principal,
        "--scope",
        "vault:slack:exchange",
    ];
    let grant = say(&[&other_scope[..], &["--developer", &developer]].concat());
    assert_eq!(exchange(&dev, &grant).await.status(), 403);
    assert_eq!(
        exchange(&dev, &say(&mint)).await.status(),
        404,
        "of the instance's own developer"
    );

    let listed = say(&["api-key", "list", "--developer", &developer]);
    let id = listed.split('\t').next().unwrap();
    assert!(
        listed.contains("active") && !listed.contains(&key),
        "{listed}"
    );
    say(&["api-key", "revoke", id]);
    assert_eq!(store(&dev, &key, "no more").await.status(), 401);
    assert!(say(&["api-key", "list", "--developer", &developer]).contains("revoked"));
    assert!(say(&["migrate"]).contains("nothing to do"));
    assert!(say(&["keyring", "list"]).contains("primary"));
    say(&["keyring", "add-key"]);
    assert_eq!(say(&["keyring", "list"]).lines().count(), 2);
}

#[tokio::test]
async fn an_expired_key_is_refused() {
    let directory = instance_directory();
    let dev = Dev::start(directory.path(), &[]).await;
    let at = ["--data-dir", directory.path().to_str().unwrap()];
    let create = [
        "api-key",
        "create",
        "--developer",
        dev.get("developerId"),
        "--expires-in",
        "1ms",
    ];
    let key = print(&[&create[..], &at].concat());
    until("it has expired", async || {
        store(&dev, &key, "x").await.status() == 401
    })
    .await;
}

#[tokio::test]
async fn a_directory_that_postgres_user_cannot_reach_works_too() {
    let closed = tempfile::tempdir().unwrap();
    let dev = Dev::start(&closed.path().join("dev"), &[]).await;
    assert_eq!(
        store(&dev, dev.get("apiKey"), "reached").await.status(),
        201
    );
    assert_eq!(
        access_token(exchange(&dev, dev.get("grantToken")).await).await,
        "reached"
    );
    drop(dev);
    let elsewhere = fs::read_to_string(closed.path().join("dev/cluster-name"));
    if let Ok(name) = elsewhere {
        fs::remove_dir_all(Path::new("/var/lib/grantex-vault-dev").join(name)).unwrap();
    }
}

#[test]
fn without_postgres_it_says_what_to_install() {
    let directory = instance_directory();
    let path = directory.path().to_str().unwrap();
    let nowhere = ["--pg-bin", "/does/not/exist"];
    let output = run(&[&["dev", "--data-dir", path], &nowhere[..], &FREE_PORTS].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for system in ["Debian", "Fedora", "Alpine", "macOS"] {
        assert!(said.contains(system), "{system} in {said}");
    }
}

#[test]
fn without_an_instance_operator_verbs_say_so() {
    let directory = instance_directory();
    let path = directory.path().to_str().unwrap();
    for arguments in [
        &["developer", "list", "--data-dir", path][..],
        &[
            "grant",
            "mint",
            "--principal",
            "p",
            "--scope",
            "s",
            "--data-dir",
            path,
        ],
        &["grant", "mint", "--principal", "p", "--scope", "s"],
        &["developer", "list"],
    ] {
        let output = run(arguments);
        assert!(
            !output.status.success() && !output.stderr.is_empty(),
            "{arguments:?}"
        );
    }
}
