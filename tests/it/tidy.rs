//! The house: which room may know which. `ARCHITECTURE.md` says why.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What each room may import of ours; who is not named may import anything.
const ROOMS: [(&str, &[&str]); 27] = [
    ("model", &[]),
    ("clock", &["model"]),
    ("metrics", &["model"]),
    ("underway", &["model"]),
    ("permits", &[]),
    ("limits", &["model", "clock", "metrics", "permits"]),
    ("health", &["model", "clock"]),
    ("shutdown", &[]),
    ("telemetry", &["proxies"]),
    ("memory", &[]),
    ("descriptors", &[]),
    ("auth", &["model", "clock", "proxies"]),
    ("files", &[]),
    ("proxies", &[]),
    (
        "envelope",
        &["model", "clock", "metrics", "underway", "files", "proxies"],
    ),
    ("store", &["model", "clock", "metrics", "underway"]),
    (
        "audit",
        &[
            "model", "clock", "metrics", "underway", "health", "pace", "envelope", "store",
        ],
    ),
    (
        "vault",
        &[
            "model", "clock", "metrics", "underway", "permits", "limits", "auth", "envelope",
            "store", "audit",
        ],
    ),
    ("pace", &[]),
    ("rotation", &["model", "clock", "pace", "envelope", "store"]),
    ("import", &["model", "pace", "envelope", "store"]),
    (
        "operator",
        &[
            "model", "clock", "limits", "auth", "envelope", "store", "audit", "rotation",
        ],
    ),
    (
        "grpc",
        &["model", "clock", "permits", "vault", "operator", "auth"],
    ),
    ("gateway", &["model", "clock", "vault"]),
    (
        "listener",
        &[
            "model", "clock", "metrics", "underway", "permits", "shutdown",
        ],
    ),
    ("admin", &["health", "metrics"]),
    // Values are checked by the rooms that they are for.
    (
        "config",
        &[
            "model",
            "auth",
            "store",
            "limits",
            "listener",
            "telemetry",
            "proxies",
        ],
    ),
];

/// Rooms at the top, which put the others together.
const TOP: [&str; 6] = ["app", "cli", "dev", "doctor", "main", "lib"];

/// Crates that belong to some rooms only.
const CRATES: [(&str, &[&str]); 24] = [
    ("tonic", &["grpc", "app", "telemetry"]),
    ("tonic_health", &["grpc"]),
    ("tonic_reflection", &["grpc"]),
    ("prost_types", &["grpc"]),
    ("flate2", &["grpc"]),
    ("axum", &["gateway", "admin", "grpc", "app", "dev"]),
    ("opentelemetry_sdk", &["metrics", "telemetry", "listener"]),
    ("prometheus", &["metrics"]),
    ("governor", &["limits"]),
    ("moka", &["envelope", "limits"]),
    ("quick_cache", &["auth", "store", "vault"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("tracing_opentelemetry", &["listener", "telemetry"]),
    ("utoipa", &["gateway"]),
    ("utoipa_swagger_ui", &["gateway"]),
    ("jsonwebtoken", &["auth", "dev"]),
    ("reqwest", &["auth", "cli", "telemetry"]),
    ("aws_lc_rs", &["envelope", "auth", "dev"]),
    ("aws_sdk_kms", &["envelope"]),
    ("deadpool_postgres", &["store"]),
    ("clap", &["cli"]),
    ("rustls", &["listener", "store", "envelope", "dev"]),
    ("tokio_rustls", &["listener"]),
    ("x509_parser", &["listener"]),
];

/// The most lines of a file, tests apart.
const MAX_LINES: usize = 500;

struct SourceFile {
    path: PathBuf,
    room: String,
    /// Without comments and without the tests at its end.
    code: String,
}

fn sources() -> Vec<SourceFile> {
    let source = Path::new(ROOT).join("src");
    let mut folders = vec![source.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let first = path
                    .strip_prefix(&source)
                    .unwrap()
                    .components()
                    .next()
                    .unwrap();
                let first = first.as_os_str().to_str().unwrap();
                let room = first.trim_end_matches(".rs").to_owned();
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("\n#[cfg(test)]").next().unwrap_or_default();
                let is_code = |line: &&str| !line.trim_start().starts_with("//");
                let code = code.lines().filter(is_code).collect::<Vec<_>>().join("\n");
                found.push(SourceFile { path, room, code });
            }
        }
    }
    found
}

