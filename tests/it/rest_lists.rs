//! Lists: filters, pages, and lists that are too long for memory.

use serde_json::{Value, json};

use crate::harness::{Client, Server, Tenant, Via};

const PATH: &str = "/v1/vault/credentials";

/// Puts many descriptions there; nobody opens them.
async fn fill(server: &Server, tenant: &Tenant, count: usize, metadata: &str) {
    let sql = format!(
        "insert into vault.credentials
         select '{}', 'vc_' || lpad(i::text, 26, '0'), 'user' || i % 2, 'svc' || i, 'svc' || i, 'oauth2',
            '', null, '', 'none', null, {metadata},
            timestamptz '2026-01-01T00:00:00Z' + (i / 10) * interval '1 second',
            timestamptz '2026-01-01T00:00:00Z' + (i / 10) * interval '1 second'
         from generate_series(1, {count}) i",
        tenant.id
    );
    server.execute(&sql).await;
}

fn services(listed: &Value) -> Vec<String> {
    let items = listed["credentials"].as_array().unwrap().iter();
    items
        .map(|item| item["service"].as_str().unwrap().to_owned())
        .collect()
}

fn newest_first(count: usize) -> Vec<String> {
    (1..=count).rev().map(|i| format!("svc{i}")).collect()
}

/// All pages of a list, one after another.
async fn pages(client: &Client<'_>, mut query: Value) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    loop {
        let page = client.list_where(query.clone()).await.unwrap();
        pages.push(services(&page));
        match page.get("nextPageToken") {
            Some(token) => query["pageToken"] = token.clone(),
            None => return pages,
        }
    }
}

#[tokio::test]
async fn a_list_of_thousands_is_whole_newest_first_and_valid_json() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    fill(&server, &tenant, 2_500, "'{\"k\": [1]}'").await;
    for via in Via::BOTH {
        let listed = server.client(via, &tenant.key).list().await.unwrap();
        assert_eq!(services(&listed), newest_first(2_500));
        assert_eq!(listed["credentials"][0]["metadata"], json!({"k": [1]}));
        assert!(listed.get("nextPageToken").is_none());
    }
    assert_eq!(
        server
            .outcomes()
            .await
            .iter()
            .filter(|one| *one == "list listed")
            .count(),
        26
    );
}

#[tokio::test]
async fn an_empty_list_is_an_empty_array() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        assert_eq!(developer.list().await.unwrap(), json!({"credentials": []}));
        let page = developer.list_where(json!({"pageSize": 5})).await.unwrap();
        assert_eq!(page, json!({"credentials": []}));
    }
}

#[tokio::test]
async fn pages_together_are_the_list() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    fill(&server, &tenant, 120, "'{}'").await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        for (size, sizes) in [
            (1000, vec![120]),
            (120, vec![120]),
            (119, vec![119, 1]),
            (40, vec![40, 40, 40]),
            (50, vec![50, 50, 20]),
        ] {
            let pages = pages(&developer, json!({"pageSize": size})).await;
            assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
            assert_eq!(pages.concat(), newest_first(120));
        }
        let filtered = pages(&developer, json!({"pageSize": 25, "principalId": "user1"})).await;
        assert_eq!(
            filtered.iter().map(Vec::len).collect::<Vec<_>>(),
            [25, 25, 10]
        );
        assert!(
            filtered
                .concat()
                .iter()
                .all(|service| service.ends_with(['1', '3', '5', '7', '9']))
        );

        let first = developer.list_where(json!({"pageSize": 10})).await.unwrap();
        let rest = json!({"pageToken": first["nextPageToken"]});
        let rest = developer.list_where(rest).await.unwrap();
        assert_eq!(
            services(&rest),
            newest_first(110)[..100],
            "a token alone implies 100"
        );
    }
}

#[tokio::test]
async fn credentials_that_carry_much_make_shorter_pages_and_no_gaps() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    fill(
        &server,
        &tenant,
        40,
        "json_build_object('a', repeat('x', 60000))",
    )
    .await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        assert_eq!(services(&developer.list().await.unwrap()), newest_first(40));
        let pages = pages(&developer, json!({"pageSize": 1000})).await;
        assert!(pages.len() > 1);
        assert_eq!(pages.concat(), newest_first(40));
    }
}

