//! What a file proves to whoever has it, and what exit codes say of a check.

use std::{fs, path::Path, process::Output};

use super::command_line::Instance;
use crate::harness::{Cluster, connect, run, run_with};

/// An export of an instance, and the key and the anchor to check it with.
struct Export {
    instance: Instance,
    events: String,
    anchor: String,
}

impl Export {
    async fn make() -> Self {
        let instance = Instance::start().await;
        for _ in 0..3 {
            instance.exchange().await;
        }
        instance.all_sealed().await;
        let (_, said, _) = instance.audit(&["verify"]);
        let anchor = said
            .lines()
            .find_map(|line| line.strip_prefix("last seal "));
        let anchor = anchor.unwrap().to_owned();
        let (well, events, _) = instance.audit(&["export"]);
        assert!(well);
        let (_, pem, _) = instance.audit(&["public-key"]);
        fs::write(instance.file("vault.pem"), pem).unwrap();
        Self {
            instance,
            events,
            anchor,
        }
    }

    /// Checks a file of this content.
    fn check(&self, content: &str, more: &[&str]) -> (Option<i32>, String) {
        let (key, file) = (
            self.instance.file("vault.pem"),
            self.instance.file("events"),
        );
        fs::write(&file, content).unwrap();
        let command = ["audit", "verify-file", "--public-key", &key, &file];
        said(&run(&[&command, more].concat()))
    }
}

/// The exit code, and everything that was printed.
fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn a_file_that_proves_nothing_or_not_all_that_was_exported_is_said_to() {
    let export = Export::make().await;
    let lines: Vec<&str> = export.events.lines().collect();
    let without = |which: &[usize]| {
        let kept = lines.iter().enumerate();
        let kept = kept.filter(|(at, _)| !which.contains(at));
        let kept: Vec<String> = kept.map(|(_, line)| format!("{line}\n")).collect();
        kept.concat()
    };
    let (code, text) = export.check(&export.events, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("4 events of "), "{text}");
    let event = lines.iter().position(|line| line.starts_with("{\"event\""));
    let last = lines.len() - 1;
    for (name, content) in [
        ("an empty file", String::new()),
        ("white space", "\n".to_owned()),
        ("no events", without(&(0..last).collect::<Vec<_>>())),
        ("no end", without(&[last])),
        ("one event is missing", without(&[event.unwrap()])),
        ("the last event and the end", without(&[last - 1, last])),
        ("twice", export.events.repeat(2)),
        (
            "more after the end",
            format!("{}{}\n", export.events, lines[0]),
        ),
        (
            "another count",
            export.events.replace("\"leftOut\":0", "\"leftOut\":1"),
        ),
    ] {
        assert_ne!(content, export.events, "{name}");
        let (code, text) = export.check(&content, &[]);
        assert_eq!(code, Some(1), "{name}: {text}");
    }
    // Of a developer who has no events the file says so, and proves no event. The export itself is one.
    let of_nobody = ["export", "--developer", "nobody", "--to", "2020-01-01"];
    let (well, of_nobody, _) = export.instance.audit(&of_nobody);
    assert!(well);
    let (code, text) = export.check(&of_nobody, &[]);
    assert_eq!(code, Some(1), "{text}");
}

