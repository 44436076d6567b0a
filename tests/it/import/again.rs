//! Again and again until the cut-over, while the vault serves.

use std::{sync::Arc, time::Duration};

use grantex_vault::{
    envelope::{kms::Kms, master_keys::MasterKeys},
    import::{ImportFault, Watch},
    pace::Pace,
    rotation::{self, Rotation},
    store::{Store, StoreFault, rotation::RowKey, schema::Durability},
};

use super::source::{CANARY, KEY, Move, Row, encrypted, id, watched};
use crate::harness::{Trouble, Via};

const LATER: &str = "2026-02-01T00:00:00Z";
const LATER_STILL: &str = "2026-03-01T00:00:00Z";

#[tokio::test]
async fn an_unchanged_source_imports_nothing_and_asks_no_kms() {
    let moving = Move::new().await;
    moving.source.fill(60).await;
    assert_eq!(moving.imported().await, 60);
    let (calls, rows) = (
        moving.server.kms.calls(),
        moving.server.rows("credentials").await,
    );
    let (counts, _) = moving.run().await;
    assert_eq!((counts.imported, counts.unchanged, counts.kept), (0, 60, 0));
    assert_eq!(moving.server.kms.calls(), calls);
    assert_eq!(moving.server.rows("credentials").await, rows);
}

#[tokio::test]
async fn what_changed_there_is_taken_again_be_it_by_a_microsecond() {
    let moving = Move::new().await;
    moving.source.fill(3).await;
    assert_eq!(moving.imported().await, 3);
    let microsecond = "2026-01-02T00:00:00.123457Z";
    moving.source.change(&id(2), "new", microsecond).await;
    assert_eq!(moving.imported().await, 1);
    assert_eq!(moving.token("user-2").await, "new");
    assert_eq!(moving.token("user-1").await, format!("{CANARY} 1"));
    moving.source.change(&id(2), "old", "2025-01-01").await;
    assert_eq!(moving.imported().await, 0, "older than what is here");
    moving.source.change(&id(2), "newest", LATER).await;
    assert_eq!(moving.imported().await, 1);
    assert_eq!(moving.token("user-2").await, "newest");
    let developer = moving.server.client(Via::Grpc, &moving.tenant.key);
    let found = developer.get(&id(2)).await.unwrap();
    assert_eq!(found["updatedAt"], "2026-02-01T00:00:00.000Z");
    assert_eq!(found["createdAt"], "2026-01-01T00:00:00.123Z");
}

#[tokio::test]
async fn another_row_there_takes_the_place_of_the_one_that_was_imported() {
    let moving = Move::new().await;
    moving.source.fill(1).await;
    assert_eq!(moving.imported().await, 1);
    // Deleted there and stored anew; then another spelling; then the first one again.
    let gone = format!(
        "delete from public.vault_credentials where id = '{}'",
        id(1)
    );
    moving.source.execute(&gone).await;
    for (number, service, updated_at) in [(2, "GitHub", LATER), (3, "github", LATER_STILL)] {
        moving
            .source
            .insert(Row {
                id: id(number),
                principal: "user-1",
                service,
                access_token: encrypted(&format!("token {number}")),
                updated_at,
                ..Row::default()
            })
            .await;
        let (counts, _) = moving.run().await;
        assert_eq!(counts.imported, 1);
        assert_eq!(moving.token("user-1").await, format!("token {number}"));
        let listed = moving.list().await;
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0]["id"], id(number));
    }
    moving.source.change(&id(2), "again", "2026-04-01").await;
    assert_eq!(moving.run().await.0.imported, 1);
    assert_eq!(moving.token("user-1").await, "again");
    assert_eq!(moving.server.rows("imports").await.len(), 1);
}

