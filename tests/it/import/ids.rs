//! The ids of what is imported: those of the forms that are kept, and those of any other.

use grantex_vault::model::id::CredentialId;
use serde_json::{Value, json};

use super::source::{CANARY, KEY, Move, Row, encrypted};
use crate::{
    harness::{Client, Setup, Via},
    sealing::{all_sealed, assert_whole},
};

const ULID: &str = "01HXYZ4Y8ZC5T9W3M6N7P0QRSV";
const LATER: &str = "2026-02-01T00:00:00Z";

/// A server that seals twenty times a second, and a source with an id of each form that is kept, all of
/// one ULID. `user-vault_` has the credential whose id begins with `vault_`.
async fn with_each_form() -> (Move, [String; 3]) {
    let setup = Setup::new().with("GRANTEX_VAULT_AUDIT_SEAL_INTERVAL", "50ms");
    let moving = Move::with(setup).await;
    let prefixes = ["vc_", "vault_", "cred_"];
    for prefix in prefixes {
        moving
            .source
            .insert(Row {
                id: format!("{prefix}{ULID}"),
                principal: &format!("user-{prefix}"),
                access_token: encrypted(&format!("{CANARY} {prefix}")),
                ..Row::default()
            })
            .await;
    }
    let (counts, lines) = moving.run().await;
    assert_eq!((counts.imported, counts.remarks, counts.lost), (3, 0, 0));
    assert!(lines.is_empty(), "{lines:?}");
    (moving, prefixes.map(|prefix| format!("{prefix}{ULID}")))
}

fn principal(id: &str) -> String {
    format!("user-{}", id.trim_end_matches(ULID))
}

/// The ids of a list, walked through in pages of one.
async fn walked(developer: &Client<'_>) -> Vec<Value> {
    let (mut ids, mut query) = (Vec::new(), json!({"pageSize": 1}));
    loop {
        let page = developer.list_where(query.clone()).await.unwrap();
        let credentials = page["credentials"].as_array().unwrap();
        assert!(credentials.len() <= 1);
        ids.extend(credentials.iter().map(|one| one["id"].clone()));
        match page.get("nextPageToken") {
            None => return ids,
            Some(token) => query["pageToken"] = token.clone(),
        }
    }
}

/// What was done with the credential of an id, in the order of the words: the clock stands still.
async fn done_with(developer: &Client<'_>, id: &str) -> Vec<String> {
    let query = json!({"credentialId": id});
    let found = developer.audit_events(query).await.unwrap();
    let events = found["events"].as_array().unwrap().iter();
    let of_credential = events.filter(|event| event["verb"] != "audit");
    let outcomes = of_credential.map(|event| {
        assert_eq!(event["credentialId"], id);
        event["outcome"].as_str().unwrap().to_owned()
    });
    let mut outcomes: Vec<_> = outcomes.collect();
    outcomes.sort();
    outcomes
}

#[tokio::test]
async fn ids_of_the_forms_that_are_kept_are_found_by_every_verb() {
    let (moving, ids) = with_each_form().await;
    for via in Via::BOTH {
        let developer = moving.server.client(via, &moving.tenant.key);
        for id in &ids {
            let found = developer.get(id).await.unwrap();
            assert_eq!(found["id"], *id);
            assert_eq!(found["principalId"], principal(id));
            let agent = moving.server.agent(via, &moving.tenant, &principal(id));
            // Once with the row read from the database, once with the one that is kept.
            for _ in 0..2 {
                let token = agent.exchange("github").await.unwrap()["accessToken"].clone();
                assert_eq!(token, format!("{CANARY} {}", id.trim_end_matches(ULID)));
            }
        }
        // All of one moment: by their texts, the last first.
        let newest_first = ids.iter().map(|id| json!(id));
        let mut newest_first: Vec<Value> = newest_first.collect();
        newest_first.sort_by(|one, two| two.as_str().cmp(&one.as_str()));
        assert_eq!(walked(&developer).await, newest_first);
        let listed = developer.list().await.unwrap();
        let listed = listed["credentials"].as_array().unwrap().iter();
        assert!(listed.map(|one| &one["id"]).eq(&newest_first));
    }
    for (via, id) in Via::BOTH.into_iter().cycle().zip(&ids) {
        let done = done_with(&moving.server.client(via, &moving.tenant.key), id).await;
        assert_eq!(done, [["read"; 2].as_slice(), &["released"; 4]].concat());
    }
}

