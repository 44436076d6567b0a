//! Where a server connects: several hosts, a password or a certificate that is replaced, a client certificate.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    time::{Duration, Instant},
};

use grantex_vault::store::{Store, schema::Durability};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};

use super::{
    chain, check, parse,
    tls::{authority, unused_port},
};
use crate::harness::{Cluster, Setup, Tenant, Via, connect};

/// A Postgres on a port of the loopback interface, with a database and a role that has a password.
struct Listening {
    /// As the superuser, through the Unix socket.
    inner_url: String,
    port: u16,
    database: String,
    _cluster: Cluster,
}

impl Listening {
    async fn start() -> Self {
        let port = unused_port();
        let settings = ["listen_addresses=127.0.0.1", &format!("port={port}")];
        let cluster = Cluster::start_with(&settings, &[]).await;
        let inner_url = cluster.database().await;
        let sql = connect(&inner_url).await;
        let role = "create role vault login superuser password 'first'";
        sql.batch_execute(role).await.unwrap();
        let name = sql.query_one("select current_database()", &[]).await;
        Self {
            database: name.unwrap().get(0),
            inner_url,
            port,
            _cluster: cluster,
        }
    }

    fn url(&self, password: &str) -> String {
        let (port, database) = (self.port, &self.database);
        format!("postgres://vault:{password}@127.0.0.1:{port}/{database}")
    }

    async fn execute(&self, sql: &str) {
        connect(&self.inner_url)
            .await
            .batch_execute(sql)
            .await
            .unwrap();
    }
}

/// Takes connections and never says anything.
fn silent() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn serves(setup: Setup, developer: &str) {
    let server = setup.start().await;
    let tenant = server.tenant(developer).await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        developer.store_token("user", "github", "secret").await;
        let agent = server.agent(via, &tenant, "user");
        agent.exchange("github").await.unwrap();
    }
}

#[tokio::test]
async fn a_host_that_says_nothing_or_refuses_keeps_nobody_from_the_next() {
    let postgres = Listening::start().await;
    let (_silent, silent) = silent();
    let (port, database) = (postgres.port, &postgres.database);
    let refusing = unused_port();
    for (developer, hosts) in ["acme", "globex"].into_iter().zip([
        format!("127.0.0.1:{silent},127.0.0.1:{port}"),
        format!("127.0.0.1:{refusing},127.0.0.1:{silent},127.0.0.1:{port}"),
    ]) {
        let url = format!("postgres://vault:first@{hosts}/{database}");
        serves(Setup::new().with("DATABASE_URL", &url), developer).await;

        // The silent one costs the first connection its share, and no other.
        let store = Store::open(&parse(&url), 4, Durability::Required).unwrap();
        let _first = store.connection().await.unwrap();
        let since = Instant::now();
        let _others = [
            store.connection().await.unwrap(),
            store.connection().await.unwrap(),
        ];
        assert!(since.elapsed() < Duration::from_millis(900));
    }
}

#[tokio::test]
async fn hosts_that_are_all_silent_are_given_up_after_their_time() {
    let (_one, one) = silent();
    let (_other, other) = silent();
    let url = format!("postgres://vault@127.0.0.1:{one},127.0.0.1:{other}/v?connect_timeout=1");
    let since = Instant::now();
    let fault = check(&url).await.unwrap_err();
    assert!(chain(&fault).contains("no host answers in time"));
    assert!(since.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_password_that_is_changed_in_the_file_is_used_from_the_next_connection_on() {
    let postgres = Listening::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("url");
    fs::write(&file, postgres.url("first") + "\n").unwrap();
    let setup = Setup::new().with("DATABASE_URL_FILE", file.to_str().unwrap());
    let server = setup.start().await;
    let tenant: Tenant = server.tenant("acme").await;
    for (via, password) in Via::BOTH.into_iter().zip(["second", "third"]) {
        let developer = server.client(via, &tenant.key);
        developer.store_token("user", "github", "secret").await;
        postgres
            .execute(&format!("alter role vault password '{password}'"))
            .await;
        fs::write(&file, postgres.url(password)).unwrap();
        postgres
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'vault'",
            )
            .await;
        let mut answers = Vec::new();
        for _ in 0..5 {
            answers.push(developer.list().await.is_ok());
        }
        assert!(answers.ends_with(&[true, true]), "{answers:?}");
        let agent = server.agent(via, &tenant, "user");
        agent.exchange("github").await.unwrap();
    }
}

#[tokio::test]
async fn a_passfile_has_the_password_and_is_read_for_each_connection() {
    use std::os::unix::fs::PermissionsExt;

    let postgres = Listening::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pgpass");
    let (port, database) = (postgres.port, &postgres.database);
    let url = format!(
        "postgres://vault@127.0.0.1:{port}/{database}?passfile={}",
        file.display()
    );
    assert!(check(&url).await.is_err(), "there is none");
    fs::write(&file, format!("127.0.0.1:{port}:*:vault:first\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(check(&url).await.is_err(), "others may read it");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    check(&url).await.unwrap();
    postgres.execute("alter role vault password 'second'").await;
    assert!(check(&url).await.is_err());
    fs::write(&file, "*:*:*:*:second").unwrap();
    check(&url).await.unwrap();
}

#[tokio::test]
async fn a_client_certificate_is_enough_and_roots_are_read_again() {
    let (first, second) = (authority("first"), authority("second"));
    let of_server = |issuer: &_| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        (
            params.signed_by(&key, issuer).unwrap().pem(),
            key.serialize_pem(),
        )
    };
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "vault");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let client = params.signed_by(&key, &first).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    fs::write(path("client.crt"), client.pem()).unwrap();
    fs::write(path("client.key"), key.serialize_pem()).unwrap();
    fs::write(path("roots.pem"), second.pem()).unwrap();

    let port = unused_port();
    let (certificate, server_key) = of_server(&first);
    let settings = [
        "ssl=on",
        "ssl_ca_file=clients.crt",
        "listen_addresses=127.0.0.1",
        &format!("port={port}"),
        "hba_file=data/by_certificate.conf",
    ];
    let files = [
        ("server.crt", &*certificate),
        ("server.key", &*server_key),
        ("clients.crt", &*first.pem()),
        (
            "by_certificate.conf",
            "local all all trust\nhostssl all all 127.0.0.1/32 cert\n",
        ),
    ];
    let cluster = Cluster::start_with(&settings, &files).await;
    let inner_url = cluster.database().await;
    let sql = connect(&inner_url).await;
    sql.batch_execute("create role vault login superuser")
        .await
        .unwrap();
    let database: String = sql
        .query_one("select current_database()", &[])
        .await
        .unwrap()
        .get(0);
    let base = format!(
        "postgres://vault@127.0.0.1:{port}/{database}?sslmode=verify-full&sslrootcert={}",
        path("roots.pem")
    );
    let url = format!(
        "{base}&sslcert={}&sslkey={}",
        path("client.crt"),
        path("client.key")
    );
    let store = Store::open(&parse(&url), 1, Durability::Required).unwrap();
    assert!(store.connection().await.is_err(), "it is of another issuer");
    fs::write(path("roots.pem"), first.pem() + &second.pem()).unwrap();
    store.connection().await.unwrap();
    check(&url).await.unwrap();
    assert!(check(&base).await.is_err(), "without a certificate");
}
