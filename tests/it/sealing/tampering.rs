//! Each kind of tampering by raw SQL is found, and named.

use std::time::Duration;

use grantex_vault::{
    audit::{
        seal::{Header, Sha},
        verify::Anchor,
    },
    model::timestamp::Timestamp,
};
use tokio::time::timeout;

use super::{all_sealed, assert_whole, exchange, nobody_seals, sealing, seals, verified};
use crate::harness::{Server, Tenant, Via};

/// Some seals of some events each, and nothing that seals any more.
async fn record() -> (Server, Tenant, Vec<String>) {
    let (server, tenant) = sealing().await;
    for _ in 0..4 {
        exchange(&server, &tenant, 3).await;
        all_sealed(&server).await;
    }
    // Nobody gets the right to seal from now on, so that what is done is not sealed over.
    nobody_seals(&server).await;
    assert_whole(&server).await;
    let events = server.audit_events().await;
    let ids = events
        .iter()
        .map(|event| event["id"].as_str().unwrap().to_owned());
    let ids = ids.collect();
    (server, tenant, ids)
}

/// Does something, and expects exactly these lines, by what they begin and go on with.
async fn finds(server: &Server, sql: &str, expected: &[(String, &str)]) {
    server.execute(sql).await;
    let (mut found, _) = verified(server, None).await;
    found.sort_unstable();
    let mut expected: Vec<_> = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(found.len(), expected.len(), "{sql}: {found:?}");
    for (line, (what, how)) in found.iter().zip(&expected) {
        assert!(
            line.starts_with(&format!("{what}\t{how}")),
            "{sql}: {line}, not {what} {how}"
        );
    }
}

fn event(id: &str) -> String {
    format!("event acme/{id}")
}

/// Of an event that is gone nobody knows the developer.
fn gone(id: &str) -> String {
    format!("event ?/{id}")
}

#[tokio::test]
async fn an_event_whose_bytes_are_changed_is_named() {
    let (server, _, ids) = record().await;
    let id = &ids[5];
    for change in [
        "canonical = canonical || ' '",
        "canonical = convert_to(replace(convert_from(canonical, 'UTF8'), 'user', 'eve'), 'UTF8')",
        "canonical = ''",
    ] {
        let keep =
            format!("create temp table kept as select * from vault.audit_events where id = '{id}'");
        let put_back = format!(
            "update vault.audit_events e set canonical = k.canonical from kept k where e.id = '{id}'"
        );
        let session = server.sql().await;
        session.batch_execute(&keep).await.unwrap();
        let sql = format!("update vault.audit_events set {change} where id = '{id}'");
        finds(&server, &sql, &[(event(id), "changed")]).await;
        session.batch_execute(&put_back).await.unwrap();
        assert_whole(&server).await;
    }
}

#[tokio::test]
async fn an_event_whose_bytes_are_changed_before_it_is_sealed_is_named() {
    let (server, tenant) = sealing().await;
    nobody_seals(&server).await;
    // The second exchange, whose row is in memory, is recorded by one statement, what developers read by
    // another. The bytes are still those of an event, and no column has the address.
    exchange(&server, &tenant, 2).await;
    let listed = server.client(Via::Rest, &tenant.key).list().await;
    listed.unwrap();
    let events = server.audit_events().await;
    let [.., exchanged, listed] = &events[..] else {
        panic!("{events:?}")
    };
    let ids = [exchanged, listed].map(|event| event["id"].as_str().unwrap());
    server
        .execute(&format!(
            "update vault.audit_events set canonical = convert_to(
                 replace(convert_from(canonical, 'UTF8'), '127.0.0.1', '127.0.0.2'), 'UTF8')
             where id in ('{}', '{}');
             update vault.audit_sealer set until = '-infinity'",
            ids[0], ids[1]
        ))
        .await;
    all_sealed(&server).await;
    let changed = ids.map(|id| (event(id), "changed"));
    finds(&server, "select 1", &changed).await;
}

