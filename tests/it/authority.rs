//! Beside a Grantex auth service: its tables say who the developers are and which grants live, in the
//! same database, and the vault's own revocations count as well.

use std::time::Duration;

use grantex_vault::{app::StartFault, clock::Clock, store::schema::SchemaFault};
use serde_json::{Value, json};

use crate::harness::{Client, Cluster, Server, Setup, Via, connect};

/// Its tables, as it documents them.
const TABLES: &str = "
    create table public.developers (
        id text primary key, api_key_hash text not null unique, name text not null, mode text);
    create table public.grants (
        id text primary key, agent_id text not null, principal_id text not null,
        developer_id text not null, scopes text[] not null, status text not null,
        issued_at timestamptz not null, expires_at timestamptz not null, revoked_at timestamptz);
    create table public.grant_tokens (
        jti text primary key, grant_id text not null, is_revoked boolean not null default false,
        expires_at timestamptz not null, created_at timestamptz not null default now())";

const KEY: &str = "gx_live_0123456789abcdef0123456789abcdef";
const KEY_OF_GLOBEX: &str = "gx_live_fedcba9876543210fedcba9876543210";

/// A vault beside Grantex, with the developers acme and globex.
struct Beside {
    server: Server,
}

impl Beside {
    async fn start() -> Self {
        let url = Cluster::shared().await.database().await;
        let sql = connect(&url).await;
        sql.batch_execute(TABLES).await.unwrap();
        for (id, key) in [("acme", KEY), ("globex", KEY_OF_GLOBEX)] {
            let insert = "insert into public.developers
                values ($1, encode(sha256(convert_to($2, 'UTF8')), 'hex'), $1, 'live')";
            sql.execute(insert, &[&id, &key]).await.unwrap();
        }
        let setup = Setup::new().with("DATABASE_URL", &url);
        let server = setup
            .with("GRANTEX_VAULT_AUTHORITY", "grantex")
            .start()
            .await;
        Self { server }
    }

    fn developer(&self, via: Via) -> Client<'_> {
        self.server.client(via, KEY)
    }

    /// A token of `acme` for `user` that Grantex knows, and its claims.
    async fn issued(&self) -> (String, Value) {
        let claims = self.server.claims("acme", "user", &["*"]);
        self.issue(&claims).await;
        (self.server.issuer.key().sign(&claims), claims)
    }

    /// What Grantex writes when it issues a token, with a grant of its own.
    async fn issue(&self, claims: &Value) {
        let text = |name: &str| claims[name].as_str().unwrap();
        let expires = claims["exp"].as_i64().unwrap();
        self.server
            .execute(&format!(
                "insert into public.grants values ('grant of {jti}', 'agent', '{}', '{}', '{{}}', 'active',
                    now(), to_timestamp({expires}));
                 insert into public.grant_tokens values ('{jti}', 'grant of {jti}', false,
                    to_timestamp({expires}))",
                text("sub"),
                text("dev"),
                jti = text("jti"),
            ))
            .await;
    }

    async fn refuses(&self, via: Via, token: &str, why: &str) {
        let refused = self.server.client(via, token).exchange("github").await;
        let refused = refused.expect_err(why);
        let message = "Invalid or expired grant token";
        assert_eq!(refused.says(), (401, "UNAUTHORIZED", message), "{why}");
    }
}

