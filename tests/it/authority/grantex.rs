//! What is so beside a Grantex auth service only: which rows a token lives by, who is a developer there,
//! and what the vault needs to read.

use std::time::Duration;

use grantex_vault::{
    app::StartFault,
    clock::Clock,
    store::{
        authority::Authority,
        schema::{self, SchemaFault},
    },
};
use serde_json::json;

use super::{INVALID_KEY, INVALID_TOKEN, asked_by_a_developer};
use crate::harness::{Cluster, Granted, Grantex, Realm, Setup, Tenant, Via, connect};

/// A vault beside Grantex, and there a developer with a credential of `user` for `github`.
async fn beside() -> (Realm, Tenant) {
    let realm = Realm::start(Authority::Grantex).await;
    let tenant = realm.tenant("acme").await;
    let developer = realm.server.client(Via::Rest, &tenant.key);
    developer.store_token("user", "github", "secret").await;
    (realm, tenant)
}

async fn releases(realm: &Realm, via: Via, granted: &Granted, why: &str) {
    let released = realm.agent(via, granted).exchange("github").await;
    assert_eq!(released.expect(why)["accessToken"], "secret", "{why}");
}

async fn refuses(realm: &Realm, via: Via, granted: &Granted, why: &str) {
    let refused = realm.agent(via, granted).exchange("github").await;
    assert_eq!(refused.expect_err(why).says(), INVALID_TOKEN, "{why}");
}

#[tokio::test]
async fn the_vaults_own_developers_are_nobody_there() {
    let (realm, _) = beside().await;
    let own = realm.server.tenant("acme").await;
    for via in Via::BOTH {
        let client = realm.server.client(via, &own.key);
        for (verb, answer) in asked_by_a_developer(&client, "vc_x").await {
            assert_eq!(answer.expect_err(verb).says(), INVALID_KEY, "{verb}");
        }
    }
}

#[tokio::test]
async fn a_developer_with_a_new_key_or_gone_is_known_by_the_old_one_no_more() {
    let (realm, tenant) = beside().await;
    for via in Via::BOTH {
        let rotated = realm.tenant(&format!("rotated over {via:?}")).await;
        let client = realm.server.client(via, &rotated.key);
        assert!(client.list().await.is_ok());
        let sql = "update public.developers set api_key_hash = encode(sha256('new'), 'hex')
            where id = $1";
        let changed = realm.server.sql().await.execute(sql, &[&rotated.id]).await;
        assert_eq!(changed.unwrap(), 1);
        assert_eq!(client.list().await.unwrap_err().says(), INVALID_KEY);
        let delete = "delete from public.developers where id = $1";
        let gone = realm.server.sql().await;
        gone.execute(delete, &[&rotated.id]).await.unwrap();
        let known = realm.server.client(via, &tenant.key);
        assert!(known.list().await.is_ok(), "the others are who they were");
    }
}

#[tokio::test]
async fn a_token_lives_by_its_row_and_its_grant() {
    let (realm, _) = beside().await;
    let tenant = realm.tenant("globex").await;
    let developer = realm.server.client(Via::Rest, &tenant.key);
    developer.store_token("user", "github", "secret").await;
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
                "update public.grants set status = 'revoked', revoked_at = now() where id = '{grnt}'",
                "a revoked grant",
            ),
            (
                "update public.grants set status = 'ACTIVE' where id = '{grnt}'",
                "a status that means nothing",
            ),
            (
                "update public.grants set expires_at = '2020-01-01' where id = '{grnt}'",
                "a grant that expired",
            ),
            (
                "update public.grants set developer_id = 'acme' where id = '{grnt}'",
                "a grant of another developer",
            ),
            (
                "update public.grants set principal_id = 'User' where id = '{grnt}'",
                "a grant of another principal",
            ),
            (
                "delete from public.grants where id = '{grnt}'",
                "a grant that is gone",
            ),
        ] {
            let granted = realm.issued(&tenant, "user").await;
            let bystander = realm.issued(&tenant, "user").await;
            releases(&realm, via, &granted, "before the change").await;
            realm.server.execute(&granted.sql(change)).await;
            refuses(&realm, via, &granted, why).await;
            releases(&realm, via, &bystander, "another grant's").await;
        }
    }
}

#[tokio::test]
async fn a_token_that_was_only_signed_is_refused() {
    let (realm, tenant) = beside().await;
    for via in Via::BOTH {
        let unknown = realm.only_signed(realm.claims(&tenant, "user"));
        refuses(&realm, via, &unknown, "nobody told Grantex").await;
        let mut claims = realm.issued(&tenant, "user").await.claims;
        claims["jti"] = json!("another");
        let unknown = realm.only_signed(claims);
        refuses(&realm, via, &unknown, "its grant is known, and it is not").await;
        for (claim, value) in [("dev", "globex"), ("sub", "somebody")] {
            let mut claims = realm.issued(&tenant, "user").await.claims;
            claims[claim] = json!(value);
            let other = realm.only_signed(claims);
            refuses(&realm, via, &other, "the rows are of another").await;
        }
    }
}