#[tokio::test]
async fn a_store_over_an_imported_credential_and_a_delete_name_its_id() {
    let (moving, ids) = with_each_form().await;
    for (number, id) in ids.iter().enumerate() {
        let via = Via::BOTH[number % 2];
        let developer = moving.server.client(via, &moving.tenant.key);
        let stored = developer
            .store_token(&principal(id), "GITHUB", "ours")
            .await;
        assert_eq!(stored["id"], *id);
        assert_eq!(moving.token(&principal(id)).await, "ours");
        assert_eq!(developer.get(id).await.unwrap()["service"], "GITHUB");
        assert_eq!(developer.delete(id).await.unwrap(), Value::Null);
        for gone in [developer.get(id).await, developer.delete(id).await] {
            assert_eq!(gone.unwrap_err().status, 404);
        }
        // Those of the same ULID are others.
        for other in &ids[number + 1..] {
            assert_eq!(developer.get(other).await.unwrap()["id"], *other);
        }
        let new = developer.store_token(&principal(id), "github", "new").await;
        let new = new["id"].as_str().unwrap().to_owned();
        assert!(new.starts_with("vc_") && new != *id, "{new}");
        let done = done_with(&developer, id).await;
        for (outcome, times) in [
            ("replaced", 1),
            ("deleted", 1),
            ("released", 2),
            ("stored", 0),
        ] {
            let found = done.iter().filter(|done| *done == outcome).count();
            assert_eq!(found, times, "{outcome} of {id}");
        }
    }
    // What a statement put into an event is sealed as it stands.
    all_sealed(&moving.server).await;
    assert_whole(&moving.server).await;
    let (counts, lines) = moving.run().await;
    assert_eq!((counts.imported, counts.kept), (0, 3), "{lines:?}");
}

/// Ids of no form that is kept.
fn odd_ids() -> Vec<String> {
    vec![
        String::new(),
        "1".to_owned(),
        "vc_1".to_owned(),
        "vault_".to_owned(),
        ULID.to_owned(),
        format!("vault_{}", ULID.to_lowercase()),
        format!("VAULT_{ULID}"),
        format!(" vault_{ULID}"),
        format!("vault_{ULID}\n"),
        format!("ak_{ULID}"),
        "vault_8ZZZZZZZZZZZZZZZZZZZZZZZZZ".to_owned(),
        "67e55044-10b1-426f-9247-bb680e5fe0c8".to_owned(),
        "\u{1b}[2J".to_owned(),
        "a\tlost: \u{202e}b\r\n".to_owned(),
        "tök✓😀".to_owned(),
        "x".repeat(100_000),
        format!("{}y", "x".repeat(100_000)),
    ]
}

/// A source with a row for each of these ids; `user-0` has the first one.
async fn with_odd_ids() -> (Move, Vec<String>) {
    let moving = Move::new().await;
    let odd = odd_ids();
    for (number, id) in odd.iter().enumerate() {
        moving
            .source
            .insert(Row {
                id: id.clone(),
                principal: &format!("user-{number}"),
                access_token: encrypted(&format!("{CANARY} {number}")),
                ..Row::default()
            })
            .await;
    }
    (moving, odd)
}

/// The new id that a line of the report names.
fn named(line: &str) -> &str {
    let (_, what) = line.split_once("\timported as ").expect("a new id");
    let (id, why) = what.split_once(": ").unwrap();
    assert_eq!(why, "its id is not vault_, vc_ or cred_ and a ULID");
    let parsed = CredentialId::parse(id).expect("an id");
    assert!(id.starts_with("vc_") && parsed.to_string() == id);
    id
}

#[tokio::test]
async fn any_other_id_gets_a_new_one_which_is_reported_and_found_by_every_verb() {
    let (moving, odd) = with_odd_ids().await;
    let many = u64::try_from(odd.len()).unwrap();
    let dry = moving.run_with(KEY, true).await;
    let (counts, lines) = moving.run().await;
    assert_eq!(dry, (counts, lines.clone()), "a dry run says the same");
    assert_eq!(
        (counts.imported, counts.remarks, counts.lost),
        (many, many, 0)
    );
    for line in &lines {
        assert!(
            !line.chars().any(|c| c.is_control() && c != '\t'),
            "{line:?}"
        );
        assert!(line.len() < 300, "{} bytes", line.len());
    }
    let mut expected: Vec<_> = odd[..odd.len() - 2]
        .iter()
        .map(|id| format!("{}\t", id.escape_debug()))
        .collect();
    let cut = "x".repeat(128);
    expected.extend([100_000, 100_001].map(|n| format!("{cut}… ({n} characters)\t")));
    for start in &expected {
        let found = lines.iter().filter(|line| line.starts_with(start));
        assert_eq!(found.count(), 1, "{start}");
    }
    let mut ids: Vec<&str> = lines.iter().map(|line| named(line)).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), odd.len(), "each has an id of its own");
    for via in Via::BOTH {
        let developer = moving.server.client(via, &moving.tenant.key);
        for id in &ids {
            let found = developer.get(id).await.unwrap();
            let principal = found["principalId"].as_str().unwrap();
            let number = principal.trim_start_matches("user-");
            assert_eq!(moving.token(principal).await, format!("{CANARY} {number}"));
        }
        for id in odd.iter().filter(|id| !id.is_empty() && id.len() < 1000) {
            assert_eq!(developer.get(id).await.unwrap_err().status, 404, "{id}");
        }
    }
}

