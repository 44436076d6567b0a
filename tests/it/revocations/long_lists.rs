//! A list without pages that somebody reads while its caller is suspended.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};

use crate::harness::{Realm, Server, Setup, Via};

const CREDENTIALS: usize = 60_000;

/// Copies the one stored credential, whose ciphertext no list opens.
async fn fill(server: &Server) {
    let copy = format!(
        "insert into vault.credentials
         select developer_id, 'vc_' || lpad(n::text, 26, '0'), 'user ' || n, service, service_key,
             credential_type, access_token, refresh_token, wrapped_key, master_key,
             token_expires_at, json_build_object('note', repeat('x', 400)),
             created_at - n * interval '1 ms', updated_at
         from vault.credentials, generate_series(1, {CREDENTIALS}) n"
    );
    server.execute(&copy).await;
}

/// Everything that is answered to a list, of which the beginning was read before something is done.
async fn read_slowly(server: &Server, key: &str, meanwhile: impl Future<Output = ()>) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.http_address()).await.unwrap();
    let request = format!(
        "GET /v1/vault/credentials HTTP/1.1\r\nhost: vault\r\nauthorization: Bearer {key}\r\n\
         connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    stream.read_exact(&mut answer).await.unwrap();
    meanwhile.await;
    // It may end with a reset.
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

#[tokio::test]
async fn a_list_that_is_read_slowly_breaks_off_when_its_developer_is_suspended() {
    for authority in Realm::BOTH {
        let realm = Realm::start(authority).await;
        let server = &realm.server;
        let tenant = realm.tenant("acme").await;
        let developer = server.client(Via::Rest, &tenant.key);
        developer.store_token("user", "github", "secret").await;
        fill(server).await;
        let is_whole = |answer: &[u8]| answer.ends_with(b"0\r\n\r\n");
        let whole = read_slowly(server, &tenant.key, async {}).await;
        assert!(is_whole(&whole));

        let suspends = server.execute(
            "insert into vault.revocations values ('acme', 'developer', 'acme', now(), null)",
        );
        let cut = read_slowly(server, &tenant.key, suspends).await;
        assert!(!is_whole(&cut));
        assert!(
            cut.len() < whole.len() * 3 / 4,
            "{} of {}",
            cut.len(),
            whole.len()
        );
    }
}

#[tokio::test]
async fn a_list_does_not_end_early_where_a_suspension_was_taken_back_meanwhile() {
    let setup = Setup::new().with("GRANTEX_VAULT_DB_POOL_SIZE", "1");
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    developer.store_token("user", "github", "secret").await;
    fill(&server).await;
    // It has prepared the statement of a part then, on the only connection that there is for it.
    let whole = read_slowly(&server, &tenant.key, async {}).await;
    assert!(whole.ends_with(b"0\r\n\r\n"));
    let (suspends, resumes) = (server.sql().await, server.sql().await);
    let locked = Notify::new();
    let meanwhile = async {
        let lock = "begin; lock table vault.api_keys in access exclusive mode";
        suspends.batch_execute(lock).await.unwrap();
        locked.notify_one();
    };
    let taken_back = async {
        // The lock itself may wait first, for a part that is being read.
        locked.notified().await;
        server.waiting_for_locks(1).await;
        // It comes next, before whatever the list asks after that.
        let back = resumes.batch_execute(
            "begin; lock table vault.api_keys in access exclusive mode;
             delete from vault.revocations; commit",
        );
        let suspended = async {
            server.waiting_for_locks(2).await;
            suspends
                .batch_execute(
                    "insert into vault.revocations values ('acme', 'developer', 'acme', now(), null);
                     commit",
                )
                .await
                .unwrap();
        };
        let (back, ()) = tokio::join!(back, suspended);
        back.unwrap();
    };
    let (read, ()) = tokio::join!(read_slowly(&server, &tenant.key, meanwhile), taken_back);
    assert!(!read.ends_with(b"0\r\n\r\n"), "it breaks off");
}
