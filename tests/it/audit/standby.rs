//! A synchronous standby that is away: a commit that did not wait for it is no receipt.

use std::time::Duration;

use grantex_vault::{
    audit::prune::{PruneFault, prune},
    clock::Clock,
    envelope::{data_key::DataKey, signing_key::SigningKey},
    model::timestamp::Timestamp,
    store::{Store, schema::Durability},
};
use serde_json::json;
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::harness::{Answer, Cluster, Server, Setup, Tenant, Via, connect, until};

/// A server whose Postgres waits for a standby that is never there, once it is told to.
struct Waiting {
    server: Server,
    tenant: Tenant,
    sql: Client,
    _cluster: Cluster,
}

impl Waiting {
    async fn start() -> Self {
        let cluster = Cluster::start().await;
        let url = cluster.database().await;
        // Whatever the server would say by itself of a commit that did not wait.
        let hide = "do $$ begin execute format(
            'alter database %I set client_min_messages = error', current_database()); end $$";
        connect(&url).await.batch_execute(hide).await.unwrap();
        let server = Setup::new().with("DATABASE_URL", &url).start().await;
        let tenant = server.tenant("acme").await;
        for service in ["github", "slack"] {
            let developer = server.client(Via::Rest, &tenant.key);
            developer.store_token("user", service, "secret").await;
        }
        let sql = connect(&url).await;
        Self {
            server,
            tenant,
            sql,
            _cluster: cluster,
        }
    }

    async fn standby(&self, name: &str) {
        let set = format!("alter system set synchronous_standby_names = '{name}'");
        self.sql
            .batch_execute("set synchronous_commit = local")
            .await
            .unwrap();
        self.sql.batch_execute(&set).await.unwrap();
        self.sql
            .batch_execute("select pg_reload_conf()")
            .await
            .unwrap();
        until("the server has read it", async || {
            let shown = connect(&self.server.database_url).await;
            let row = shown.query_one("show synchronous_standby_names", &[]).await;
            row.unwrap().get::<_, String>(0) == name
        })
        .await;
        // Who was connected before notices with its next statement; commits of the checkpointer's word.
        until("waiting is switched", async || {
            let probe = connect(&self.server.database_url).await;
            let write = "select pg_logical_emit_message(true, 'test', '')";
            let waits = timeout(Duration::from_millis(100), probe.batch_execute(write)).await;
            waits.is_err() != name.is_empty()
        })
        .await;
        self.sql.batch_execute(CANCEL_PROBES).await.unwrap();
    }

    /// The backends that wait for the standby.
    async fn waiting(&self) -> Vec<i32> {
        const SQL: &str = "select pid from pg_stat_activity
            where wait_event = 'SyncRep' and query not like '%''test''%'";
        let rows = self.sql.query(SQL, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Waits for a backend that waits and is none of these.
    async fn another(&self, than: &[i32]) -> i32 {
        let mut found = None;
        until("a commit waits for the standby", async || {
            found = self
                .waiting()
                .await
                .into_iter()
                .find(|pid| !than.contains(pid));
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    async fn end_waiting(&self, how: &str, pid: i32) {
        let sql = format!("select {how}({pid})");
        self.sql.batch_execute(&sql).await.unwrap();
    }
}

const CANCEL_PROBES: &str = "select pg_terminate_backend(pid) from pg_stat_activity
    where wait_event = 'SyncRep' and query like '%''test''%'";

#[tokio::test]
async fn a_release_whose_wait_for_the_standby_ended_early_waits_for_it_again() {
    let waiting = Waiting::start().await;
    let (server, tenant) = (&waiting.server, &waiting.tenant);
    // What is read in the first exchange is confirmed in the second: two statements record.
    for how in ["pg_terminate_backend", "pg_cancel_backend"] {
        for (via, known) in [(Via::Rest, false), (Via::Grpc, true)] {
            let agent = server.agent(via, tenant, "user");
            if known {
                agent.exchange("github").await.unwrap();
            }
            let service = if known { "github" } else { "nothing-stored" };
            waiting.standby("nobody").await;
            let mut exchange = Box::pin(agent.exchange(service));
            let first = tokio::select! {
                answer = &mut exchange => panic!("nothing is replicated: {answer:?}"),
                pid = waiting.another(&[]) => pid,
            };
            waiting.end_waiting(how, first).await;
            let not_yet = timeout(Duration::from_secs(1), &mut exchange).await;
            assert!(not_yet.is_err(), "{how} {service}: {not_yet:?}");
            assert!(
                !waiting.waiting().await.is_empty(),
                "{how} {service}: it waits again"
            );
            waiting.standby("").await;
            let answer = exchange.await;
            assert_eq!(answer.is_ok(), known, "{answer:?}");
        }
    }
    let outcomes = server.outcomes().await;
    let released = outcomes.iter().filter(|one| *one == "exchange released");
    assert_eq!(released.count(), 4, "none twice: {outcomes:?}");
}

#[tokio::test]
async fn a_change_whose_wait_for_the_standby_was_cancelled_is_not_said_to_be_done() {
    let waiting = Waiting::start().await;
    let (server, tenant) = (&waiting.server, &waiting.tenant);
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        let id = developer.store_token("user", "github", "secret").await["id"].clone();
        let id = id.as_str().unwrap();
        let fields = json!({"principalId": "user", "service": "slack", "accessToken": "new"});
        for delete in [false, true] {
            waiting.standby("nobody").await;
            let change = async {
                let answer: Answer = if delete {
                    developer.delete(id).await
                } else {
                    developer.store(fields.clone()).await
                };
                answer
            };
            let cancelled = async {
                let pid = waiting.another(&[]).await;
                waiting.end_waiting("pg_cancel_backend", pid).await;
            };
            let (answer, ()) = tokio::join!(change, cancelled);
            assert_eq!(answer.unwrap_err().status, 503, "delete: {delete}");
            waiting.standby("").await;
        }
    }
}

#[tokio::test]
async fn a_prune_that_is_run_again_waits_for_what_the_first_one_did_not() {
    let waiting = Waiting::start().await;
    let url = waiting.server.database_url.parse().unwrap();
    let store = Store::open(&url, 2, Durability::Required).unwrap();
    let key = SigningKey::from_data_key(&DataKey::make());
    let before = Timestamp::parse("2020-01-01T00:00:00Z").unwrap();
    let run = || prune(&store, &key, before, waiting.server.clock.now());
    // It commits everything that there is to do.
    run().await.unwrap();
    waiting.standby("nobody").await;
    let cancelled = async {
        let pid = waiting.another(&[]).await;
        waiting.end_waiting("pg_cancel_backend", pid).await;
    };
    let both = async { tokio::join!(run(), cancelled) };
    let (again, ()) = timeout(Duration::from_secs(20), both).await.unwrap();
    let again = again.unwrap_err();
    assert!(matches!(again, PruneFault::Store(_)), "{again:?}");
    waiting.standby("").await;
    run().await.unwrap();
}