#[tokio::test]
async fn a_new_id_stays_and_no_later_run_imports_its_row_under_another_one() {
    let (moving, odd) = with_odd_ids().await;
    let many = u64::try_from(odd.len()).unwrap();
    moving.run().await;
    let listed = moving.list().await;
    let id_of = |principal: &str| {
        let found = listed.iter().find(|one| one["principalId"] == principal);
        found.unwrap()["id"].as_str().unwrap().to_owned()
    };
    let rows = moving.server.rows("credentials").await;
    let (counts, lines) = moving.run().await;
    assert_eq!((counts.imported, counts.unchanged), (0, many), "{lines:?}");
    assert!(lines.is_empty(), "{lines:?}");
    assert_eq!(moving.server.rows("credentials").await, rows);

    let developer = moving.server.client(Via::Grpc, &moving.tenant.key);
    let stored = developer.store_token("user-0", "github", "ours").await;
    assert_eq!(stored["id"], id_of("user-0"));
    developer.delete(&id_of("user-1")).await.unwrap();
    developer.delete(&id_of("user-2")).await.unwrap();
    let new = developer.store_token("user-2", "github", "new").await;
    assert_ne!(new["id"], id_of("user-2"));
    // Unchanged there, and changed.
    for updated_at in [None, Some(LATER)] {
        if let Some(updated_at) = updated_at {
            let change = format!("update public.vault_credentials set updated_at = '{updated_at}'");
            moving.source.execute(&change).await;
        }
        let (counts, lines) = moving.run().await;
        let again = updated_at.map_or(0, |_| many - 3);
        assert_eq!((counts.imported, counts.kept), (again, 3), "{lines:?}");
        assert_eq!(moving.token("user-0").await, "ours");
        assert_eq!(moving.token("user-2").await, "new");
        let gone = moving.server.agent(Via::Rest, &moving.tenant, "user-1");
        assert_eq!(gone.exchange("github").await.unwrap_err().status, 404);
        for found in moving.list().await {
            let principal = found["principalId"].as_str().unwrap();
            if principal != "user-2" {
                assert_eq!(found["id"], id_of(principal));
            }
        }
    }
    assert_eq!(moving.server.rows("imports").await.len(), odd.len());
}

#[tokio::test]
async fn of_two_spellings_of_one_moment_the_one_that_the_source_says_is_taken_whatever_the_ids() {
    let moving = Move::new().await;
    for (round, service) in ["github", "GitHub"].into_iter().enumerate() {
        for number in 0..12 {
            // The second one has the greater id there; the ids here are in any order.
            let row = Row {
                id: format!("{round} {number}"),
                principal: &format!("user-{number}"),
                service,
                access_token: encrypted(&format!("{CANARY} {round}")),
                ..Row::default()
            };
            moving.source.insert(row).await;
        }
        let (counts, _) = moving.run().await;
        assert_eq!(counts.imported, 12);
    }
    let (counts, _) = moving.run().await;
    assert_eq!(
        (counts.imported, counts.unchanged, counts.lost),
        (0, 12, 12)
    );
    for number in 0..12 {
        let token = moving.token(&format!("user-{number}")).await;
        assert_eq!(token, format!("{CANARY} 1"));
    }
    assert_eq!(moving.list().await.len(), 12);
}

#[tokio::test]
async fn a_row_with_an_odd_id_and_odd_metadata_is_one_row_with_two_remarks() {
    let moving = Move::new().await;
    let row = Row {
        id: "odd".to_owned(),
        metadata: "[]",
        ..Row::default()
    };
    moving.source.insert(row).await;
    let (counts, lines) = moving.run().await;
    assert_eq!((counts.imported, counts.remarks, counts.lost), (1, 1, 0));
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|line| line.starts_with("odd\timported ")));
    assert_eq!(moving.token("user").await, CANARY);
}
