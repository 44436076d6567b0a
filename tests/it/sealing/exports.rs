//! Exports: events with proofs, which are checked with the public key and nothing else.

use grantex_vault::{
    audit::export::{Checked, Selection, WrongLine, check, export},
    clock::Clock,
    envelope::{
        data_key::DataKey,
        signing_key::{PublicKey, SigningKey},
    },
    model::text::DeveloperId,
    pace::Pace,
};

use super::{all_sealed, exchange, sealing, signing_key, store};
use crate::harness::{Server, Via};

async fn exported(server: &Server, developer: Option<&str>) -> (String, PublicKey) {
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

fn checked(file: &str, key: &PublicKey) -> (Checked, Vec<(u64, WrongLine)>) {
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
    assert_eq!((exported.events, exported.unproven), (3, 1));
    server
        .execute("update vault.audit_seals set signature = '' where number = 1")
        .await;
    let exporting = export(&store, &key, &all, &pace, now, &mut file);
    assert!(Box::pin(exporting).await.is_err());
}