#[tokio::test]
async fn tokens_of_one_grant_are_revoked_each_by_itself_and_all_with_it() {
    let (realm, tenant) = beside().await;
    for via in Via::BOTH {
        let first = realm.issued(&tenant, "user").await;
        let mut claims = realm.claims(&tenant, "user");
        claims["grnt"] = first.claims["grnt"].clone();
        let refreshed = realm.issue(claims).await;
        releases(&realm, via, &first, "the first").await;
        releases(&realm, via, &refreshed, "the second").await;
        let sql = "update public.grant_tokens set is_revoked = true where jti = '{jti}'";
        realm.server.execute(&first.sql(sql)).await;
        refuses(&realm, via, &first, "it was revoked").await;
        releases(&realm, via, &refreshed, "the other was not").await;
        let sql = "update public.grants set status = 'revoked', revoked_at = now()
            where id = '{grnt}'";
        realm.server.execute(&first.sql(sql)).await;
        refuses(&realm, via, &refreshed, "its grant was revoked").await;
    }
}

#[tokio::test]
async fn expiry_there_is_by_the_vaults_clock() {
    let (realm, tenant) = beside().await;
    for via in Via::BOTH {
        for update in [
            "update public.grants set expires_at = '{until}' where id = '{grnt}'",
            "update public.grant_tokens set expires_at = '{until}' where jti = '{jti}'",
        ] {
            let granted = realm.issued(&tenant, "user").await;
            let until = realm.server.clock.now().after(Duration::from_mins(1));
            let sql = granted.sql(update);
            let sql = sql.replace("{until}", &until.unwrap().to_string());
            realm.server.execute(&sql).await;
            realm.server.clock.advance(Duration::from_millis(59_999));
            releases(&realm, via, &granted, "until then").await;
            realm.server.clock.advance(Duration::from_millis(1));
            refuses(&realm, via, &granted, "it expired meanwhile").await;
        }
    }
}

#[tokio::test]
async fn a_grant_is_asked_for_before_scope_and_credential() {
    let (realm, tenant) = beside().await;
    for via in Via::BOTH {
        let mut claims = realm.claims(&tenant, "nobody");
        claims["scp"] = json!(["nothing"]);
        let unknown = realm.only_signed(claims.clone());
        refuses(&realm, via, &unknown, "out of scope, and nothing is stored").await;
        let known = realm.issue(claims).await;
        let refused = realm.agent(via, &known).exchange("github").await;
        assert_eq!(refused.unwrap_err().status, 403);
    }
}

#[tokio::test]
async fn the_tables_know_every_ancestor_so_that_depth_does_not_matter() {
    let (realm, tenant) = beside().await;
    for via in Via::BOTH {
        let mut claims = realm.claims(&tenant, "user");
        claims["delegationDepth"] = json!(7);
        claims["parentGrnt"] = json!("grnt_6");
        let granted = realm.issue(claims).await;
        releases(&realm, via, &granted, "however deep").await;
    }
}

#[tokio::test]
async fn without_the_tables_no_server_starts_and_says_which_is_missing() {
    let whole = Grantex::TABLES;
    for (sql, says) in [
        (String::new(), "public.developers is not there"),
        (
            format!("{whole}; drop table public.grant_tokens"),
            "public.grant_tokens is not there",
        ),
        (
            format!("{whole}; alter table public.grants drop column status"),
            "public.grants lacks a column",
        ),
    ] {
        let url = Cluster::shared().await.database().await;
        connect(&url).await.batch_execute(&sql).await.unwrap();
        let started = Setup::new().beside_grantex(&url).try_start().await;
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
    let url = Cluster::shared().await.empty_database().await;
    let role = format!("beside_{}", uuid::Uuid::new_v4().simple());
    let grantex = Grantex::on(&url).await;
    let sql = connect(&url).await;
    let create = format!("create role {role} login");
    sql.batch_execute(&create).await.unwrap();
    let name = role.parse().unwrap();
    schema::migrate(&url.parse().unwrap(), Some(&name))
        .await
        .unwrap();
    let as_role = url.replace("user=postgres", &format!("user={role}"));
    let refused = Setup::new().beside_grantex(&as_role).try_start().await;
    let refused = refused.err().expect("it may not read them").to_string();
    let says = "public.developers may not be read";
    assert!(refused.contains(says), "{refused}");
    // README, "Beside a Grantex auth service".
    let grants = format!(
        "grant usage on schema public to {role};
         grant select (id, api_key_hash) on public.developers to {role};
         grant select (id, principal_id, developer_id, status, expires_at) on public.grants to {role};
         grant select (jti, grant_id, is_revoked, expires_at) on public.grant_tokens to {role}"
    );
    sql.batch_execute(&grants).await.unwrap();
    let realm = Realm {
        server: Setup::new().beside_grantex(&as_role).start().await,
        grantex: Some(grantex),
    };
    let tenant = realm.tenant("acme").await;
    for via in Via::BOTH {
        let developer = realm.server.client(via, &tenant.key);
        developer.store_token("user", "github", "secret").await;
        let issued = realm.issued(&tenant, "user").await;
        releases(&realm, via, &issued, "it reads what it needs").await;
        for (verb, answer) in asked_by_a_developer(&developer, "vc_x").await {
            let served = answer.map_or_else(|refused| refused.status, |_| 200);
            assert!([200, 404].contains(&served), "{verb}: {served}");
        }
    }
    let as_role = realm.server.sql().await;
    for sql in [
        "delete from public.grants",
        "update public.grant_tokens set is_revoked = false",
        "select name from public.developers",
    ] {
        assert!(as_role.batch_execute(sql).await.is_err(), "{sql}");
    }
}
