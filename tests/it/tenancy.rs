//! No developer, principal or service reaches the credential of another.

use proptest::{prelude::*, strategy::ValueTree};
use serde_json::{Value, json};

use crate::harness::{Server, Setup, Tenant, Via};

const PRINCIPALS: [&str; 2] = ["alice", "bob"];
const SERVICES: [&str; 2] = ["github", "slack"];

/// One credential and its place.
struct Cell {
    tenant: usize,
    principal: &'static str,
    service: &'static str,
    id: String,
    secret: String,
}

/// Two developers, each with two principals, each with two services.
async fn cells(server: &Server) -> (Vec<Tenant>, Vec<Cell>) {
    let tenants = vec![server.tenant("acme").await, server.tenant("globex").await];
    let mut cells = Vec::new();
    for (index, tenant) in tenants.iter().enumerate() {
        for principal in PRINCIPALS {
            for service in SERVICES {
                let secret = format!("secret of {} {principal} {service}", tenant.id);
                let developer = server.client(Via::Rest, &tenant.key);
                let stored = developer.store_token(principal, service, &secret).await;
                cells.push(Cell {
                    tenant: index,
                    principal,
                    service,
                    id: stored["id"].as_str().unwrap().to_owned(),
                    secret,
                });
            }
        }
    }
    (tenants, cells)
}

#[tokio::test]
async fn a_developer_gets_and_lists_its_own_credentials_only() {
    let server = Server::start().await;
    let (tenants, cells) = cells(&server).await;
    for via in Via::BOTH {
        for (index, tenant) in tenants.iter().enumerate() {
            let developer = server.client(via, &tenant.key);
            for cell in &cells {
                let found = developer.get(&cell.id).await;
                if cell.tenant == index {
                    assert_eq!(found.unwrap()["principalId"], cell.principal);
                } else {
                    let missing = found.unwrap_err();
                    assert_eq!(missing.says(), (404, "NOT_FOUND", "Credential not found"));
                }
            }
            let own = |cell: &&Cell| cell.tenant == index;
            let mine: Vec<_> = cells.iter().filter(own).collect();
            assert_eq!(ids(&developer.list().await.unwrap()), sorted(&mine));
            for principal in PRINCIPALS {
                let mine = mine
                    .iter()
                    .copied()
                    .filter(|cell| cell.principal == principal);
                let listed = developer
                    .list_where(json!({"principalId": principal}))
                    .await;
                assert_eq!(ids(&listed.unwrap()), sorted(&mine.collect::<Vec<_>>()));
            }
        }
    }
}

#[tokio::test]
async fn a_developer_deletes_its_own_credentials_only() {
    for via in Via::BOTH {
        let server = Server::start().await;
        let (tenants, cells) = cells(&server).await;
        for cell in &cells {
            let stranger = server.client(via, &tenants[1 - cell.tenant].key);
            let missing = stranger.delete(&cell.id).await.unwrap_err();
            assert_eq!(missing.says(), (404, "NOT_FOUND", "Credential not found"));
        }
        assert_eq!(server.rows("credentials").await.len(), cells.len());
        for cell in &cells {
            let owner = server.client(via, &tenants[cell.tenant].key);
            owner.delete(&cell.id).await.unwrap();
        }
        assert_eq!(server.rows("credentials").await.len(), 0);
    }
}

#[tokio::test]
async fn a_developer_replaces_its_own_credentials_only() {
    let server = Server::start().await;
    let (tenants, cells) = cells(&server).await;
    let acme = server.client(Via::Grpc, &tenants[0].key);
    acme.store_token("alice", "github", "replaced").await;
    for cell in &cells[1..] {
        let agent = server.agent(Via::Rest, &tenants[cell.tenant], cell.principal);
        let exchanged = agent.exchange(cell.service).await.unwrap();
        assert_eq!(exchanged["accessToken"], cell.secret);
    }
}

#[tokio::test]
async fn a_page_token_of_one_developer_is_of_no_use_to_another() {
    let server = Server::start().await;
    let (tenants, _) = cells(&server).await;
    for via in Via::BOTH {
        let [acme, globex] = [0, 1].map(|index: usize| server.client(via, &tenants[index].key));
        let page = acme.list_where(json!({"pageSize": 1})).await.unwrap();
        let query = json!({"pageSize": 1, "pageToken": page["nextPageToken"]});
        assert!(acme.list_where(query.clone()).await.is_ok());
        let refused = globex.list_where(query).await.unwrap_err();
        assert_eq!(
            refused.says(),
            (400, "BAD_REQUEST", "pageToken is not one of this list")
        );
    }
}

#[tokio::test]
async fn a_developer_reads_its_own_events_only() {
    let server = Server::start().await;
    let (tenants, cells) = cells(&server).await;
    for via in Via::BOTH {
        for (index, tenant) in tenants.iter().enumerate() {
            let developer = server.client(via, &tenant.key);
            let stored = async |mut query: Value| {
                query["outcome"] = json!("stored");
                let events = developer.audit_events(query).await.unwrap()["events"].take();
                let ids = events.as_array().unwrap().iter();
                let mut ids: Vec<_> = ids.map(|event| event["credentialId"].clone()).collect();
                ids.sort_by_key(Value::to_string);
                ids
            };
            let mine = cells.iter().filter(|cell| cell.tenant == index);
            let mine: Vec<_> = mine.collect();
            assert_eq!(stored(json!({})).await, sorted(&mine));
            for cell in &cells {
                let mine = cell.tenant == index;
                let of_one = stored(json!({"credentialId": cell.id})).await;
                assert_eq!(of_one.len(), usize::from(mine));
            }
            for principal in PRINCIPALS {
                let of_principal = mine.iter().copied();
                let of_principal = of_principal.filter(|cell| cell.principal == principal);
                let expected = sorted(&of_principal.collect::<Vec<_>>());
                assert_eq!(stored(json!({"principalId": principal})).await, expected);
            }
        }
    }
}

