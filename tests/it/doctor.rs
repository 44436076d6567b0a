//! `grantex-vault doctor`: what it finds, and that it says what to do.

use std::{collections::BTreeMap, path::Path};

use tempfile::TempDir;

use grantex_vault::store::schema;

use crate::harness::{
    Certificates, Cluster, FakeIssuer, connect, instance_directory, print, run_with,
};

/// The settings of a server on this machine, with files of its own.
struct Configured {
    settings: BTreeMap<&'static str, String>,
    _directory: TempDir,
}

impl Configured {
    fn on(database_url: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name).display().to_string();
        print(&["keyring", "create", &file("keyring.json")]);
        let jwks = serde_json::json!({"keys": [FakeIssuer::start().key().jwk()]});
        std::fs::write(file("jwks.json"), jwks.to_string()).unwrap();
        let settings = BTreeMap::from([
            ("DATABASE_URL", database_url.to_owned()),
            (
                "GRANTEX_VAULT_MASTER_KEY",
                format!("local:{}", file("keyring.json")),
            ),
            ("GRANTEX_VAULT_ISSUER", "https://issuer.test".to_owned()),
            ("GRANTEX_VAULT_JWKS_FILE", file("jwks.json")),
        ]);
        Self {
            settings,
            _directory: directory,
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.settings.insert(name, value.into());
        self
    }

    /// What it prints, and whether there is nothing to fix.
    async fn doctor(&self) -> (String, bool) {
        let settings = self.settings.clone();
        let output = tokio::task::spawn_blocking(move || {
            let variables: Vec<(&str, &str)> = settings.iter().map(|(n, v)| (*n, &**v)).collect();
            run_with(&["doctor"], &variables)
        });
        let output = output.await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (text, output.status.success())
    }
}

/// The line of a finding, with what to do behind it.
fn found(text: &str, verdict: &str, subject: &str) -> String {
    let mut lines = text.lines();
    let begins = format!("{verdict:<4}  {subject}");
    let line = lines.find(|line| line.starts_with(&begins));
    let line = line.unwrap_or_else(|| panic!("{begins} in\n{text}"));
    let fix = lines.next().filter(|line| line.starts_with("      → "));
    assert_eq!(fix.is_some(), verdict != "ok", "{line}");
    format!("{line}{}", fix.unwrap_or_default())
}

#[tokio::test]
async fn a_server_that_would_serve_well_has_nothing_to_fix() {
    let url = of_a_serving_role(Cluster::shared().await, "well_serving").await;
    let (text, well) = Configured::on(&url).doctor().await;
    assert!(well, "{text}");
    for subject in [
        "configuration",
        "database",
        "durability",
        "schema",
        "clock",
        "role",
    ] {
        found(&text, "ok", subject);
    }
    for operation in ["GenerateDataKey", "Decrypt", "ReEncrypt"] {
        assert!(text.contains(&format!("{operation} works")), "{text}");
    }
    assert!(found(&text, "ok", "issuer's keys").contains("1 of them"));
}

/// A new database as a role sees it that was granted what serving needs.
async fn of_a_serving_role(cluster: &Cluster, role: &str) -> String {
    let url = cluster.empty_database().await;
    let create = format!("create role {role} login");
    connect(&url).await.batch_execute(&create).await.unwrap();
    let name = role.parse().unwrap();
    let migrated = schema::migrate(&url.parse().unwrap(), Some(&name)).await;
    migrated.unwrap();
    url.replace("user=postgres", &format!("user={role}"))
}

