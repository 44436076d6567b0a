//! What was under way when a key, a developer or a grant was revoked: once the revocation has answered,
//! nothing of it happens any more.

use std::time::Duration;

use futures_util::{FutureExt, poll};
use grantex_vault::{
    model::{
        id::ApiKeyId,
        text::{DeveloperId, GrantId, TokenId},
    },
    operator::OperatorError,
    store::authority::Authority,
};
use serde_json::{Value, json};
use tokio::pin;

use crate::harness::{Answer, Client, Realm, Server, Setup, Tenant, Trouble, Via, until};

/// What an operator does to a developer or its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forbids {
    RevokeKey,
    Suspend,
    Delete,
}

impl Forbids {
    const ALL: [Self; 3] = [Self::RevokeKey, Self::Suspend, Self::Delete];

    async fn done(self, server: &Server, tenant: &Tenant) -> Result<(), OperatorError> {
        let (operations, by) = server.operations();
        let developer = DeveloperId::parse(&tenant.id).unwrap();
        match self {
            Self::RevokeKey => {
                let id = ApiKeyId::parse(&tenant.key_id).unwrap();
                operations.revoke_api_key(&by, id).await.map(|_| ())
            }
            Self::Suspend => {
                let suspended = operations.suspend_developer(&by, &developer).await;
                suspended.map(|_| ())
            }
            Self::Delete => operations
                .delete_developer(&by, &developer)
                .await
                .map(|_| ()),
        }
    }

    /// Whether it is committed.
    async fn is_committed(self, server: &Server) -> bool {
        match self {
            Self::RevokeKey => !server.rows("api_keys").await[0]["revoked_at"].is_null(),
            Self::Suspend | Self::Delete => !server.rows("revocations").await.is_empty(),
        }
    }
}

fn fields(service: &str) -> Value {
    json!({"principalId": "user", "service": service, "accessToken": "late"})
}

fn status(answer: &Answer) -> u16 {
    answer
        .as_ref()
        .map_or_else(|refused| refused.status, |_| 200)
}

async fn outcomes_of(server: &Server, verb: &str) -> Vec<String> {
    let mut outcomes = server.outcomes().await;
    outcomes.retain(|outcome| outcome.starts_with(verb));
    outcomes
}

#[tokio::test]
async fn a_store_and_a_delete_that_read_after_a_revocation_are_refused() {
    for via in Via::BOTH {
        for forbids in Forbids::ALL {
            let server = Server::start().await;
            let tenant = server.tenant("acme").await;
            let developer = server.client(via, &tenant.key);
            let stored = developer.store_token("user", "github", "before").await;
            developer.store_token("user", "slack", "before").await;
            let id = stored["id"].as_str().unwrap();

            let lock = server.sql().await;
            lock.batch_execute("begin; lock table vault.credentials in access exclusive mode")
                .await
                .unwrap();
            let ends = async {
                // The key was valid when they were let in.
                server.waiting_for_locks(3).await;
                let done = forbids.done(&server, &tenant);
                pin!(done);
                let mut answered = None;
                until("it is committed", async || {
                    answered = answered.take().or(done.as_mut().now_or_never());
                    forbids.is_committed(&server).await
                })
                .await;
                lock.batch_execute("commit").await.unwrap();
                match answered {
                    Some(answered) => answered,
                    None => done.await,
                }
            };
            let (new, over, deleted, forbidden) = tokio::join!(
                developer.store(fields("notion")),
                developer.store(fields("slack")),
                developer.delete(id),
                ends,
            );
            forbidden.unwrap();
            for answer in [&new, &over, &deleted] {
                let refused = answer.as_ref().unwrap_err();
                let expected = (401, "UNAUTHORIZED", "Invalid API key");
                assert_eq!(refused.says(), expected, "{forbids:?}");
            }
            let left = if forbids == Forbids::Delete { 0 } else { 2 };
            assert_eq!(server.rows("credentials").await.len(), left);
            assert_eq!(outcomes_of(&server, "store").await, ["store stored"; 2]);
            assert_eq!(outcomes_of(&server, "delete d").await, [""; 0]);
        }
    }
}

#[tokio::test]
async fn a_store_that_read_before_a_revocation_is_waited_for() {
    for via in Via::BOTH {
        for forbids in Forbids::ALL {
            let server = Server::start().await;
            let tenant = server.tenant("acme").await;
            let developer = server.client(via, &tenant.key);
            developer.store_token("user", "github", "before").await;

            // Somebody who writes the same row lets it read, and wait.
            let other = server.sql().await;
            let write = "begin; update vault.credentials set updated_at = updated_at";
            other.batch_execute(write).await.unwrap();
            let storing = developer.store(fields("github"));
            let revoking = async {
                server.waiting_for_locks(1).await;
                let done = forbids.done(&server, &tenant);
                pin!(done);
                let mut answered = false;
                until("it is committed", async || {
                    answered |= poll!(done.as_mut()).is_ready();
                    forbids.is_committed(&server).await
                })
                .await;
                for _ in 0..3 {
                    // As long as a look at the writers takes, and more.
                    let looked = tokio::time::timeout(Duration::from_millis(60), done.as_mut());
                    answered |= looked.await.is_ok();
                }
                assert!(!answered, "{forbids:?} answered before the store did");
                other.batch_execute("rollback").await.unwrap();
                done.await
            };
            let (stored, forbidden) = tokio::join!(storing, revoking);
            forbidden.unwrap();
            assert_eq!(status(&stored), 200, "it was before");
            let left = usize::from(forbids != Forbids::Delete);
            assert_eq!(server.rows("credentials").await.len(), left, "no orphan");
        }
    }
}

