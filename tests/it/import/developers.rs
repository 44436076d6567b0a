//! Developers and their keys, for a vault that stands alone.

use std::time::Duration;

use futures_util::poll;
use grantex_vault::{
    auth::api_key,
    clock::Clock,
    import::{Counts, Watch},
    model::bearer::ApiKey,
};
use serde_json::json;
use tokio::{pin, time::timeout};

use super::source::{KEY, Move, watched};
use crate::harness::{Via, hex, until};

const KEY_OF_GLOBEX: &str = "gx_live_0123456789abcdef";

fn hash(key: &str) -> String {
    hex(api_key::hash(&ApiKey::parse(key).unwrap()).as_bytes())
}

async fn run(moving: &Move, dry_run: bool) -> (Counts, Vec<String>) {
    let (import, mut source) = (moving.import(KEY, dry_run), moving.source.read().await);
    let now = moving.server.clock.now();
    let work = async |watch: &Watch<'_>| import.developers(&mut source, now, watch).await;
    let (done, counts, lines) = watched(work).await;
    done.unwrap();
    (counts, lines)
}

async fn admitted(moving: &Move, key: &str) -> bool {
    let mut admitted = Vec::new();
    for via in Via::BOTH {
        admitted.push(moving.server.client(via, key).list().await.is_ok());
    }
    assert_eq!(admitted[0], admitted[1]);
    admitted[0]
}

#[tokio::test]
async fn the_key_of_a_developer_works_on_and_a_second_run_copies_nothing() {
    let moving = Move::new().await;
    let insert = format!(
        "insert into public.developers values ('globex', '{}', 'Globex', 'live')",
        hash(KEY_OF_GLOBEX)
    );
    moving.source.execute(&insert).await;
    assert_eq!(run(&moving, true).await.0.imported, 1);
    assert!(!admitted(&moving, KEY_OF_GLOBEX).await, "a dry run");
    assert_eq!(run(&moving, false).await.0.imported, 1);
    assert!(admitted(&moving, KEY_OF_GLOBEX).await);
    let (counts, lines) = run(&moving, false).await;
    assert_eq!((counts.imported, counts.unchanged), (0, 1), "{lines:?}");
    let keys = moving.server.rows("api_keys").await;
    let key = keys.iter().find(|key| key["developer_id"] == "globex");
    assert_eq!(key.unwrap()["prefix"], "gx_live_");
    assert_eq!(key.unwrap()["label"], "imported from grantex");
    let names = moving.server.rows("developers").await;
    assert!(names.iter().any(|row| row["name"] == json!("Globex")));
}

#[tokio::test]
async fn a_key_that_was_replaced_there_stops_working_here() {
    let moving = Move::new().await;
    let insert = format!(
        "insert into public.developers values ('globex', '{}', 'Globex', null)",
        hash(KEY_OF_GLOBEX)
    );
    moving.source.execute(&insert).await;
    run(&moving, false).await;
    let replaced = "gx_live_another_key_of_globex";
    let update = format!(
        "update public.developers set api_key_hash = '{}'",
        hash(replaced)
    );
    moving.source.execute(&update).await;
    assert_eq!(run(&moving, false).await.0.imported, 1);
    assert!(admitted(&moving, replaced).await);
    assert!(!admitted(&moving, KEY_OF_GLOBEX).await);
}

#[tokio::test]
async fn a_store_with_a_key_that_was_replaced_there_is_waited_for() {
    let moving = Move::new().await;
    let insert = format!(
        "insert into public.developers values ('globex', '{}', 'Globex', null)",
        hash(KEY_OF_GLOBEX)
    );
    moving.source.execute(&insert).await;
    run(&moving, false).await;
    let developer = moving.server.client(Via::Rest, KEY_OF_GLOBEX);
    developer.store_token("user", "github", "before").await;
    let replaced = hash("gx_live_another_key_of_globex");
    let update = format!("update public.developers set api_key_hash = '{replaced}'");
    moving.source.execute(&update).await;

    // Somebody who writes the same row lets a store read, and wait.
    let other = moving.server.sql().await;
    let write = "begin; update vault.credentials set updated_at = updated_at";
    other.batch_execute(write).await.unwrap();
    let importing = async {
        moving.server.waiting_for_locks(1).await;
        let done = run(&moving, false);
        pin!(done);
        let mut answered = false;
        until("it is committed", async || {
            answered |= poll!(done.as_mut()).is_ready();
            let keys = moving.server.rows("api_keys").await;
            keys.iter().any(|key| !key["revoked_at"].is_null())
        })
        .await;
        for _ in 0..3 {
            let looked = timeout(Duration::from_millis(60), done.as_mut());
            answered |= looked.await.is_ok();
        }
        assert!(!answered, "the import ended before the store did");
        other.batch_execute("rollback").await.unwrap();
        done.await
    };
    let (_, (counts, _)) = tokio::join!(developer.store_token("user", "github", "late"), importing);
    assert_eq!(counts.imported, 1);
}

#[tokio::test]
async fn what_breaks_a_rule_is_named_and_nobody_gets_the_key_of_another() {
    let moving = Move::new().await;
    let of_acme = hash(&moving.tenant.key);
    let hash = hash(KEY_OF_GLOBEX);
    moving
        .source
        .execute(&format!(
            "insert into public.developers values
                ('', repeat('0', 64), 'x', null),
                ('no-hash', 'bcrypt', 'x', null),
                ('long-hash', repeat('0', 100000), 'x', null),
                ('thief', '{of_acme}', 'x', null),
                ('named', '{hash}', E'\\x1b[2J', 'test')"
        ))
        .await;
    let (counts, mut lines) = run(&moving, false).await;
    lines.sort();
    assert_eq!((counts.imported, counts.lost, counts.remarks), (1, 4, 1));
    assert_eq!(
        lines,
        [
            "\tlost: developer_id: must not be empty",
            "long-hash\tlost: api_key_hash: is not 64 hexadecimal digits",
            "named\timported under its id as name: the name must not contain control characters",
            "no-hash\tlost: api_key_hash: is not 64 hexadecimal digits",
            "thief\tlost: api_key_hash: the key is another developer's in the vault",
        ]
    );
    assert!(admitted(&moving, KEY_OF_GLOBEX).await);
    let rows = moving.server.rows("developers").await;
    assert!(rows.iter().all(|row| row["id"] != "thief"));
}
