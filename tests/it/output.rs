//! What becomes of a command whose output nobody reads, or that cannot be written.

use std::{
    fs::{self, File, OpenOptions},
    path::Path,
    process::{Output, Stdio},
};

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    harness::{
        Dev, FREE_PORTS, Process, instance_directory, print, run, run_between, unread, until,
    },
    import::{KEY, Source},
};

/// What a shell shows of a tool that SIGPIPE ended.
const NOBODY_READS: Option<i32> = Some(141);

/// A device that is full.
fn full() -> Stdio {
    let device = OpenOptions::new().write(true).open("/dev/full");
    device.expect("Linux has it").into()
}

async fn run_to(arguments: &[&str], output: Stdio) -> Output {
    run_between(arguments, &[], [Stdio::null(), output, Stdio::piped()]).await
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails unless a command ended because nobody reads, and said nothing of it.
fn ended_quietly(name: &[&str], output: &Output) {
    let said = said(output);
    assert_eq!(output.status.code(), NOBODY_READS, "{name:?}: {said}");
    for word in ["panicked", "grantex-vault:", "pipe"] {
        assert!(!said.contains(word), "{name:?}: {said}");
    }
}

/// Every command, those with commands of their own too.
fn every_command(command: &clap::Command, names: &[String], found: &mut Vec<Vec<String>>) {
    found.push(names.to_vec());
    for sub in command.get_subcommands() {
        let name = sub.get_name().to_owned();
        every_command(sub, &[names, &[name]].concat(), found);
    }
}

fn commands() -> Vec<Vec<String>> {
    let mut found = Vec::new();
    every_command(&grantex_vault::cli::command(), &[], &mut found);
    found
}

#[tokio::test]
async fn a_help_that_nobody_reads_ends_quietly() {
    let commands = commands();
    assert!(commands.len() > 45, "{commands:?}");
    for names in commands {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for help in [
            [&names[..], &["--help"]].concat(),
            [&["help"], &names[..]].concat(),
        ] {
            ended_quietly(&help, &run_to(&help, unread()).await);
        }
    }
    ended_quietly(&["--version"], &run_to(&["--version"], unread()).await);
    for help in ["--help", "--version"] {
        let unwritten = run_to(&[help], full()).await;
        assert_eq!(unwritten.status.code(), Some(2));
        assert!(said(&unwritten).contains("standard output cannot be written: "));
    }
}

/// A running instance with everything that a command can be asked of.
struct Instance {
    directory: TempDir,
    dev: Dev,
    source: Source,
}

impl Instance {
    async fn start() -> Self {
        let directory = instance_directory();
        let sealed_at_once = [("GRANTEX_VAULT_AUDIT_SEAL_INTERVAL", "50ms")];
        let dev = Dev::start(directory.path(), &sealed_at_once).await;
        let instance = Self {
            directory,
            dev,
            source: Source::new().await,
        };
        instance.seal().await;
        instance
    }

    fn at(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }

    fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.at())
    }

    /// Has something sealed, exported, and a secret to be read from standard input.
    async fn seal(&self) {
        print(&["developer", "list", "--data-dir", self.at()]);
        until("something is sealed", async || {
            run(&["audit", "public-key", "--data-dir", self.at()])
                .status
                .success()
        })
        .await;
        for (name, of) in [("vault.pem", "public-key"), ("events", "export")] {
            let printed = print(&["audit", of, "--data-dir", self.at()]);
            fs::write(self.file(name), format!("{printed}\n")).unwrap();
        }
        fs::write(self.file("secret"), "a-secret-of-webhooks").unwrap();
        print(&["keyring", "create", &self.file("keyring")]);
    }

    async fn run(&self, arguments: &str, output: Stdio) -> Output {
        let at = |text: &str| text.replace("DIR", self.at());
        let mut words: Vec<String> = arguments.split(' ').map(at).collect();
        let needs_none = [
            "doctor",
            "health",
            "audit verify-file",
            "keyring create",
            "keyring list",
        ];
        if !needs_none.iter().any(|name| arguments.starts_with(name)) {
            words.extend(["--data-dir".to_owned(), self.at().to_owned()]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let variables = [
            ("GRANTEX_VAULT_IMPORT_SOURCE", self.source.url.as_str()),
            ("GRANTEX_VAULT_IMPORT_KEY", KEY),
        ];
        let input = File::open(Path::new(&self.file("secret"))).unwrap();
        run_between(&words, &variables, [input.into(), output, Stdio::piped()]).await
    }
}

/// Every command that prints, in an order in which each has something to print. DEVELOPER is one, GRANT a
/// name, DIR the directory of the instance.
const PRINTS: [&str; 36] = [
    "audit list",
    "audit tail",
    "audit verify",
    "audit public-key",
    "audit export",
    "audit verify-file --public-key DIR/vault.pem DIR/events",
    "audit prune --before 2020-01-01T00:00:00Z",
    "doctor",
    "health --admin-addr ADMIN",
    "migrate",
    "developer create --name Acme",
    "developer list",
    "developer suspend DEVELOPER",
    "developer resume DEVELOPER",
    "api-key create --developer DEVELOPER",
    "api-key list --developer DEVELOPER",
    "api-key revoke API_KEY",
    "grant mint --principal p --service github",
    "grant revoke --developer DEVELOPER GRANT",
    "grant revocations --developer DEVELOPER",
    "token revoke --developer DEVELOPER TOKEN",
    "webhook-secret set --developer DEVELOPER",
    "webhook-secret list --developer DEVELOPER",
    "webhook-secret remove --developer DEVELOPER WEBHOOK_SECRET",
    "import grantex --dry-run",
    "keyring create DIR/another",
    "keyring list DIR/keyring",
    "keyring add-key",
    "keyring set-primary 2",
    "master-key status",
    "master-key rewrap",
    "master-key reencrypt --all",
    "master-key verify",
    "master-key retire MASTER_KEY",
    "keyring remove-key 1",
    "developer delete DEVELOPER --yes",
];

/// Those that print nothing, or are looked at by themselves.
const OTHERS: [&str; 2] = ["dev", "serve"];

#[test]
fn every_command_that_prints_is_among_them() {
    let is_group = |names: &Vec<String>, all: &[Vec<String>]| {
        all.iter()
            .any(|other| other.len() > names.len() && other.starts_with(names))
    };
    let all = commands();
    let leaves = all.iter().filter(|names| !is_group(names, &all));
    let leaves = leaves.filter(|names| names.first().is_some_and(|name| name != "help"));
    for names in leaves.filter(|names| names.last().is_some_and(|name| name != "help")) {
        let name = names.join(" ");
        let listed = PRINTS
            .iter()
            .any(|line| *line == name || line.starts_with(&format!("{name} ")));
        assert!(listed || OTHERS.contains(&&*name), "{name}");
    }
}

#[tokio::test]
async fn a_result_that_nobody_reads_ends_its_command_quietly() {
    let instance = Instance::start().await;
    let developer = instance.dev.get("developerId");
    let admin = instance.dev.get("admin").trim_start_matches("http://");
    let first_of = |arguments: &str| {
        let words: Vec<&str> = arguments.split(' ').collect();
        let printed = print(&[&words[..], &["--data-dir", instance.at()]].concat());
        let first = printed.split(['\t', '\n']).next();
        first.unwrap().to_owned()
    };
    let master_key = first_of("master-key status");
    for line in PRINTS {
        let mut line = line.replace("DEVELOPER", developer).replace("ADMIN", admin);
        for (name, list) in [
            ("API_KEY", "api-key list --developer"),
            ("WEBHOOK_SECRET", "webhook-secret list --developer"),
        ] {
            if line.contains(name) {
                line = line.replace(name, &first_of(&format!("{list} {developer}")));
            }
        }
        let line = line.replace("MASTER_KEY", &master_key);
        ended_quietly(&[&line], &instance.run(&line, unread()).await);
    }
    let listed = print(&["developer", "list", "--data-dir", instance.at()]);
    assert!(listed.contains("Acme"), "what was done is done: {listed}");
}

#[tokio::test]
async fn a_result_that_cannot_be_written_is_a_failure_that_says_so() {
    let instance = Instance::start().await;
    for line in [
        "developer list",
        "audit list",
        "audit export",
        "audit verify",
        "audit verify-file --public-key DIR/vault.pem DIR/events",
        "audit public-key",
        "grant mint --principal p --service github",
        "keyring list DIR/keyring",
        "master-key verify",
    ] {
        let output = instance.run(line, full()).await;
        let said = said(&output);
        // Checks have 1 for what they found.
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        assert!(
            said.contains("grantex-vault: standard output cannot be written: "),
            "{line}: {said}"
        );
        assert!(!said.contains("panicked"), "{line}: {said}");
    }
}

#[tokio::test]
async fn a_dev_that_nobody_hears_of_stops_and_leaves_nothing_running() {
    let directory = instance_directory();
    let path = directory.path().to_str().unwrap();
    for how in [&[][..], &["--json"]] {
        let arguments = [&["dev", "--data-dir", path], how, &FREE_PORTS[..]].concat();
        let output = run_to(&arguments, unread()).await;
        assert_eq!(output.status.code(), NOBODY_READS, "{}", said(&output));
        assert!(!said(&output).contains("panicked"), "{}", said(&output));
        let postgres = directory.path().join("postgres/cluster/postmaster.pid");
        assert!(!postgres.exists(), "its Postgres has stopped");
    }
}

#[tokio::test]
async fn messages_that_nobody_reads_change_nothing() {
    let wrong = |arguments: &'static [&str]| async move {
        let streams = [Stdio::null(), Stdio::piped(), unread()];
        run_between(arguments, &[], streams).await.status.code()
    };
    assert_eq!(wrong(&["developer", "list"]).await, Some(1));
    assert_eq!(wrong(&["serve"]).await, Some(1));
    assert_eq!(wrong(&["audit", "verify"]).await, Some(2));
    assert_eq!(wrong(&["no-such-command"]).await, Some(2));

    let instance = Instance::start().await;
    let developer = instance.dev.get("developerId");
    let create = ["api-key", "create", "--developer", developer];
    let create = [&create[..], &["--data-dir", instance.at()]].concat();
    let streams = [Stdio::null(), Stdio::piped(), unread()];
    let created = run_between(&create, &[], streams).await;
    assert!(created.status.success());
    let key = String::from_utf8(created.stdout).unwrap();
    assert!(key.starts_with("gx_live_"), "{key}");
}

#[tokio::test]
async fn a_server_whose_log_nobody_reads_goes_on() {
    let directory = instance_directory();
    let path = directory.path().to_str().unwrap();
    let started = format!(
        "exec {} dev --json --data-dir {path} {} 2> >(exec 0<&-)",
        env!("CARGO_BIN_EXE_grantex-vault"),
        FREE_PORTS.join(" ")
    );
    let arguments = ["-c", &started];
    let mut dev = Process::start_program("/bin/bash", &arguments);
    until("it is ready", async || dev.output().ends_with('\n')).await;
    let instance: serde_json::Value = serde_json::from_str(&dev.output()).unwrap();
    let get = |name: &str| instance[name].as_str().unwrap().to_owned();
    for _ in 0..3 {
        let url = format!("{}/v1/vault/credentials", get("http"));
        let request = reqwest::Client::new().post(url).bearer_auth(get("apiKey"));
        let body = json!({"principalId": "p", "service": "github", "accessToken": "t"});
        let answer = request.json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 201);
    }
    dev.signal(Signal::TERM);
    assert!(dev.end().await.success());
}
