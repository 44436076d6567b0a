//! A dump that is restored into another cluster brings the transaction numbers of the old one.

use std::process::{Command, Stdio};

use super::{all_sealed, assert_whole, eager, exchange, nobody_seals, seals, served, verified};
use crate::harness::{Cluster, Server, Setup, Tenant};

/// What `pg_dump` makes of a database, read by `psql` into another one.
fn copy(from: &str, to: &str) {
    let mut dump = Command::new(program("pg_dump"))
        .args(["--dbname", from])
        .stdout(Stdio::piped())
        .spawn()
        .expect("pg_dump runs");
    let restored = Command::new(program("psql"))
        .args(["--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", to])
        .stdin(dump.stdout.take().expect("it was asked for"))
        .stdout(Stdio::null())
        .status();
    assert!(restored.expect("psql runs").success());
    assert!(dump.wait().expect("pg_dump ends").success());
}

fn program(name: &str) -> std::path::PathBuf {
    crate::harness::binaries().join(name)
}

/// The same vault on another database.
async fn moved(server: &Server, url: &str) -> Server {
    let mut setup = eager(Setup::new()).with("DATABASE_URL", url);
    setup.issuer = server.issuer.clone();
    setup.kms = server.kms.clone();
    setup.start().await
}

/// Many transactions in the old cluster, so that its numbers are ahead of those of a new one.
async fn old_record(rounds: usize) -> (Server, Tenant) {
    let (server, tenant) = served(eager(Setup::new())).await;
    let burn = "do $$ begin for n in 1..3000 loop
            perform pg_current_xact_id(); commit;
        end loop; end $$";
    server.execute(burn).await;
    exchange(&server, &tenant, rounds).await;
    all_sealed(&server).await;
    (server, tenant)
}

#[tokio::test]
async fn events_go_on_to_be_sealed_after_a_restore_into_a_new_cluster() {
    let (old, tenant) = old_record(4).await;
    // Some are not sealed yet when the dump is made.
    nobody_seals(&old).await;
    exchange(&old, &tenant, 5).await;
    let sealed_before = seals(&old).await.len();
    let cluster = Cluster::start().await;
    let url = cluster.empty_database().await;
    copy(&old.database_url, &url);
    // As whoever restores would see to.
    let new = moved(&old, &url).await;
    new.execute("update vault.audit_sealer set until = '-infinity'")
        .await;
    exchange(&new, &tenant, 6).await;
    all_sealed(&new).await;
    assert_whole(&new).await;
    let seals = seals(&new).await;
    let after = &seals[sealed_before..];
    assert_eq!(after[0].0.era, 1, "the rest of the old era first");
    assert_eq!(after[0].0.events, 5);
    let last = &seals.last().unwrap().0;
    assert_eq!(last.era, 2);
    assert!(
        last.to_transaction < after[0].0.from_transaction,
        "numbers begin anew"
    );
    let events = new.audit_events().await.len();
    assert_eq!(events, old.audit_events().await.len() + 6);

    // And everything is still found in both eras.
    for era in [1, 2] {
        let sql = format!(
            "update vault.audit_events set outcome = 'x' where id = (
                select max(id) from vault.audit_events where era = {era})"
        );
        new.execute(&sql).await;
    }
    let late = "insert into vault.audit_events (developer_id, id, outcome, era, xid, canonical)
        values ('acme', '01ARZ3NDEKTSV4RRFFQ69G5FAV', 'read', 1, '4000000000', '')";
    new.execute(late).await;
    let (found, _) = verified(&new, None).await;
    assert_eq!(found.len(), 3, "{found:?}");
}

#[tokio::test]
async fn a_copy_in_the_same_cluster_goes_on_in_the_same_era() {
    let (old, tenant) = old_record(2).await;
    let url = Cluster::shared().await.empty_database().await;
    copy(&old.database_url, &url);
    let new = moved(&old, &url).await;
    exchange(&new, &tenant, 3).await;
    all_sealed(&new).await;
    assert_whole(&new).await;
    assert!(seals(&new).await.iter().all(|(header, _)| header.era == 1));
}
