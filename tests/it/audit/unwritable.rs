//! Where no event can be left nothing else happens, whatever the reason: nothing leaves, nothing
//! changes, and all goes on by itself when the trouble is over.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use grantex_vault::store::schema;
use serde_json::{Value, json};

use super::UNAVAILABLE;
use crate::harness::{Answer, Cluster, Server, Setup, Tenant, Via, connect};

/// A server with a credential for each change that is tried, so that none waits for another.
struct Vault {
    server: Server,
    tenant: Tenant,
    /// By [`Via::BOTH`].
    credentials: [Credentials; 2],
}

struct Credentials {
    principal: String,
    exchanged: String,
    deleted: String,
}

impl Vault {
    async fn start(setup: Setup) -> Self {
        // What hangs holds its connection.
        let server = setup.with("GRANTEX_VAULT_DB_POOL_SIZE", "32").start().await;
        let tenant = server.tenant("acme").await;
        Self::fill(server, tenant).await
    }

    async fn fill(server: Server, tenant: Tenant) -> Self {
        let store = async |principal: &str, service| {
            let developer = server.client(Via::Rest, &tenant.key);
            let stored = developer.store_token(principal, service, "secret").await;
            stored["id"].as_str().unwrap().to_owned()
        };
        let credentials_of = async |principal: &str| {
            store(principal, "replaced").await;
            store(principal, "damaged").await;
            Credentials {
                principal: principal.to_owned(),
                exchanged: store(principal, "exchanged").await,
                deleted: store(principal, "deleted").await,
            }
        };
        let credentials = [
            credentials_of("of-rest").await,
            credentials_of("of-grpc").await,
        ];
        let damage = "update vault.credentials set access_token = '' where service = 'damaged'";
        server.execute(damage).await;
        Self {
            server,
            tenant,
            credentials,
        }
    }

    /// Every verb over both transports at once, with all that can become of it.
    async fn every_verb(&self) -> Vec<Answer> {
        let [rest, grpc] = &self.credentials;
        let (rest, grpc) = tokio::join!(
            Box::pin(self.every_verb_via(Via::Rest, rest)),
            Box::pin(self.every_verb_via(Via::Grpc, grpc)),
        );
        rest.into_iter().chain(grpc).collect()
    }

    async fn every_verb_via(&self, via: Via, of: &Credentials) -> [Answer; 12] {
        let developer = self.server.client(via, &self.tenant.key);
        let agent = self.server.agent(via, &self.tenant, &of.principal);
        let token = self
            .server
            .grant(&self.tenant, &of.principal, &["vault:slack:exchange"]);
        let scoped = self.server.client(via, &token);
        let fields = |service: &str| json!({"principalId": of.principal, "service": service, "accessToken": "secret 2"});
        tokio::join!(
            developer.store(fields("replaced")),
            developer.store(fields("new")),
            developer.get(&of.exchanged),
            developer.get("vc_x"),
            developer.list(),
            developer.list_where(json!({"pageSize": 1})),
            developer.delete(&of.deleted),
            developer.delete("vc_x"),
            agent.exchange("exchanged"),
            agent.exchange("damaged"),
            agent.exchange("nothing-stored"),
            scoped.exchange("exchanged"),
        )
        .into()
    }

    /// Tries every verb while nothing can be recorded; answers the time that it took.
    async fn refuses_everything(&self) -> Duration {
        let rows = self.server.rows("credentials").await;
        let since = Instant::now();
        for answer in self.every_verb().await {
            let refused = answer.unwrap_err();
            assert_eq!(refused.says(), (503, "UNAVAILABLE", UNAVAILABLE));
            assert_eq!(refused.retry_after, Some(1));
            assert!(!format!("{refused:?}").contains("secret"));
        }
        let took = since.elapsed();
        assert_eq!(
            self.server.rows("credentials").await,
            rows,
            "nothing changed"
        );
        took
    }

    /// Tries every verb when the trouble is over.
    async fn serves_again(&self) {
        let statuses = |answers: Vec<Answer>| {
            let status = |answer: Answer| answer.map_or_else(|refused| refused.status, |_| 200);
            answers.into_iter().map(status).collect::<Vec<_>>()
        };
        let served = [200, 200, 200, 404, 200, 200, 200, 404, 200, 500, 404, 403];
        assert_eq!(statuses(self.every_verb().await), [served, served].concat());
        let events = self.server.audit_events().await;
        let request = |event: &Value| event["requestId"].to_string();
        let requests: BTreeSet<_> = events.iter().map(request).collect();
        assert_eq!(requests.len(), events.len(), "a request has one event");
    }
}