#[tokio::test]
async fn a_role_that_may_change_the_record_fails_and_is_told_how() {
    let owner = Cluster::shared().await.database().await;
    let (text, well) = Configured::on(&owner).doctor().await;
    assert!(!well, "{text}");
    let said = found(&text, "FAIL", "role");
    for may in [
        "own the schema vault",
        "delete vault.audit_events",
        "truncate vault.audit_seals",
    ] {
        assert!(said.contains(may), "{said}");
    }
    assert!(said.contains("GRANTEX_VAULT_DB_ROLE"), "{said}");

    for (role, grant, may) in [
        (
            "may_update",
            "grant update (canonical) on vault.audit_events to may_update",
            "update vault.audit_events",
        ),
        (
            "may_truncate",
            "do $$ begin execute format('grant truncate on %s to may_truncate', (
                select inhrelid::regclass from pg_inherits
                where inhparent = 'vault.audit_events'::regclass limit 1)); end $$",
            "truncate vault.audit_events",
        ),
        (
            "may_be_owner",
            "create role an_owner; alter schema vault owner to an_owner;
             alter role may_be_owner noinherit; grant an_owner to may_be_owner",
            "own the schema vault",
        ),
        (
            "may_become_another",
            "create role a_changer; grant delete on vault.audit_events to a_changer;
             alter role may_become_another noinherit; grant a_changer to may_become_another",
            "delete vault.audit_events",
        ),
        (
            "may_be_superuser",
            "create role a_superuser superuser; grant a_superuser to may_be_superuser",
            "be the superuser a_superuser",
        ),
        (
            "may_write_files",
            "grant pg_write_server_files to may_write_files",
            "change files of the server (pg_write_server_files)",
        ),
        (
            "may_add_triggers",
            "do $$ begin execute format('grant trigger on %s to may_add_triggers', (
                select inhrelid::regclass from pg_inherits
                where inhparent = 'vault.audit_events'::regclass limit 1)); end $$",
            "trigger vault.audit_events",
        ),
    ] {
        let url = of_a_serving_role(Cluster::shared().await, role).await;
        let owner = connect(&url.replace(role, "postgres")).await;
        owner.batch_execute(grant).await.unwrap();
        let (text, well) = Configured::on(&url).doctor().await;
        assert!(!well, "{role}: {text}");
        let said = found(&text, "FAIL", "role");
        assert!(
            said.contains(&format!("{role} may ")) && said.contains(may),
            "{said}"
        );
    }
}

#[tokio::test]
async fn serve_warns_when_its_role_may_change_the_record() {
    const WARNING: &str = "THE ROLE THAT SERVES MAY CHANGE THE AUDIT RECORD";
    let directory = instance_directory();
    let mut settings = crate::stop::settings(directory.path()).await;
    let mut vault = crate::stop::serve(&settings);
    let line = vault.logged_line(WARNING).await;
    assert!(line.contains("WARN"), "{line}");
    assert!(line.contains("delete vault.audit_events"), "{line}");

    let url = of_a_serving_role(Cluster::shared().await, "only_serving").await;
    settings.insert("DATABASE_URL", url);
    let mut vault = crate::stop::serve(&settings);
    let line = vault.logged_line("may not change the audit record").await;
    assert!(line.contains("only_serving"), "{line}");
    assert!(!vault.log().contains(WARNING), "{}", vault.log());
}

