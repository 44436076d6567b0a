//! The owner of the auth service's tables has the vault run nothing: a table that is more than a table is
//! not read.

use grantex_vault::{
    app::StartFault,
    store::schema::{self, SchemaFault},
};

use crate::harness::{Cluster, Grantex, Realm, Server, Setup, Via, connect, until};

/// Code of the owner that notes who ran it.
const CODE: &str = "
    create table public.ran (by_role text);
    grant insert on public.ran to public;
    create function public.code(text) returns text language plpgsql volatile as $$
        begin insert into public.ran values (current_user); return $1; end $$;
    create function public.pure(text) returns text language plpgsql immutable as $$
        begin return $1; end $$;";

/// What the owner can make of a table, and what the vault says of it.
const CHANGES: [(&str, &str); 16] = [
    (
        "alter table public.grants rename to real;
         create view public.grants as
            select public.code(id) as id, principal_id, developer_id, status, expires_at from public.real",
        "public.grants is not a plain table",
    ),
    (
        "alter table public.developers rename to real;
         create materialized view public.developers as select * from public.real",
        "public.developers is not a plain table",
    ),
    (
        "drop table public.grant_tokens;
         create table public.grant_tokens (jti text, grant_id text, is_revoked boolean,
            expires_at timestamptz) partition by hash (jti)",
        "public.grant_tokens is not a plain table",
    ),
    (
        "alter table public.grants enable row level security;
         create policy a_policy on public.grants using (public.code(id) is not null)",
        "public.grants has row-level security",
    ),
    (
        "create table public.more () inherits (public.grants)",
        "public.grants has tables that inherit from it",
    ),
    (
        "alter table public.grant_tokens alter column is_revoked drop default,
            alter column is_revoked type text",
        "public.grant_tokens has a column of another type",
    ),
    (
        "alter table public.grants alter column expires_at type timestamp",
        "public.grants has a column of another type",
    ),
    (
        "alter table public.developers alter column api_key_hash type varchar",
        "public.developers has a column of another type",
    ),
    (
        "create domain public.text as pg_catalog.text check (public.code(value) is not null);
         alter table public.developers alter column id type public.text",
        "public.developers has a column of another type",
    ),
    (
        "create index on public.grants (public.pure(id))",
        "public.grants has an index, statistics or a constraint of more than columns and built-ins",
    ),
    (
        "create index on public.grants (id) where public.pure('x') = 'y'",
        "public.grants has an index, statistics or a constraint of more than columns and built-ins",
    ),
    (
        "create function public.same(text, text) returns boolean language plpgsql immutable as $$
            begin return true; end $$;
         create operator public.=== (function = public.same, leftarg = text, rightarg = text);
         create index on public.grant_tokens (jti) where 'x' operator(public.===) 'y'",
        "public.grant_tokens has an index, statistics or a constraint of more than columns and built-ins",
    ),
    (
        "create domain public.loud as pg_catalog.text check (public.code(value) is not null);
         create index on public.grants using brin (id)
            where (developer_id::public.loud) is null or status = 'active'",
        "public.grants has an index, statistics or a constraint of more than columns and built-ins",
    ),
    (
        "create domain public.loud as pg_catalog.text check (public.code(value) is not null);
         create statistics public.of_grants on (developer_id::public.loud) from public.grants",
        "public.grants has an index, statistics or a constraint of more than columns and built-ins",
    ),
    (
        "create type public.mood as enum ('good');
         create index on public.grants (id) where 'good'::public.mood = 'good'",
        "public.grants has an index, statistics or a constraint of more than columns and built-ins",
    ),
    (
        "alter table public.grant_tokens add check (public.pure('x') = 'x')",
        "public.grant_tokens has an index, statistics or a constraint of more than columns and built-ins",
    ),
];

async fn is_ready(server: &Server) -> bool {
    let asked = server.http.get(format!("{}/readyz", server.admin_url()));
    asked.send().await.unwrap().status() == 200
}