#[tokio::test]
async fn an_export_of_a_record_that_lost_events_is_said_not_to_be_whole() {
    let export = Export::make().await;
    let instance = &export.instance;
    let (_, text) = export.check(&export.events, &[]);
    assert!(text.contains("they are all that was asked for"), "{text}");
    let lost = "delete from vault.audit_events where outcome = 'stored'";
    instance.execute(lost).await;
    let (code, file, complaint) = instance.audit_with_code(&["export"]);
    assert_eq!(code, Some(1), "{complaint}");
    let loud = "1 sealed events are left out, because they are gone or not as they were sealed";
    assert!(complaint.contains(loud), "{complaint}");
    let (code, text) = export.check(&file, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(!text.contains("they are all"), "{text}");
    assert!(text.contains("NOT all that was asked for"), "{text}");
    // Nor is it when none of them are left.
    let (code, file, _) = instance.audit_with_code(&["export", "--developer", "nobody"]);
    assert_eq!(code, Some(1), "{file}");
    let (code, text) = export.check(&file, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("NOT all that was asked for"), "{text}");
}

#[tokio::test]
async fn an_anchor_finds_an_export_of_a_record_that_was_cut_off() {
    let export = Export::make().await;
    let Export {
        instance, anchor, ..
    } = &export;
    let (code, text) = export.check(&export.events, &["--anchor", anchor]);
    assert_eq!(code, Some(0), "{text}");
    let (number, hash) = anchor.split_once(':').unwrap();
    let (first, rest) = hash.split_at(1);
    let other = if first == "0" { "1" } else { "0" };
    let wrong = format!("{number}:{other}{rest}");
    let (code, text) = export.check(&export.events, &["--anchor", &wrong]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("is not the one of the anchor"), "{text}");
    let later = format!("{}:{hash}", number.parse::<u64>().unwrap() + 1000);
    let (code, text) = export.check(&export.events, &["--anchor", &later]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("the anchor is of a later seal"), "{text}");

    // A seal without an event that was asked for is not in the file, unless it is asked for.
    let key = instance.dev.get("apiKey");
    let body = serde_json::json!({"principalId": "p", "service": "slack", "accessToken": "t"});
    assert_eq!(instance.post("", key, body).await, 201);
    instance.all_sealed().await;
    let nobodys = ["export", "--to", "2020-01-01"];
    let (_, none, _) = instance.audit(&nobodys);
    let (code, text) = export.check(&none, &["--anchor", anchor]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("not in this file"), "{text}");
    let (well, with_it, _) = instance.audit(&["export", "--anchor", anchor]);
    assert!(well && with_it.contains(&format!("\"number\":{number},")));
    let (code, text) = export.check(&with_it, &["--anchor", anchor]);
    assert_eq!(code, Some(0), "{text}");
    let (well, _, complaint) = instance.audit(&["export", "--anchor", &wrong]);
    assert!(!well && complaint.contains("anchor"), "{complaint}");
}

#[tokio::test]
async fn exit_codes_tell_findings_from_unusable_input_and_from_a_database_that_is_away() {
    let export = Export::make().await;
    let key = export.instance.file("vault.pem");
    let events = export.instance.file("events");
    let garbage = export.instance.file("garbage");
    fs::write(&events, &export.events).unwrap();
    fs::write(&garbage, "no key").unwrap();
    let check =
        |key: &str, file: &str| said(&run(&["audit", "verify-file", "--public-key", key, file])).0;
    assert_eq!(check(&key, &events), Some(0));
    assert_eq!(
        check(&key, &garbage),
        Some(1),
        "it has lines that prove nothing"
    );
    assert_eq!(check(&key, "/does/not/exist"), Some(2));
    assert_eq!(check("/does/not/exist", &events), Some(2));
    assert_eq!(check(&garbage, &events), Some(2));
    let bad = [
        "audit",
        "verify-file",
        "--public-key",
        &key,
        &events,
        "--anchor",
        "x",
    ];
    assert_eq!(run(&bad).status.code(), Some(2));

    let away = "postgres://vault@127.0.0.1:1/vault?sslmode=disable";
    let missing = Path::new("/does/not/exist").display().to_string();
    let none = Cluster::shared().await.database().await;
    let changed = Cluster::shared().await.database().await;
    let stray = "insert into vault.audit_events (developer_id, id, outcome, canonical, xid)
        values ('acme', '01ARZ3NDEKTSV4RRFFQ69G5FAV', 'read', '', '18446744073709551615')";
    connect(&changed).await.batch_execute(stray).await.unwrap();
    for (arguments, url, code) in [
        (vec!["verify", "--public-key", &key], away, 3),
        (vec!["list"], away, 3),
        (vec!["export", "--public-key", &missing], away, 2),
        (vec!["verify", "--public-key", &missing], away, 2),
        (vec!["verify", "--public-key", &garbage], away, 2),
        (vec!["verify", "--public-key", &key], "mysql://nowhere", 2),
        (vec!["verify", "--public-key", &key], &none, 1),
        (vec!["verify", "--public-key", &key], &changed, 1),
    ] {
        let command = [&["audit"][..], &arguments].concat();
        let output = run_with(&command, &[("DATABASE_URL", url)]);
        let (found, text) = said(&output);
        assert_eq!(found, Some(code), "{arguments:?} at {url}: {text}");
    }
}
