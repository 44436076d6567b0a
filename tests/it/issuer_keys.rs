//! The issuer's keys: how they come, how they go, and how often they are asked for.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use crate::harness::{Answer, FakeIssuer, Server, Setup, SigningKey, Tenant, Via, until};

/// No unknown `kid` causes another fetch for this long after one.
const COOLDOWN: Duration = Duration::from_secs(10);

fn assert_invalid(answer: Answer) {
    let refused = answer.unwrap_err();
    assert_eq!(
        refused.says(),
        (401, "UNAUTHORIZED", "Invalid or expired grant token")
    );
}

fn assert_unavailable(answer: Answer) {
    let refused = answer.unwrap_err();
    let message = "The issuer's verification keys are unavailable";
    assert_eq!(refused.says(), (503, "UNAVAILABLE", message));
    assert_eq!(refused.retry_after, Some(1));
}

async fn exchange(server: &Server, via: Via, tenant: &Tenant, key: &SigningKey) -> Answer {
    let claims = server.claims(&tenant.id, "user", &["vault:github:exchange"]);
    server
        .client(via, &key.sign(&claims))
        .exchange("github")
        .await
}

async fn with_a_credential(setup: Setup) -> (Server, Tenant) {
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    server
        .client(Via::Rest, &tenant.key)
        .store_token("user", "github", "secret")
        .await;
    (server, tenant)
}

#[tokio::test]
async fn without_keys_exchanges_are_unavailable_until_they_can_be_had() {
    let setup = Setup::new();
    setup.issuer.fail();
    let (server, tenant) = with_a_credential(setup).await;
    let key = server.issuer.key();
    for via in Via::BOTH {
        assert_unavailable(exchange(&server, via, &tenant, &key).await);
        assert_invalid(server.client(via, "not a token").exchange("github").await);
        assert!(server.client(via, &tenant.key).list().await.is_ok());
    }
    assert_eq!(server.issuer.fetches(), 1, "the one at the start");
    server.issuer.recover();
    server.clock.advance(COOLDOWN);
    for via in Via::BOTH {
        assert!(exchange(&server, via, &tenant, &key).await.is_ok());
    }
    assert_eq!(server.issuer.fetches(), 2);
}

#[tokio::test]
async fn what_is_no_key_set_is_no_keys() {
    for document in ["", "null", "[]", "{}", r#"{"keys":{}}"#, "<html>"] {
        let setup = Setup::new();
        setup.issuer.set_document(Some(document));
        let (server, tenant) = with_a_credential(setup).await;
        let answer = exchange(&server, Via::Rest, &tenant, &server.issuer.key()).await;
        assert_unavailable(answer);
    }
}

#[tokio::test]
async fn known_keys_verify_while_the_issuer_is_gone_but_not_for_ever() {
    let (server, tenant) = with_a_credential(Setup::new()).await;
    let key = server.issuer.key();
    server.issuer.fail();
    server.clock.advance(Duration::from_hours(24));
    for via in Via::BOTH {
        assert!(exchange(&server, via, &tenant, &key).await.is_ok());
    }
    assert_eq!(server.issuer.fetches(), 1);
    server.clock.advance(Duration::from_millis(1));
    for via in Via::BOTH {
        assert_unavailable(exchange(&server, via, &tenant, &key).await);
    }
    server.issuer.recover();
    server.clock.advance(COOLDOWN);
    for via in Via::BOTH {
        assert!(exchange(&server, via, &tenant, &key).await.is_ok());
    }
}

#[tokio::test]
async fn unknown_kids_cause_a_fetch_each_cooldown_and_no_more() {
    let (server, tenant) = with_a_credential(Setup::new()).await;
    for (cooldowns, fetches) in [(0, 1), (1, 2), (1, 3)] {
        server.clock.advance(COOLDOWN * cooldowns);
        for number in 0..10 {
            let unknown = server.issuer.key().called(&format!("made-up-{number}"));
            assert_invalid(exchange(&server, Via::BOTH[number % 2], &tenant, &unknown).await);
        }
        assert_eq!(server.issuer.fetches(), fetches);
    }
}

#[tokio::test]
async fn while_the_issuer_is_gone_an_unknown_kid_is_unavailable_and_known_ones_verify() {
    let (server, tenant) = with_a_credential(Setup::new()).await;
    let unknown = SigningKey::number(1);
    server.issuer.fail();
    server.clock.advance(COOLDOWN);
    for via in Via::BOTH {
        assert_unavailable(exchange(&server, via, &tenant, &unknown).await);
        assert!(
            exchange(&server, via, &tenant, &server.issuer.key())
                .await
                .is_ok()
        );
    }
    assert_eq!(server.issuer.fetches(), 2);
}

#[tokio::test]
async fn while_the_issuer_is_silent_known_keys_verify() {
    let (server, tenant) = with_a_credential(Setup::new()).await;
    server.issuer.publish(SigningKey::number(1));
    server.issuer.hang();
    server.clock.advance(COOLDOWN);
    let issuer: Arc<FakeIssuer> = Arc::clone(&server.issuer);
    let new_key = SigningKey::number(1);
    let waiting = exchange(&server, Via::Rest, &tenant, &new_key);
    let meanwhile = async {
        until("the issuer is asked", async || issuer.fetches() == 2).await;
        for via in Via::BOTH {
            assert!(exchange(&server, via, &tenant, &issuer.key()).await.is_ok());
        }
        issuer.recover();
    };
    let (answer, ()) = tokio::join!(waiting, meanwhile);
    assert_eq!(answer.unwrap()["accessToken"], "secret");
}

#[tokio::test]
async fn a_rotated_key_is_found_and_the_old_one_goes_with_the_set_that_lacks_it() {
    let (server, tenant) = with_a_credential(Setup::new()).await;
    let (old, new) = (server.issuer.key(), SigningKey::number(1));
    server.issuer.publish(new.clone());
    server.clock.advance(COOLDOWN);
    for via in Via::BOTH {
        assert!(exchange(&server, via, &tenant, &new).await.is_ok());
        assert!(exchange(&server, via, &tenant, &old).await.is_ok());
    }
    assert_eq!(server.issuer.fetches(), 2);
    server.issuer.withdraw(&old.kid);
    server.clock.advance(COOLDOWN);
    let unknown = new.called("made-up");
    assert_invalid(exchange(&server, Via::Rest, &tenant, &unknown).await);
    for via in Via::BOTH {
        assert_invalid(exchange(&server, via, &tenant, &old).await);
        assert!(exchange(&server, via, &tenant, &new).await.is_ok());
    }
}

#[tokio::test]
async fn a_key_verifies_under_its_own_kid_only() {
    let (server, tenant) = with_a_credential(Setup::new()).await;
    server.issuer.publish(SigningKey::number(1));
    server.clock.advance(COOLDOWN);
    let impostor = SigningKey::number(1).called(&server.issuer.key().kid);
    for via in Via::BOTH {
        assert!(
            exchange(&server, via, &tenant, &SigningKey::number(1))
                .await
                .is_ok()
        );
        assert_invalid(exchange(&server, via, &tenant, &impostor).await);
    }
}

#[tokio::test]
async fn a_key_set_without_a_usable_key_is_named_by_readiness() {
    let setup = Setup::new();
    setup.issuer.set_document(Some(r#"{"keys": []}"#));
    let server = setup.start().await;
    let probe = server.http.get(format!("{}/readyz", server.admin_url()));
    let ready: Value = probe.send().await.unwrap().json().await.unwrap();
    let check = &ready["checks"]["issuerKeys"];
    assert_eq!(check["detail"], "has no usable key", "{ready}");
}
