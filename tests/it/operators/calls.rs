//! What each call does, and what it leaves in the record.

use std::time::Duration;

use grantex_vault::{
    grpc::pb::admin::{
        DeleteDeveloperRequest, ListApiKeysRequest, ListDevelopersRequest, ListMasterKeysRequest,
        ListRevocationsRequest, PurgeDataKeysRequest, ResumeDeveloperRequest, RevokeApiKeyRequest,
        SuspendDeveloperRequest,
    },
    store::authority::Authority,
};
use serde_json::{Value, json};
use tonic::Code;

use super::{Files, TOKEN, grant_of, key_of, named, operator, recorded, refused, start, token_of};
use crate::harness::{Realm, Server, Setup, Tenant, Via};

fn tenant(id: &str, key: &str, key_id: &str) -> Tenant {
    Tenant {
        id: id.to_owned(),
        key: key.to_owned(),
        key_id: key_id.to_owned(),
    }
}

/// The statuses that a developer and its agent get, over both transports.
async fn statuses(server: &Server, tenant: &Tenant) -> Vec<u16> {
    let mut found = Vec::new();
    for via in Via::BOTH {
        let listed = server.client(via, &tenant.key).list().await;
        found.push(listed.map_or_else(|refused| refused.status, |_| 200));
        let exchanged = server.agent(via, tenant, "user").exchange("github").await;
        found.push(exchanged.map_or_else(|refused| refused.status, |_| 200));
    }
    found
}

#[tokio::test]
async fn a_developer_is_registered_suspended_resumed_and_deleted() {
    let (_files, server) = start().await;
    let mut operator = operator(&server);
    let created = operator.create_developer(named("Example Inc")).await;
    let developer = created.unwrap().into_inner().developer.unwrap();
    assert!(developer.id.starts_with("dev_"), "{developer:?}");
    let id = developer.id.clone();
    let key = operator
        .create_api_key(key_of(&id))
        .await
        .unwrap()
        .into_inner();
    let row = key.api_key.unwrap();
    assert_eq!((&*row.state, &*row.developer_id), ("active", &*id));
    assert!(key.key.starts_with(&row.prefix) && key.key.starts_with("gx_live_"));
    let tenant = tenant(&id, &key.key, &row.id);
    let client = server.client(Via::Rest, &tenant.key);
    for service in ["github", "slack", "linear"] {
        client.store_token("user", service, "secret").await;
    }
    assert_eq!(statuses(&server, &tenant).await, [200; 4]);

    let suspend = SuspendDeveloperRequest {
        developer_id: id.clone(),
    };
    let resume = ResumeDeveloperRequest {
        developer_id: id.clone(),
    };
    for changed in [true, false] {
        let suspended = operator.suspend_developer(suspend.clone()).await;
        assert_eq!(suspended.unwrap().into_inner().changed, changed);
        assert_eq!(statuses(&server, &tenant).await, [401; 4]);
    }
    let listed = operator
        .list_developers(ListDevelopersRequest::default())
        .await;
    let listed = listed.unwrap().into_inner().developers;
    assert_eq!(listed.len(), 1);
    assert!(listed[0].suspended_at.is_some());
    for changed in [true, false] {
        let resumed = operator.resume_developer(resume.clone()).await;
        assert_eq!(resumed.unwrap().into_inner().changed, changed);
        assert_eq!(statuses(&server, &tenant).await, [200; 4]);
    }

    let delete = DeleteDeveloperRequest { developer_id: id };
    let deleted = operator.delete_developer(delete.clone()).await.unwrap();
    assert_eq!(deleted.into_inner().deleted_credentials, 3);
    assert_eq!(statuses(&server, &tenant).await, [401; 4]);
    for table in ["developers", "api_keys", "credentials"] {
        assert_eq!(server.rows(table).await, Vec::<Value>::new(), "{table}");
    }
    let again = operator.delete_developer(delete).await.unwrap();
    assert_eq!(again.into_inner().deleted_credentials, 0);
    let unknown = DeleteDeveloperRequest {
        developer_id: "nobody".to_owned(),
    };
    let unknown = operator.delete_developer(unknown).await.unwrap_err();
    assert_eq!(refused(&unknown), (Code::NotFound, "NOT_FOUND".to_owned()));
    let key_made = format!("create_api_key done {}", tenant.key_id);
    assert_eq!(
        recorded(&server).await,
        [
            "create_developer done",
            &key_made,
            "suspend_developer done",
            "suspend_developer unchanged",
            "list_developers listed",
            "resume_developer done",
            "resume_developer unchanged",
            "suspend_developer done",
            "delete_developer deleted",
            "suspend_developer unchanged",
            "delete_developer unchanged",
            "suspend_developer not_found",
        ]
    );
}

