//! Every statement that serves a request names its developer: tenants are kept apart by Postgres, and
//! the tables can be distributed by `developer_id`.

use std::{fs, path::Path};

/// Files whose statements serve no request, and whose they are.
const NO_REQUESTS: [(&str, &str); 13] = [
    ("audit_look", "operators read everybody's events"),
    (
        "audit_order",
        "seals and proofs are of all developers' events",
    ),
    (
        "audit_partitions",
        "partitions are of all developers' events",
    ),
    ("audit_seals", "seals are of all developers' events"),
    ("developers", "operators list, make and delete developers"),
    ("diagnosis", "doctor looks at the database as a whole"),
    ("grantex_source", "an import reads another vault's database"),
    (
        "imports",
        "an import writes by developer, and reads what it wrote",
    ),
    ("master_keys", "a master key is of all developers"),
    (
        "rotation",
        "a rotation goes over all rows, by their primary key",
    ),
    ("schema", "the schema as a whole"),
    ("serving_role", "the privileges of a role"),
    ("writers", "who is writing, whoever it is for"),
];

/// Statements beside those, by the functions that they stand in.
const EXCEPTIONS: [(&str, &str); 4] = [
    (
        "Store::key_owner",
        "it finds the developer, by the hash of a key",
    ),
    (
        "Store::prune_revocations",
        "nobody's request: what expired is forgotten",
    ),
    (
        "Store::webhook_secret_keys",
        "a rotation goes over all rows",
    ),
    (
        "Transaction::revoke_api_key",
        "operators revoke a key by its id",
    ),
];

/// A statement, and where it stands.
struct Statement {
    file: String,
    function: String,
    sql: String,
}

/// The function that a comment before a statement names.
fn function_of(line: &str) -> Option<&str> {
    let name = line.trim().strip_prefix("// ")?;
    let (owner, function) = name.split_once("::")?;
    let is_name = |text: &str| text.chars().all(|c| c.is_alphanumeric() || c == '_');
    (is_name(owner) && is_name(function)).then_some(name)
}

/// All statements of the store: each stands after a comment that names its function.
fn statements() -> Vec<Statement> {
    let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let mut found = Vec::new();
    for entry in fs::read_dir(store).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let file = path.file_stem().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let Some(function) = function_of(line) else {
                continue;
            };
            let mut sql = Vec::new();
            for line in lines.by_ref() {
                let line = line.trim();
                if !line.starts_with("//") {
                    sql.push(line);
                }
                if line.ends_with(';') || line.ends_with("};") {
                    break;
                }
            }
            found.push(Statement {
                file: file.to_owned(),
                function: function.to_owned(),
                sql: sql.join(" "),
            });
        }
    }
    found
}

/// Whether it compares the developer with the one that asks (one of them, where several ask together), or
/// inserts it.
fn names_its_developer(sql: &str) -> bool {
    let compares =
        sql.contains("developer_id = $") || sql.contains("developer_id = asked.developer_id");
    let inserts = sql
        .split_once("insert into")
        .and_then(|(_, rest)| rest.split_once('('))
        .and_then(|(_, rest)| rest.split_once(')'))
        .is_some_and(|(columns, _)| columns.contains("developer_id"));
    compares || inserts
}

#[test]
fn every_statement_that_serves_a_request_names_its_developer() {
    let statements = statements();
    assert!(statements.len() > 60, "they are found");
    let serves = |statement: &&Statement| {
        let file = |(file, _): &(&str, &str)| *file == statement.file;
        !NO_REQUESTS.iter().any(file)
    };
    let serving: Vec<_> = statements.iter().filter(serves).collect();
    for known in [
        "Store::credential_for_exchange",
        "Connection::write_credential",
        "conditional_events::append",
    ] {
        assert!(serving.iter().any(|statement| statement.function == known));
    }
    for Statement { function, sql, .. } in &serving {
        let excepted = EXCEPTIONS.iter().any(|(name, _)| name == function);
        assert!(excepted || names_its_developer(sql), "{function}: {sql}");
    }
    // A list that nobody needs any more would hide the next one.
    for (name, _) in EXCEPTIONS {
        let mut of_it = serving
            .iter()
            .filter(|statement| statement.function == name);
        assert!(
            of_it.any(|statement| !names_its_developer(&statement.sql)),
            "{name}"
        );
    }
    for (file, _) in NO_REQUESTS {
        assert!(
            statements.iter().any(|statement| statement.file == file),
            "{file}"
        );
    }
}

/// Whether it changes what is in a table of ours, or has a function do it that acts for the owner.
fn writes(sql: &str) -> bool {
    const WRITING: [&str; 5] = [
        "insert into vault.",
        "update vault.",
        "delete from vault.",
        "vault.begin_audit_era()\"",
        "vault.make_audit_partitions",
    ];
    WRITING.iter().any(|words| sql.contains(words))
}

/// Statements whose transaction is not of the vault's making, and why they may be.
const COMMITTED_OTHERWISE: [(&str, &str); 2] = [
    (
        "schema::ensure_era",
        "a connection sets it before it is used",
    ),
    (
        "serving_role::missing",
        "it names functions, and calls none",
    ),
];

#[test]
fn every_statement_that_writes_on_its_own_commits_durably_by_its_own_word() {
    let statements = statements();
    let writing = statements.iter().filter(|one| writes(&one.sql));
    let mut seen = 0;
    for Statement { function, sql, .. } in writing {
        seen += 1;
        // A transaction says it when it begins.
        let of_transaction = function.starts_with("Transaction::");
        let excepted = COMMITTED_OTHERWISE.iter().any(|(name, _)| name == function);
        let by_itself = ["durably!()", "insert_sql!("]
            .iter()
            .any(|words| sql.contains(words));
        assert!(of_transaction || excepted || by_itself, "{function}: {sql}");
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn every_statement_that_writes_credentials_for_a_developer_asks_whether_its_key_is_valid() {
    let statements = statements();
    let by_developers = ["credentials", "credential_writes"];
    let writing = statements.iter().filter(|one| {
        let of_credentials =
            one.sql.contains("vault.credentials") || one.sql.contains("insert_sql!(");
        let writes = writes(&one.sql) || one.sql.contains("insert_sql!(");
        by_developers.contains(&&*one.file) && of_credentials && writes
    });
    let mut seen = 0;
    for Statement { function, sql, .. } in writing {
        seen += 1;
        let asks = ["key_is_valid_sql!(", "insert_sql!("];
        assert!(
            asks.iter().any(|words| sql.contains(words)),
            "{function}: {sql}"
        );
    }
    assert_eq!(
        seen, 4,
        "the insert, the two stores that it is of, and a delete"
    );
}

/// Whether it writes only if the rows of others say that it may.
fn writes_if_it_may(sql: &str) -> bool {
    const ASKS: [&str; 3] = ["state = 'retired'", "key_is_valid_sql!(", "revoked_sql!("];
    writes(sql) && ASKS.iter().any(|words| sql.contains(words))
}

#[test]
fn every_statement_that_writes_if_it_may_makes_sure_that_its_snapshot_is_not_older_than_its_locks()
{
    let statements = statements();
    let asking = statements.iter().filter(|one| writes_if_it_may(&one.sql));
    let mut seen = 0;
    for Statement { function, sql, .. } in asking {
        seen += 1;
        // A transaction begins with its isolation level.
        let of_transaction = function.starts_with("Transaction::");
        let by_itself = sql.contains("read_committed!()");
        assert!(of_transaction || by_itself, "{function}: {sql}");
    }
    assert!(seen > 8, "{seen}");
}