#[tokio::test]
async fn an_event_without_a_hash_is_sealed_as_it_is() {
    let (server, tenant) = sealing().await;
    nobody_seals(&server).await;
    exchange(&server, &tenant, 3).await;
    // Servers before version 7 say none, and of another length it is no hash.
    for hash in ["null", "'\\x'", "decode(repeat('00', 33), 'hex')"] {
        let sql = format!(
            "update vault.audit_events set hash = {hash}
             where id = (select max(id) from vault.audit_events where length(hash) = 32)"
        );
        server.execute(&sql).await;
    }
    let again = "update vault.audit_sealer set until = '-infinity'";
    server.execute(again).await;
    all_sealed(&server).await;
    assert_whole(&server).await;
}

#[tokio::test]
async fn a_column_beside_the_bytes_that_is_changed_is_named() {
    let (server, _, ids) = record().await;
    let id = &ids[4];
    for (column, value) in [
        ("principal_id", "'eve'"),
        ("service_key", "null"),
        ("credential_id", "'vc_x'"),
        ("grant_id", "'grant-2'"),
        ("outcome", "'denied'"),
    ] {
        let old = format!("select {column} from vault.audit_events where id = '{id}'");
        let old: Option<String> = server
            .sql()
            .await
            .query_one(&old, &[])
            .await
            .unwrap()
            .get(0);
        let sql = format!("update vault.audit_events set {column} = {value} where id = '{id}'");
        let how = format!("changed: column {column}");
        finds(&server, &sql, &[(event(id), &how)]).await;
        let back = old.map_or("null".to_owned(), |old| format!("'{old}'"));
        server
            .execute(&format!(
                "update vault.audit_events set {column} = {back} where id = '{id}'"
            ))
            .await;
    }
    let moved = format!("update vault.audit_events set developer_id = 'globex' where id = '{id}'");
    let globex = format!("event globex/{id}");
    finds(&server, &moved, &[(globex, "changed: column developer_id")]).await;
}

#[tokio::test]
async fn events_that_are_removed_are_named() {
    let (server, _, ids) = record().await;
    let sql = format!(
        "delete from vault.audit_events where id in ('{}', '{}')",
        ids[2], ids[9]
    );
    let expected = [(gone(&ids[2]), "removed"), (gone(&ids[9]), "removed")];
    finds(&server, &sql, &expected).await;
}

#[tokio::test]
async fn an_event_that_is_added_to_a_sealed_transaction_is_named() {
    let (server, _, ids) = record().await;
    let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let sql = format!(
        "insert into vault.audit_events (developer_id, id, outcome, era, xid, canonical)
         select developer_id, '{id}', outcome, era, xid, canonical
         from vault.audit_events where id = '{}'",
        ids[3]
    );
    finds(&server, &sql, &[(event(id), "added")]).await;
    let before_all =
        "update vault.audit_events set xid = '3' where id = '01ARZ3NDEKTSV4RRFFQ69G5FAV'";
    finds(&server, before_all, &[(event(id), "added")]).await;
    server
        .execute("alter table vault.audit_events drop constraint audit_events_era_check")
        .await;
    for era in [0, -1, 7] {
        let sql = format!("update vault.audit_events set era = {era} where id = '{id}'");
        finds(&server, &sql, &[(event(id), "added")]).await;
    }
}

#[tokio::test]
async fn an_event_that_claims_to_be_new_is_counted_as_unsealed() {
    let (server, _, _) = record().await;
    let sql = "insert into vault.audit_events (developer_id, id, outcome, canonical)
        values ('acme', '01ARZ3NDEKTSV4RRFFQ69G5FAV', 'read', '')";
    server.execute(sql).await;
    let (found, verified) = verified(&server, None).await;
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(verified.unsealed, 1);
}

