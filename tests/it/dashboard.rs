//! What the dashboard and the alerts ask for is what a server shows.

use std::collections::BTreeSet;

use crate::harness::{Certificates, Setup, Via};

const RULES: &str = include_str!("../../helm/grantex-vault/files/rules.yaml");
const DASHBOARD: &str = include_str!("../../helm/grantex-vault/files/dashboard.json");

const PREFIX: &str = "grantex_vault_";

/// The metrics that a text names; a rule's own recordings have a colon.
fn named(text: &str) -> BTreeSet<&str> {
    let places = text.match_indices(PREFIX).map(|(at, _)| &text[at..]);
    let names = places.map(|rest| {
        let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        &rest[..end.unwrap_or(rest.len())]
    });
    names.collect()
}

#[tokio::test]
async fn every_metric_of_a_panel_or_an_alert_is_shown() {
    let certificates = Certificates::new();
    let setup = Setup::new().with("GRANTEX_VAULT_AUDIT_SEAL_INTERVAL", "5s");
    let server = setup.with_tls(&certificates).start().await;
    let tenant = server.tenant("acme").await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        developer.store_token("user", "github", "secret").await;
        let agent = server.agent(via, &tenant, "user");
        assert!(agent.exchange("github").await.is_ok());
    }
    let shown = server.http.get(format!("{}/metrics", server.admin_url()));
    let shown = shown.send().await.unwrap().text().await.unwrap();
    let shown = named(&shown);
    let asked: BTreeSet<&str> = named(RULES).into_iter().chain(named(DASHBOARD)).collect();
    assert!(asked.len() > 20, "{asked:?}");
    let missing: Vec<_> = asked.difference(&shown).collect();
    assert!(missing.is_empty(), "{missing:?} in {shown:?}");
    // And nothing is measured in vain.
    let parts = ["_bucket", "_sum", "_count"];
    let base = |name: &str| {
        let stripped = parts.iter().find_map(|part| name.strip_suffix(part));
        stripped.unwrap_or(name).to_owned()
    };
    let asked: BTreeSet<String> = asked.into_iter().map(base).collect();
    let shown: BTreeSet<String> = shown.into_iter().map(base).collect();
    let unseen: Vec<_> = shown.difference(&asked).collect();
    assert!(unseen.is_empty(), "{unseen:?} on no dashboard");
}