#[tokio::test]
async fn what_is_wrong_with_a_configuration_is_all_named() {
    let configured = Configured::on("mysql://nowhere")
        .with("GRANTEX_VAULT_MASTER_KEY", "local:/does/not/exist")
        .with("GRANTEX_VAULT_JWKS_FILE", "/does/not/exist");
    let (text, well) = configured.doctor().await;
    assert!(!well);
    assert!(found(&text, "FAIL", "configuration").contains("DATABASE_URL"));
    assert!(found(&text, "FAIL", "master key").contains("GRANTEX_VAULT_MASTER_KEY"));
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_or_has_no_schema_is_said_with_what_to_do() {
    let (text, well) = Configured::on("postgres://u:hidden-password@127.0.0.1:1/v?sslmode=disable")
        .doctor()
        .await;
    assert!(!well && !text.contains("hidden-password"), "{text}");
    assert!(found(&text, "FAIL", "database").contains("check DATABASE_URL"));
    let empty = Cluster::shared().await.empty_database().await;
    let (text, well) = Configured::on(&empty).doctor().await;
    assert!(!well);
    assert!(found(&text, "FAIL", "schema").contains("grantex-vault migrate"));
}

#[tokio::test]
async fn a_database_that_loses_writes_is_said_to() {
    let torn = Cluster::start_with(&["full_page_writes=off"], &[]).await;
    let url = torn.database().await;
    let (text, well) = Configured::on(&url).doctor().await;
    assert!(!well);
    let said = found(&text, "FAIL", "durability");
    assert!(said.contains("full_page_writes off"), "{said}");
    assert!(said.contains("GRANTEX_VAULT_STORAGE_IS_DURABLE"), "{said}");
    let lossy = ["full_page_writes=off", "fsync=off"];
    let lossy = Cluster::start_with(&lossy, &[]).await;
    let url = of_a_serving_role(&lossy, "lossy_serving").await;
    let (text, well) = Configured::on(&url).doctor().await;
    assert!(!well);
    let said = found(&text, "FAIL", "durability");
    assert!(said.contains("fsync, full_page_writes off"), "{said}");
    let accepted = Configured::on(&url).with("GRANTEX_VAULT_STORAGE_IS_DURABLE", "true");
    let (text, well) = accepted.doctor().await;
    assert!(well, "{text}");
    assert!(found(&text, "ok", "durability").contains("fsync, full_page_writes off"));
}

#[tokio::test]
async fn a_role_that_may_not_serve_is_told_what_it_lacks() {
    let url = Cluster::shared().await.database().await;
    let role = "create role narrow login;
                grant usage on schema vault to narrow;
                grant select on vault.schema_version to narrow";
    connect(&url).await.batch_execute(role).await.unwrap();
    let narrow = url.replace("user=postgres", "user=narrow");
    let (text, well) = Configured::on(&narrow).doctor().await;
    assert!(!well);
    let said = found(&text, "FAIL", "role");
    assert!(said.contains("insert vault.audit_events"), "{said}");
    assert!(said.contains("GRANTEX_VAULT_DB_ROLE=narrow"), "{said}");
}

#[tokio::test]
async fn a_key_set_without_usable_keys_and_an_old_certificate_are_said() {
    let url = Cluster::shared().await.database().await;
    let certificates = Certificates::new();
    certificates.swap(&certificates.authority.issue_until(2020));
    let configured = Configured::on(&url)
        .with("GRANTEX_VAULT_TLS_CERT_FILE", certificates.path("tls.crt"))
        .with("GRANTEX_VAULT_TLS_KEY_FILE", certificates.path("tls.key"))
        .with("GRANTEX_VAULT_OPERATOR_ADDR", "127.0.0.1:0")
        .with(
            "GRANTEX_VAULT_OPERATOR_TOKEN_FILE",
            certificates.path("none"),
        )
        .with(
            "GRANTEX_VAULT_OPERATOR_TLS_CERT_FILE",
            certificates.path("tls.crt"),
        )
        .with(
            "GRANTEX_VAULT_OPERATOR_TLS_KEY_FILE",
            certificates.path("tls.key"),
        )
        .with(
            "GRANTEX_VAULT_ADMIN_TLS_CERT_FILE",
            certificates.path("tls.crt"),
        )
        .with(
            "GRANTEX_VAULT_ADMIN_TLS_KEY_FILE",
            certificates.path("tls.key"),
        );
    let jwks = configured.settings["GRANTEX_VAULT_JWKS_FILE"].clone();
    std::fs::write(Path::new(&jwks), "{\"keys\":[]}").unwrap();
    let (text, well) = configured.doctor().await;
    assert!(!well);
    assert!(found(&text, "FAIL", "issuer's keys").contains("RS256"));
    assert!(found(&text, "FAIL", "certificate").contains("expired"));
    assert!(found(&text, "FAIL", "admin certificate").contains("expired"));
    assert!(found(&text, "FAIL", "operators' certificate").contains("expired"));
    let token = found(&text, "FAIL", "operators' token");
    assert!(token.contains("GRANTEX_VAULT_OPERATOR_TOKEN_FILE names "));
}