#[tokio::test]
async fn events_that_are_swapped_are_named_both() {
    let (server, _, ids) = record().await;
    let (one, two) = (&ids[1], &ids[8]);
    let swap = |column: &str| {
        format!(
            "update vault.audit_events e set {column} = o.{column}
             from vault.audit_events o
             where (e.id, o.id) in (('{one}', '{two}'), ('{two}', '{one}'))"
        )
    };
    let changed = [(event(one), "changed"), (event(two), "changed")];
    finds(&server, &swap("canonical"), &changed).await;
    server.execute(&swap("canonical")).await;
    assert_whole(&server).await;
    // Their places in the order.
    let reordered = [(event(one), "reordered"), (event(two), "reordered")];
    finds(&server, &swap("xid"), &reordered).await;
    server.execute(&swap("xid")).await;
    assert_whole(&server).await;
    // Their ids: the primary key allows no swap in one statement.
    let ids = format!(
        "update vault.audit_events set id = 'x' where id = '{one}';
         update vault.audit_events set id = '{one}' where id = '{two}';
         update vault.audit_events set id = '{two}' where id = 'x'"
    );
    finds(&server, &ids, &changed).await;
}

#[tokio::test]
async fn an_event_that_is_moved_behind_the_last_seal_is_named() {
    let (server, _, ids) = record().await;
    let sql = format!(
        "update vault.audit_events set xid = pg_current_xact_id() where id = '{}'",
        ids[2]
    );
    finds(&server, &sql, &[(gone(&ids[2]), "removed")]).await;
}

#[tokio::test]
async fn a_seal_that_is_changed_is_named() {
    let (server, _, _) = record().await;
    for (change, back, expected) in [
        (
            "header = header || ' '",
            "header = substr(header, 1, length(header) - 1)",
            vec![("seal 2".to_owned(), "changed: not the bytes of a seal")],
        ),
        (
            "signature = set_byte(signature, 5, get_byte(signature, 5) # 1)",
            "signature = set_byte(signature, 5, get_byte(signature, 5) # 1)",
            vec![("seal 2".to_owned(), "changed: the signature")],
        ),
        (
            "entries = set_byte(entries, 20, get_byte(entries, 20) # 1)",
            "entries = set_byte(entries, 20, get_byte(entries, 20) # 1)",
            vec![("seal 2".to_owned(), "changed: its events")],
        ),
    ] {
        let change = format!("update vault.audit_seals set {change} where number = 2");
        finds(&server, &change, &expected).await;
        server
            .execute(&format!(
                "update vault.audit_seals set {back} where number = 2"
            ))
            .await;
        assert_whole(&server).await;
    }
    let forgotten = "update vault.audit_seals set entries = null where number = 2";
    finds(
        &server,
        forgotten,
        &[("seal 2".to_owned(), "changed: its events were removed")],
    )
    .await;
}

#[tokio::test]
async fn a_seal_that_is_made_by_another_key_is_named() {
    let (server, _, _) = record().await;
    // A record of another vault, with its own key.
    let (other, _, _) = record().await;
    let sql = "select header, signature, entries from vault.audit_seals where number = 2";
    let row = other.sql().await.query_one(sql, &[]).await.unwrap();
    let parts: [Vec<u8>; 3] = [row.get(0), row.get(1), row.get(2)];
    let put =
        "update vault.audit_seals set header = $1, signature = $2, entries = $3 where number = 2";
    let put = server
        .sql()
        .await
        .execute(put, &[&parts[0], &parts[1], &parts[2]])
        .await;
    assert_eq!(put.unwrap(), 1);
    let expected = [("seal 2".to_owned(), "signed by another key")];
    finds(&server, "select 1", &expected).await;
}

/// Puts a header in the place of a seal, or behind the last one, that nobody signed.
async fn put_unsigned(server: &Server, header: &Header) {
    let sql = "insert into vault.audit_seals (number, header, signature, entries)
        values ($1, $2, '', null)
        on conflict (number) do update set header = $2";
    let number = i64::try_from(header.number).unwrap();
    let session = server.sql().await;
    let put = session.execute(sql, &[&number, &header.to_bytes()]).await;
    assert_eq!(put.unwrap(), 1);
}

