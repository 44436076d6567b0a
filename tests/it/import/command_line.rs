//! `grantex-vault import grantex`: killed and run again, its exit codes, and what it shows and keeps.

use std::process::{Command, Output};

use rustix::process::Signal;

use super::source::{CANARY, KEY, Row, Source, encrypted, id};
use crate::harness::{Cluster, Process, connect, print, run_with, until};

const IMPORT: [&str; 2] = ["import", "grantex"];

/// A source, an empty vault, a keyring, and the operator's environment.
struct Operator {
    directory: tempfile::TempDir,
    source: Source,
    url: String,
    sql: tokio_postgres::Client,
}

impl Operator {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let keyring = directory.path().join("keyring");
        print(&["keyring", "create", keyring.to_str().unwrap()]);
        let url = Cluster::shared().await.database().await;
        Self {
            directory,
            source: Source::new().await,
            sql: connect(&url).await,
            url,
        }
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let keyring = self.directory.path().join("keyring");
        vec![
            ("DATABASE_URL", self.url.clone()),
            (
                "GRANTEX_VAULT_MASTER_KEY",
                format!("local:{}", keyring.display()),
            ),
            ("GRANTEX_VAULT_IMPORT_SOURCE", self.source.url.clone()),
            ("GRANTEX_VAULT_IMPORT_KEY", KEY.to_owned()),
        ]
    }

    fn start(&self, arguments: &[&str]) -> Process {
        let variables = self.environment();
        let variables: Vec<_> = variables.iter().map(|(k, v)| (*k, v.as_str())).collect();
        Process::start(&[&IMPORT, arguments].concat(), &variables)
    }

    /// Runs it with some variables changed, or taken away when they are empty.
    fn say_with(&self, arguments: &[&str], changed: &[(&str, &str)]) -> (bool, String) {
        let variables = self.environment();
        let mut variables: Vec<_> = variables.iter().map(|(k, v)| (*k, v.as_str())).collect();
        variables.retain(|(name, _)| changed.iter().all(|(other, _)| other != name));
        variables.extend(changed.iter().filter(|(_, value)| !value.is_empty()));
        let Output {
            status,
            stdout,
            stderr,
        } = run_with(&[&IMPORT, arguments].concat(), &variables);
        let said = [stdout, stderr].map(|said| String::from_utf8(said).unwrap());
        let said = said.concat();
        for secret in [CANARY, KEY, "password-3f1b"] {
            assert!(!said.contains(secret), "{said}");
        }
        (status.success(), said)
    }

    fn say(&self, arguments: &[&str]) -> (bool, String) {
        self.say_with(arguments, &[])
    }

    async fn count(&self, table: &str) -> i64 {
        let sql = format!("select count(*) from vault.{table}");
        self.sql.query_one(&sql, &[]).await.unwrap().get(0)
    }
}

#[tokio::test]
async fn a_run_that_is_killed_is_finished_by_the_next_one() {
    let operator = Operator::new().await;
    operator.source.fill(1200).await;
    let mut killed = operator.start(&["--max-per-second", "300"]);
    until("some are imported", async || {
        operator.count("credentials").await > 100
    })
    .await;
    killed.signal(Signal::KILL);
    assert!(!killed.end().await.success());
    // Postgres may still commit what it was sent before.
    until("its connections have ended", async || {
        let others = "select count(*) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid()
              and backend_type = 'client backend'";
        let others = operator.sql.query_one(others, &[]).await.unwrap();
        others.get::<_, i64>(0) == 0
    })
    .await;
    let done = operator.count("credentials").await;
    assert!(done < 1200, "it was killed in the middle");
    assert_eq!(operator.count("imports").await, done);
    let (success, said) = operator.say(&[]);
    let rest = format!(
        "imported {}, 0 of them with a remark, unchanged {done},",
        1200 - done
    );
    assert!(success && said.contains(&rest), "{said}");
    assert!(said.contains("100%, 1200 of 1200 looked at"), "{said}");
    assert_eq!(operator.count("credentials").await, 1200);
    let events = operator.count("audit_events").await;
    assert_eq!(events, 2, "each run that writes is recorded");
    let (success, said) = operator.say(&[]);
    assert!(success && said.contains("imported 0,"), "{said}");

    let variables = operator.environment();
    let variables: Vec<_> = variables.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let verified = run_with(&["master-key", "verify"], &variables);
    let said = String::from_utf8(verified.stdout).unwrap();
    assert!(said.contains("1200 of 1200 open"), "{said}");
}

