//! An event is of the time in which it was sealed. Who may only add events can invent one, with any id;
//! it cannot be of another time.

use std::time::Duration;

use grantex_vault::model::{id::EventId, timestamp::Timestamp};

use super::{all_sealed, assert_whole, eager, exchange, sealing, served, verified};
use crate::harness::{Server, Setup};

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
