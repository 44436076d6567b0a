//! Restrictions in the database: they are bound to the ciphertext, and a rotation keeps them.

use std::{sync::Arc, time::Duration};

use grantex_vault::{
    envelope::{kms::Kms, master_keys::MasterKeys},
    pace::Pace,
    rotation::{Extent, Rotation, Watch},
    store::{Store, rotation::RowKey, schema::Durability},
};
use serde_json::json;

use super::{AGENT, CANARY, agent, assert_refused, fields, started};
use crate::harness::Via;

#[tokio::test]
async fn what_was_changed_in_the_database_releases_nothing() {
    let both = json!({"requiredScopes": ["repo", "admin"], "allowedAgents": ["did:other", AGENT]});
    let (scopes, agents) = (
        json!({"requiredScopes": [AGENT]}),
        json!({"allowedAgents": [AGENT]}),
    );
    for (members, change) in [
        (&both, "required_scopes = null"),
        (&both, "allowed_agents = null"),
        (&both, "required_scopes = null, allowed_agents = null"),
        (&both, "required_scopes = '{repo}'"),
        (&both, "required_scopes = '{admin,repo}'"),
        (&both, "required_scopes = '{REPO,admin}'"),
        (&both, "required_scopes = '{repo,admin,extra}'"),
        (&both, "allowed_agents = array['did:grantex:agent']"),
        (
            &both,
            "allowed_agents = array['did:grantex:agent', 'did:other']",
        ),
        (
            &both,
            "allowed_agents = array_append(allowed_agents, 'did:mallory')",
        ),
        (
            &scopes,
            "required_scopes = null, allowed_agents = required_scopes",
        ),
        (&scopes, "allowed_agents = required_scopes"),
        (
            &agents,
            "allowed_agents = null, required_scopes = allowed_agents",
        ),
        (&agents, "required_scopes = allowed_agents"),
        (&json!({}), "required_scopes = '{repo}'"),
        (&json!({}), "allowed_agents = array['did:grantex:agent']"),
    ] {
        let (server, tenant) = started().await;
        let developer = server.client(Via::Rest, &tenant.key);
        developer.store(fields(members)).await.unwrap();
        let held = ["vault:github:exchange", "repo", "admin", "extra", AGENT];
        for via in Via::BOTH {
            let asking = agent(&server, via, AGENT, &held);
            assert!(asking.exchange("github").await.is_ok(), "as it was stored");
        }
        let sql = format!("update vault.credentials set {change}");
        server.execute(&sql).await;
        for via in Via::BOTH {
            let asking = agent(&server, via, AGENT, &held);
            let refused = asking.exchange("github").await.expect_err(change);
            let message = "An unexpected error occurred";
            assert_eq!(refused.says(), (500, "INTERNAL_ERROR", message), "{change}");
        }
        let outcomes = server.outcomes().await;
        let last = &outcomes[outcomes.len() - 2..];
        assert_eq!(last, ["exchange failed does_not_open"; 2], "{change}");
    }
}

#[tokio::test]
async fn restrictions_that_the_vault_never_writes_are_an_internal_error_for_every_reader() {
    for change in [
        "required_scopes = '{}'",
        "allowed_agents = '{}'",
        "required_scopes = '{null}'",
        "required_scopes = '{repo,REPO}'",
        "allowed_agents = '{a,a}'",
        "allowed_agents = '{\"\"}'",
        "required_scopes = '{{a},{b}}'",
        "required_scopes = array[repeat('x', 257)]",
        "allowed_agents = array(select 'a' || n from generate_series(1, 65) n)",
        "allowed_agents = array[chr(10)]",
    ] {
        let (server, tenant) = started().await;
        let rest = server.client(Via::Rest, &tenant.key);
        let stored = rest.store(fields(&json!({}))).await.unwrap();
        let sql = format!("update vault.credentials set {change}");
        server.execute(&sql).await;
        for via in Via::BOTH {
            let developer = server.client(via, &tenant.key);
            let asking = agent(&server, via, AGENT, &["vault:github:exchange", "a", "repo"]);
            for answer in [
                developer.get(stored["id"].as_str().unwrap()).await,
                developer.list().await,
                asking.exchange("github").await,
            ] {
                assert_eq!(answer.expect_err(change).status, 500, "{change}");
            }
        }
        let outcomes = server.outcomes().await;
        let last = outcomes.last().unwrap();
        assert_eq!(last, "exchange failed inconsistent_row", "{change}");
    }
}

#[tokio::test]
async fn another_master_key_and_another_data_key_leave_them_as_they_are() {
    let (server, tenant) = started().await;
    let developer = server.client(Via::Rest, &tenant.key);
    let restricted = json!({
        "requiredScopes": ["repo"], "allowedAgents": [AGENT], "refreshToken": CANARY,
    });
    let stored = developer.store(fields(&restricted)).await.unwrap();
    let id = stored["id"].as_str().unwrap();
    let before = developer.get(id).await.unwrap();
    server
        .kms
        .add_primary("arn:aws:kms:eu-central-1:111122223333:key/two");

    let url = server.database_url.parse().unwrap();
    let store = Store::open(&url, 4, Durability::Required).unwrap();
    let kms = Arc::clone(&server.kms) as Arc<dyn Kms>;
    let keys = Arc::new(MasterKeys::new(kms, Vec::new()));
    let rotation = Rotation::new(store, keys, Duration::from_secs(3), Pace::new(4, None));
    for step in ["rewrap", "reencrypt", "verify"] {
        let watch = Watch::new(&|broken| panic!("{broken}"));
        match step {
            "rewrap" => rotation.rewrap(&watch).await.unwrap(),
            "reencrypt" => {
                let all = rotation.reencrypt(None, RowKey::default(), &watch, &|_| {});
                all.await.unwrap();
            }
            _ => rotation.verify(Extent::All, &watch).await.unwrap(),
        }
        assert_eq!(watch.counts().done, 1, "{step}");
        assert_eq!(developer.get(id).await.unwrap(), before, "{step}");
        for via in Via::BOTH {
            let released = agent(&server, via, AGENT, &["vault:github:exchange", "repo"])
                .exchange("github")
                .await;
            assert_eq!(released.unwrap()["accessToken"], CANARY, "{step}");
            assert_refused(
                agent(&server, via, AGENT, &["vault:github:exchange"])
                    .exchange("github")
                    .await,
                step,
            );
            let other = agent(
                &server,
                via,
                "did:other",
                &["vault:github:exchange", "repo"],
            );
            assert_refused(other.exchange("github").await, step);
        }
    }

    // A row that was relaxed is found by whoever verifies.
    let relaxed = "update vault.credentials set allowed_agents = null";
    server.execute(relaxed).await;
    let watch = Watch::new(&|_| {});
    rotation.verify(Extent::All, &watch).await.unwrap();
    assert_eq!((watch.counts().done, watch.counts().broken), (0, 1));
}