/// The rooms after each `crate::`, one or many in braces.
fn imports(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => rooms.extend(first_name(rest)),
            Some(group) => rooms.extend(names_of_group(group)),
        }
    }
    rooms
}

fn first_name(text: &str) -> Option<String> {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    text.get(..end)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}

fn names_of_group(group: &str) -> Vec<String> {
    let (mut depth, mut item, mut names) = (0_usize, String::new(), Vec::new());
    for letter in group.chars() {
        match letter {
            '}' if depth == 0 => break,
            ',' if depth == 0 => names.extend(first_name(std::mem::take(&mut item).trim())),
            '{' => depth += 1,
            '}' => depth -= 1,
            _ if depth == 0 => item.push(letter),
            _ => {}
        }
    }
    names.extend(first_name(item.trim()));
    names
}

#[test]
fn rooms_import_what_the_table_allows() {
    let mut seen = BTreeSet::new();
    for file in sources() {
        seen.insert(file.room.clone());
        let Some((_, allowed)) = ROOMS.iter().find(|(room, _)| *room == file.room) else {
            assert!(
                TOP.contains(&file.room.as_str()),
                "{} is in no table",
                file.room
            );
            continue;
        };
        for import in imports(&file.code) {
            let fine = import == file.room || allowed.contains(&import.as_str());
            assert!(fine, "{} may not import {import}", file.path.display());
        }
    }
    for (room, _) in ROOMS {
        assert!(seen.contains(room), "{room} is in the table but not in src");
    }
}

#[test]
fn crates_stay_in_the_rooms_that_own_them() {
    for file in sources() {
        for (name, owners) in CRATES {
            let used = file
                .code
                .match_indices(&format!("{name}::"))
                .any(|(at, _)| {
                    let before = file.code[..at].chars().next_back();
                    before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
                });
            let fine = !used || owners.contains(&file.room.as_str());
            assert!(fine, "{} may not use {name}", file.path.display());
        }
    }
}

#[test]
fn the_aws_sdk_and_sql_stand_in_one_place_each() {
    for file in sources() {
        let path = file
            .path
            .strip_prefix(ROOT)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let aws = file.code.contains("aws_sdk_kms") || file.code.contains("aws_config");
        assert!(
            !aws || path.starts_with("src/envelope/aws_kms"),
            "{path} knows the AWS SDK"
        );
        let sql = file.code.contains("tokio_postgres::");
        let private_server = path.starts_with("src/dev/postgres");
        assert!(
            !sql || file.room == "store" || private_server,
            "{path} speaks to Postgres"
        );
    }
}

#[test]
fn files_are_small_and_well_named() {
    for file in sources() {
        let lines = file.code.lines().count();
        assert!(
            lines <= MAX_LINES,
            "{} has {lines} lines: split it",
            file.path.display()
        );
        let name = file.path.file_stem().unwrap().to_str().unwrap();
        let vague = [
            "mod", "util", "utils", "common", "helpers", "misc", "core", "types",
        ];
        assert!(
            !vague.contains(&name),
            "{} says nothing",
            file.path.display()
        );
    }
}

#[test]
fn every_file_opens_with_what_it_is() {
    for file in sources() {
        let text = fs::read_to_string(&file.path).unwrap();
        assert!(
            text.starts_with("//! "),
            "{} does not say what it is",
            file.path.display()
        );
    }
}
