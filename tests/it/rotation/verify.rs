//! Verify names what does not open and why, and shows nothing that does.

use grantex_vault::rotation::Extent;

use super::sealed_rows::{CANARY, Rows, watched};

#[tokio::test]
async fn what_does_not_open_is_named_with_its_reason() {
    let rows = Rows::none().await;
    let keyring = rows.keyring("keyring");
    let flip =
        |column: &str| format!("{column} = set_byte({column}, 20, get_byte({column}, 20) # 1)");
    for (change, why) in [
        ("principal_id = 'mallory'".to_owned(), "data key: "),
        ("developer_id = 'globex'".to_owned(), "data key: "),
        ("service_key = 'slack'".to_owned(), "data key: "),
        (flip("wrapped_key"), "data key: "),
        (
            "service = 'github'".to_owned(),
            "access token: an attribute",
        ),
        (
            r#"metadata = '{"n": 3}'"#.to_owned(),
            "access token: an attribute",
        ),
        (
            "token_expires_at = now()".to_owned(),
            "access token: an attribute",
        ),
        (
            "credential_type = 'api_key'".to_owned(),
            "access token: an attribute",
        ),
        (flip("access_token"), "access token: "),
        ("access_token = refresh_token".to_owned(), "access token: "),
        (flip("refresh_token"), "refresh token: "),
        (
            "master_key = 'arn:evil'".to_owned(),
            "master key not configured: arn:evil",
        ),
        (
            "access_token = set_byte(access_token, 0, 9)".to_owned(),
            "format: ",
        ),
        ("access_token = ''".to_owned(), "format: "),
        ("service = ''".to_owned(), "format: "),
        ("token_expires_at = 'infinity'".to_owned(), "format: "),
        ("id = 'no id'".to_owned(), ""),
    ] {
        rows.execute("delete from vault.credentials").await;
        rows.seal(&*keyring, 6).await;
        rows.execute(&format!(
            "update vault.credentials set {change} where principal_id = 'user-3'"
        ))
        .await;
        let rotation = rows.rotation(keyring.clone(), &[]);
        for extent in [Extent::All, Extent::Sample(100)] {
            let (counts, lines) = watched(async |watch| rotation.verify(extent, watch).await).await;
            assert_eq!(counts.looked, 6);
            if why.is_empty() {
                assert_eq!(
                    (counts.done, lines.len()),
                    (6, 0),
                    "the id is not sealed: {change}"
                );
                continue;
            }
            assert_eq!((counts.done, lines.len()), (5, 1), "{change}");
            assert!(
                lines[0].contains(&format!("\t{why}")),
                "{change}: {lines:?}"
            );
            assert!(
                !lines[0].contains(CANARY) && !lines[0].contains("user-3"),
                "{lines:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_sample_opens_as_many_as_it_says() {
    let rows = Rows::none().await;
    let keyring = rows.keyring("keyring");
    rows.seal(&*keyring, 120).await;
    let rotation = rows.rotation(keyring, &[]);
    let extent = Extent::Sample(70);
    let (counts, _) = watched(async |watch| rotation.verify(extent, watch).await).await;
    assert_eq!((counts.looked, counts.done), (70, 70));
}