#[tokio::test]
async fn no_server_starts_beside_what_is_more_than_a_table() {
    for (change, says) in CHANGES {
        let url = Cluster::shared().await.database().await;
        let _grantex = Grantex::on(&url).await;
        let sql = connect(&url).await;
        sql.batch_execute(CODE).await.unwrap();
        sql.batch_execute(change).await.unwrap();
        let started = Setup::new().beside_grantex(&url).try_start().await;
        match started.err().expect("no server starts") {
            StartFault::Schema(fault @ SchemaFault::Authority { .. }) => {
                assert!(fault.to_string().contains(says), "{fault}: {change}");
            }
            other => panic!("{other:?}"),
        }
        let ran = sql.query("select from public.ran", &[]).await.unwrap();
        assert!(ran.is_empty(), "{change}");
    }
}

#[tokio::test]
async fn ordinary_indexes_and_constraints_are_no_fault() {
    let url = Cluster::shared().await.database().await;
    let _grantex = Grantex::on(&url).await;
    let ordinary = "
        create index on public.grants (developer_id, status);
        create index on public.grants (lower(principal_id)) where status = 'active';
        create index on public.grants (id collate \"POSIX\" varchar_pattern_ops)
            where status in ('a.b', 'it''s.c') and expires_at > '2020-01-01 00:00:00.5+00';
        create collation public.german (locale = 'C');
        create index on public.grants (principal_id collate public.german);
        alter table public.grants add check (status in ('active', 'revoked'));
        alter table public.grant_tokens add foreign key (grant_id) references public.grants (id);
        create statistics public.of_grants on developer_id, status from public.grants";
    connect(&url).await.batch_execute(ordinary).await.unwrap();
    Setup::new().beside_grantex(&url).start().await;
}

#[tokio::test]
async fn a_table_that_becomes_something_else_stops_everything_until_it_is_a_table_again() {
    use grantex_vault::store::authority::Authority;

    let realm = Realm::start(Authority::Grantex).await;
    let server = &realm.server;
    let tenant = realm.tenant("acme").await;
    let sql = server.sql().await;
    sql.batch_execute(CODE).await.unwrap();
    for (via, name, columns) in [
        (
            Via::Rest,
            "grants",
            "id, principal_id, developer_id, public.code(status) as status, expires_at",
        ),
        (
            Via::Grpc,
            "developers",
            "id, public.code(api_key_hash) as api_key_hash",
        ),
    ] {
        let developer = server.client(via, &tenant.key);
        developer.store_token("user", "github", "secret").await;
        let issued = realm.issued(&tenant, "user").await;
        let agent = realm.agent(via, &issued);
        agent.exchange("github").await.unwrap();

        let swap = format!(
            "alter table public.{name} rename to real;
             create view public.{name} as select {columns} from public.real"
        );
        sql.batch_execute(&swap).await.unwrap();
        until("it is seen", async || !is_ready(server).await).await;
        sql.batch_execute("delete from public.ran").await.unwrap();
        for _ in 0..2 {
            let refused = agent.exchange("github").await.unwrap_err();
            assert_eq!((refused.status, refused.retry_after), (503, Some(1)));
            assert_eq!(developer.list().await.unwrap_err().status, 503);
        }
        let ran = sql.query("select from public.ran", &[]).await.unwrap();
        assert!(ran.is_empty(), "nothing of it is read");

        let back = format!("drop view public.{name}; alter table public.real rename to {name}");
        sql.batch_execute(&back).await.unwrap();
        until("it is seen", async || is_ready(server).await).await;
        agent.exchange("github").await.unwrap();
        developer.list().await.unwrap();
    }
}

/// What ran as the vault, once it must have been seen that it can.
async fn ran_since_it_is_seen(server: &Server, url: &str, key: &str) -> i64 {
    let sql = connect(url).await;
    let developer = server.client(Via::Rest, key);
    until("it is seen", async || {
        let listed = developer.list().await;
        listed.is_err_and(|error| error.status == 503)
    })
    .await;
    sql.batch_execute("delete from public.ran").await.unwrap();
    for via in [Via::Rest, Via::Grpc] {
        let listed = server.client(via, key).list().await;
        assert_eq!(listed.unwrap_err().status, 503);
    }
    let ran = sql.query_one("select count(*) from public.ran", &[]).await;
    ran.unwrap().get(0)
}

const A_VIEW: &str = "
    alter table public.developers rename to real;
    create view public.developers as
        select id, public.code(api_key_hash) as api_key_hash from public.real";

#[tokio::test]
async fn a_server_that_came_before_its_database_reads_no_view() {
    let cluster = Cluster::start().await;
    let url = cluster.database().await;
    let grantex = Grantex::on(&url).await;
    let tenant = grantex.register("acme").await;
    let sql = connect(&url).await;
    sql.batch_execute(&format!("{CODE}{A_VIEW}")).await.unwrap();
    drop((sql, grantex));
    cluster.stop().await;
    let server = Setup::new().beside_grantex(&url).start().await;
    cluster.start_again().await;
    until("the database answers", async || {
        tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .is_ok()
    })
    .await;
    for _ in 0..20 {
        let listed = server.client(Via::Rest, &tenant.key).list().await;
        assert_eq!(listed.unwrap_err().status, 503);
    }
    assert_eq!(ran_since_it_is_seen(&server, &url, &tenant.key).await, 0);
}

#[tokio::test]
async fn a_swap_is_seen_though_something_else_is_wrong_with_the_database() {
    for trouble in [
        "revoke select on vault.audit_seals from watched",
        "alter role watched set default_transaction_read_only = on;
         select pg_terminate_backend(pid) from pg_stat_activity where usename = 'watched'",
    ] {
        let url = Cluster::shared().await.database().await;
        let grantex = Grantex::on(&url).await;
        let tenant = grantex.register("acme").await;
        let sql = connect(&url).await;
        let role = "do $$ begin create role watched login; exception when others then null; end $$;
            alter role watched reset default_transaction_read_only;
            grant select on public.developers, public.grants, public.grant_tokens to watched";
        sql.batch_execute(&format!("{CODE}{role}")).await.unwrap();
        let name = "watched".parse().unwrap();
        schema::migrate(&url.parse().unwrap(), Some(&name))
            .await
            .unwrap();
        let as_role = url.replace("user=postgres", "user=watched");
        let server = Setup::new().beside_grantex(&as_role).start().await;
        let developer = server.client(Via::Rest, &tenant.key);
        developer.list().await.unwrap();

        sql.batch_execute(trouble).await.unwrap();
        sql.batch_execute(A_VIEW).await.unwrap();
        let grant = "grant select on public.developers to watched";
        sql.batch_execute(grant).await.unwrap();
        let ran = ran_since_it_is_seen(&server, &url, &tenant.key).await;
        assert_eq!(ran, 0, "{trouble}");
    }
}

#[tokio::test]
async fn sessions_that_may_have_read_what_was_swapped_in_are_not_used_again() {
    let url = Cluster::shared().await.database().await;
    let grantex = Grantex::on(&url).await;
    let tenant = grantex.register("acme").await;
    let sql = connect(&url).await;
    sql.batch_execute(CODE).await.unwrap();
    let named = format!("{url}&application_name=swapped");
    let server = Setup::new().beside_grantex(&named).start().await;
    let developer = server.client(Via::Rest, &tenant.key);
    developer.store_token("user", "github", "secret").await;
    let sessions =
        "select pid from pg_stat_activity where application_name = 'swapped' and pid not in (
        select pid from pg_stat_activity where query like '%public.grant_tokens%pg_get_expr%'
            or query like '%set_config(''search_path'', ''pg_catalog, pg_temp'', true)%')";
    let pids = async || -> Vec<i32> {
        let rows = sql.query(sessions, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    let before = pids().await;
    assert!(!before.is_empty());
    // Both at once: it is never seen that it was no table.
    let swap = format!(
        "begin; {A_VIEW}; drop view public.developers; alter table public.real rename to developers; commit"
    );
    sql.batch_execute(&swap).await.unwrap();
    until("none of them is used", async || {
        developer.list().await.unwrap();
        developer.store_token("user", "github", "secret").await;
        let now = pids().await;
        before.iter().all(|pid| !now.contains(pid))
    })
    .await;
}
