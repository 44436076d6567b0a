//! Nobody reads the process' memory: no core dumps, of no command.

use std::{fs, process::Command};

use crate::harness::{Dev, FREE_PORTS, Process, instance_directory, print, until};

/// How the kernel says that there are no core dumps, and that nobody can switch them on again.
const NONE: [&str; 2] = ["0", "0"];

const ALLOWED: (&str, &str) = ("GRANTEX_VAULT_ALLOW_CORE_DUMPS", "true");

/// The soft and the hard limit in a line of `/proc/<pid>/limits`.
fn limits(line: &str) -> [String; 2] {
    let words = line.trim_start_matches("Max core file size");
    let mut words = words.split_whitespace().map(str::to_owned);
    [(); 2].map(|()| words.next().expect("a limit"))
}

fn core_limits(process: &Process) -> [String; 2] {
    limits(&process.kernel_line("limits", "Max core file size"))
}

/// Those of this process, which everything that it starts begins with.
fn inherited() -> [String; 2] {
    let text = fs::read_to_string("/proc/self/limits").expect("Linux has it");
    let line = text.lines().find(|line| line.starts_with("Max core"));
    limits(line.expect("Linux has it"))
}

/// A server whose database nobody runs: it waits for it.
async fn served(variables: &[(&str, &str)]) -> Process {
    let directory = instance_directory();
    let keyring = directory.path().join("keyring.json");
    print(&["keyring", "create", keyring.to_str().unwrap()]);
    let master_key = format!("local:{}", keyring.display());
    let key_set = directory.path().join("jwks.json");
    fs::write(&key_set, r#"{"keys":[]}"#).unwrap();
    let settings = [
        ("DATABASE_URL", "postgres://vault@127.0.0.1:1/vault"),
        ("GRANTEX_VAULT_MASTER_KEY", &*master_key),
        ("GRANTEX_VAULT_ISSUER", "https://issuer.test"),
        ("GRANTEX_VAULT_JWKS_FILE", key_set.to_str().unwrap()),
        ("GRANTEX_VAULT_HTTP_ADDR", "127.0.0.1:0"),
        ("GRANTEX_VAULT_GRPC_ADDR", "127.0.0.1:0"),
        ("GRANTEX_VAULT_ADMIN_ADDR", "127.0.0.1:0"),
    ];
    let mut process = Process::start(&["serve"], &[&settings[..], variables].concat());
    process.logged_line("serving").await;
    process
}

#[tokio::test]
async fn a_server_leaves_no_core_dumps() {
    let vault = served(&[]).await;
    assert_eq!(core_limits(&vault), NONE);
}

/// A server may have as many files open as the system lets it, whatever it was started with.
#[tokio::test]
async fn the_soft_limit_of_file_descriptors_is_raised_to_the_hard_one() {
    let directory = instance_directory();
    let keyring = directory.path().join("keyring.json");
    print(&["keyring", "create", keyring.to_str().unwrap()]);
    let key_set = directory.path().join("jwks.json");
    fs::write(&key_set, r#"{"keys":[]}"#).unwrap();
    let vault = env!("CARGO_BIN_EXE_grantex-vault");
    let few = format!(
        "ulimit -Sn 256; ulimit -Hn 1500; exec env \
         DATABASE_URL=postgres://vault@127.0.0.1:1/vault \
         GRANTEX_VAULT_MASTER_KEY=local:{} GRANTEX_VAULT_ISSUER=https://issuer.test \
         GRANTEX_VAULT_JWKS_FILE={} {vault} serve {}",
        keyring.display(),
        key_set.display(),
        FREE_PORTS.join(" "),
    );
    let mut process = Process::start_program("/bin/sh", &["-c", &few]);
    process.logged_line("serving").await;
    let line = process.kernel_line("limits", "Max open files");
    let words = line.split_whitespace().skip(3).take(2);
    assert_eq!(words.collect::<Vec<_>>(), ["1500", "1500"]);
}

#[tokio::test]
async fn core_dumps_can_be_allowed_and_the_log_says_so() {
    let vault = served(&[ALLOWED]).await;
    assert_eq!(core_limits(&vault), inherited());
    assert!(vault.log().contains("can be dumped"), "{}", vault.log());
}

#[tokio::test]
async fn dev_leaves_no_core_dumps_and_its_postgres_runs() {
    let directory = instance_directory();
    let dev = Dev::start(directory.path(), &[]).await;
    assert_eq!(core_limits(&dev.process), NONE);
    crate::harness::connect(dev.get("databaseUrl")).await;
}

/// Starts an operator's verb that waits, with the keyring it needs, for somebody to write that.
async fn core_limits_of_a_verb(variables: &[(&str, &str)], expected: &[String; 2]) -> String {
    let directory = instance_directory();
    let (keyring, pipe) = (
        directory.path().join("keyring"),
        directory.path().join("pipe"),
    );
    print(&["keyring", "create", keyring.to_str().unwrap()]);
    let made = Command::new("mkfifo")
        .args(["-m", "600"])
        .arg(&pipe)
        .status();
    assert!(made.expect("mkfifo runs").success());
    let mut verb = Process::start(&["keyring", "list", pipe.to_str().unwrap()], variables);
    until("the verb has come to where it reads", async || {
        verb.kernel_line("status", "Name:")
            .contains("grantex-vault")
            && core_limits(&verb) == *expected
    })
    .await;
    let written = tokio::task::spawn_blocking(move || fs::copy(keyring, pipe));
    assert!(verb.end().await.success(), "{}", verb.log());
    written.await.unwrap().unwrap();
    until("its keys are printed", async || {
        verb.output().contains("primary")
    })
    .await;
    verb.log()
}

#[tokio::test]
async fn an_operators_verb_leaves_no_core_dumps_either() {
    let said = core_limits_of_a_verb(&[], &NONE.map(str::to_owned)).await;
    assert_eq!(said, "");
    let said = core_limits_of_a_verb(&[ALLOWED], &inherited()).await;
    assert!(said.contains("can be dumped"), "{said}");
}

#[test]
fn a_setting_that_is_neither_true_nor_false_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_grantex-vault"))
        .args(["keyring", "list", "nowhere"])
        .env(ALLOWED.0, "yes")
        .output()
        .expect("the binary runs");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(ALLOWED.0), "{said}");
}