#[tokio::test]
async fn an_api_key_is_made_listed_and_revoked() {
    let (_files, server) = start().await;
    let mut operator = operator(&server);
    server.tenant("acme").await;
    server.clock.advance(Duration::from_millis(1));
    let mut wanted = key_of("acme");
    wanted.label = "backend".to_owned();
    wanted.test = true;
    wanted.expires_in = Some(prost_types::Duration {
        seconds: 60,
        nanos: 0,
    });
    let made = operator.create_api_key(wanted).await.unwrap().into_inner();
    let id = made.api_key.unwrap().id;
    assert!(made.key.starts_with("gx_test_"));
    let client = server.client(Via::Grpc, &made.key);
    assert!(client.list().await.is_ok());
    server.clock.advance(Duration::from_mins(1));
    assert_eq!(client.list().await.unwrap_err().status, 401);

    let list = ListApiKeysRequest {
        developer_id: "acme".to_owned(),
    };
    let listed = operator
        .list_api_keys(list.clone())
        .await
        .unwrap()
        .into_inner();
    let states: Vec<_> = listed
        .api_keys
        .iter()
        .map(|key| (&*key.label, &*key.state))
        .collect();
    assert_eq!(states, [("backend", "expired"), ("test", "active")]);
    assert!(!format!("{listed:?}").contains(&made.key));

    let other = &listed.api_keys[1];
    for (id, changed) in [(&id, true), (&other.id, true), (&other.id, false)] {
        let revoke = RevokeApiKeyRequest { id: id.clone() };
        let revoked = operator.revoke_api_key(revoke).await.unwrap();
        assert_eq!(revoked.into_inner().changed, changed);
    }
    let listed = operator.list_api_keys(list).await.unwrap().into_inner();
    assert!(listed.api_keys.iter().all(|key| key.state == "revoked"));
    let unknown = RevokeApiKeyRequest {
        id: "ak_01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
    };
    let unknown = operator.revoke_api_key(unknown).await.unwrap_err();
    assert_eq!(refused(&unknown).0, Code::NotFound);
    let events = server.audit_events().await;
    let revocations = events
        .iter()
        .filter(|event| event["verb"] == "revoke_api_key");
    let developers: Vec<_> = revocations.map(|event| &event["developerId"]).collect();
    assert_eq!(developers, ["acme", "acme", "acme", ""]);
}

#[tokio::test]
async fn a_revoked_grant_or_token_is_refused_by_the_next_exchange_on_every_replica() {
    let (_files, server) = start().await;
    let replica = Setup::new().beside(&server).start().await;
    let tenant = server.tenant("acme").await;
    let client = server.client(Via::Rest, &tenant.key);
    client.store_token("user", "github", "secret").await;
    let mut operator = operator(&server);
    for (kind, subject) in [("grant", "grnt"), ("grant", "parentGrnt"), ("token", "jti")] {
        let mut claims = server.claims("acme", "user", &["vault:github:exchange"]);
        claims["grnt"] = json!(format!("grant-{subject}"));
        claims["parentGrnt"] = json!(format!("parent-{subject}"));
        let token = server.issuer.key().sign(&claims);
        let bystander = server.grant(&tenant, "user", &["vault:github:exchange"]);
        let of_all = [&server, &replica].map(|server| {
            Via::BOTH.map(|via| (server.client(via, &token), server.client(via, &bystander)))
        });
        for (agent, _) in of_all.iter().flatten() {
            assert!(agent.exchange("github").await.is_ok());
        }
        let named = claims[subject].as_str().unwrap();
        for changed in [true, false] {
            let found = if kind == "grant" {
                let revoked = operator.revoke_grant(grant_of("acme", named)).await;
                revoked.unwrap().into_inner().changed
            } else {
                let revoked = operator.revoke_token(token_of("acme", named, None)).await;
                revoked.unwrap().into_inner().changed
            };
            assert_eq!(found, changed);
        }
        for (agent, bystander) in of_all.iter().flatten() {
            assert_eq!(agent.exchange("github").await.unwrap_err().status, 401);
            assert!(bystander.exchange("github").await.is_ok());
        }
    }
    let of_the_grant = client.audit_events(json!({"grantId": "grant-grnt", "outcome": "done"}));
    let of_the_grant = of_the_grant.await.unwrap();
    let [event] = &of_the_grant["events"].as_array().unwrap()[..] else {
        panic!("its developer sees the revocation: {of_the_grant}");
    };
    assert_eq!(event["verb"], "revoke_grant");
    assert_eq!(event["subject"], "grant-grnt");
    assert_eq!(event["caller"], json!({"operator": "token"}));
}

