//! Whoever may create functions and operators in a database has the vault run none of them.

use std::{collections::BTreeSet, fs, path::Path};

use grantex_vault::{
    model::text::{DeveloperId, GrantId},
    store::{
        diagnosis::diagnose,
        schema::{self, Durability},
        serving_role,
    },
};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::harness::{Cluster, Server, Setup, Via, connect, run_with, until};

/// What a function of each name that is called would be found by: the signatures of the built-ins of this
/// name, with types that Postgres takes for theirs, and operators between all of those types. Each notes
/// that it was called.
const PLANT: &str = r#"
    create table public.called (what text, by_role text);
    grant insert on public.called to public;
    do $$
    declare
        kinds constant text[] := array['text', 'varchar', 'name', 'bpchar', '"char"', 'integer', 'bigint',
            'smallint', 'oid', 'regclass', 'regnamespace', 'xid', 'xid8', 'bytea', 'boolean', 'json',
            'timestamptz', 'interval', 'text[]', 'anyelement', 'anyarray'];
        signature record;
        parameters text;
        one text;
        other text;
        symbol text;
    begin
        for signature in
            select p.proname, p.proargtypes::oid[] as types from pg_proc p
            where p.pronamespace = 'pg_catalog'::regnamespace and p.pronargs <= 3
              and p.proname = any (string_to_array(current_setting('planted.names'), ' '))
        loop
            for parameters in
                with recursive combined as (
                    select 0 as place, '' as list
                    union all
                    select place + 1, list || case place when 0 then '' else ', ' end || likeness
                    from combined, lateral (
                        select format_type(signature.types[place], null) as likeness
                        union select k from unnest(array['text', 'varchar', 'name', 'bpchar', 'anyelement']) k
                            where format_type(signature.types[place], null) in ('text', 'name')
                        union select k from unnest(array['smallint', 'integer', 'bigint', 'anyelement']) k
                            where format_type(signature.types[place], null) in ('integer', 'bigint')
                        union select k from unnest(array['regclass', 'integer', 'anyelement']) k
                            where format_type(signature.types[place], null) = 'oid') likenesses
                    where place <= array_upper(signature.types, 1))
                select list from combined where place = array_length(signature.types, 1)
                union select '' where array_length(signature.types, 1) is null
            loop
                begin
                    execute format('create function public.%I(%s) returns text language sql as
                        $f$ insert into public.called values (%L, current_user); select null::text $f$',
                        signature.proname, parameters, signature.proname || '(' || parameters || ')');
                exception when others then null;
                end;
            end loop;
        end loop;
        foreach one in array kinds loop
            foreach other in array kinds loop
                begin
                    execute format('create function public.planted(%s, %s) returns boolean language sql as
                        $f$ insert into public.called values (%L, current_user); select true $f$',
                        one, other, one || ' and ' || other);
                    foreach symbol in array array['=', '<>', '<', '>', '<=', '>=', '||', '+', '-', '/', '->>'] loop
                        execute format('create operator public.%s (
                            function = public.planted, leftarg = %s, rightarg = %s)', symbol, one, other);
                    end loop;
                exception when others then null;
                end;
            end loop;
        end loop;
    end $$"#;

/// All text of the store's statements.
fn store() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let files = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let code = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    code.map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// The names that stand before a parenthesis, and whether `pg_catalog.` stands before them.
fn calls(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices('(').filter_map(move |(end, _)| {
        let before = &text[..end];
        let name = before.rsplit(|c| !is_name(c)).next()?;
        let before = &before[..before.len() - name.len()];
        (!name.is_empty()).then(|| (name, before.ends_with("pg_catalog.")))
    })
}

