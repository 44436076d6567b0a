//! Pruning: what is too old goes, what stays verifies, and nothing else may be missing.

use std::{sync::Arc, time::Duration};

use grantex_vault::{
    audit::{
        export::Selection,
        prune::{PruneFault, Pruned, prune},
    },
    clock::Clock,
    model::timestamp::Timestamp,
};

use super::{
    all_sealed, assert_whole, eager, exchange, exports::counted, nobody_seals, seals, served,
    signing_key, store, verified,
};
use crate::harness::{Server, Setup, Tenant};

const DAY: Duration = Duration::from_hours(24);

/// Events of three days, with a partition each: the clock of the vault is ahead of the database's.
async fn three_days() -> (Server, Tenant) {
    let setup = eager(Setup::new()).with("GRANTEX_VAULT_AUDIT_PARTITION", "day");
    let (server, tenant) = served(setup).await;
    // Days instead of the months that the migration made; they are empty but for the first event.
    let days = "
        do $$ declare p text; begin
            for p in select name from vault.audit_partitions loop
                execute format('alter table vault.audit_events detach partition vault.%I', p);
                execute format('insert into vault.audit_events_default select * from vault.%I', p);
                execute format('drop table vault.%I', p);
            end loop;
        end $$;
        delete from vault.audit_partitions;
        insert into vault.audit_partitions
        select date_trunc('day', now() at time zone 'UTC') at time zone 'UTC',
            date_trunc('day', now() at time zone 'UTC') at time zone 'UTC' + interval '1 day', null;
        select vault.make_audit_partitions('day')";
    server.execute(days).await;
    for _ in 0..3 {
        // A seal is of the time in which it is made.
        all_sealed(&server).await;
        server.clock.advance(DAY);
        exchange(&server, &tenant, 4).await;
    }
    all_sealed(&server).await;
    (server, tenant)
}

async fn prune_before(server: &Server, before: Timestamp) -> Result<Pruned, PruneFault> {
    let key = signing_key(server).await;
    prune(
        &store(&server.database_url),
        &key,
        before,
        server.clock.now(),
    )
    .await
}

/// How many events are left.
async fn left(server: &Server) -> usize {
    server.audit_events().await.len()
}

#[tokio::test]
async fn old_partitions_go_and_the_rest_verifies() {
    let (server, tenant) = three_days().await;
    assert_eq!(left(&server).await, 13);
    // In the middle of the third day: the first, which is in the default partition, and the second.
    let before = server.clock.now();
    let pruned = prune_before(&server, before).await.unwrap();
    assert_eq!((pruned.partitions, pruned.events), (2, 1), "{pruned:?}");
    assert!(pruned.before <= before && before.since(pruned.before) < DAY);
    assert_eq!(left(&server).await, 4);
    assert_whole(&server).await;
    let forgotten = seals(&server)
        .await
        .iter()
        .filter(|(_, entries)| entries.is_none())
        .count();
    assert_eq!(forgotten as u64, pruned.seals);

    // Again is nothing, and the chain goes on.
    let again = prune_before(&server, before).await.unwrap();
    assert_eq!((again.partitions, again.events, again.seals), (0, 0, 0));
    exchange(&server, &tenant, 2).await;
    super::until("the next ones are sealed", async || {
        let (_, verified) = verified(&server, None).await;
        verified.unsealed == 0
    })
    .await;
    assert_whole(&server).await;

    // What is missing beyond that is still found.
    let events = server.audit_events().await;
    let id = events[1]["id"].as_str().unwrap();
    server
        .execute(&format!("delete from vault.audit_events where id = '{id}'"))
        .await;
    let (found, _) = verified(&server, None).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains(&format!("{id}\tremoved")), "{found:?}");
}

#[tokio::test]
async fn whoever_deletes_old_events_without_pruning_is_found_out() {
    let (server, _) = three_days().await;
    let sql = "delete from vault.audit_events_default; delete from vault.audit_partitions";
    server.execute(sql).await;
    let (found, _) = verified(&server, None).await;
    assert_eq!(found.len(), 1, "{found:?}");
}

#[tokio::test]
async fn events_that_are_not_sealed_are_not_pruned() {
    let (server, tenant) = three_days().await;
    nobody_seals(&server).await;
    exchange(&server, &tenant, 1).await;
    let after = server.clock.now().after(DAY * 2).unwrap();
    let refused = prune_before(&server, after).await.unwrap_err();
    assert!(matches!(refused, PruneFault::Unsealed(_)), "{refused:?}");
    assert_eq!(left(&server).await, 14);
}

#[tokio::test]
async fn a_prune_that_was_killed_is_finished_by_the_next() {
    let (server, _) = three_days().await;
    // It made its seal and was killed.
    let (before, key) = (server.clock.now(), signing_key(&server).await);
    let lock = server.sql().await;
    lock.batch_execute("begin; lock table vault.audit_events in access share mode")
        .await
        .unwrap();
    let url = server.database_url.clone();
    let clock: Arc<dyn Clock> = server.clock.clone();
    let first = tokio::spawn(async move { prune(&store(&url), &key, before, clock.now()).await });
    super::until("its seal is there", async || {
        seals(&server)
            .await
            .last()
            .is_some_and(|(header, _)| header.pruned_before.is_some())
    })
    .await;
    first.abort();
    assert_eq!(left(&server).await, 13);
    assert_whole(&server).await;
    lock.batch_execute("commit").await.unwrap();
    prune_before(&server, before).await.unwrap();
    assert_eq!(left(&server).await, 4);
    assert_whole(&server).await;
}

#[tokio::test]
async fn the_table_of_partitions_cannot_choose_what_is_dropped() {
    let (server, _) = three_days().await;
    let sql = "insert into vault.audit_partitions values
        ('2020-01-01', '2020-01-02', 'credentials'), ('2020-01-02', '2020-01-03', 'audit_events_default')";
    server.execute(sql).await;
    prune_before(&server, server.clock.now()).await.unwrap();
    assert_eq!(server.rows("credentials").await.len(), 1);
    assert_whole(&server).await;
}

#[tokio::test]
async fn an_export_misses_no_event_that_was_pruned_and_every_other_one() {
    let (server, _) = three_days().await;
    // As if the prune is killed before the seals forget their entries.
    let session = server.sql().await;
    let keep = "create temp table kept as select number, entries from vault.audit_seals";
    session.batch_execute(keep).await.unwrap();
    prune_before(&server, server.clock.now()).await.unwrap();
    let put_back = "update vault.audit_seals s set entries = k.entries
        from kept k where k.number = s.number";
    session.batch_execute(put_back).await.unwrap();
    let all = Selection::default();
    assert_eq!(counted(&server, &all).await, (4, 0));
    let delete =
        "delete from vault.audit_events where id = (select max(id) from vault.audit_events)";
    session.batch_execute(delete).await.unwrap();
    assert_eq!(counted(&server, &all).await, (3, 1));
}
