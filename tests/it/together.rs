//! Exchanges that are looked up together, in one statement.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::{Answer, Cluster, Server, Setup, Tenant, Via, until};

const PRINCIPALS: [&str; 3] = ["alice", "bob", "carol"];
const SERVICES: [&str; 3] = ["github", "slack", "notion"];
const DEVELOPERS: [&str; 4] = ["acme", "globex", "initech", "umbrella"];
/// One for each of these, over both transports.
const EXCHANGES: usize = 2 * DEVELOPERS.len() * PRINCIPALS.len() * SERVICES.len();

/// What an exchange is answered.
#[derive(Debug, PartialEq)]
enum Told {
    Token(String),
    Refused(u16),
}

impl Told {
    fn by(answer: Answer) -> Self {
        match answer {
            Ok(body) => Self::Token(body["accessToken"].as_str().unwrap().to_owned()),
            Err(problem) => Self::Refused(problem.status),
        }
    }
}

/// Developers with credentials: all principals have all services but the last, which only the first has.
async fn settled(server: &Server) -> Vec<Tenant> {
    let mut tenants = Vec::new();
    for developer in DEVELOPERS {
        let tenant = server.tenant(developer).await;
        let client = server.client(Via::Rest, &tenant.key);
        for (number, principal) in PRINCIPALS.into_iter().enumerate() {
            for service in &SERVICES[..if number == 0 { 3 } else { 2 }] {
                let token = format!("{developer} {principal} {service}");
                client.store_token(principal, service, &token).await;
            }
        }
        tenants.push(tenant);
    }
    tenants
}

/// What bob of acme asks with, whose grant is revoked; and carol, who has a scope for one service only.
fn claims(server: &Server, developer: &str, principal: &str) -> Value {
    let scopes: &[&str] = match principal {
        "carol" => &["vault:slack:exchange"],
        _ => &[
            "vault:github:exchange",
            "vault:slack:exchange",
            "vault:notion:exchange",
        ],
    };
    let mut claims = server.claims(developer, principal, scopes);
    claims["grnt"] = json!(format!("grant of {developer} {principal}"));
    claims
}

fn expected(developer: &str, principal: &str, service: &str) -> Told {
    match (developer, principal, service) {
        ("acme", "bob", _) | ("umbrella", _, _) => Told::Refused(401),
        (_, "carol", "github" | "notion") => Told::Refused(403),
        (_, "bob", "notion") => Told::Refused(404),
        _ => Told::Token(format!("{developer} {principal} {service}")),
    }
}

#[tokio::test]
async fn those_who_ask_at_the_same_moment_are_each_answered_their_own() {
    let server = Setup::new()
        .with("GRANTEX_VAULT_LIMIT_FAILED_AUTH_PER_ADDRESS", "0")
        .with("GRANTEX_VAULT_MAX_IN_FLIGHT", &EXCHANGES.to_string())
        .start()
        .await;
    let tenants = settled(&server).await;
    server
        .execute(
            "insert into vault.revocations values
                ('acme', 'grant', 'grant of acme bob', now(), null),
                ('globex', 'grant', 'grant of globex nobody', now(), null),
                ('umbrella', 'developer', 'umbrella', now(), null)",
        )
        .await;
    let mut all = Vec::new();
    for via in Via::BOTH {
        for developer in DEVELOPERS {
            for principal in PRINCIPALS {
                let token = server
                    .issuer
                    .key()
                    .sign(&claims(&server, developer, principal));
                for service in SERVICES {
                    all.push((via, developer, principal, service, token.clone()));
                }
            }
        }
    }
    let waits = "grantex_vault_db_pool_wait_seconds_count";
    let before = server.metric(waits).await.unwrap();
    let blocker = server.sql().await;
    let lock = "begin; lock vault.credentials in access exclusive mode";
    blocker.batch_execute(lock).await.unwrap();
    let asked = all
        .iter()
        .map(async |(via, developer, principal, service, token)| {
            let told = Told::by(server.client(*via, token).exchange(service).await);
            assert_eq!(
                told,
                expected(developer, principal, service),
                "{developer} {principal} {service} over {via:?}"
            );
        });
    let released = async {
        // As many are let in as there are exchanges: one more is turned away when all have come.
        let reader = server.client(Via::Rest, &tenants[0].key);
        until("all have come", async || {
            let refused = reader.audit_events(json!({})).await.err();
            refused.is_some_and(|refused| refused.status == 503)
        })
        .await;
        blocker.batch_execute("rollback").await.unwrap();
    };
    tokio::join!(join_all(asked), released);
    let statements = server.metric(waits).await.unwrap() - before;
    assert_eq!(all.len(), EXCHANGES);
    // Recording them took some connections too.
    let asked = f64::from(u32::try_from(EXCHANGES).unwrap());
    assert!(statements < asked, "{statements} for {asked}");
}

#[tokio::test]
async fn who_gives_up_takes_nothing_from_those_who_asked_beside() {
    let server = Server::start().await;
    let tenants = settled(&server).await;
    for via in Via::BOTH {
        let blocker = server.sql().await;
        let lock = "begin; lock vault.credentials in access exclusive mode";
        blocker.batch_execute(lock).await.unwrap();
        let (hasty, patient) = (
            server.agent(via, &tenants[0], "alice"),
            server.agent(via, &tenants[1], "alice"),
        );
        let given_up = async {
            let patience = Duration::from_millis(150);
            let answer = timeout(patience, hasty.exchange("github")).await;
            assert!(answer.is_err(), "it is locked");
            blocker.batch_execute("rollback").await.unwrap();
        };
        let (answer, ()) = tokio::join!(patient.exchange("github"), given_up);
        assert_eq!(answer.unwrap()["accessToken"], "globex alice github");
        let after = hasty.exchange("github").await.unwrap();
        assert_eq!(after["accessToken"], "acme alice github");
    }
}

#[tokio::test]
async fn exchanges_that_come_one_by_one_are_planned_once_a_connection() {
    let settings = [
        "shared_preload_libraries=pg_stat_statements",
        "pg_stat_statements.track_planning=on",
        // New statistics are a reason to plan again.
        "autovacuum=off",
    ];
    let cluster = Cluster::start_with(&settings, &[]).await;
    let url = cluster.database().await;
    let setup = Setup::new().without_data_keys();
    let server = setup.with("DATABASE_URL", &url).start().await;
    server.execute("create extension pg_stat_statements").await;
    let tenants = settled(&server).await;
    server.execute("select pg_stat_statements_reset()").await;
    for _ in 0..10 {
        for via in Via::BOTH {
            let agent = server.agent(via, &tenants[0], "alice");
            agent.exchange("github").await.unwrap();
        }
    }
    // Two connections are read on, one is for the record.
    for (statement, connections) in [
        ("%asked.number%", 2),
        ("%insert into vault.audit_events%", 1),
    ] {
        let sql = "select calls, plans from pg_stat_statements where query like $1 and query not like '%pg_stat%'";
        let row = server
            .sql()
            .await
            .query_one(sql, &[&statement])
            .await
            .unwrap();
        let (calls, plans): (i64, i64) = (row.get("calls"), row.get("plans"));
        assert_eq!(calls, 20, "{statement}");
        assert!((1..=connections).contains(&plans), "{statement}: {plans}");
    }
}
