//! Seals: every event is in one within seconds, in the order of commits, and nothing that is done to it
//! afterwards goes unnoticed.

mod attacks;
mod command_line;
mod exports;
mod proofs;
mod pruning;
mod replicas;
mod restores;
mod tampering;
mod times;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use grantex_vault::{
    audit::{
        finding::{Finding, Watch},
        seal::{Entry, Header},
        sealer::open_key,
        verify::{Anchor, Verified, verify},
    },
    clock::SystemClock,
    envelope::{
        Envelope,
        cache::{DataKeyCache, TimeToLive},
        kms::Kms,
        signing_key::SigningKey,
    },
    metrics::Metrics,
    pace::Pace,
    store::{Store, schema::Durability},
};

use crate::harness::{Server, Setup, Tenant, Via, until};

/// A server that seals twenty times a second.
async fn sealing() -> (Server, Tenant) {
    served(eager(Setup::new())).await
}

fn eager(setup: Setup) -> Setup {
    setup.with("GRANTEX_VAULT_AUDIT_SEAL_INTERVAL", "50ms")
}

/// Started, with a tenant and a credential of `user` for `github`.
async fn served(setup: Setup) -> (Server, Tenant) {
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    developer.store_token("user", "github", "secret").await;
    (server, tenant)
}

async fn exchange(server: &Server, tenant: &Tenant, times: usize) {
    for round in 0..times {
        let agent = server.agent(Via::BOTH[round % 2], tenant, "user");
        assert!(agent.exchange("github").await.is_ok());
    }
}

/// Waits until every event is in a seal.
pub(crate) async fn all_sealed(server: &Server) {
    until("every event is sealed", async || {
        let seals = seals(server).await;
        let sealed: u64 = seals.iter().map(|(header, _)| header.events).sum();
        sealed == server.audit_events().await.len() as u64
    })
    .await;
}

/// Takes the right to seal away from the server. A seal that is under way has ended when this answers:
/// the next one waits for the right.
async fn nobody_seals(server: &Server) {
    let sql = server.sql().await;
    let taken = "begin; update vault.audit_sealer
        set holder = 'nobody', until = clock_timestamp() + interval '1 hour'";
    sql.batch_execute(taken).await.unwrap();
    until("the sealer asks for its right", async || {
        waits_for_a_lock(server, "update vault.audit_sealer").await
    })
    .await;
    sql.batch_execute("commit").await.unwrap();
}

/// Whether a statement with these words waits for a lock.
async fn waits_for_a_lock(server: &Server, words: &str) -> bool {
    let waiting = "select exists (select from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'
          and position($1 in query) > 0)";
    let sql = server.sql().await;
    sql.query_one(waiting, &[&words]).await.unwrap().get(0)
}

/// The seals, with their events as far as they have not been forgotten.
async fn seals(server: &Server) -> Vec<(Header, Option<Vec<Entry>>)> {
    let sql = "select header, entries from vault.audit_seals order by number";
    let rows = server.sql().await.query(sql, &[]).await.unwrap();
    let seal = |row: &tokio_postgres::Row| {
        let entries: Option<&[u8]> = row.get(1);
        let entries = entries.map(|bytes| Entry::read(bytes).expect("whole entries"));
        (Header::parse(row.get(0)).expect("a header"), entries)
    };
    rows.iter().map(seal).collect()
}

fn store(url: &str) -> Store {
    Store::open(&url.parse().unwrap(), 2, Durability::Required).unwrap()
}

/// The key that the server's master key unwraps.
async fn signing_key(server: &Server) -> SigningKey {
    let row = store(&server.database_url).signing_key().await.unwrap();
    let kms: Arc<dyn Kms> = Arc::clone(&server.kms) as _;
    let (clock, metrics) = (Arc::new(SystemClock), Metrics::unobserved());
    let cache = DataKeyCache::new(TimeToLive::new(Duration::ZERO), 0, clock, metrics.clone());
    let envelope = Envelope::new(kms, Duration::from_secs(3), cache, metrics);
    open_key(&envelope, &row.expect("a key was made"))
        .await
        .unwrap()
}

/// What verifying finds, line by line, and what it says at the end.
async fn verified(server: &Server, anchor: Option<Anchor>) -> (Vec<String>, Verified) {
    let key = signing_key(server).await.public_key();
    let found = Mutex::new(Vec::new());
    let report = |finding: &Finding| found.lock().unwrap().push(finding.to_string());
    let watch = Watch::new(&report);
    let store = store(&server.database_url);
    let pace = Pace::new(1, None);
    let verified = verify(&store, key, anchor, &pace, &watch);
    let verified = Box::pin(verified).await.unwrap();
    let found = std::mem::take(&mut *found.lock().unwrap());
    assert_eq!(verified.findings, found.len() as u64);
    (found, verified)
}

/// Nothing is wrong, and the last seal is this one.
pub(crate) async fn assert_whole(server: &Server) -> Anchor {
    let (found, verified) = verified(server, None).await;
    assert_eq!(found, Vec::<String>::new());
    verified.last.expect("something was sealed")
}

