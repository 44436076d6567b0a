//! Every command that reaches the database or a key leaves an event, or has a reason why not.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::{Dev, instance_directory, run};

/// What there is of a command: the verb of its event, or why it has none.
enum Record {
    Event(&'static str),
    Nothing(&'static str),
}
use Record::{Event, Nothing};

const COMMANDS: [(&str, Record); 38] = [
    ("api-key create", Event("create_api_key")),
    ("api-key list", Event("list_api_keys")),
    ("api-key revoke", Event("revoke_api_key")),
    ("audit export", Event("export_audit_events")),
    ("audit list", Event("list_audit_events")),
    ("audit prune", Event("prune_audit_events")),
    ("audit public-key", Nothing("it shows what is public")),
    ("audit tail", Event("tail_audit_events")),
    (
        "audit verify",
        Nothing("it shows which events were changed, and no event"),
    ),
    (
        "audit verify-file",
        Nothing("it reads a file and a public key"),
    ),
    ("dev", Nothing("its vault records what is asked of it")),
    ("developer create", Event("create_developer")),
    ("developer delete", Event("delete_developer")),
    ("developer list", Event("list_developers")),
    ("developer resume", Event("resume_developer")),
    ("developer suspend", Event("suspend_developer")),
    (
        "doctor",
        Nothing("it shows what works, and nothing that is stored"),
    ),
    (
        "grant mint",
        Nothing("a development issuer's key is no key of the vault"),
    ),
    ("grant revocations", Event("list_revocations")),
    ("grant revoke", Event("revoke_grant")),
    ("health", Nothing("it asks what anybody may ask")),
    ("import grantex", Event("import")),
    ("keyring add-key", Event("add_keyring_key")),
    (
        "keyring create",
        Nothing("nothing is under a key that is new"),
    ),
    (
        "keyring list",
        Nothing("it shows identities, which are no secret"),
    ),
    ("keyring remove-key", Event("remove_keyring_key")),
    ("keyring set-primary", Event("set_keyring_primary")),
    ("master-key reencrypt", Event("reencrypt")),
    ("master-key retire", Event("retire_master_key")),
    ("master-key rewrap", Event("rewrap")),
    ("master-key status", Event("show_master_keys")),
    ("master-key verify", Event("verify_credentials")),
    (
        "migrate",
        Nothing("there may be no record yet; the schema's history has it"),
    ),
    ("serve", Nothing("it records what is asked of it")),
    ("token revoke", Event("revoke_token")),
    ("webhook-secret list", Event("list_webhook_secrets")),
    ("webhook-secret remove", Event("remove_webhook_secret")),
    ("webhook-secret set", Event("set_webhook_secret")),
];

/// The commands that do something, by their whole names.
fn leaves(command: &clap::Command, names: &str, found: &mut Vec<String>) {
    let mut subcommands = command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help");
    match subcommands.next() {
        None => found.push(names.trim().to_owned()),
        Some(first) => {
            for sub in std::iter::once(first).chain(subcommands) {
                leaves(sub, &format!("{names} {}", sub.get_name()), found);
            }
        }
    }
}

#[test]
fn every_command_has_an_event_or_a_reason_why_not() {
    let mut found = Vec::new();
    leaves(&grantex_vault::cli::command(), "", &mut found);
    found.sort();
    let listed: Vec<_> = COMMANDS
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    assert_eq!(found, listed);
    for (name, record) in COMMANDS {
        if let Nothing(reason) = record {
            assert!(reason.len() > 10, "{name}");
        }
    }
}

/// What runs of the commands whose work is recorded before it begins: what they are given beside the
/// instance.
const BEGUN: [(&str, &[&str]); 12] = [
    ("audit prune", &["--before", "2000-01-01T00:00:00Z"]),
    ("audit list", &[]),
    ("audit export", &[]),
    ("keyring add-key", &[]),
    ("keyring set-primary", &["2"]),
    ("master-key status", &[]),
    ("master-key verify", &[]),
    ("master-key rewrap", &[]),
    ("master-key reencrypt", &["--all"]),
    ("keyring remove-key", &["1"]),
    ("master-key verify", &["--sample", "1"]),
    ("audit list", &["--limit", "1"]),
];

#[tokio::test]
async fn what_an_operator_does_at_a_command_line_is_in_the_record() {
    let directory = instance_directory();
    // Sealed at once, so that there is something to export.
    let dev = Dev::start(
        directory.path(),
        &[("GRANTEX_VAULT_AUDIT_SEAL_INTERVAL", "50ms")],
    )
    .await;
    let at = ["--data-dir", directory.path().to_str().unwrap()];
    let events = || -> Vec<Value> {
        let listed = run(&[&["audit", "list", "--limit", "10000"], &at[..]].concat());
        let text = String::from_utf8(listed.stdout).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    };
    let count = |verb: &str| {
        events()
            .iter()
            .filter(|event| event["verb"] == verb)
            .count()
    };
    let verbs: BTreeMap<&str, &str> = COMMANDS
        .iter()
        .filter_map(|(name, record)| match record {
            Event(verb) => Some((*name, *verb)),
            Nothing(_) => None,
        })
        .collect();
    for (name, arguments) in BEGUN {
        let verb = verbs[name];
        let before = count(verb);
        let words: Vec<&str> = name.split(' ').collect();
        let output = run(&[&words[..], arguments, &at].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
        // The look before this one was recorded after it had read.
        let own = usize::from(verb == "list_audit_events");
        assert_eq!(count(verb), before + 1 + own, "{name}");
    }
    assert_eq!(count("retire_master_key"), 1, "before its key was removed");
    let primary = events()
        .iter()
        .find(|event| event["verb"] == "set_keyring_primary")
        .cloned();
    let subject = primary.unwrap()["subject"].as_str().unwrap().to_owned();
    assert!(subject.ends_with("/2"), "{subject}");
    drop(dev);
}

#[tokio::test]
async fn a_keyring_is_changed_without_a_record_only_when_that_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keyring.json");
    let file = file.to_str().unwrap();
    let output = run(&["keyring", "create", file]);
    assert!(output.status.success());
    let before = std::fs::read(file).unwrap();
    for words in [&["add-key"][..], &["set-primary", "1"]] {
        let refused = run(&[&["keyring"], words, &[file]].concat());
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success(), "{words:?}");
        assert!(
            said.contains("DATABASE_URL") && said.contains("--unrecorded"),
            "{said}"
        );
        assert_eq!(std::fs::read(file).unwrap(), before);
    }
    let output = run(&["keyring", "add-key", file, "--unrecorded"]);
    assert!(output.status.success());
    assert_ne!(std::fs::read(file).unwrap(), before);
}
