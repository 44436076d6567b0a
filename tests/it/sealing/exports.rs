//! Exports: events with proofs, which are checked with the public key and nothing else.

use std::time::Duration;

use grantex_vault::{
    audit::export::{Checked, Selection, WrongLine, check, export},
    clock::Clock,
    envelope::{
        data_key::DataKey,
        signing_key::{PublicKey, SigningKey},
    },
    model::{text::DeveloperId, timestamp::Timestamp},
    pace::Pace,
};

use super::{all_sealed, exchange, nobody_seals, sealing, signing_key, store};
use crate::harness::{Server, Via};

pub(super) async fn exported(server: &Server, developer: Option<&str>) -> (String, PublicKey) {
    let key = signing_key(server).await;
    let selection = Selection {
        developer: developer.map(|id| DeveloperId::parse(id).unwrap()),
        ..Selection::default()
    };
    let mut file = Vec::new();
    let store = store(&server.database_url);
    let pace = Pace::new(1, None);
    let now = server.clock.now();
    let exporting = export(&store, &key, &selection, &pace, now, &mut file);
    let exported = Box::pin(exporting).await.unwrap();
    let file = String::from_utf8(file).unwrap();
    let lines = file
        .lines()
        .filter(|line| line.starts_with("{\"event\""))
        .count();
    assert_eq!(exported.events, lines as u64);
    (file, key.public_key())
}

pub(super) fn checked(file: &str, key: &PublicKey) -> (Checked, Vec<(u64, WrongLine)>) {
    let mut wrong = Vec::new();
    let checked = check(file.as_bytes(), key, None, &mut |line, what| {
        wrong.push((line, what));
    });
    (checked.unwrap(), wrong)
}

#[tokio::test]
async fn an_export_is_proven_offline_and_what_is_changed_in_it_is_not() {
    let (server, tenant) = sealing().await;
    exchange(&server, &tenant, 12).await;
    let globex = server.tenant("globex").await;
    server.client(Via::Grpc, &globex.key).list().await.unwrap();
    all_sealed(&server).await;
    let (file, key) = exported(&server, None).await;
    let (all, wrong) = checked(&file, &key);
    assert_eq!((all.events, wrong), (14, vec![]));

    let (of_one, key) = exported(&server, Some("globex")).await;
    let (one, wrong) = checked(&of_one, &key);
    assert_eq!((one.events, one.seals, wrong), (1, 1, vec![]));
    assert!(!of_one.contains("acme"));

    let lines: Vec<&str> = file.lines().collect();
    let event = lines
        .iter()
        .position(|line| line.contains("\"exchange\""))
        .unwrap();
    let seal = lines
        .iter()
        .position(|line| line.starts_with("{\"header\""))
        .unwrap();
    let with = |at: usize, from: &str, to: &str| {
        let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        assert!(lines[at].contains(from), "{}", lines[at]);
        lines[at] = lines[at].replacen(from, to, 1);
        lines.join("\n")
    };
    let line = event as u64 + 1;
    for (from, to, what) in [
        ("\"github\"", "\"gitlab\"", WrongLine::Proof),
        ("\"transaction\":", "\"transaction\":1", WrongLine::Proof),
        ("\"index\":", "\"index\":1", WrongLine::Proof),
        ("\"seal\":", "\"seal\":9", WrongLine::SealMissing),
        ("\"verb\"", "\"varb\"", WrongLine::Form),
        ("{\"event\"", "{\"evnt\"", WrongLine::Form),
    ] {
        let (_, wrong) = checked(&with(event, from, to), &key);
        let end = (lines.len() as u64, WrongLine::Content);
        let missing = (lines.len() as u64 + 1, WrongLine::NoEnd);
        assert_eq!(wrong, [(line, what), end, missing], "{from}");
    }
    let (_, wrong) = checked(&with(seal, "\"number\":1", "\"number\":2"), &key);
    assert_eq!(wrong[0], (seal as u64 + 1, WrongLine::Signature));
    assert!(
        wrong[1..]
            .iter()
            .any(|(_, what)| *what == WrongLine::SealMissing)
    );

    let other = SigningKey::from_data_key(&DataKey::make()).public_key();
    let (nothing, wrong) = checked(&file, &other);
    assert_eq!(nothing.events, 0);
    assert_eq!(wrong.len(), lines.len() + 1, "and no end");
}