#[tokio::test]
async fn without_a_record_nothing_leaves_and_nothing_changes() {
    let vault = Vault::start(Setup::new()).await;
    let full_up = "alter table vault.audit_events add constraint full_up check (false) not valid";
    vault.server.execute(full_up).await;
    vault.refuses_everything().await;
    let dropped = "alter table vault.audit_events drop constraint full_up";
    vault.server.execute(dropped).await;
    vault.serves_again().await;
}

#[tokio::test]
async fn a_role_that_may_not_write_events_serves_nothing() {
    let url = Cluster::shared().await.database().await;
    let owner = connect(&url).await;
    let role = format!("server_{}", uuid::Uuid::new_v4().simple());
    let create = format!("create role {role} login");
    owner.batch_execute(&create).await.unwrap();
    let name = role.parse().unwrap();
    schema::migrate(&url.parse().unwrap(), Some(&name))
        .await
        .unwrap();
    let of_owner = Setup::new().with("DATABASE_URL", &url).start().await;
    let tenant = of_owner.tenant("acme").await;
    let mut setup = Setup::new()
        .with(
            "DATABASE_URL",
            &url.replace("user=postgres", &format!("user={role}")),
        )
        .with("GRANTEX_VAULT_DB_POOL_SIZE", "32");
    setup.kms = Arc::clone(&of_owner.kms);
    let vault = Vault::fill(setup.start().await, tenant).await;

    let revoke = format!("revoke insert on vault.audit_events from {role}");
    owner.batch_execute(&revoke).await.unwrap();
    vault.refuses_everything().await;
    let grant = format!("grant insert on vault.audit_events to {role}");
    owner.batch_execute(&grant).await.unwrap();
    vault.serves_again().await;
}

#[tokio::test]
async fn while_the_table_of_events_is_locked_every_verb_is_given_up_in_time() {
    let vault = Vault::start(Setup::new()).await;
    for mode in ["access exclusive", "share row exclusive"] {
        let session = vault.server.sql().await;
        let lock = format!("begin; lock table vault.audit_events in {mode} mode");
        session.batch_execute(&lock).await.unwrap();
        let took = vault.refuses_everything().await;
        assert!((4.5..8.0).contains(&took.as_secs_f64()), "{took:?}");
        session.batch_execute("rollback").await.unwrap();
    }
    vault.serves_again().await;
}

/// Fills the partition of now and leaves no room for an event in its file.
async fn fill_up(cluster: &Cluster, sql: &tokio_postgres::Client) {
    const INSERT: &str = "
        insert into vault.audit_events (developer_id, id, outcome, canonical)
        select 'filler', vault.ulid_of(now()) || lpad((n + $1)::text, 16, '0'), 'listed',
            repeat('x', $2)::bytea from generate_series(1, $3::int) n";
    const SIZE: &str = "
        select pg_relation_size(tableoid) from vault.audit_events where developer_id = 'filler' limit 1";
    // Beyond the size of a file of WAL, which must not be the one that is limited. Four of these are a
    // page, and what is left of it is too small for an event.
    let (mut number, size, rows) = (0_i32, 1900_i32, 9000_i32);
    sql.execute(INSERT, &[&number, &size, &rows]).await.unwrap();
    let file: i64 = sql.query_one(SIZE, &[]).await.unwrap().get(0);
    assert!(file > 16 * 1024 * 1024, "{file}");
    // Half a page more: Postgres finds that a write was short, as it does on a full disk.
    let limit = u64::try_from(file).unwrap() + 4096;
    cluster.limit_files(Some(limit)).await;
    number = rows;
    let full = loop {
        number += 1;
        match sql.execute(INSERT, &[&number, &300_i32, &1_i32]).await {
            Ok(_) => assert!(number < rows + 100, "one page has no room for more"),
            Err(error) => break error,
        }
    };
    let code = full.code();
    let disk_full = tokio_postgres::error::SqlState::DISK_FULL;
    assert_eq!(code, Some(&disk_full), "{full:?}");
}

#[tokio::test]
async fn without_room_for_events_on_the_disk_nothing_leaves_and_nothing_changes() {
    let cluster = Cluster::start().await;
    let url = cluster.database().await;
    let vault = Vault::start(Setup::new().with("DATABASE_URL", &url)).await;
    let sql = vault.server.sql().await;
    fill_up(&cluster, &sql).await;
    vault.refuses_everything().await;
    let probe = format!("{}/readyz", vault.server.admin_url());
    let ready: Value = vault
        .server
        .http
        .get(probe)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        ready["checks"]["audit"]["detail"], "its disk is full",
        "{ready}"
    );
    cluster.limit_files(None).await;
    let forget = "delete from vault.audit_events where developer_id = 'filler'";
    sql.batch_execute(forget).await.unwrap();
    vault.serves_again().await;
}