#[tokio::test]
async fn every_verb_takes_the_word_of_grantex() {
    let beside = Beside::start().await;
    for via in Via::BOTH {
        let developer = beside.developer(via);
        let stored = developer.store_token("user", "github", "secret").await;
        let id = stored["id"].as_str().unwrap();
        assert_eq!(developer.get(id).await.unwrap()["service"], "github");
        assert_eq!(developer.list().await.unwrap()["credentials"][0]["id"], id);
        let (token, claims) = beside.issued().await;
        let released = beside.server.client(via, &token).exchange("github").await;
        assert_eq!(released.unwrap()["accessToken"], "secret");
        let events = developer
            .audit_events(json!({"outcome": "released", "pageSize": 10}))
            .await
            .unwrap();
        let events = events["events"].as_array().unwrap().iter();
        let mut tokens = events.map(|event| &event["caller"]["tokenId"]);
        assert!(tokens.any(|token| *token == claims["jti"]));
        let other = beside.server.client(via, KEY_OF_GLOBEX);
        assert_eq!(other.get(id).await.unwrap_err().status, 404);
        developer.delete(id).await.unwrap();
        let stranger = beside.server.client(via, "gx_live_unknown");
        assert_eq!(stranger.list().await.unwrap_err().status, 401);
    }
    let events = beside.server.audit_events().await;
    assert_eq!(
        events[0]["caller"],
        json!({"apiKeyId": null}),
        "its keys have no names"
    );
}

#[tokio::test]
async fn the_vaults_own_developers_are_nobody_there() {
    let beside = Beside::start().await;
    let own = beside.server.tenant("own").await;
    for via in Via::BOTH {
        assert_eq!(
            beside
                .server
                .client(via, &own.key)
                .list()
                .await
                .unwrap_err()
                .status,
            401
        );
    }
}

#[tokio::test]
async fn a_token_lives_by_its_row_and_its_grants() {
    let beside = Beside::start().await;
    beside
        .developer(Via::Rest)
        .store_token("user", "github", "secret")
        .await;
    for via in Via::BOTH {
        for (change, why) in [
            (
                "delete from public.grant_tokens where jti = '{jti}'",
                "a token that is not known",
            ),
            (
                "update public.grant_tokens set is_revoked = true where jti = '{jti}'",
                "a revoked token",
            ),
            (
                "update public.grant_tokens set expires_at = '2020-01-01' where jti = '{jti}'",
                "a token that expired there",
            ),
            (
                "update public.grant_tokens set grant_id = 'none' where jti = '{jti}'",
                "a token of no grant",
            ),
            (
                "update public.grants set status = 'revoked' where id = 'grant of {jti}'",
                "a revoked grant",
            ),
            (
                "update public.grants set status = 'ACTIVE' where id = 'grant of {jti}'",
                "a status that means nothing",
            ),
            (
                "update public.grants set expires_at = '2020-01-01' where id = 'grant of {jti}'",
                "a grant that expired",
            ),
            (
                "update public.grants set developer_id = 'globex' where id = 'grant of {jti}'",
                "a grant of another developer",
            ),
            (
                "update public.grants set principal_id = 'User' where id = 'grant of {jti}'",
                "a grant of another principal",
            ),
            (
                "delete from public.grants where id = 'grant of {jti}'",
                "a grant that is gone",
            ),
            (
                "insert into vault.revocations values ('acme', 'token', '{jti}', now(), null)",
                "a token that was revoked here",
            ),
        ] {
            let (token, claims) = beside.issued().await;
            let agent = beside.server.client(via, &token);
            assert!(agent.exchange("github").await.is_ok(), "before: {why}");
            let jti = claims["jti"].as_str().unwrap();
            beside.server.execute(&change.replace("{jti}", jti)).await;
            beside.refuses(via, &token, why).await;
        }
    }
}

#[tokio::test]
async fn expiry_there_is_by_the_vaults_clock() {
    let beside = Beside::start().await;
    beside
        .developer(Via::Rest)
        .store_token("user", "github", "secret")
        .await;
    for via in Via::BOTH {
        let (token, claims) = beside.issued().await;
        let until = beside
            .server
            .clock
            .now()
            .after(Duration::from_mins(1))
            .unwrap();
        let sql = format!(
            "update public.grants set expires_at = '{until}' where id = 'grant of {}'",
            claims["jti"].as_str().unwrap()
        );
        beside.server.execute(&sql).await;
        assert!(
            beside
                .server
                .client(via, &token)
                .exchange("github")
                .await
                .is_ok()
        );
        beside.server.clock.advance(Duration::from_mins(1));
        beside
            .refuses(via, &token, "a grant that expired meanwhile")
            .await;
    }
}