#[tokio::test]
async fn lists_are_answered_in_pages_of_one_list() {
    let (_files, server) = start().await;
    let mut operator = operator(&server);
    for index in 0..5 {
        server.tenant(&format!("developer-{index}")).await;
        server.clock.advance(Duration::from_millis(1));
        let revoke = grant_of("developer-0", &format!("grant {index}"));
        operator.revoke_grant(revoke).await.unwrap();
    }
    let (mut developers, mut revocations) = (Vec::new(), Vec::new());
    let mut tokens = vec![String::new()];
    while let Some(page_token) = tokens.pop() {
        let page = ListDevelopersRequest {
            page_size: 2,
            page_token,
        };
        let page = operator.list_developers(page).await.unwrap().into_inner();
        assert!(page.developers.len() <= 2);
        developers.extend(page.developers.into_iter().map(|developer| developer.id));
        tokens.extend(Some(page.next_page_token).filter(|token| !token.is_empty()));
    }
    assert_eq!(
        developers,
        [0, 1, 2, 3, 4].map(|index| format!("developer-{index}"))
    );
    let of = |developer: &str, page_token: &str| ListRevocationsRequest {
        developer_id: developer.to_owned(),
        page_size: 3,
        page_token: page_token.to_owned(),
    };
    let mut last = String::new();
    loop {
        let page = operator.list_revocations(of("developer-0", &last)).await;
        let page = page.unwrap().into_inner();
        assert!(page.revocations.iter().all(|found| found.kind == "grant"));
        revocations.extend(page.revocations.into_iter().map(|found| found.subject));
        if page.next_page_token.is_empty() {
            break;
        }
        last = page.next_page_token;
    }
    assert_eq!(
        revocations,
        [0, 1, 2, 3, 4].map(|index| format!("grant {index}"))
    );
    for wrong in [of("developer-1", &last), of("developer-0", "x")] {
        let wrong = operator.list_revocations(wrong).await.unwrap_err();
        assert_eq!(refused(&wrong).0, Code::InvalidArgument);
        assert_eq!(wrong.message(), "pageToken is not one of this list");
    }
    let of_another_list = ListDevelopersRequest {
        page_size: 2,
        page_token: last,
    };
    let wrong = operator.list_developers(of_another_list).await.unwrap_err();
    assert_eq!(refused(&wrong).0, Code::InvalidArgument);
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_by_its_name_and_does_nothing() {
    let (_files, server) = start().await;
    server.tenant("acme").await;
    let mut operator = operator(&server);
    let mut endless = key_of("acme");
    endless.expires_in = Some(prost_types::Duration {
        seconds: i64::MAX / 1_000_000,
        nanos: 0,
    });
    let mut never = key_of("acme");
    never.expires_in = Some(prost_types::Duration::default());
    let mut label = key_of("acme");
    label.label = "\u{7}".to_owned();
    let found = [
        operator.create_developer(named("")).await.unwrap_err(),
        operator
            .create_developer(named(&"x".repeat(513)))
            .await
            .unwrap_err(),
        operator.create_api_key(key_of("")).await.unwrap_err(),
        operator.create_api_key(endless).await.unwrap_err(),
        operator.create_api_key(never).await.unwrap_err(),
        operator.create_api_key(label).await.unwrap_err(),
        operator
            .revoke_grant(grant_of("acme", ""))
            .await
            .unwrap_err(),
        operator
            .revoke_token(token_of("acme", "a\0b", None))
            .await
            .unwrap_err(),
        operator
            .revoke_token(token_of("acme", "t", Some(i64::MAX)))
            .await
            .unwrap_err(),
    ];
    let messages = [
        "name must not be empty",
        "name must be at most 512 characters",
        "developerId must not be empty",
        "expiresIn ends after the year 9999",
        "expiresIn must be at least a millisecond",
        "label must not contain control characters",
        "grantId must not be empty",
        "tokenId must not contain control characters",
        "expiresAt must be of the years 0001 to 9999",
    ];
    for (status, message) in found.iter().zip(messages) {
        assert_eq!(refused(status).0, Code::InvalidArgument);
        assert_eq!(status.message(), message);
    }
    let unknown = operator
        .revoke_grant(grant_of("nobody", "g"))
        .await
        .unwrap_err();
    assert_eq!(refused(&unknown).0, Code::NotFound);
    assert_eq!(unknown.message(), "There is no such developer");
    let unknown = operator.create_api_key(key_of("nobody")).await.unwrap_err();
    assert_eq!(refused(&unknown).0, Code::NotFound);
    assert_eq!(server.rows("revocations").await, Vec::<Value>::new());
    assert_eq!(server.rows("api_keys").await.len(), 1);
}

#[tokio::test]
async fn data_keys_are_purged_and_master_keys_are_listed_with_what_they_wrap() {
    let files = Files::with_token(TOKEN);
    let setup = files.setup();
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    let client = server.client(Via::Rest, &tenant.key);
    client.store_token("user", "github", "secret").await;
    let agent = server.agent(Via::Grpc, &tenant, "user");
    let calls = server.kms.calls();
    agent.exchange("github").await.unwrap();
    assert_eq!(server.kms.calls(), calls, "its key is in memory");
    let mut operator = operator(&server);
    let purged = operator.purge_data_keys(PurgeDataKeysRequest {}).await;
    assert!(purged.is_ok());
    agent.exchange("github").await.unwrap();
    assert_eq!(server.kms.calls(), calls + 1);

    let keys = operator.list_master_keys(ListMasterKeysRequest {}).await;
    let keys = keys.unwrap().into_inner().master_keys;
    let [key] = &keys[..] else {
        panic!("there is one: {keys:?}");
    };
    assert_eq!((&*key.role, key.wrapped), ("primary", 1));
    let recorded = recorded(&server).await;
    assert_eq!(
        recorded,
        ["purge_data_keys done", "show_master_keys listed"]
    );
}

#[tokio::test]
async fn under_another_authority_developers_are_suspended_and_not_made() {
    let files = Files::with_token(TOKEN);
    let realm = Realm::start_with(Authority::Grantex, files.setup()).await;
    let (server, mut operator) = (&realm.server, operator(&realm.server));
    let tenant = realm.tenant("acme").await;
    let other = realm.tenant("globex").await;
    let list = ListApiKeysRequest {
        developer_id: "acme".to_owned(),
    };
    let found = [
        operator.create_developer(named("x")).await.unwrap_err(),
        operator.create_api_key(key_of("acme")).await.unwrap_err(),
        operator.list_api_keys(list).await.unwrap_err(),
        operator
            .list_developers(ListDevelopersRequest::default())
            .await
            .unwrap_err(),
    ];
    for status in found {
        let expected = (Code::FailedPrecondition, "OTHER_AUTHORITY".to_owned());
        assert_eq!(refused(&status), expected);
    }
    for via in Via::BOTH {
        assert!(server.client(via, &tenant.key).list().await.is_ok());
    }
    let suspend = SuspendDeveloperRequest {
        developer_id: "acme".to_owned(),
    };
    operator.suspend_developer(suspend).await.unwrap();
    let issued = realm.issued(&tenant, "user").await;
    for via in Via::BOTH {
        let refused = server.client(via, &tenant.key).list().await.unwrap_err();
        assert_eq!(refused.status, 401);
        let refused = realm
            .agent(via, &issued)
            .exchange("github")
            .await
            .unwrap_err();
        assert_eq!(refused.status, 401);
        assert!(server.client(via, &other.key).list().await.is_ok());
    }
}

#[tokio::test]
async fn while_the_record_cannot_be_written_nothing_is_done() {
    let (_files, server) = start().await;
    server.tenant("acme").await;
    let mut operator = operator(&server);
    server
        .execute("alter table vault.audit_events add constraint closed check (false) not valid")
        .await;
    let found = [
        operator.create_developer(named("x")).await.unwrap_err(),
        operator
            .revoke_grant(grant_of("acme", "g"))
            .await
            .unwrap_err(),
        operator
            .purge_data_keys(PurgeDataKeysRequest {})
            .await
            .unwrap_err(),
        operator
            .list_developers(ListDevelopersRequest::default())
            .await
            .unwrap_err(),
    ];
    for status in found {
        let expected = (Code::Unavailable, "UNAVAILABLE".to_owned());
        assert_eq!(refused(&status), expected);
    }
    assert_eq!(server.rows("developers").await.len(), 1);
    assert_eq!(server.rows("revocations").await, Vec::<Value>::new());
}