#[tokio::test]
async fn every_event_is_in_one_seal_and_verifies() {
    let (server, tenant) = sealing().await;
    exchange(&server, &tenant, 20).await;
    let developer = server.client(Via::Grpc, &tenant.key);
    developer.list().await.unwrap();
    assert_eq!(developer.delete("vc_x").await.unwrap_err().status, 404);
    all_sealed(&server).await;
    let seals = seals(&server).await;
    let mut ids: Vec<String> = seals
        .iter()
        .flat_map(|(_, entries)| entries.iter().flatten())
        .map(|entry| entry.id.to_string())
        .collect();
    ids.sort_unstable();
    let events = server.audit_events().await;
    let mut expected: Vec<String> = events
        .iter()
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect();
    expected.sort_unstable();
    assert_eq!(ids, expected);
    let last = assert_whole(&server).await;
    assert_eq!(last.number, seals.len() as u64);
    let (found, with_anchor) = verified(&server, Some(last)).await;
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(with_anchor.unsealed, 0);
}

#[tokio::test]
async fn without_events_there_is_no_seal_and_without_seals_no_key() {
    let server = eager(Setup::new()).start().await;
    let tenant = server.tenant("acme").await;
    assert!(
        server
            .client(Via::Rest, "gx_test_nobody_knows")
            .list()
            .await
            .is_err()
    );
    let developer = server.client(Via::Rest, &tenant.key);
    assert!(
        store(&server.database_url)
            .signing_key()
            .await
            .unwrap()
            .is_none()
    );
    developer.list().await.unwrap();
    all_sealed(&server).await;
    assert_eq!(seals(&server).await.len(), 1);
    assert!(
        store(&server.database_url)
            .signing_key()
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn a_transaction_that_is_open_holds_back_what_comes_after_it_and_falls_into_a_later_seal() {
    let (server, tenant) = sealing().await;
    all_sealed(&server).await;
    let open = server.sql().await;
    let begin = "begin; insert into vault.audit_events
        (developer_id, id, outcome, canonical) values ('late', '01ARZ3NDEKTSV4RRFFQ69G5FAV', 'x', '')";
    open.batch_execute(begin).await.unwrap();
    let before = seals(&server).await.len();
    exchange(&server, &tenant, 3).await;
    until("sealing is held back", async || {
        let held = server
            .metric("grantex_vault_audit_sealing_held_back_seconds")
            .await;
        held.is_some_and(|seconds| seconds > 0.2)
    })
    .await;
    assert_eq!(seals(&server).await.len(), before);
    let (found, then) = verified(&server, None).await;
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(
        then.unsealed, 3,
        "what is committed and not sealed is counted"
    );

    open.batch_execute("commit").await.unwrap();
    until("all four are sealed", async || {
        let seals = seals(&server).await;
        seals[before..]
            .iter()
            .map(|(header, _)| header.events)
            .sum::<u64>()
            == 4
    })
    .await;
    let seals = seals(&server).await;
    let late = seals
        .iter()
        .flat_map(|(_, entries)| entries.iter().flatten());
    let late: Vec<_> = late
        .filter(|entry| entry.id.to_string().starts_with("01ARZ3NDEK"))
        .collect();
    assert_eq!(late.len(), 1);
    until("nothing is held back", async || {
        let held = server.metric("grantex_vault_audit_sealing_held_back_seconds");
        held.await.is_some_and(|seconds| seconds < 0.1)
    })
    .await;
    let (found, _) = verified(&server, None).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("event late/01ARZ3NDEKTSV4RRFFQ69G5FAV\tadded"),
        "{found:?}"
    );
}

#[tokio::test]
async fn many_events_make_many_seals_of_whole_transactions() {
    let (server, _) = served(Setup::new()).await;
    // As the vault writes them: batches of one transaction each, small ones and the largest.
    let fill = "do $$ begin for batch in 1..600 loop
            insert into vault.audit_events (developer_id, id, outcome, canonical)
            select 'acme', '01K' || lpad((batch * 1000 + n)::text, 23, '0'), 'read', '{}'
            from generate_series(1, case when batch % 10 < 9 then 35 else 512 end) n;
            commit;
        end loop; end $$";
    server.execute(fill).await;
    let sealer = eager(Setup::new()).with("DATABASE_URL", &server.database_url);
    let sealer = sealer.start().await;
    all_sealed(&sealer).await;
    let seals = seals(&sealer).await;
    let of_each = seals
        .iter()
        .map(|(_, entries)| entries.as_ref().map_or(0, Vec::len));
    let of_each: Vec<_> = of_each.collect();
    // Nine small ones are 315 events, which a large one does not fit beside.
    assert_eq!(of_each.iter().sum::<usize>(), 540 * 35 + 60 * 512 + 1);
    assert!((120..=122).contains(&seals.len()), "{of_each:?}");
    let mut last = 0;
    for (header, entries) in &seals {
        assert_eq!(header.from_transaction, last);
        last = header.to_transaction;
        let entries = entries.as_ref().unwrap();
        assert!(entries.len() <= 512);
        let covered = header.from_transaction.unsigned_abs()..last.unsigned_abs();
        assert!(
            entries
                .iter()
                .all(|entry| covered.contains(&entry.transaction))
        );
    }
}

#[tokio::test]
async fn a_kms_that_is_away_delays_seals_and_stops_no_request() {
    let setup = eager(Setup::new());
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    server
        .kms
        .set_trouble(Some(crate::harness::Trouble::Denied));
    developer.list().await.unwrap();
    until("sealing fails", async || {
        let failures = server
            .metric("grantex_vault_audit_seal_failures_total")
            .await;
        failures.is_some_and(|failures| failures > 0.0)
    })
    .await;
    developer.list().await.unwrap();
    assert!(seals(&server).await.is_empty());
    server.kms.set_trouble(None);
    all_sealed(&server).await;
    assert_whole(&server).await;
}