#[tokio::test]
async fn what_the_vault_stored_or_deleted_since_is_never_touched() {
    let moving = Move::new().await;
    moving.source.fill(4).await;
    let developer = moving.server.client(Via::Rest, &moving.tenant.key);
    // Before anything is imported, after it was, and deleted.
    developer.store_token("user-1", "github", "ours 1").await;
    let (counts, _) = moving.run().await;
    assert_eq!((counts.imported, counts.kept), (3, 1));
    developer.store_token("user-2", "github", "ours 2").await;
    developer.delete(&id(3)).await.unwrap();
    for number in 1..=4 {
        moving.source.change(&id(number), "theirs", LATER).await;
    }
    let (counts, lines) = moving.run().await;
    assert_eq!((counts.imported, counts.kept), (1, 3), "{lines:?}");
    assert_eq!(moving.token("user-1").await, "ours 1");
    assert_eq!(moving.token("user-2").await, "ours 2");
    assert_eq!(moving.token("user-4").await, "theirs");
    let gone = moving.server.agent(Via::Rest, &moving.tenant, "user-3");
    assert_eq!(gone.exchange("github").await.unwrap_err().status, 404);
    // Stored anew after it was deleted.
    developer.store_token("user-3", "github", "ours 3").await;
    moving.source.change(&id(3), "theirs", LATER_STILL).await;
    assert_eq!(moving.imported().await, 0);
    assert_eq!(moving.token("user-3").await, "ours 3");
}

