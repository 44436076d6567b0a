//! What writes if something holds is READ COMMITTED, whatever the database's default is: revoking, and
//! retiring a master key, rely on it.

use std::path::Path;

use grantex_vault::{
    model::sealed::{MasterKeyId, WrappedKey},
    store::{Store, StoreFault, rotation::RowKey, schema::Durability},
};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{UnixListener, UnixStream},
};

use crate::harness::{Cluster, Server, Setup, Via, connect};

const SOCKET: &str = ".s.PGSQL.5432";
const ASKED: &[u8] = b"set default_transaction_isolation = 'read committed'";
/// Of the same length.
const LOST: &[u8] = b"set default_transaction_isolation = 'serializable'  ";

/// A database whose transactions are REPEATABLE READ unless they ask for something else.
async fn repeatable_read() -> String {
    let url = Cluster::shared().await.database().await;
    let sql = connect(&url).await;
    let name = sql
        .query_one("select current_database()", &[])
        .await
        .unwrap();
    let name: &str = name.get(0);
    let default = "default_transaction_isolation = 'repeatable read'";
    let alter = format!("alter database {name} set {default}");
    sql.batch_execute(&alter).await.unwrap();
    url
}

/// Listens in a directory for connections to the Postgres of another one. Their sessions are not set to what
/// they are asked to be, as may be behind a transaction pooler.
fn forget_settings(here: &Path, there: &Path) {
    assert_eq!(ASKED.len(), LOST.len());
    let listener = UnixListener::bind(here.join(SOCKET)).unwrap();
    let there = there.join(SOCKET);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = UnixStream::connect(&there).await.unwrap();
            let (mut answers, mut asked) = server.into_split();
            let (mut asking, mut answered) = client.into_split();
            tokio::spawn(async move { copy(&mut answers, &mut answered).await });
            tokio::spawn(async move {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(read @ 1..) = asking.read(&mut buffer).await {
                    let sent = &mut buffer[..read];
                    let found = sent.windows(ASKED.len()).position(|part| part == ASKED);
                    if let Some(at) = found {
                        sent[at..at + LOST.len()].copy_from_slice(LOST);
                    }
                    asked.write_all(sent).await.unwrap();
                }
            });
        }
    });
}

/// The same database through a pooler that forgets settings, for as long as the directory is there.
fn through_pooler(url: &str) -> (String, TempDir) {
    let (_, directory) = url.split_once("host=").unwrap();
    let (directory, _) = directory.split_once('&').unwrap();
    let between = tempfile::tempdir().unwrap();
    forget_settings(between.path(), Path::new(directory));
    let url = url.replace(directory, between.path().to_str().unwrap());
    (url, between)
}

async fn on(url: &str) -> Server {
    Setup::new().with("DATABASE_URL", url).start().await
}

#[tokio::test]
async fn a_database_with_another_default_serves() {
    let server = on(&repeatable_read().await).await;
    let tenant = server.tenant("acme").await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        developer.store_token("user", "github", "secret").await;
        let released = server.agent(via, &tenant, "user").exchange("github").await;
        assert_eq!(released.unwrap()["accessToken"], "secret");
    }
    let outcomes = server.outcomes().await;
    assert_eq!(
        outcomes[..3],
        ["store stored", "exchange released", "store replaced"]
    );
}

#[tokio::test]
async fn in_another_isolation_level_nothing_is_stored_or_released() {
    let url = Cluster::shared().await.database().await;
    let plain = on(&url).await;
    let tenant = plain.tenant("acme").await;
    let developer = plain.client(Via::Rest, &tenant.key);
    developer.store_token("there", "github", "secret").await;
    let before = (
        plain.rows("credentials").await.len(),
        plain.outcomes().await,
    );

    let (through, _between) = through_pooler(&url);
    let setup = Setup::new().beside(&plain).with("DATABASE_URL", &through);
    let server = setup.start().await;
    for via in Via::BOTH {
        let fields = json!({"principalId": "user", "service": "github", "accessToken": "secret"});
        let refused = server
            .client(via, &tenant.key)
            .store(fields)
            .await
            .unwrap_err();
        assert_eq!((refused.status, &refused.code[..]), (503, "UNAVAILABLE"));
        let agent = server.agent(via, &tenant, "there");
        let refused = agent.exchange("github").await.unwrap_err();
        assert_eq!((refused.status, &refused.code[..]), (503, "UNAVAILABLE"));
    }
    let after = (
        plain.rows("credentials").await.len(),
        plain.outcomes().await,
    );
    assert_eq!(after, before);
}

#[tokio::test]
async fn in_another_isolation_level_a_rotation_replaces_nothing() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    developer.store_token("user", "github", "secret").await;
    let before = server.rows("credentials").await;
    let (url, _between) = through_pooler(&server.database_url);
    let store = Store::open(&url.parse().unwrap(), 1, Durability::Required).unwrap();
    let mut scanned = store.data_keys(&RowKey::default(), 1).await.unwrap();
    let row = scanned.remove(0).key;
    let mut sealed = store
        .sealed_credentials_at(std::slice::from_ref(&row))
        .await
        .unwrap();
    let mut sealed = sealed.remove(0).content.unwrap().sealed;
    let new = WrappedKey {
        master_key: MasterKeyId::new("another"),
        bytes: vec![7; 40],
    };
    let old = std::mem::replace(&mut sealed.data_key, new.clone());
    for answer in [
        store.replace_data_key(&row, &old, &new).await,
        store.replace_sealed(&row, &old, &sealed).await,
        store.replace_webhook_secret_key(&row, &old, &new).await,
    ] {
        let refused = matches!(answer, Err(StoreFault::Unavailable(_)));
        assert!(refused, "{answer:?}");
    }
    assert_eq!(server.rows("credentials").await, before);
}
