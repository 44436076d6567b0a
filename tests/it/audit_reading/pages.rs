//! Pages of events: all of them, once, and of their own list only.

use std::time::Duration;

use serde_json::{Value, json};

use super::{history, matches, recorded};
use crate::harness::{Client, Server, Setup, Via};

/// All pages of a query, one after another; something else happens between them.
async fn pages(client: &Client<'_>, mut query: Value) -> Vec<Vec<Value>> {
    let mut pages = Vec::new();
    loop {
        let page = client.audit_events(query.clone()).await.unwrap();
        pages.push(page["events"].as_array().unwrap().clone());
        match page.get("nextPageToken") {
            Some(token) => query["pageToken"] = token.clone(),
            None => return pages,
        }
        client.server.clock.advance(Duration::from_millis(1));
        client.get("vc_x").await.unwrap_err();
    }
}

#[tokio::test]
async fn pages_together_are_what_was_recorded_before_the_first_whatever_arrives_meanwhile() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    for index in 0..30 {
        // Some of them in one millisecond.
        server.clock.advance(Duration::from_millis(index % 2));
        let principal = format!("p{}", index % 3);
        developer.store_token(&principal, "s", "t").await;
    }
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        for size in [1, 7, 1000] {
            for filter in [json!({}), json!({"principalId": "p1"})] {
                server.clock.advance(Duration::from_millis(1));
                let mut expected = recorded(&server, "acme").await;
                expected.retain(|event| matches(event, &filter));
                let mut query = filter.clone();
                query["pageSize"] = json!(size);
                let pages = pages(&developer, query).await;
                let full = &pages[..pages.len() - 1];
                assert!(full.iter().all(|page| page.len() == size));
                assert_eq!(pages.concat(), expected, "{filter} by {size}");
            }
        }
    }
}

#[tokio::test]
async fn a_page_has_100_events_unless_its_size_is_said() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    for _ in 0..101 {
        developer.get("vc_x").await.unwrap_err();
    }
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        for (size, count) in [(json!(0), 100), (json!(1), 1), (json!(101), 101)] {
            let query = match (via, size.as_i64()) {
                (Via::Rest, Some(0)) => json!({}),
                _ => json!({"pageSize": size}),
            };
            let page = developer.audit_events(query).await.unwrap();
            assert_eq!(page["events"].as_array().unwrap().len(), count);
        }
    }
}

#[tokio::test]
async fn events_that_carry_much_make_shorter_pages_and_no_gaps() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let long = "\u{1f600}".repeat(512);
    let mut claims = server.claims("acme", &long, &[]);
    for name in ["agt", "grnt", "jti", "parentAgt"] {
        claims[name] = json!(long);
    }
    let agent = server.client(Via::Rest, &server.issuer.key().sign(&claims));
    for _ in 0..70 {
        assert_eq!(agent.exchange("github").await.unwrap_err().status, 403);
    }
    for via in Via::BOTH {
        server.clock.advance(Duration::from_millis(1));
        let developer = server.client(via, &tenant.key);
        let query = json!({"pageSize": 1000, "principalId": long, "outcome": "denied"});
        let pages = pages(&developer, query.clone()).await;
        assert!(pages.len() > 1);
        let mut expected = recorded(&server, "acme").await;
        expected.retain(|event| event["outcome"] == "denied");
        assert_eq!(pages.concat(), expected);
    }
}

#[tokio::test]
async fn a_page_token_is_of_its_own_list_only() {
    let server = Setup::new().without_data_keys().start().await;
    let tenants = [server.tenant("acme").await, server.tenant("globex").await];
    for tenant in &tenants {
        history(&server, tenant).await;
    }
    for via in Via::BOTH {
        let developer = server.client(via, &tenants[0].key);
        let own = json!({"pageSize": 2, "service": "GitHub", "from": "2000-01-01T00:00:00Z"});
        let page = developer.audit_events(own.clone()).await.unwrap();
        let token = page["nextPageToken"].as_str().unwrap();
        let credentials = developer.list_where(json!({"pageSize": 1})).await.unwrap();
        let changed = |changes: Value| {
            let mut query = own.clone();
            query["pageToken"] = json!(token);
            for (name, value) in changes.as_object().unwrap() {
                query[name] = value.clone();
            }
            query
        };
        let again = json!({"service": "GITHUB", "pageSize": 3});
        assert!(developer.audit_events(changed(again)).await.is_ok());
        let wrong = [
            json!({"principalId": ""}),
            json!({"principalId": "alice"}),
            json!({"service": "slack"}),
            json!({"credentialId": "vc_x"}),
            json!({"grantId": "grant-a"}),
            json!({"outcome": "released"}),
            json!({"from": "2000-01-01T00:00:00.001Z"}),
            json!({"to": "2100-01-01T00:00:00Z"}),
            json!({"pageToken": &token[1..]}),
            json!({"pageToken": format!("{token}A")}),
            json!({"pageToken": "\0"}),
            json!({"pageToken": credentials["nextPageToken"]}),
        ];
        let stranger = server.client(via, &tenants[1].key);
        let mut refused = vec![stranger.audit_events(changed(json!({}))).await];
        for changes in wrong {
            refused.push(developer.audit_events(changed(changes)).await);
        }
        refused.push(developer.list_where(json!({"pageToken": token})).await);
        for refused in refused {
            let refused = refused.unwrap_err();
            let message = "pageToken is not one of this list";
            assert_eq!(refused.says(), (400, "BAD_REQUEST", message));
            let field = (via == Via::Grpc).then_some("page_token");
            assert_eq!(refused.field.as_deref(), field);
        }
    }
}
