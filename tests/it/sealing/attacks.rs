//! Whoever can write the tables, and what must not come of it: nothing is hidden, nothing stops.

use std::time::Duration;

use grantex_vault::{
    audit::{
        export::{Selection, export},
        prune::{PruneFault, prune},
    },
    clock::Clock,
    model::timestamp::Timestamp,
    pace::Pace,
};

use super::{
    all_sealed, assert_whole, eager, exchange, nobody_seals, sealing, seals, served, signing_key,
    store, verified, waits_for_a_lock,
};
use crate::harness::{Server, Setup, Tenant, Trouble, Via, until};

/// Some seals, and nobody who seals any more.
async fn record() -> (Server, Tenant) {
    let (server, tenant) = sealing().await;
    for _ in 0..3 {
        exchange(&server, &tenant, 3).await;
        all_sealed(&server).await;
    }
    nobody_seals(&server).await;
    assert_whole(&server).await;
    (server, tenant)
}

async fn seal_failures(server: &Server) -> f64 {
    let failures = server.metric("grantex_vault_audit_seal_failures_total");
    failures.await.unwrap_or_default()
}

#[tokio::test]
async fn nothing_is_built_on_a_seal_that_nobody_signed() {
    for forged in [
        // As if everything had been pruned, for ever.
        r#"jsonb_set(h::jsonb, '{prunedBefore}', '"2099-01-01T00:00:00.000Z"')"#,
        "jsonb_set(h::jsonb, '{toTransaction}', '9000000000000')",
        "jsonb_set(h::jsonb, '{era}', '7')",
        "jsonb_set(h::jsonb, '{number}', '9223372036854775807')",
    ] {
        let (server, tenant) = record().await;
        let before = seals(&server).await.len();
        let sql = format!(
            "insert into vault.audit_seals (number, header, signature, entries)
             select (f ->> 'number')::bigint, convert_to(f::text, 'UTF8'), s.signature, ''
             from (select number, convert_from(header, 'UTF8')::jsonb as h, signature
                from vault.audit_seals order by number desc limit 1) s,
                lateral (select {} as f) forged",
            forged.replace("h::jsonb", "jsonb_set(h, '{number}', to_jsonb(number + 1))")
        );
        server.execute(&sql).await;
        let failures = seal_failures(&server).await;
        server
            .execute("update vault.audit_sealer set until = '-infinity'")
            .await;
        exchange(&server, &tenant, 2).await;
        until("sealing fails, and says so", async || {
            seal_failures(&server).await > failures
        })
        .await;
        let count = "select count(*) from vault.audit_seals";
        let count: i64 = server
            .sql()
            .await
            .query_one(count, &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(count, i64::try_from(before).unwrap() + 1, "{forged}");
        // What is removed is still missed.
        let first = "delete from vault.audit_events
            where xid = (select xid from vault.audit_events order by xid limit 1)";
        server.execute(first).await;
        let (found, _) = verified(&server, None).await;
        assert!(
            found.iter().any(|line| line.contains("\tremoved")),
            "{forged}: {found:?}"
        );
        // And without it, sealing goes on by itself.
        let remove = format!("delete from vault.audit_seals where number > {before}");
        server.execute(&remove).await;
        until("sealing goes on", async || {
            seals(&server).await.len() > before
        })
        .await;
    }
}

#[tokio::test]
async fn a_signing_key_that_is_gone_is_not_made_anew() {
    let (server, tenant) = served(eager(Setup::new())).await;
    all_sealed(&server).await;
    server.execute("delete from vault.audit_signing_key").await;
    let mut setup = eager(Setup::new()).with("DATABASE_URL", &server.database_url);
    setup.issuer = server.issuer.clone();
    setup.kms = server.kms.clone();
    server.stop().await;
    let again = setup.start().await;
    exchange(&again, &tenant, 1).await;
    until("sealing fails", async || seal_failures(&again).await > 0.0).await;
    assert!(again.rows("audit_signing_key").await.is_empty());
}

#[tokio::test]
async fn a_transaction_number_that_nobody_reaches_hides_nothing() {
    for era in [1, 0] {
        let (server, _) = record().await;
        let sql = format!(
            "delete from vault.audit_events where id = (select min(id) from vault.audit_events);
             alter table vault.audit_events drop constraint audit_events_era_check;
             insert into vault.audit_events (developer_id, id, outcome, era, xid, canonical)
             select developer_id, '01ARZ3NDEKTSV4RRFFQ69G5FAV', outcome, {era},
                '9223372036854775808', canonical
             from vault.audit_events limit 1"
        );
        server.execute(&sql).await;
        let (found, _) = verified(&server, None).await;
        assert_eq!(found.len(), 2, "{found:?}");
        let named = |what: &str| found.iter().any(|line| line.contains(what));
        assert!(
            named("\tremoved") && named("01ARZ3NDEKTSV4RRFFQ69G5FAV\tadded"),
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn an_era_that_nothing_was_sealed_of_hides_nothing() {
    let (server, tenant) = record().await;
    // As if the database had been restored twice, with nothing recorded in between.
    let eras = "insert into vault.audit_eras (era, system_identifier)
        values (2, 'elsewhere'), (3, (select system_identifier::text from pg_control_system()));
        alter table vault.audit_events alter column era set default 3;
        update vault.audit_sealer set until = '-infinity'";
    server.execute(eras).await;
    exchange(&server, &tenant, 2).await;
    all_sealed(&server).await;
    assert_whole(&server).await;
    let sql = "insert into vault.audit_events (developer_id, id, outcome, era, xid, canonical)
        values ('acme', '01ARZ3NDEKTSV4RRFFQ69G5FAV', 'read', 2, '5', '')";
    server.execute(sql).await;
    let (found, _) = verified(&server, None).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("01ARZ3NDEKTSV4RRFFQ69G5FAV\tadded"),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_twin_of_an_event_does_not_stand_in_for_it() {
    let (server, tenant) = sealing().await;
    nobody_seals(&server).await;
    exchange(&server, &tenant, 2).await;
    let twin = "insert into vault.audit_events
            (developer_id, id, outcome, era, xid, canonical)
        select 'zzz', id, outcome, era, xid,
            convert_to(replace(convert_from(canonical, 'UTF8'), '\"acme\"', '\"zzz\"'), 'UTF8')
        from vault.audit_events order by xid desc limit 1;
        update vault.audit_sealer set until = '-infinity'";
    server.execute(twin).await;
    all_sealed(&server).await;
    nobody_seals(&server).await;
    let sql = "delete from vault.audit_events
        where developer_id = 'acme' and id = (select id from vault.audit_events where developer_id = 'zzz')";
    server.execute(sql).await;
    let (found, _) = verified(&server, None).await;
    assert!(
        found.iter().any(|line| line.contains("\tremoved")),
        "{found:?}"
    );
}

#[tokio::test]
async fn keys_that_are_none_of_the_vaults_are_named_and_cost_nothing() {
    let (server, tenant) = sealing().await;
    // Half a megabyte of them would be hundreds in memory.
    let sql = "insert into vault.audit_events (developer_id, id, outcome, canonical)
        select repeat('d', 100000), n || repeat('x', 100000), 'read', '' from generate_series(1, 50) n";
    server.execute(sql).await;
    exchange(&server, &tenant, 1).await;
    until("the exchange is sealed", async || {
        let seals = seals(&server).await;
        seals.iter().map(|(header, _)| header.events).sum::<u64>() == 2
    })
    .await;
    let (found, _) = verified(&server, None).await;
    assert_eq!(found.len(), 50);
    assert!(
        found
            .iter()
            .all(|line| line.len() < 1000 && line.contains("\tadded")),
        "{}",
        found[0]
    );
}

#[tokio::test]
async fn rows_behind_the_last_seal_do_not_hide_what_was_pruned() {
    let (server, _) = sealing().await;
    all_sealed(&server).await;
    nobody_seals(&server).await;
    let key = signing_key(&server).await;
    let future = server
        .clock
        .now()
        .after(Duration::from_hours(24 * 70))
        .unwrap();
    prune(
        &store(&server.database_url),
        &key,
        future,
        server.clock.now(),
    )
    .await
    .unwrap();
    assert!(server.audit_events().await.is_empty());
    assert_whole(&server).await;
    let junk = "insert into vault.audit_seals (number, header, signature, entries)
        select max(number) + 1, 'x', 'x', '' from vault.audit_seals";
    server.execute(junk).await;
    let (found, _) = verified(&server, None).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("not the bytes of a seal"), "{found:?}");
}

#[tokio::test]
async fn whoever_writes_the_table_of_partitions_does_not_choose_which_month_is_dropped() {
    let (server, _) = sealing().await;
    all_sealed(&server).await;
    let sql = "update vault.audit_partitions set from_time = from_time - interval '1 year',
        to_time = to_time - interval '1 year'";
    server.execute(sql).await;
    let key = signing_key(&server).await;
    let (store, now) = (store(&server.database_url), server.clock.now());
    let pruned = prune(&store, &key, now, now).await;
    assert_eq!(pruned.unwrap().partitions, 0);
    assert_eq!(server.audit_events().await.len(), 1);
}

#[tokio::test]
async fn what_is_committed_while_a_partition_is_pruned_is_not_lost() {
    let (server, _) = sealing().await;
    all_sealed(&server).await;
    let partition = "
        create table vault.audit_events_2001_01_01 (like vault.audit_events including all);
        do $$ begin
            execute format('alter table vault.audit_events
                attach partition vault.audit_events_2001_01_01 for values from (%L) to (%L)',
                vault.ulid_of('2001-01-01Z'), vault.ulid_of('2001-02-01Z'));
        end $$;
        insert into vault.audit_partitions
        values ('2001-01-01Z', '2001-02-01Z', 'audit_events_2001_01_01')";
    server.execute(partition).await;
    let slow = server.sql().await;
    let event = "begin; insert into vault.audit_events (developer_id, id, outcome, canonical)
        values ('acme', vault.ulid_of('2001-01-31Z') || '0123456789ABCDEF', 'released', '{}')";
    slow.batch_execute(event).await.unwrap();
    let (key, url, now) = (
        signing_key(&server).await,
        server.database_url.clone(),
        server.clock.now(),
    );
    let before = Timestamp::parse("2001-02-01T00:00:00Z").unwrap();
    let pruning = tokio::spawn(async move { prune(&store(&url), &key, before, now).await });
    until("it waits for the partition", async || {
        waits_for_a_lock(&server, "audit_events").await
    })
    .await;
    slow.batch_execute("commit").await.unwrap();
    let refused = pruning.await.unwrap().unwrap_err();
    assert!(matches!(refused, PruneFault::Unsealed(_)), "{refused:?}");
    assert_eq!(server.audit_events().await.len(), 2);
}

#[tokio::test]
async fn an_export_leaves_out_no_seal_without_saying_so() {
    let (server, _) = record().await;
    let key = signing_key(&server).await;
    for sql in [
        "update vault.audit_seals set entries = null where number = 2",
        "delete from vault.audit_seals where number = 2",
    ] {
        server.execute(sql).await;
        let (store, all, pace) = (
            store(&server.database_url),
            Selection::default(),
            Pace::new(1, None),
        );
        let mut file = Vec::new();
        let now = server.clock.now();
        let exporting = export(&store, &key, &all, &pace, now, &mut file);
        let fault = Box::pin(exporting).await.unwrap_err();
        assert!(fault.to_string().contains("seal 2 "), "{fault}");
    }
}

#[tokio::test]
async fn a_replica_without_a_master_key_lets_another_one_seal() {
    let first = eager(Setup::new()).start().await;
    let tenant = first.tenant("acme").await;
    // Before there is an event to seal, and with it the key in memory.
    first.kms.set_trouble(Some(Trouble::Denied));
    assert!(first.client(Via::Rest, &tenant.key).list().await.is_ok());
    until("it fails to seal", async || {
        seal_failures(&first).await > 0.0
    })
    .await;
    let mut setup = eager(Setup::new()).with("DATABASE_URL", &first.database_url);
    setup.issuer = first.issuer.clone();
    let second = setup.start().await;
    assert!(second.client(Via::Rest, &tenant.key).list().await.is_ok());
    all_sealed(&second).await;
}

#[tokio::test]
async fn who_was_led_to_a_server_without_writes_comes_back() {
    let (server, tenant) = sealing().await;
    all_sealed(&server).await;
    let sql = server.sql().await;
    let name = "select quote_ident(current_database())";
    let name: String = sql.query_one(name, &[]).await.unwrap().get(0);
    let end_sessions = "select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()";
    // As a standby is, or the server that was failed over from.
    let read_only = format!("alter database {name} set default_transaction_read_only = on");
    sql.batch_execute(&read_only).await.unwrap();
    sql.batch_execute(end_sessions).await.unwrap();
    let agent = server.agent(Via::Rest, &tenant, "user");
    until("it is refused", async || {
        agent.exchange("github").await.is_err()
    })
    .await;
    for _ in 0..8 {
        assert_eq!(agent.exchange("github").await.unwrap_err().status, 503);
    }
    let again = format!(
        "set default_transaction_read_only = off;
        alter database {name} reset default_transaction_read_only"
    );
    sql.batch_execute(&again).await.unwrap();
    until("it is served", async || {
        agent.exchange("github").await.is_ok()
    })
    .await;
    for _ in 0..8 {
        assert!(agent.exchange("github").await.is_ok());
    }
    all_sealed(&server).await;
    assert_whole(&server).await;
}

#[tokio::test]
async fn what_is_given_up_does_not_go_on_in_postgres() {
    let (server, tenant) = served(Setup::new()).await;
    let lock = server.sql().await;
    lock.batch_execute("begin; lock table vault.audit_events in access exclusive mode")
        .await
        .unwrap();
    let agent = server.agent(Via::Grpc, &tenant, "user");
    assert_eq!(agent.exchange("github").await.unwrap_err().status, 503);
    until("nothing waits for the lock any more", async || {
        !waits_for_a_lock(&server, "").await
    })
    .await;
    lock.batch_execute("commit").await.unwrap();
    assert_eq!(
        server.outcomes().await,
        ["store stored"],
        "and nothing is recorded later"
    );
    assert!(agent.exchange("github").await.is_ok());
}