#[tokio::test]
async fn a_page_token_is_of_its_own_list_only() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    fill(&server, &tenant, 20, "'{}'").await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        let query = json!({"pageSize": 2, "principalId": "user1"});
        let page = developer.list_where(query).await.unwrap();
        let token = page["nextPageToken"].as_str().unwrap().to_owned();
        let own = json!({"pageToken": token, "pageSize": 7, "principalId": "user1"});
        assert_eq!(services(&developer.list_where(own).await.unwrap()).len(), 7);
        let flipped = if token.ends_with('A') { "B" } else { "A" };
        let altered = format!("{}{flipped}", &token[..token.len() - 1]);
        for query in [
            json!({"pageToken": token}),
            json!({"pageToken": token, "principalId": "user0"}),
            json!({"pageToken": token, "principalId": ""}),
            json!({"pageToken": token, "principalId": "user1", "service": "svc1"}),
            json!({"pageToken": altered, "principalId": "user1"}),
            json!({"pageToken": format!("{token}A"), "principalId": "user1"}),
            json!({"pageToken": &token[1..], "principalId": "user1"}),
            json!({"pageToken": "\0", "principalId": "user1"}),
            json!({"pageToken": "é", "principalId": "user1"}),
        ] {
            let refused = developer
                .list_where(query.clone())
                .await
                .expect_err(&query.to_string());
            assert_eq!(
                refused.says(),
                (400, "BAD_REQUEST", "pageToken is not one of this list")
            );
            assert_eq!(
                refused.field.as_deref(),
                (via == Via::Grpc).then_some("page_token")
            );
        }
    }
}

#[tokio::test]
async fn a_filter_matches_its_value_and_what_no_row_can_have_matches_nothing() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    developer.store_token("alice", "GitHub", "t").await;
    developer.store_token("alice", "slack", "t").await;
    developer.store_token("bob smith", "github", "t").await;
    let long = "x".repeat(600);
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        for (query, count) in [
            (json!({"principalId": "alice"}), 2),
            (json!({"service": "GITHUB"}), 2),
            (json!({"service": "github", "principalId": "bob smith"}), 1),
            (json!({"principalId": "bob"}), 0),
            (json!({"principalId": "ALICE"}), 0),
            (json!({"principalId": ""}), 0),
            (json!({"service": ""}), 0),
            (json!({"principalId": "\0"}), 0),
            (json!({"service": "github\0"}), 0),
            (json!({"principalId": "alice\n"}), 0),
            (json!({"service": "git hub"}), 0),
            (json!({"service": "%"}), 0),
            (json!({"principalId": long}), 0),
            (json!({"service": long}), 0),
            (json!({"service": "\u{212a}"}), 0),
        ] {
            let listed = developer.list_where(query.clone()).await.unwrap();
            assert_eq!(
                listed["credentials"].as_array().unwrap().len(),
                count,
                "{query}"
            );
        }
    }
}

#[tokio::test]
async fn a_query_follows_the_rules_of_the_contract() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    developer.store_token("a b", "github", "t").await;
    developer.store_token("100%", "github", "t").await;
    for (query, count) in [
        ("", 2),
        ("principalId=a+b", 1),
        ("principalId=a%20b", 1),
        ("principalId=a%2Bb", 0),
        ("principalId=100%", 1),
        ("principalId=100%25", 1),
        ("principal%49d=a+b", 1),
        ("principalId", 0),
        ("principalid=a", 2),
        ("x=1&x=2&=&&", 2),
        ("service=github&principalId=", 0),
        ("pageToken=", 2),
        ("pageSize=1", 1),
        ("pageSize=0002", 2),
        ("pageSize=1000&pageToken=", 2),
    ] {
        let listed = developer.get_raw(&format!("{PATH}?{query}")).await.unwrap();
        assert_eq!(
            listed["credentials"].as_array().unwrap().len(),
            count,
            "{query}"
        );
    }
    for (query, message) in [
        (
            "principalId=a&principalId=a",
            "principalId must be given once",
        ),
        ("service=a&x&service=b", "service must be given once"),
        ("pageSize=1&pageSize=1", "pageSize must be given once"),
        ("pageToken=&pageToken=", "pageToken must be given once"),
        ("principalId=%ff", "query must be UTF-8"),
        ("x=%c3%28", "query must be UTF-8"),
        ("%ff", "query must be UTF-8"),
        ("pageSize=", "pageSize must be 1 to 1000"),
        ("pageSize=0", "pageSize must be 1 to 1000"),
        ("pageSize=1001", "pageSize must be 1 to 1000"),
        ("pageSize=-1", "pageSize must be 1 to 1000"),
        ("pageSize=%2B1", "pageSize must be 1 to 1000"),
        ("pageSize=1.0", "pageSize must be 1 to 1000"),
        ("pageSize=1e2", "pageSize must be 1 to 1000"),
        ("pageSize=%D9%A1", "pageSize must be 1 to 1000"),
        (
            "pageSize=99999999999999999999",
            "pageSize must be 1 to 1000",
        ),
        ("pageToken=x", "pageToken is not one of this list"),
    ] {
        let refused = developer
            .get_raw(&format!("{PATH}?{query}"))
            .await
            .unwrap_err();
        assert_eq!(refused.says(), (400, "BAD_REQUEST", message), "{query}");
    }
}

#[tokio::test]
async fn a_list_that_breaks_off_never_parses() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    fill(&server, &tenant, 2_500, "'{}'").await;
    // A row far down the list holds what the vault never writes.
    server
        .execute("update vault.credentials set service = 'b a d' where service = 'svc7'")
        .await;
    let developer = server.client(Via::Rest, &tenant.key);
    let response = developer
        .http(reqwest::Method::GET, PATH)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.bytes().await.is_err());
}