#[tokio::test]
async fn the_exit_code_says_whether_anything_was_lost() {
    let operator = Operator::new().await;
    operator.source.fill(2).await;
    let (success, said) = operator.say_with(&["--dry-run"], &[("GRANTEX_VAULT_MASTER_KEY", "")]);
    let nothing = "would import 2, 0 of them with a remark, unchanged 0, kept as the vault has them 0, \
                   lost 0 (a dry run: nothing was written)";
    assert!(success && said.contains(nothing), "{said}");
    let wrong = [("GRANTEX_VAULT_IMPORT_KEY", &*"7".repeat(64))];
    for arguments in [&[][..], &["--dry-run"]] {
        let (success, said) = operator.say_with(arguments, &wrong);
        assert!(!success && said.contains("2 rows were lost"), "{said}");
        for number in [1, 2] {
            let line = format!("{}\tlost: access_token: does not decrypt", id(number));
            assert!(said.contains(&line), "{said}");
        }
    }
    assert_eq!(operator.count("credentials").await, 0);
    let left_behind = Row {
        id: id(3),
        metadata: "[]",
        ..Row::default()
    };
    operator.source.insert(left_behind).await;
    let (success, said) = operator.say(&["--developers"]);
    let remark = format!("{}\timported with metadata {{}}", id(3));
    assert!(success && said.contains(&remark), "{said}");
    assert!(
        said.contains("imported 3, 1 of them with a remark"),
        "{said}"
    );
    assert!(said.contains("developers: imported 0"), "{said}");
}

#[tokio::test]
async fn what_is_missing_or_wrong_is_said_by_name_and_never_shown() {
    let operator = Operator::new().await;
    for (changed, says) in [
        (
            ("GRANTEX_VAULT_IMPORT_SOURCE", ""),
            "GRANTEX_VAULT_IMPORT_SOURCE is required",
        ),
        (
            ("GRANTEX_VAULT_IMPORT_KEY", ""),
            "GRANTEX_VAULT_IMPORT_KEY is required",
        ),
        (
            ("GRANTEX_VAULT_IMPORT_KEY", CANARY),
            "GRANTEX_VAULT_IMPORT_KEY must be 64 hex",
        ),
        (
            ("GRANTEX_VAULT_MASTER_KEY", ""),
            "GRANTEX_VAULT_MASTER_KEY is required",
        ),
        (("DATABASE_URL", ""), "DATABASE_URL is required"),
        (
            (
                "GRANTEX_VAULT_IMPORT_SOURCE",
                "mysql://u:password-3f1b@db/x",
            ),
            "GRANTEX_VAULT_IMPORT_SOURCE must be a postgres:// URL",
        ),
        (
            (
                "GRANTEX_VAULT_IMPORT_SOURCE",
                "postgres://u:password-3f1b@127.0.0.1:1/x",
            ),
            "the source cannot be reached",
        ),
        // Not the TypeScript vault's.
        (
            ("GRANTEX_VAULT_IMPORT_SOURCE", &operator.url),
            "the source cannot be read: 42P01",
        ),
    ] {
        let (success, said) = operator.say_with(&[], &[changed]);
        assert!(!success && said.contains(says), "{said}");
    }
    assert!(!operator.say(&["--key", KEY.trim_start_matches('0')]).0);
    let flag = ["--source", operator.source.url.as_str()];
    let (success, said) = operator.say_with(&flag, &[("GRANTEX_VAULT_IMPORT_SOURCE", "")]);
    assert!(success, "{said}");
    let file = operator.directory.path().join("key");
    std::fs::write(&file, format!("{KEY}\n")).unwrap();
    let from_file = [
        ("GRANTEX_VAULT_IMPORT_KEY", ""),
        ("GRANTEX_VAULT_IMPORT_KEY_FILE", file.to_str().unwrap()),
    ];
    let (success, said) = operator.say_with(&[], &from_file);
    assert!(success, "{said}");
}

#[tokio::test]
async fn the_source_may_be_one_that_only_reads() {
    let operator = Operator::new().await;
    operator.source.fill(1).await;
    let role = format!("reader_{}", uuid::Uuid::new_v4().simple());
    operator
        .source
        .execute(&format!(
            "create role {role} login; grant select on public.vault_credentials to {role}"
        ))
        .await;
    let url = operator
        .source
        .url
        .replace("user=postgres", &format!("user={role}"));
    let reader = [("GRANTEX_VAULT_IMPORT_SOURCE", url.as_str())];
    let (success, said) = operator.say_with(&[], &reader);
    assert!(success && said.contains("imported 1,"), "{said}");
    let (success, said) = operator.say_with(&["--developers"], &reader);
    assert!(
        !success && said.contains("the source cannot be read: 42501"),
        "{said}"
    );
}

