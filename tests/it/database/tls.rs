//! TLS to Postgres: what is verified in which mode.

use grantex_vault::{
    app::StartFault,
    store::{Store, database_url::DatabaseUrl, schema::Durability},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use super::{chain, check};
use crate::harness::{Cluster, Setup, Via, connect};

/// Addresses of this machine that nothing else listens on. The certificate names the first.
const NAMED: &str = "127.83.71.67";
const UNNAMED: &str = "127.83.71.68";

/// A private Postgres that offers TLS, and one database there.
struct Encrypted {
    /// As the superuser, through the Unix socket.
    inner_url: String,
    port: u16,
    database: String,
    directory: TempDir,
    _cluster: Cluster,
}

impl Encrypted {
    async fn start() -> Self {
        let (right, wrong) = (authority("right"), authority("wrong"));
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([NAMED.to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &right).unwrap();
        let directory = tempfile::tempdir().unwrap();
        for (name, authority) in [("right.pem", &right), ("wrong.pem", &wrong)] {
            std::fs::write(directory.path().join(name), authority.pem()).unwrap();
        }

        let port = unused_port();
        let settings = [
            "ssl=on",
            &format!("port={port}"),
            &format!("listen_addresses={NAMED},{UNNAMED}"),
        ];
        let files = [
            ("server.crt", &*certificate.pem()),
            ("server.key", &key.serialize_pem()),
        ];
        let cluster = Cluster::start_with(&settings, &files).await;
        let inner_url = cluster.database().await;
        let client = connect(&inner_url).await;
        let role = "create role vault login superuser password 'canary'";
        client.batch_execute(role).await.unwrap();
        let name = client.query_one("select current_database()", &[]).await;
        Self {
            inner_url,
            port,
            database: name.unwrap().get(0),
            directory,
            _cluster: cluster,
        }
    }

    fn url(&self, host: &str, mode: &str, root: &str) -> String {
        let (port, database) = (self.port, &self.database);
        let root = match root {
            "system" => root.to_owned(),
            name => self.directory.path().join(name).display().to_string(),
        };
        format!(
            "postgres://vault:canary@{host}:{port}/{database}?sslmode={mode}&sslrootcert={root}"
        )
    }

    /// Whether each connection of the vault's role is encrypted.
    async fn encrypted(&self) -> Vec<bool> {
        let sql = "select ssl from pg_stat_ssl join pg_stat_activity using (pid)
                   where usename = 'vault'";
        let rows = connect(&self.inner_url).await.query(sql, &[]).await;
        rows.unwrap().iter().map(|row| row.get(0)).collect()
    }
}

pub(super) fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A port below those that the system gives out.
pub(super) fn unused_port() -> u16 {
    let [high, low, ..] = *uuid::Uuid::new_v4().as_bytes();
    10_000 + u16::from_be_bytes([high, low]) % 20_000
}

#[tokio::test]
async fn each_mode_verifies_what_it_says() {
    const NAME: &str = "not valid for name";
    const ISSUER: &str = "UnknownIssuer";
    let postgres = Encrypted::start().await;
    for (host, mode, root, refused) in [
        (NAMED, "verify-full", "right.pem", None),
        (NAMED, "verify-ca", "right.pem", None),
        (NAMED, "require", "right.pem", None),
        (UNNAMED, "verify-full", "right.pem", Some(NAME)),
        (UNNAMED, "verify-ca", "right.pem", None),
        (UNNAMED, "require", "right.pem", Some(NAME)),
        (NAMED, "verify-full", "wrong.pem", Some(ISSUER)),
        (NAMED, "verify-ca", "wrong.pem", Some(ISSUER)),
        (NAMED, "require", "wrong.pem", Some(ISSUER)),
        (UNNAMED, "verify-ca", "wrong.pem", Some(ISSUER)),
        (NAMED, "verify-full", "system", Some("certificate")),
        (NAMED, "verify-ca", "system", Some("certificate")),
        (NAMED, "disable", "right.pem", None),
        (NAMED, "disable", "wrong.pem", None),
    ] {
        let outcome = check(&postgres.url(host, mode, root)).await;
        let outcome = outcome.map_err(|fault| chain(&fault));
        match refused {
            None => assert_eq!(outcome, Ok(()), "{host} {mode} {root}"),
            Some(why) => {
                let fault = outcome.expect_err(mode);
                assert!(fault.contains(why), "{host} {mode} {root}: {fault}");
            }
        }
    }
}

#[tokio::test]
async fn what_a_server_stores_and_exchanges_goes_through_tls() {
    let postgres = Encrypted::start().await;
    for (host, mode, encrypted) in [
        (NAMED, "verify-full", true),
        (UNNAMED, "verify-ca", true),
        (NAMED, "disable", false),
    ] {
        let url = postgres.url(host, mode, "right.pem");
        let server = Setup::new().with("DATABASE_URL", &url).start().await;
        let tenant = server.tenant(mode).await;
        for via in Via::BOTH {
            let developer = server.client(via, &tenant.key);
            developer.store_token("user", "github", "secret").await;
            let exchanged = server.agent(via, &tenant, "user").exchange("github").await;
            assert_eq!(
                exchanged.unwrap()["accessToken"],
                "secret",
                "{via:?} {mode}"
            );
        }
        let connections = postgres.encrypted().await;
        assert!(!connections.is_empty());
        assert!(connections.iter().all(|one| *one == encrypted), "{mode}");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused_without_showing_it() {
    let postgres = Encrypted::start().await;
    for mode in ["verify-full", "disable"] {
        let url = postgres.url(NAMED, mode, "right.pem");
        let wrong = url.replace(":canary@", ":wrong-canary@");
        let fault = check(&wrong).await.expect_err(mode);
        let text = format!("{} {fault:?}", chain(&fault));
        assert!(text.contains("password authentication failed"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let url = Cluster::shared().await.database().await;
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = url.replace("sslmode=disable", &format!("sslmode={mode}"));
        let fault = check(&url).await.expect_err(mode);
        assert!(chain(&fault).contains("TLS"), "{mode}: {}", chain(&fault));
    }
}

#[tokio::test]
async fn a_root_file_that_holds_no_certificates_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let missing = directory.path().join("missing.pem");
    for root in [empty, missing] {
        let root = root.display();
        let url = format!("postgres://127.0.0.1:1/vault?sslmode=verify-full&sslrootcert={root}");
        let parsed: DatabaseUrl = url.parse().unwrap();
        assert!(Store::open(&parsed, 1, Durability::Required).is_err());
        let started = Setup::new().with("DATABASE_URL", &url).try_start().await;
        let fault = started.err().expect("no server starts");
        assert!(matches!(fault, StartFault::Config(_)), "{fault:?}");
        assert!(fault.to_string().contains("sslrootcert"), "{fault}");
    }
}
