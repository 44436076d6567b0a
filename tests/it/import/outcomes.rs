//! What becomes of every kind of row.

use std::{sync::Arc, time::Duration};

use grantex_vault::{
    envelope::{kms::Kms, master_keys::MasterKeys},
    import::Counts,
    pace::Pace,
    rotation::{self, Extent, Rotation},
    store::{Store, schema::Durability},
};
use serde_json::{Value, json};

use super::source::{CANARY, EMPTY, KEY, Move, Row, VECTORS, encrypted, encrypted_under, id};
use crate::harness::Via;

/// How many credentials open, access and refresh token, of how many.
async fn opens(moving: &Move) -> (u64, u64) {
    let url = moving.server.database_url.parse().unwrap();
    let store = Store::open(&url, 4, Durability::Required).unwrap();
    let kms = Arc::clone(&moving.server.kms) as Arc<dyn Kms>;
    let keys = Arc::new(MasterKeys::new(kms, Vec::new()));
    let rotation = Rotation::new(store, keys, Duration::from_secs(3), Pace::new(4, None));
    let watch = rotation::Watch::new(&|_| {});
    rotation.verify(Extent::All, &watch).await.unwrap();
    (watch.counts().done, watch.counts().looked)
}

#[tokio::test]
async fn what_was_stored_there_is_exchanged_here_with_its_id_and_times() {
    let moving = Move::new().await;
    for (number, (_, stored)) in VECTORS.iter().enumerate() {
        moving
            .source
            .insert(Row {
                id: id(number),
                principal: &format!("user-{number}"),
                access_token: (*stored).to_owned(),
                refresh_token: Some((*stored).to_owned()),
                token_expires_at: Some("2027-01-01T00:00:00.987654Z"),
                ..Row::default()
            })
            .await;
    }
    assert_eq!(moving.imported().await, 4);
    for (number, (token, _)) in VECTORS.iter().enumerate() {
        assert_eq!(moving.token(&format!("user-{number}")).await, *token);
        for via in Via::BOTH {
            let developer = moving.server.client(via, &moving.tenant.key);
            let found = developer.get(&id(number)).await.unwrap();
            assert_eq!(
                found,
                json!({
                    "id": id(number), "principalId": format!("user-{number}"), "service": "GitHub",
                    "credentialType": "oauth2", "tokenExpiresAt": "2027-01-01T00:00:00.987Z",
                    "metadata": {"org": "acme"}, "createdAt": "2026-01-01T00:00:00.123Z",
                    "updatedAt": "2026-01-02T00:00:00.123Z",
                })
            );
        }
    }
    assert_eq!(opens(&moving).await, (4, 4));
}

#[tokio::test]
async fn of_names_that_differ_in_case_the_newest_is_imported_and_the_others_are_named() {
    let moving = Move::new().await;
    for (number, service, updated_at) in [
        (1, "github", "2026-01-02"),
        (2, "GitHub", "2026-01-04"),
        (3, "GITHUB", "2026-01-03"),
        // A moment later the tie is broken by the id.
        (4, "slack", "2026-01-02"),
        (5, "Slack", "2026-01-02"),
    ] {
        moving
            .source
            .insert(Row {
                id: id(number),
                service,
                access_token: encrypted(&format!("{CANARY} {number}")),
                updated_at,
                ..Row::default()
            })
            .await;
    }
    let (counts, lines) = moving.run().await;
    assert_eq!((counts.looked, counts.imported, counts.lost), (5, 2, 3));
    let named: Vec<String> = [1, 3, 4]
        .map(|number| format!("{}\tlost: service: another spelling", id(number)))
        .to_vec();
    for (line, start) in lines.iter().zip(&named) {
        assert!(line.starts_with(start.as_str()), "{line}");
    }
    assert_eq!(moving.token("user").await, format!("{CANARY} 2"));
    let spelled = moving.list().await;
    let spelled: Vec<&Value> = spelled.iter().map(|found| &found["service"]).collect();
    assert_eq!(spelled, ["Slack", "GitHub"]);
}