#[tokio::test]
async fn a_developer_that_nobody_knows_has_no_credentials() {
    let server = Server::start().await;
    cells(&server).await;
    for via in Via::BOTH {
        let claims = server.claims("nobody", "alice", &["vault:github:exchange"]);
        let agent = server.client(via, &server.issuer.key().sign(&claims));
        let missing = agent.exchange("github").await.unwrap_err();
        let message = "No credential found for this principal and service";
        assert_eq!(missing.says(), (404, "NOT_FOUND", message));
    }
}

/// A grant: a developer, a principal and scopes, each sometimes of nobody here.
fn grants() -> impl Strategy<Value = (String, String, Vec<String>)> {
    let developer = prop_oneof!["acme", "globex", "Acme", "acme "];
    let principal = prop_oneof!["alice", "bob", "ALICE", "alice\u{301}", "%"];
    let service = prop_oneof!["github", "slack", "GitHub", "git", "vault", "credentials"];
    let form = prop_oneof![
        "vault:S:exchange",
        "\\*",
        "S:\\*",
        "S:read",
        "S:credentials:read",
        "vault:S:\\*",
        "vault:S:read",
        "vault:credentials:exchange",
        "S",
        "S:exchange",
        "S:write",
        "vault:\\*",
        "S:credentials:\\*",
    ];
    let scope = (form, service).prop_map(|(form, service)| form.replace('S', &service));
    (developer, principal, proptest::collection::vec(scope, 0..3))
}

/// What the contract says of a scope, written down once more.
fn permits(mode: &str, scopes: &[String], service: &str) -> bool {
    let s = service;
    let permitting = [
        format!("vault:{s}:exchange"),
        "*".to_owned(),
        format!("{s}:*"),
        format!("{s}:read"),
        format!("{s}:credentials:read"),
        format!("vault:{s}:*"),
        format!("vault:{s}:read"),
        "vault:credentials:exchange".to_owned(),
    ];
    let permitting = match mode {
        "exact" => &permitting[..1],
        _ => &permitting,
    };
    scopes
        .iter()
        .any(|scope| permitting.contains(&scope.to_ascii_lowercase()))
}

#[tokio::test]
async fn any_grant_opens_the_cells_of_its_own_and_no_other() {
    for mode in ["exact", "compatible"] {
        grants_open_their_own_cells(mode).await;
    }
}

async fn grants_open_their_own_cells(mode: &str) {
    let setup = Setup::new().with("GRANTEX_VAULT_SCOPE_MODE", mode);
    let server = setup.start().await;
    let (_, cells) = cells(&server).await;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for round in 0..60 {
        let drawn = grants().new_tree(&mut runner).unwrap().current();
        let (developer, principal, scopes): (String, String, Vec<String>) = drawn;
        let names: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let claims = server.claims(&developer, &principal, &names);
        let token = server.issuer.key().sign(&claims);
        let agent = server.client(Via::BOTH[round % 2], &token);
        for service in SERVICES {
            let mine = cells.iter().find(|cell| {
                ["acme", "globex"][cell.tenant] == developer
                    && cell.principal == principal
                    && cell.service == service
            });
            let answer = agent.exchange(service).await;
            match (permits(mode, &scopes, service), mine) {
                (true, Some(cell)) => assert_eq!(answer.unwrap()["accessToken"], cell.secret),
                (true, None) => assert_eq!(answer.unwrap_err().status, 404, "{claims}"),
                (false, _) => assert_eq!(answer.unwrap_err().status, 403, "{claims}"),
            }
        }
    }
}

fn ids(listed: &Value) -> Vec<String> {
    let items = listed["credentials"].as_array().unwrap().iter();
    let mut ids: Vec<_> = items
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

fn sorted(cells: &[&Cell]) -> Vec<String> {
    let mut ids: Vec<_> = cells.iter().map(|cell| cell.id.clone()).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn a_scope_names_the_exchange_of_the_service_unless_older_forms_are_taken_too() {
    for mode in [None, Some("compatible")] {
        let setup = Setup::new();
        let setup = match mode {
            Some(mode) => setup.with("GRANTEX_VAULT_SCOPE_MODE", mode),
            None => setup,
        };
        let server = setup.start().await;
        let tenant = server.tenant("acme").await;
        let developer = server.client(Via::Rest, &tenant.key);
        developer.store_token("user", "GitHub", "secret").await;
        let of_wider_forms = if mode.is_some() { 200 } else { 403 };
        for (scope, status) in [
            ("vault:github:exchange", 200),
            ("VAULT:GITHUB:EXCHANGE", 200),
            ("vault:slack:exchange", 403),
            ("*", of_wider_forms),
            ("github:*", of_wider_forms),
            ("github:read", of_wider_forms),
            ("github:credentials:read", of_wider_forms),
            ("vault:github:*", of_wider_forms),
            ("vault:github:read", of_wider_forms),
            ("vault:credentials:exchange", of_wider_forms),
        ] {
            let token = server.grant(&tenant, "user", &[scope]);
            for via in Via::BOTH {
                let answer = server.client(via, &token).exchange("gitHub").await;
                let found = answer.map_or_else(|refused| refused.status, |_| 200);
                assert_eq!(found, status, "{scope}, {mode:?}");
            }
        }
    }
}