#[tokio::test]
async fn no_token_is_in_the_files_of_the_vaults_database() {
    // Of its own: whatever the others write is not looked through.
    let cluster = Cluster::start().await;
    let mut operator = Operator::new().await;
    operator.url = cluster.database().await;
    operator.sql = connect(&operator.url).await;
    operator.source.fill(20).await;
    let (success, said) = operator.say(&[]);
    assert!(success && !said.contains(CANARY), "{said}");
    operator.sql.batch_execute("checkpoint").await.unwrap();
    let directory = operator.sql.query_one("show data_directory", &[]).await;
    let directory: String = directory.unwrap().get(0);
    let found = |text: &str| {
        let mut grep = Command::new("grep");
        grep.args(["--recursive", "--text", "--quiet", "--fixed-strings", text]);
        let status = grep.arg(&directory).status().expect("grep runs");
        status.code().expect("it ends by itself")
    };
    assert_eq!(found("user-20"), 0, "the files have the rows");
    assert_eq!(found(CANARY), 1);
    assert_eq!(found(&KEY[..32]), 1);
}

#[tokio::test]
async fn memory_does_not_grow_with_the_source() {
    /// Of 130 KiB each.
    const ROWS: i64 = 600;
    const MOST_KIB: u64 = 60 * 1024;
    let operator = Operator::new().await;
    let token = encrypted(&CANARY.repeat(2500));
    operator
        .source
        .execute(&format!(
            "insert into public.vault_credentials
             select 'vault_' || lpad(n::text, 26, '0'), 'acme', 'user-' || n, 'github', 'oauth2',
                '{token}', '{token}', null,
                to_jsonb('{{\"a\":\"' || repeat(n::text || ' ', 8000) || '\"}}'), now(), now()
             from generate_series(1, {ROWS}) n"
        ))
        .await;
    let mut running = operator.start(&[]);
    until("nearly all are imported", async || {
        operator.count("imports").await > ROWS - 50
    })
    .await;
    let most = running.memory("VmHWM:");
    assert!(running.end().await.success(), "{}", running.log());
    assert_eq!(operator.count("credentials").await, ROWS);
    assert!(most < MOST_KIB, "{most} KiB");
}

#[tokio::test]
async fn a_source_that_is_more_than_plain_tables_is_refused_before_it_is_read() {
    let code = "
        create table public.ran ();
        create function public.code(text) returns text language plpgsql volatile as $$
            begin insert into public.ran default values; return $1; end $$;";
    for (change, says) in [
        (
            "alter table public.vault_credentials rename to real;
             create view public.vault_credentials as
                select * from public.real where public.code(id) is not null",
            "public.vault_credentials is not a plain table",
        ),
        (
            "create domain public.loud as pg_catalog.text check (public.code(value) is not null);
             alter table public.vault_credentials alter column service type public.loud",
            "public.vault_credentials has a column of another type",
        ),
        (
            "alter table public.developers rename to real;
             create view public.developers as
                select public.code(id) as id, api_key_hash, name, mode from public.real",
            "public.developers is not a plain table",
        ),
    ] {
        let operator = Operator::new().await;
        operator.source.fill(1).await;
        operator
            .source
            .execute("insert into public.developers values ('globex', 'hash', 'Globex', null)")
            .await;
        operator.source.execute(code).await;
        operator.source.execute(change).await;
        operator.source.execute("truncate public.ran").await;
        let (success, said) = operator.say(&["--developers"]);
        assert!(!success && said.contains(says), "{said}");
        assert!(said.contains("into a plain table"), "what to do: {said}");
        assert!(!operator.source.has_rows("public.ran").await, "{change}");
    }
}

#[tokio::test]
async fn a_source_with_columns_of_other_built_in_types_is_imported() {
    let operator = Operator::new().await;
    operator.source.fill(1).await;
    operator
        .source
        .execute(
            "alter table public.vault_credentials
                alter column developer_id type varchar(64), alter column metadata drop default,
                alter column metadata type json, alter column access_token type varchar;
             create index on public.vault_credentials (lower(service)) where service <> 'a.b'",
        )
        .await;
    let (success, said) = operator.say(&[]);
    assert!(success && said.contains("imported 1,"), "{said}");
}