#[tokio::test]
async fn a_grant_is_asked_for_before_scope_and_credential() {
    let beside = Beside::start().await;
    for via in Via::BOTH {
        let mut claims = beside.server.claims("acme", "user", &["nothing"]);
        let unknown = beside.server.issuer.key().sign(&claims);
        beside
            .refuses(
                via,
                &unknown,
                "unknown, out of scope, and nothing is stored",
            )
            .await;
        claims["jti"] = json!(uuid::Uuid::new_v4().to_string());
        beside.issue(&claims).await;
        let known = beside.server.issuer.key().sign(&claims);
        let refused = beside.server.client(via, &known).exchange("github").await;
        assert_eq!(refused.unwrap_err().status, 403);
    }
}

#[tokio::test]
async fn without_the_tables_no_server_starts_and_says_which_is_missing() {
    for (sql, says) in [
        ("", "public.developers is not there"),
        (
            "drop table public.grant_tokens",
            "public.grant_tokens is not there",
        ),
        (
            "alter table public.grants drop column status",
            "public.grants lacks a column",
        ),
    ] {
        let url = Cluster::shared().await.database().await;
        let client = connect(&url).await;
        if !sql.is_empty() {
            client
                .batch_execute(&format!("{TABLES}; {sql}"))
                .await
                .unwrap();
        }
        let setup = Setup::new().with("DATABASE_URL", &url);
        let started = setup
            .with("GRANTEX_VAULT_AUTHORITY", "grantex")
            .try_start()
            .await;
        match started.err().expect("no server starts") {
            StartFault::Schema(fault @ SchemaFault::Authority { .. }) => {
                assert!(fault.to_string().contains(says), "{fault}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_role_that_may_only_read_what_is_documented_serves() {
    let cluster = Cluster::shared().await;
    let url = cluster.empty_database().await;
    let role = format!("beside_{}", uuid::Uuid::new_v4().simple());
    let sql = connect(&url).await;
    sql.batch_execute(&format!("create role {role} login; {TABLES}"))
        .await
        .unwrap();
    let name = role.parse().unwrap();
    grantex_vault::store::schema::migrate(&url.parse().unwrap(), Some(&name))
        .await
        .unwrap();
    let as_role = url.replace("user=postgres", &format!("user={role}"));
    let setup = || {
        let setup = Setup::new().with("DATABASE_URL", &as_role);
        setup.with("GRANTEX_VAULT_AUTHORITY", "grantex")
    };
    let refused = setup()
        .try_start()
        .await
        .err()
        .expect("it may not read them");
    assert!(
        refused
            .to_string()
            .contains("public.developers may not be read"),
        "{refused}"
    );
    // README, "Beside a Grantex auth service".
    let grants = format!(
        "grant usage on schema public to {role};
         grant select (id, api_key_hash) on public.developers to {role};
         grant select (id, principal_id, developer_id, status, expires_at) on public.grants to {role};
         grant select (jti, grant_id, is_revoked, expires_at) on public.grant_tokens to {role};
         insert into public.developers values ('acme', encode(sha256('{KEY}'), 'hex'), 'acme', null)"
    );
    sql.batch_execute(&grants).await.unwrap();
    let beside = Beside {
        server: setup().start().await,
    };
    for via in Via::BOTH {
        beside
            .developer(via)
            .store_token("user", "github", "secret")
            .await;
    }
    let refused = beside
        .server
        .sql()
        .await
        .batch_execute("delete from public.grants")
        .await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn the_tables_know_every_ancestor_so_that_depth_does_not_matter() {
    let beside = Beside::start().await;
    beside
        .developer(Via::Rest)
        .store_token("user", "github", "secret")
        .await;
    for via in Via::BOTH {
        let mut claims = beside.server.claims("acme", "user", &["*"]);
        claims["delegationDepth"] = json!(7);
        claims["parentGrnt"] = json!("grant-6");
        beside.issue(&claims).await;
        let token = beside.server.issuer.key().sign(&claims);
        assert!(
            beside
                .server
                .client(via, &token)
                .exchange("github")
                .await
                .is_ok()
        );
    }
}
