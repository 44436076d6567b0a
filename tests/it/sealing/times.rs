//! An event is of the time in which it was sealed. Who may only add events can invent one, with any id;
//! it cannot be of another time.

use std::time::Duration;

use grantex_vault::{
    audit::export::WrongLine,
    model::{id::EventId, timestamp::Timestamp},
};

use super::{
    all_sealed, assert_whole, eager, exchange,
    exports::{checked, exported},
    nobody_seals, sealing, seals, served, verified,
};
use crate::harness::{Server, Setup, until};

const MINUTE: i64 = 60_000;
const YEAR: i64 = 365 * 24 * 60 * MINUTE;

/// Adds a copy of a release of this server, of another time, as who serves may; answers its id.
async fn invent(server: &Server, millis_from_now: i64) -> String {
    use grantex_vault::clock::Clock;
    let now = server.clock.now().as_millisecond();
    let at = Timestamp::from_millisecond(now + millis_from_now).unwrap();
    let id = EventId::make(at).to_string();
    let sql = format!(
        "with e as (
            select * from vault.audit_events where outcome = 'released' order by id desc limit 1),
        bytes as (
            select convert_to(replace(replace(convert_from(canonical, 'UTF8'), id, '{id}'),
                substring(convert_from(canonical, 'UTF8') from '\"occurredAt\":\"([^\"]*)\"'),
                '{at}'), 'UTF8') as canonical
            from e)
        insert into vault.audit_events (developer_id, id, principal_id, service_key, credential_id,
            grant_id, outcome, canonical, hash)
        select developer_id, '{id}', principal_id, service_key, credential_id, grant_id, outcome,
            bytes.canonical, sha256(bytes.canonical)
        from e, bytes"
    );
    server.execute(&sql).await;
    id
}

/// What verifying finds is that these are of another time.
async fn assert_found(server: &Server, ids: &[String]) {
    let (mut found, _) = verified(server, None).await;
    found.sort_unstable();
    let mut expected: Vec<_> = ids
        .iter()
        .map(|id| format!("event acme/{id}\tof another time"))
        .collect();
    expected.sort_unstable();
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(&expected) {
        assert!(found.starts_with(expected), "{found}, not {expected}");
    }
}

#[tokio::test]
async fn an_event_of_another_time_than_its_seal_is_named() {
    let (server, tenant) = sealing().await;
    exchange(&server, &tenant, 3).await;
    all_sealed(&server).await;
    server.clock.advance(Duration::from_hours(2));
    exchange(&server, &tenant, 3).await;
    all_sealed(&server).await;
    for near in [-9 * MINUTE, 9 * MINUTE] {
        invent(&server, near).await;
    }
    all_sealed(&server).await;
    assert_whole(&server).await;
    let mut invented = Vec::new();
    for far in [-YEAR, -15 * MINUTE, 15 * MINUTE, YEAR] {
        invented.push(invent(&server, far).await);
        all_sealed(&server).await;
    }
    assert_found(&server, &invented).await;
    exchange(&server, &tenant, 3).await;
    all_sealed(&server).await;
    assert_found(&server, &invented).await;
}

#[tokio::test]
async fn an_event_of_another_time_is_named_in_the_first_seal_too() {
    let (server, tenant) = served(Setup::new()).await;
    exchange(&server, &tenant, 1).await;
    let invented = [invent(&server, -YEAR).await, invent(&server, YEAR).await];
    let sealer = eager(Setup::new()).beside(&server).start().await;
    all_sealed(&sealer).await;
    assert_found(&server, &invented).await;
}

#[tokio::test]
async fn events_that_wait_long_for_their_seals_are_of_their_time() {
    let (server, tenant) = served(Setup::new()).await;
    exchange(&server, &tenant, 1).await;
    // Nobody sealed for hours, and there is more than a seal has.
    server.clock.advance(Duration::from_hours(3));
    for _ in 0..9 {
        let tenants = (0..70).map(|_| server.agent(crate::harness::Via::Rest, &tenant, "user"));
        let agents: Vec<_> = tenants.collect();
        let exchanges = agents.iter().map(|agent| agent.exchange("github"));
        for exchanged in futures_util::future::join_all(exchanges).await {
            exchanged.unwrap();
        }
        server.clock.advance(Duration::from_mins(20));
    }
    let sealer = eager(Setup::new()).beside(&server).start().await;
    all_sealed(&sealer).await;
    assert_whole(&sealer).await;
}

/// A transaction that has its number and stays open.
async fn open_transaction(server: &Server) -> tokio_postgres::Client {
    let open = server.sql().await;
    let begin = "begin; select pg_current_xact_id()";
    open.batch_execute(begin).await.unwrap();
    open
}

async fn sealed_events(server: &Server) -> u64 {
    let seals = seals(server).await;
    seals.iter().map(|(header, _)| header.events).sum()
}

/// Nothing is found in the database nor in an export.
async fn assert_whole_everywhere(server: &Server) {
    assert_whole(server).await;
    let (file, key) = exported(server, None).await;
    let (_, wrong) = checked(&file, &key);
    assert_eq!(wrong, []);
}

/// An event of another time is found in the database and in an export.
async fn assert_found_everywhere(server: &Server, ids: &[String]) {
    assert_found(server, ids).await;
    let (file, key) = exported(server, None).await;
    let (_, wrong) = checked(&file, &key);
    let wrong: Vec<_> = wrong.into_iter().map(|(_, what)| what).collect();
    assert_eq!(wrong, vec![WrongLine::Time; ids.len()]);
}

#[tokio::test]
async fn events_that_open_transactions_kept_from_their_seal_are_of_their_time() {
    let (server, tenant) = sealing().await;
    all_sealed(&server).await;
    let sealed = sealed_events(&server).await;
    let first = open_transaction(&server).await;
    exchange(&server, &tenant, 1).await;
    let second = open_transaction(&server).await;
    exchange(&server, &tenant, 1).await;
    server.clock.advance(Duration::from_mins(20));
    first.batch_execute("commit").await.unwrap();
    until("what came before the second is sealed", async || {
        sealed_events(&server).await == sealed + 1
    })
    .await;
    second.batch_execute("commit").await.unwrap();
    all_sealed(&server).await;
    assert_whole_everywhere(&server).await;
    // They hide nothing: what has its number since a seal is of the time since then.
    let invented = [invent(&server, -15 * MINUTE).await];
    all_sealed(&server).await;
    assert_found_everywhere(&server, &invented).await;
}

#[tokio::test]
async fn events_behind_an_open_transaction_are_of_their_time_when_nobody_sealed_for_long() {
    let (server, tenant) = sealing().await;
    all_sealed(&server).await;
    let sealed = sealed_events(&server).await;
    nobody_seals(&server).await;
    exchange(&server, &tenant, 1).await;
    let open = open_transaction(&server).await;
    exchange(&server, &tenant, 1).await;
    server.clock.advance(Duration::from_mins(20));
    server
        .execute("update vault.audit_sealer set until = '-infinity'")
        .await;
    until("what came before the transaction is sealed", async || {
        sealed_events(&server).await == sealed + 1
    })
    .await;
    // Its number is known to be later than that seal, whatever holds its own seal back.
    let invented = [invent(&server, -15 * MINUTE).await];
    open.batch_execute("commit").await.unwrap();
    all_sealed(&server).await;
    assert_found_everywhere(&server, &invented).await;
}