#[tokio::test]
async fn a_transaction_that_does_not_end_is_told_of_and_what_was_revoked_stays_revoked() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let other = server.sql().await;
    let write = "begin; update vault.credentials set updated_at = updated_at";
    other.batch_execute(write).await.unwrap();
    let revoked = Forbids::RevokeKey.done(&server, &tenant).await;
    assert!(matches!(revoked, Err(OperatorError::EarlierRequests)));
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        assert_eq!(status(&developer.store(fields("github")).await), 401);
    }
    other.batch_execute("rollback").await.unwrap();
    Forbids::RevokeKey.done(&server, &tenant).await.unwrap();
    let recorded = outcomes_of(&server, "revoke_api_key").await;
    assert_eq!(
        recorded,
        ["revoke_api_key done", "revoke_api_key unchanged"]
    );
}

#[tokio::test]
async fn a_key_that_the_auth_service_replaced_stores_and_deletes_nothing_more() {
    for via in Via::BOTH {
        let realm = Realm::start(Authority::Grantex).await;
        let server = &realm.server;
        let tenant = realm.tenant("acme").await;
        let developer = server.client(via, &tenant.key);
        let stored = developer.store_token("user", "github", "before").await;
        let lock = server.sql().await;
        lock.batch_execute("begin; lock table vault.credentials in access exclusive mode")
            .await
            .unwrap();
        let ends = async {
            server.waiting_for_locks(2).await;
            let rotated = "update public.developers set api_key_hash = 'another'";
            server.execute(rotated).await;
            lock.batch_execute("commit").await.unwrap();
        };
        let (stored, deleted, ()) = tokio::join!(
            developer.store(fields("github")),
            developer.delete(stored["id"].as_str().unwrap()),
            ends
        );
        assert_eq!((status(&stored), status(&deleted)), (401, 401));
        assert_eq!(server.rows("credentials").await.len(), 1);
    }
}

/// An operator's revocation of what a client exchanges with.
async fn revoke(server: &Server, kind: &str) {
    let (operations, by) = server.operations();
    let developer = DeveloperId::parse("acme").unwrap();
    let revoked = match kind {
        "token" => {
            let token = TokenId::parse("the-token").unwrap();
            operations.revoke_token(&by, &developer, token, None).await
        }
        "grant" => {
            let grant = GrantId::parse("the-grant").unwrap();
            operations.revoke_grant(&by, &developer, grant).await
        }
        _ => operations.suspend_developer(&by, &developer).await,
    };
    assert!(revoked.unwrap());
}

fn agent(server: &Server, via: Via) -> Client<'_> {
    let mut claims = server.claims("acme", "user", &["vault:github:exchange"]);
    claims["jti"] = json!("the-token");
    claims["grnt"] = json!("the-grant");
    server.client(via, &server.issuer.key().sign(&claims))
}

#[tokio::test]
async fn an_exchange_that_waits_for_its_data_key_releases_nothing_after_a_revocation() {
    for via in Via::BOTH {
        for kind in ["token", "grant", "developer"] {
            let server = Setup::new().without_data_keys().start().await;
            let tenant = server.tenant("acme").await;
            let developer = server.client(Via::Rest, &tenant.key);
            developer.store_token("user", "github", "secret").await;
            server.kms.set_trouble(Some(Trouble::Hangs));
            let agent = agent(&server, via);
            let revoking = async {
                until("the KMS is asked", async || server.kms.hanging() > 0).await;
                revoke(&server, kind).await;
                server.kms.set_trouble(None);
            };
            let (exchanged, ()) = tokio::join!(agent.exchange("github"), revoking);
            let refused = exchanged.unwrap_err();
            let message = "Invalid or expired grant token";
            assert_eq!(refused.says(), (401, "UNAUTHORIZED", message), "{kind}");
            let outcomes = outcomes_of(&server, "exchange").await;
            assert_eq!(outcomes, ["exchange denied grant_revoked"], "{kind}");
        }
    }
}