#[tokio::test]
async fn metadata_is_unwrapped_or_left_behind_and_the_credential_comes() {
    let moving = Move::new().await;
    let large = format!(r#"{{"a": "{}"}}"#, "x".repeat(2_000_000));
    let nested = |levels: usize| {
        let arrays = levels - 1;
        format!(r#"{{"a": {}{}}}"#, "[".repeat(arrays), "]".repeat(arrays))
    };
    let [deepest, too_deep] = [32, 33].map(nested);
    let [deepest_text, too_deep_text] = [&deepest, &too_deep].map(|text| json!(text).to_string());
    let deepest_stored = deepest.replace(' ', "");
    let rows = [
        (r#""{\"z\":1,\"org\":\"acme\"}""#, r#"{"z":1,"org":"acme"}"#),
        (r#"{"org": {"a": [1, "ö"]}}"#, r#"{"org":{"a":[1,"ö"]}}"#),
        ("null", "{}"),
        ("{}", "{}"),
        (r#""{}""#, "{}"),
        (deepest.as_str(), deepest_stored.as_str()),
        (deepest_text.as_str(), deepest_stored.as_str()),
        (too_deep.as_str(), "{}"),
        (too_deep_text.as_str(), "{}"),
        (r#"["left behind"]"#, "{}"),
        ("7", "{}"),
        (r#""text""#, "{}"),
        (large.as_str(), "{}"),
    ];
    for (number, (metadata, _)) in rows.iter().enumerate() {
        moving
            .source
            .insert(Row {
                id: id(number),
                principal: &format!("user-{number}"),
                metadata,
                ..Row::default()
            })
            .await;
    }
    let (counts, lines) = moving.run().await;
    assert_eq!((counts.imported, counts.remarks, counts.lost), (13, 6, 0));
    let all_say = |line: &String| line.contains("\timported with metadata {}: it ");
    assert!(lines.len() == 6 && lines.iter().all(all_say), "{lines:?}");
    let too_deep = lines
        .iter()
        .filter(|line| line.ends_with("nested at most 32 levels deep"));
    assert_eq!(too_deep.count(), 2, "{lines:?}");
    let stored = moving.server.sql().await;
    let stored = stored
        .query(
            "select metadata::text from vault.credentials order by id",
            &[],
        )
        .await;
    let stored: Vec<String> = stored.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(stored, rows.map(|(_, metadata)| metadata));
    assert_eq!(opens(&moving).await, (13, 13));
}

#[tokio::test]
async fn infinity_is_no_expiry() {
    let moving = Move::new().await;
    let token_expires_at = Some("infinity");
    let row = Row {
        token_expires_at,
        ..Row::default()
    };
    moving.source.insert(row).await;
    assert_eq!(moving.imported().await, 1);
    assert_eq!(moving.list().await[0]["tokenExpiresAt"], Value::Null);
}

/// A row with one thing wrong, and what is said of it.
type Odd = (Row<'static>, &'static str);

fn odd_rows() -> Vec<Odd> {
    let long: &'static str = "x".repeat(100_000).leak();
    let other_key = encrypted_under(CANARY, &[7; 32]);
    let truncated = encrypted(&format!("{CANARY} that is truncated"));
    let row = Row::default;
    #[rustfmt::skip]
    let odd = vec![
        (Row { developer: "", ..row() }, "developer_id: must not be empty"),
        (Row { principal: "", ..row() }, "principal_id: must not be empty"),
        (Row { principal: "a\u{7}b", ..row() }, "principal_id: must not contain control characters"),
        (Row { principal: long, ..row() }, "principal_id: must be at most 512 characters"),
        (Row { service: "git hub", ..row() }, "service: must be 1-64 characters"),
        (Row { service: "\u{212a}", ..row() }, "service: must be 1-64 characters"),
        (Row { credential_type: "", ..row() }, "credential_type: must not be empty"),
        (Row { credential_type: long, ..row() }, "credential_type: must be at most 64 characters"),
        (Row { access_token: other_key.clone(), ..row() }, "access_token: does not decrypt"),
        (Row { access_token: truncated[..60].to_owned(), ..row() }, "access_token: does not decrypt"),
        (Row { access_token: truncated[..20].to_owned(), ..row() }, "access_token: is truncated"),
        (Row { access_token: String::new(), ..row() }, "access_token: is truncated"),
        (Row { access_token: format!("{CANARY}!"), ..row() }, "access_token: is not base64"),
        (Row { access_token: EMPTY.to_owned(), ..row() }, "access_token: is empty"),
        (Row { access_token: encrypted(&"x".repeat(256 * 1024 + 1)), ..row() }, "access_token: is larger than 262144 bytes"),
        (Row { access_token: "A".repeat(2_000_000), ..row() }, "access_token: is larger than 262144 bytes"),
        (Row { refresh_token: Some(other_key), ..row() }, "refresh_token: does not decrypt"),
        (Row { token_expires_at: Some("-infinity"), ..row() }, "token_expires_at: is not in the years"),
        (Row { token_expires_at: Some("20000-01-01"), ..row() }, "token_expires_at: is not in the years"),
        (Row { created_at: "0044-03-15 BC", ..row() }, "created_at: is not in the years"),
        (Row { updated_at: "infinity", ..row() }, "updated_at: is not in the years"),
    ];
    odd
}

#[tokio::test]
async fn what_cannot_be_taken_over_is_named_with_its_reason_and_the_rest_comes() {
    let moving = Move::new().await;
    let odd = odd_rows();
    let mut expected = Vec::new();
    for (number, (mut row, why)) in odd.into_iter().enumerate() {
        let principal = format!("odd-{number}");
        if row.id == id(1) {
            row.id = id(100 + number);
        }
        if row.principal == "user" {
            row.principal = &principal;
        }
        expected.push(format!("{}\tlost: {why}", row.id.escape_debug()));
        moving.source.insert(row).await;
    }
    moving
        .source
        .insert(Row {
            refresh_token: Some(EMPTY.to_owned()),
            access_token: encrypted(&"x".repeat(256 * 1024)),
            ..Row::default()
        })
        .await;
    expected.sort();
    let (counts, lines) = moving.run().await;
    for (line, start) in lines.iter().zip(&expected) {
        assert!(line.starts_with(start.as_str()), "{line} is not {start}");
        assert!(
            !line.contains(CANARY) && !line.contains('\u{1b}'),
            "{line:?}"
        );
    }
    let many = u64::try_from(expected.len()).unwrap();
    assert_eq!((counts.imported, counts.lost), (1, many), "{lines:?}");
    assert_eq!(moving.token("user").await.len(), 256 * 1024);
    assert_eq!(opens(&moving).await, (1, 1));
    let (again, said) = moving.run().await;
    assert_eq!((again.imported, again.unchanged), (0, 1));
    assert_eq!(said, lines, "what is lost is said again");
}

#[tokio::test]
async fn what_does_not_fit_the_index_is_named() {
    // Characters of four bytes each, in no order that could be compressed.
    let text = |seed: u32| -> &'static str {
        let mut state = seed;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from_u32(0x2_0000 + (state >> 16) % 0xa000).unwrap()
        };
        (0..512).map(next).collect::<String>().leak()
    };
    let moving = Move::new().await;
    // There the key may not have fitted an index either.
    let unique = "alter table public.vault_credentials
        drop constraint vault_credentials_developer_id_principal_id_service_key";
    moving.source.execute(unique).await;
    let (developer, principal) = (text(1), text(2));
    let row = Row {
        developer,
        principal,
        ..Row::default()
    };
    moving.source.insert(row).await;
    let (counts, lines) = moving.run().await;
    assert_eq!((counts.imported, counts.lost), (0, 1));
    let says = "\tlost: the vault's database refuses it";
    assert!(lines[0].contains(says), "{lines:?}");
}

#[tokio::test]
async fn another_key_loses_every_row_and_changes_nothing() {
    let moving = Move::new().await;
    moving.source.fill(3).await;
    let (counts, lines) = moving.run_with(&"7".repeat(64), false).await;
    let lost = Counts {
        looked: 3,
        lost: 3,
        ..Counts::default()
    };
    assert_eq!(counts, lost);
    for (line, number) in lines.iter().zip(1..) {
        let why = "access_token: does not decrypt: another key encrypted it";
        assert!(
            line.starts_with(&format!("{}\tlost: {why}", id(number))),
            "{line}"
        );
    }
    assert!(moving.list().await.is_empty());
    assert_eq!(moving.run_with(KEY, false).await.0.imported, 3);
}