#[tokio::test]
async fn a_seal_that_nobody_signed_does_not_keep_verifying_from_its_end() {
    let (server, _, ids) = record().await;
    let (mut junk, _) = seals(&server).await.pop().unwrap();
    junk.number += 1;
    junk.era = i32::MAX;
    junk.events = u64::MAX;
    junk.newest_event = None;
    put_unsigned(&server, &junk).await;
    let sql = format!("delete from vault.audit_events where id = '{}'", ids[2]);
    let named = format!("seal {}", junk.number);
    let expected = [
        (named, "changed: the signature"),
        (gone(&ids[2]), "removed"),
    ];
    let verifying = finds(&server, &sql, &expected);
    timeout(Duration::from_mins(1), verifying).await.unwrap();
}

#[tokio::test]
async fn nothing_that_a_seal_says_counts_when_nobody_signed_it() {
    let (server, _, _) = record().await;
    let last = assert_whole(&server).await;
    let (mut second, _) = seals(&server).await.swap_remove(1);
    second.next_transaction = Some(0);
    second.sealed_at = Timestamp::parse("2099-01-01T00:00:00Z").unwrap();
    second.to_transaction = i64::MAX;
    put_unsigned(&server, &second).await;
    let expected = [("seal 2".to_owned(), "changed: the signature")];
    finds(&server, "select 1", &expected).await;
    // The last one too: then the one before is the last that is known.
    let mut forged = seals(&server).await.pop().unwrap().0;
    forged.events = 0;
    put_unsigned(&server, &forged).await;
    let (_, verified) = verified(&server, None).await;
    assert_eq!(verified.last.map(|seal| seal.number), Some(last.number - 1));
}

#[tokio::test]
async fn a_seal_that_is_removed_from_the_middle_is_named_and_the_rest_verifies() {
    let (server, _, _) = record().await;
    let remove = "delete from vault.audit_seals where number = 2";
    finds(&server, remove, &[("seal 2".to_owned(), "removed")]).await;
    let remove = "delete from vault.audit_seals where number = 1";
    finds(&server, remove, &[("seals 1 to 2".to_owned(), "removed")]).await;
}

#[tokio::test]
async fn a_tail_that_is_cut_off_is_found_with_an_anchor_only() {
    let (server, _, _) = record().await;
    let last = assert_whole(&server).await;
    let count = seals(&server).await.len();
    assert!(count >= 3, "{count}");
    let cut = format!(
        "delete from vault.audit_events e using vault.audit_seals s
         where s.number = {count} and e.xid >= (convert_from(s.header, 'UTF8')::json ->> 'fromTransaction')::xid8;
         delete from vault.audit_seals where number = {count}"
    );
    server.execute(&cut).await;
    assert_whole(&server).await;
    let (found, _) = verified(&server, Some(last)).await;
    let expected = format!("seal {count}\tremoved: the anchor is of a later seal than there is");
    assert_eq!(found, [expected]);
    let other = Anchor {
        number: 1,
        hash: Sha([7; 32]),
    };
    let (found, _) = verified(&server, Some(other)).await;
    assert_eq!(found, ["seal 1\tis not the one of the anchor"]);
}

#[tokio::test]
async fn a_row_that_is_no_event_stops_no_sealing_and_is_named() {
    let (server, tenant) = sealing().await;
    let sql = "insert into vault.audit_events (developer_id, id, outcome, canonical)
        values ('acme', E'no\\x1b[2J id', 'read', '{}')";
    server.execute(sql).await;
    exchange(&server, &tenant, 1).await;
    crate::harness::until("the exchange is sealed", async || {
        let sealed: u64 = seals(&server)
            .await
            .iter()
            .map(|(header, _)| header.events)
            .sum();
        sealed == 2
    })
    .await;
    let (found, _) = verified(&server, None).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("event acme/no\\u{1b}[2J id\tadded"),
        "{found:?}"
    );
}