#[tokio::test]
async fn an_exchange_whose_event_was_on_its_way_is_waited_for_by_a_revocation() {
    for via in Via::BOTH {
        let server = Server::start().await;
        let tenant = server.tenant("acme").await;
        let developer = server.client(Via::Rest, &tenant.key);
        developer.store_token("user", "github", "secret").await;
        let agent = agent(&server, via);
        agent.exchange("github").await.unwrap();

        // Its event goes to the default partition of another month than that of the revocation.
        let lock = server.sql().await;
        let partition: String = lock
            .query_one(
                "select tableoid::regclass::text from vault.audit_events limit 1",
                &[],
            )
            .await
            .unwrap()
            .get(0);
        lock.batch_execute(&format!(
            "begin; lock table {partition} in access exclusive mode"
        ))
        .await
        .unwrap();
        let exchanging = agent.exchange("github");
        let revoking = async {
            server.waiting_for_locks(1).await;
            server.clock.advance(Duration::from_hours(24 * 40));
            let done = revoke(&server, "grant");
            pin!(done);
            let mut answered = false;
            until("it is committed", async || {
                answered |= poll!(done.as_mut()).is_ready();
                !server.rows("revocations").await.is_empty()
            })
            .await;
            for _ in 0..3 {
                let looked = tokio::time::timeout(Duration::from_millis(60), done.as_mut());
                answered |= looked.await.is_ok();
            }
            assert!(!answered, "the revocation answered before the exchange");
            lock.batch_execute("rollback").await.unwrap();
            done.await;
        };
        let (exchanged, ()) = tokio::join!(exchanging, revoking);
        assert_eq!(status(&exchanged), 200, "it was before");
    }
}

#[tokio::test]
async fn an_api_key_that_is_being_made_goes_with_its_developer() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let other = server.sql().await;
    // What making a key does, in its order.
    other
        .batch_execute(
            "begin;
             select from vault.developers where id = 'acme' for key share;
             insert into vault.api_keys
                select sha256(hash), 'another', developer_id, label, prefix, created_at
                from vault.api_keys",
        )
        .await
        .unwrap();
    let made = async {
        server.waiting_for_locks(1).await;
        other.batch_execute("commit").await.unwrap();
    };
    let (deleted, ()) = tokio::join!(Forbids::Delete.done(&server, &tenant), made);
    deleted.unwrap();
    for table in ["developers", "api_keys"] {
        assert_eq!(server.rows(table).await, [Value::Null; 0], "{table}");
    }
}

#[tokio::test]
async fn what_was_stored_while_a_suspension_was_taken_back_goes_with_its_developer() {
    for via in Via::BOTH {
        let server = Server::start().await;
        let tenant = server.tenant("acme").await;
        let developer = server.client(via, &tenant.key);
        developer.store_token("user", "github", "before").await;
        let (operations, by) = server.operations();
        let id = DeveloperId::parse(&tenant.id).unwrap();

        // As who makes a key for the developer.
        let lock = server.sql().await;
        lock.batch_execute("begin; select from vault.developers for key share")
            .await
            .unwrap();
        let meanwhile = async {
            server.waiting_for_locks(1).await;
            assert!(operations.resume_developer(&by, &id).await.unwrap());
            developer.store_token("user", "slack", "late").await;
            lock.batch_execute("commit").await.unwrap();
        };
        let (deleted, ()) = tokio::join!(operations.delete_developer(&by, &id), meanwhile);
        assert_eq!(deleted.unwrap(), 2, "credentials");
        assert!(server.rows("credentials").await.is_empty());
        assert_eq!(server.rows("revocations").await.len(), 1, "it is suspended");
        let resumed = operations.resume_developer(&by, &id).await;
        assert!(matches!(resumed, Err(OperatorError::NotFound(_))));
        assert_eq!(status(&agent(&server, via).exchange("slack").await), 401);
    }
}

#[tokio::test]
async fn a_deletion_that_ended_early_goes_on_when_it_is_asked_for_again() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    let (operations, by) = server.operations();
    let id = DeveloperId::parse(&tenant.id).unwrap();
    let (lock, other) = (server.sql().await, server.sql().await);
    // As who makes a key for the developer.
    lock.batch_execute("begin; select from vault.developers for key share")
        .await
        .unwrap();
    let meanwhile = async {
        server.waiting_for_locks(1).await;
        assert!(operations.resume_developer(&by, &id).await.unwrap());
        developer.store_token("user", "slack", "late").await;
        let write = "begin; update vault.credentials set updated_at = updated_at";
        other.batch_execute(write).await.unwrap();
        lock.batch_execute("commit").await.unwrap();
    };
    let (deleted, ()) = tokio::join!(operations.delete_developer(&by, &id), meanwhile);
    assert!(matches!(deleted, Err(OperatorError::EarlierRequests)));
    other.batch_execute("rollback").await.unwrap();
    assert!(server.rows("developers").await.is_empty());
    assert_eq!(server.rows("credentials").await.len(), 1);

    for left in [1, 0] {
        let deleted = operations.delete_developer(&by, &id).await;
        assert_eq!(deleted.unwrap(), left, "credentials");
        assert!(server.rows("credentials").await.is_empty());
    }
    assert_eq!(server.rows("revocations").await.len(), 1, "it is suspended");
    let recorded = outcomes_of(&server, "delete_developer").await;
    let expected = ["deleted", "deleted", "unchanged"];
    assert_eq!(
        recorded,
        expected.map(|one| format!("delete_developer {one}"))
    );
}