/// A database in which somebody has planted what we could call, in front of what we want to call; as its
/// owner sees it, and as the role that serves does.
async fn planted(role: &str) -> (String, String) {
    let url = Cluster::shared().await.empty_database().await;
    let owner = connect(&url).await;
    let name = |kind: &str| format!("{kind}_{}", Uuid::new_v4().simple());
    let planter = name("planter");
    let prepare = format!(
        "create role {planter} login; create role {role} login;
         grant create on schema public to {planter};
         do $$ begin
            execute format('alter database %I set search_path = public, pg_catalog', current_database());
         end $$"
    );
    owner.batch_execute(&prepare).await.unwrap();
    let by_planter = connect(&url.replace("user=postgres", &format!("user={planter}"))).await;
    let names: BTreeSet<String> = store()
        .iter()
        .flat_map(|text| {
            calls(text)
                .map(|(name, _)| name.to_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    let names = names.into_iter().collect::<Vec<_>>().join(" ");
    let set = format!("set search_path = pg_catalog; set planted.names = '{names}'");
    by_planter.batch_execute(&set).await.unwrap();
    by_planter.batch_execute(PLANT).await.unwrap();
    let as_role = url.replace("user=postgres", &format!("user={role}"));
    (url, as_role)
}

/// A session that calls nothing that is planted.
async fn aware(url: &str) -> Client {
    let client = connect(url).await;
    let set = "set search_path = pg_catalog";
    client.batch_execute(set).await.unwrap();
    client
}

async fn called(sql: &Client) -> Vec<String> {
    let rows = sql.query("select distinct what from public.called", &[]);
    let rows = rows.await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn planted_functions_and_operators_are_called_when_nothing_is_done_about_it() {
    let (url, _) = planted(&format!("unaware_{}", Uuid::new_v4().simple())).await;
    let sql = aware(&url).await;
    let planted = "select count(*) from pg_proc where pronamespace = 'public'::regnamespace";
    let planted: i64 = sql.query_one(planted, &[]).await.unwrap().get(0);
    assert!(planted > 500, "{planted}");
    for call in [
        "select left('text'::text, 1)",
        "select hashtextextended('text'::text, 0)",
        "select set_config('a.b', 'c', true)",
        "select 'text'::text = 'text'::text",
        "select '1'::oid = 'pg_class'::regclass",
    ] {
        let unaware = connect(&url).await;
        unaware.query(call, &[]).await.unwrap();
        assert!(!called(&sql).await.is_empty(), "{call}");
        sql.batch_execute("delete from public.called")
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn the_vault_runs_nothing_that_was_planted() {
    let role = format!("serving_{}", Uuid::new_v4().simple());
    let (url, as_role) = planted(&role).await;
    let sql = aware(&url).await;
    for _ in 0..2 {
        let name = role.parse().unwrap();
        let migrated = schema::migrate(&url.parse().unwrap(), Some(&name)).await;
        migrated.unwrap();
    }
    let setup = Setup::new()
        .with("DATABASE_URL", &as_role)
        .with("GRANTEX_VAULT_AUDIT_SEAL_INTERVAL", "1s");
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        for round in 0..2 {
            let stored = developer.store_token("user", "github", "secret").await;
            let agent = server.agent(via, &tenant, "user");
            for _ in 0..=round {
                agent.exchange("github").await.unwrap();
            }
            developer.list().await.unwrap();
            developer.get(stored["id"].as_str().unwrap()).await.unwrap();
            let filtered = serde_json::json!({"principalId": "user"});
            developer.audit_events(filtered).await.unwrap();
            developer
                .delete(stored["id"].as_str().unwrap())
                .await
                .unwrap();
        }
    }
    developer.store_token("user", "github", "secret").await;
    operated(&server).await;
    until("events are sealed", async || {
        let seals = sql.query("select from vault.audit_seals", &[]).await;
        !seals.unwrap().is_empty()
    })
    .await;
    for arguments in [
        &["audit", "verify"][..],
        &["audit", "list"],
        &["developer", "list"],
    ] {
        run_with(arguments, &[("DATABASE_URL", &as_role)]);
    }
    let (database, required) = (as_role.parse().unwrap(), Durability::Required);
    let diagnosis = diagnose(&database, required).await.unwrap();
    assert_eq!(diagnosis.missing, [""; 0]);
    assert_eq!(called(&sql).await, [""; 0]);
}

/// What operators do.
async fn operated(server: &Server) {
    let (operations, by) = server.operations();
    let developer = DeveloperId::parse("acme").unwrap();
    let grant = GrantId::parse("another").unwrap();
    operations
        .revoke_grant(&by, &developer, grant)
        .await
        .unwrap();
    operations.suspend_developer(&by, &developer).await.unwrap();
    operations.resume_developer(&by, &developer).await.unwrap();
    operations.delete_developer(&by, &developer).await.unwrap();
}

#[tokio::test]
async fn a_new_session_of_the_role_that_serves_looks_nowhere_else_whoever_opens_it() {
    let role = format!("pooled_{}", Uuid::new_v4().simple());
    let (url, as_role) = planted(&role).await;
    let name = role.parse().unwrap();
    schema::migrate(&url.parse().unwrap(), Some(&name))
        .await
        .unwrap();
    let path = async |url: &str| -> String {
        let sql = connect(url).await;
        sql.query_one("show search_path", &[]).await.unwrap().get(0)
    };
    assert_eq!(path(&as_role).await, "public, pg_catalog");
    let _server = Setup::new().with("DATABASE_URL", &as_role).start().await;
    until("the role has its path", async || {
        path(&as_role).await == "pg_catalog, pg_temp"
    })
    .await;
    let database = as_role.parse().unwrap();
    assert!(serving_role::set_search_path(&database).await.unwrap());

    // The owner may be another application too.
    let _second = Setup::new().with("DATABASE_URL", &url).start().await;
    let database = url.parse().unwrap();
    assert!(!serving_role::set_search_path(&database).await.unwrap());
    assert_eq!(path(&url).await, "public, pg_catalog");
}

#[tokio::test]
async fn every_call_of_a_built_in_names_its_schema() {
    // What is called without a function, or found in pg_catalog by the grammar.
    const SYNTAX: [&str; 2] = ["substring", "exists"];
    let url = Cluster::shared().await.empty_database().await;
    let sql = connect(&url).await;
    let names = "select distinct proname::text from pg_proc where pronamespace = 'pg_catalog'::regnamespace";
    let rows = sql.query(names, &[]).await.unwrap();
    let built_in: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let mut seen = 0;
    for text in store() {
        for statement in literals(&text) {
            for (name, is_qualified) in calls(statement) {
                seen += usize::from(is_qualified);
                let known = built_in.contains(name) && !SYNTAX.contains(&name);
                assert!(is_qualified || !known, "{name} in {statement}");
            }
        }
    }
    assert!(seen > 100, "{seen}");
}

/// The string literals of a file that are statements, or parts of one.
fn literals(text: &str) -> Vec<&str> {
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let begins = text.find('"').unwrap_or(text.len());
    let mut found = Vec::new();
    let mut rest = &text[begins..];
    while let Some(literal) = rest.strip_prefix('"') {
        let quotes = literal.match_indices('"').map(|(at, _)| at);
        let mut ends = quotes.filter(|at| !literal[..*at].ends_with('\\'));
        let end = ends.next().unwrap_or(literal.len());
        found.push(&literal[..end]);
        let after = &literal[(end + 1).min(literal.len())..];
        let next = after.find('"').unwrap_or(after.len());
        rest = &after[next..];
    }
    let sql = [
        "select", "from ", "where ", "insert ", "update ", "delete ", "and ",
    ];
    found.retain(|literal| {
        literal.lines().all(|line| is_code(&line)) && sql.iter().any(|word| literal.contains(word))
    });
    found
}