#[tokio::test]
async fn events_that_are_not_as_they_were_sealed_are_not_exported() {
    let (server, tenant) = sealing().await;
    exchange(&server, &tenant, 3).await;
    all_sealed(&server).await;
    let change = "update vault.audit_events set principal_id = 'eve'
        where id = (select max(id) from vault.audit_events)";
    server.execute(change).await;
    let key = signing_key(&server).await;
    let (store, mut file) = (store(&server.database_url), Vec::new());
    let (all, pace) = (Selection::default(), Pace::new(1, None));
    let now = server.clock.now();
    let exporting = export(&store, &key, &all, &pace, now, &mut file);
    let exported = Box::pin(exporting).await.unwrap();
    assert_eq!((exported.events, exported.left_out), (3, 1));
    server
        .execute("update vault.audit_seals set signature = '' where number = 1")
        .await;
    let exporting = export(&store, &key, &all, &pace, now, &mut file);
    assert!(Box::pin(exporting).await.is_err());
}

/// How many events were exported and how many were left out, by the export and by the signed end of its
/// file.
pub(super) async fn counted(server: &Server, selection: &Selection) -> (u64, u64) {
    let (key, store) = (signing_key(server).await, store(&server.database_url));
    let (mut file, pace, now) = (Vec::new(), Pace::new(1, None), server.clock.now());
    let exporting = export(&store, &key, selection, &pace, now, &mut file);
    let exported = Box::pin(exporting).await.unwrap();
    let (checked, wrong) = checked(str::from_utf8(&file).unwrap(), &key.public_key());
    let end = checked.end.expect("an end");
    assert_eq!(wrong, []);
    assert_eq!(
        (end.events, end.left_out),
        (exported.events, exported.left_out)
    );
    (exported.events, exported.left_out)
}

#[tokio::test]
async fn sealed_events_that_are_gone_or_elsewhere_count_as_left_out_whoever_is_asked_for() {
    let of = |id: &str| Selection {
        developer: Some(DeveloperId::parse(id).unwrap()),
        ..Selection::default()
    };
    let last = "where id = (select max(id) from vault.audit_events where developer_id = 'acme')";
    // The last two also leave a row that no seal has.
    for (change, of_all, of_globex) in [
        (
            format!("delete from vault.audit_events {last}"),
            (4, 1),
            (1, 1),
        ),
        (
            format!("update vault.audit_events set developer_id = 'globex' {last}"),
            (4, 1),
            (1, 1),
        ),
        (
            format!("update vault.audit_events set xid = pg_current_xact_id() {last}"),
            (4, 1),
            (1, 1),
        ),
        (
            format!("update vault.audit_events set id = '01ARZ3NDEKTSV4RRFFQ69G5FAV' {last}"),
            (4, 2),
            (1, 1),
        ),
        (
            format!(
                "update vault.audit_events set id = '01ARZ3NDEKTSV4RRFFQ69G5FAV',
                    developer_id = 'globex' {last}"
            ),
            (4, 2),
            (1, 2),
        ),
    ] {
        let (server, tenant) = sealing().await;
        exchange(&server, &tenant, 3).await;
        let globex = server.tenant("globex").await;
        server.client(Via::Grpc, &globex.key).list().await.unwrap();
        all_sealed(&server).await;
        nobody_seals(&server).await;
        assert_eq!(counted(&server, &Selection::default()).await, (5, 0));
        assert_eq!(counted(&server, &of("globex")).await, (1, 0));
        server.execute(&change).await;
        let all = counted(&server, &Selection::default()).await;
        assert_eq!(all, of_all, "{change}");
        assert_eq!(counted(&server, &of("globex")).await, of_globex, "{change}");
        let earlier = Selection {
            to: Some(Timestamp::parse("2020-01-01T00:00:00Z").unwrap()),
            ..of("acme")
        };
        assert_eq!(counted(&server, &earlier).await.0, 0, "{change}");
    }
}

#[tokio::test]
async fn sealed_events_of_another_time_than_was_asked_for_are_not_left_out() {
    let (server, tenant) = sealing().await;
    all_sealed(&server).await;
    server.clock.advance(Duration::from_hours(1));
    let later = server.clock.now();
    exchange(&server, &tenant, 2).await;
    all_sealed(&server).await;
    nobody_seals(&server).await;
    let first = "delete from vault.audit_events where outcome = 'stored'";
    server.execute(first).await;
    let from = Selection {
        from: Some(later),
        ..Selection::default()
    };
    let to = Selection {
        to: Some(later),
        ..Selection::default()
    };
    assert_eq!(counted(&server, &from).await, (2, 0));
    assert_eq!(counted(&server, &to).await, (0, 1));
}