/// The queries of the page about the move, which name what a rollback would leave behind.
fn documented() -> Vec<&'static str> {
    let page = include_str!("../../../docs/migrating.md");
    let blocks = page.split("```sql\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("```").next());
    // Each begins with its path, a statement of its own.
    blocks
        .filter_map(|block| Some(block.split_once(';')?.1))
        .collect()
}

#[tokio::test]
async fn what_a_rollback_would_leave_behind_can_be_named() {
    let moving = Move::new().await;
    moving.source.fill(3).await;
    moving.imported().await;
    let developer = moving.server.client(Via::Rest, &moving.tenant.key);
    developer.store_token("user-1", "github", "ours").await;
    let new = developer.store_token("user-9", "github", "ours").await;
    developer.delete(&id(2)).await.unwrap();
    let sql = moving.server.sql().await;
    let mut named = Vec::new();
    for statement in documented() {
        let rows = sql.query(statement, &[]).await.unwrap();
        named.push(
            rows.iter()
                .map(|row| row.get("id"))
                .collect::<Vec<String>>(),
        );
    }
    let new = new["id"].as_str().unwrap().to_owned();
    assert_eq!(named, [vec![id(1), new], vec![id(2)]]);
    // As the page says, it can be imported again.
    let forget = format!("delete from vault.imports where id = '{}'", id(2));
    moving.server.execute(&forget).await;
    assert_eq!(moving.imported().await, 1);
}

#[tokio::test]
async fn a_rotation_of_keys_is_no_store() {
    let moving = Move::new().await;
    moving.source.fill(2).await;
    assert_eq!(moving.imported().await, 2);
    let url = moving.server.database_url.parse().unwrap();
    let store = Store::open(&url, 4, Durability::Required).unwrap();
    let kms = Arc::clone(&moving.server.kms) as Arc<dyn Kms>;
    let keys = Arc::new(MasterKeys::new(kms, Vec::new()));
    let rotation = Rotation::new(store, keys, Duration::from_secs(3), Pace::new(4, None));
    let watch = rotation::Watch::new(&|_| {});
    let start = RowKey::default();
    let reencrypted = rotation.reencrypt(None, start, &watch, &|_| {}).await;
    reencrypted.unwrap();
    assert_eq!(moving.imported().await, 0);
    moving.source.change(&id(1), "new", LATER).await;
    assert_eq!(moving.imported().await, 1);
    assert_eq!(moving.token("user-1").await, "new");
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_and_writes_nothing() {
    let moving = Move::new().await;
    moving.source.fill(5).await;
    let broken = Row {
        id: id(6),
        access_token: "!".to_owned(),
        metadata: "[]",
        ..Row::default()
    };
    moving.source.insert(broken).await;
    let calls = moving.server.kms.calls();
    let dry = moving.run_with(KEY, true).await;
    assert_eq!((dry.0.imported, dry.0.lost), (5, 1));
    for table in ["credentials", "imports", "audit_events"] {
        assert!(moving.server.rows(table).await.is_empty(), "{table}");
    }
    assert_eq!(moving.server.kms.calls(), calls);
    assert_eq!(moving.run().await, dry, "the same as it is");
    moving.source.change(&id(1), "new", LATER).await;
    let (counts, _) = moving.run_with(KEY, true).await;
    assert_eq!((counts.imported, counts.unchanged), (1, 4));
    assert_eq!(moving.token("user-1").await, format!("{CANARY} 1"));
}

#[tokio::test]
async fn two_runs_at_once_import_every_credential_once() {
    let moving = Move::new().await;
    moving.source.fill(700).await;
    let (one, two) = tokio::join!(moving.run(), moving.run());
    assert!(one.1.is_empty() && two.1.is_empty(), "{one:?} {two:?}");
    assert_eq!(one.0.imported + two.0.imported, 700);
    assert_eq!(one.0.kept + two.0.kept, 0);
    assert_eq!(moving.server.rows("imports").await.len(), 700);
    assert_eq!(moving.imported().await, 0);
}

#[tokio::test]
async fn while_it_runs_the_vault_serves_and_what_it_stores_stays() {
    let moving = Move::new().await;
    moving.source.fill(300).await;
    let serve = async |via: Via, first: usize| {
        let developer = moving.server.client(via, &moving.tenant.key);
        for number in (first..=300).step_by(10) {
            let (principal, token) = (format!("user-{number}"), format!("ours {number}"));
            developer.store_token(&principal, "GITHUB", &token).await;
            assert_eq!(moving.token(&principal).await, token);
        }
    };
    let ((counts, lines), (), ()) =
        tokio::join!(moving.run(), serve(Via::Rest, 5), serve(Via::Grpc, 10));
    assert!(lines.is_empty(), "{lines:?}");
    assert_eq!(counts.imported + counts.kept, 300);
    for number in 1..=300 {
        let id = id(number);
        moving.source.change(&id, "theirs", LATER).await;
    }
    let ((counts, lines), (), ()) =
        tokio::join!(moving.run(), serve(Via::Rest, 3), serve(Via::Grpc, 8));
    assert!(lines.is_empty(), "{lines:?}");
    assert_eq!(counts.imported + counts.kept, 300);
    for number in 1..=300 {
        let token = match number % 5 {
            0 | 3 => format!("ours {number}"),
            _ => "theirs".to_owned(),
        };
        assert_eq!(moving.token(&format!("user-{number}")).await, token);
    }
}

#[tokio::test]
async fn nothing_is_imported_under_a_retired_key_or_without_a_kms() {
    let moving = Move::new().await;
    moving.source.fill(30).await;
    let run = async || {
        let (import, mut source) = (moving.import(KEY, false), moving.source.read().await);
        let work = async |watch: &Watch<'_>| import.credentials(&mut source, watch).await;
        watched(work).await
    };
    moving.server.kms.set_trouble(Some(Trouble::Denied));
    let (done, counts, _) = run().await;
    assert!(matches!(done, Err(ImportFault::MasterKey(_))), "{done:?}");
    assert_eq!((counts.imported, counts.lost), (0, 0));
    moving.server.kms.set_trouble(None);
    let primary = moving.server.kms.check().await.unwrap();
    moving
        .server
        .execute(&format!(
            "insert into vault.master_keys values ('{primary}', 'retired')"
        ))
        .await;
    let (done, ..) = run().await;
    let retired = matches!(
        done,
        Err(ImportFault::Store(StoreFault::RetiredMasterKey(_)))
    );
    assert!(retired, "{done:?}");
    assert!(moving.list().await.is_empty());
}
