//! Connections may be idle for longer than those of load balancers once a caller on them is known, and
//! only then.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use h2::client::SendRequest;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tonic::Code;

use crate::harness::{RawCall, Server, Setup, Trouble, framed};

const LIST: &str = "grantex.vault.v1.VaultService/ListCredentials";
const EXCHANGE: &str = "grantex.vault.v1.VaultService/ExchangeCredential";
const CHECK: &str = "grpc.health.v1.Health/Check";
const WATCH: &str = "grpc.health.v1.Health/Watch";
const OPERATE: &str = "grantex.vault.admin.v1.AdminService/ListMasterKeys";

const TOKEN: &str = "an-operators-token-of-enough-characters";

const fn minutes(minutes: u64) -> Duration {
    Duration::from_mins(minutes)
}

/// Sends a request over HTTP/1.1 and reads the head of its answer.
async fn ask(stream: &mut TcpStream, path: &str, credentials: &str) -> String {
    let request =
        format!("HEAD {path} HTTP/1.1\r\nhost: v\r\nauthorization: Bearer {credentials}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut head).await.unwrap() > 0, "it is open");
    }
    String::from_utf8(head).unwrap()
}

/// A connection over HTTP/1.1 on which these credentials asked for something.
async fn http1(server: &Server, credentials: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.http_address()).await.unwrap();
    ask(&mut stream, "/v1/vault/credentials/x", credentials).await;
    stream
}

/// A connection over HTTP/2, and what becomes of it.
async fn http2(address: &str) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    (client, tokio::spawn(connection))
}

/// What a connection was asked for, how its caller is known, and what it is.
enum Idle {
    Http1(TcpStream),
    // The client is kept: without one the connection ends.
    Http2(SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>),
}

impl Idle {
    /// How long it lasts.
    async fn lasts(self, what: &str) -> Duration {
        let since = Instant::now();
        match self {
            Self::Http1(mut stream) => {
                let ended = stream.read_to_end(&mut Vec::new()).await;
                assert!(ended.is_ok(), "{what}: {ended:?}");
            }
            Self::Http2(_client, connection) => {
                let ended = connection.await.unwrap();
                assert!(ended.is_ok(), "{what} is told to go away: {ended:?}");
            }
        }
        since.elapsed()
    }
}

async fn called(address: &str, call: RawCall, code: Code) -> Idle {
    let (client, connection) = http2(address).await;
    let answer = call.send_on(&client).await;
    assert_eq!(answer.code(), code);
    Idle::Http2(client, connection)
}

#[tokio::test]
async fn a_connection_stays_open_without_a_request_once_its_caller_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let setup = Setup::new()
        .with("GRANTEX_VAULT_OPERATOR_ADDR", "127.0.0.1:0")
        .with("GRANTEX_VAULT_OPERATOR_TOKEN_FILE", token.to_str().unwrap());
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    let grant = server.grant(&tenant, "user", &["vault:github:exchange"]);
    let (grpc, operators) = (server.grpc_address(), server.operator_url());
    let operators = operators.split_once("://").unwrap().1;
    let call = |path: &str, credentials: &str| {
        // `service`
        RawCall::new(path, framed(0, b"\x0a\x06github")).by(credentials)
    };
    let forged = format!("{}x", &grant[..grant.len() - 1]);
    let mut upgraded = TcpStream::connect(server.http_address()).await.unwrap();
    let healthy = ask(&mut upgraded, "/openapi.json", &tenant.key).await;
    assert!(healthy.starts_with("HTTP/1.1 200 "), "{healthy}");
    // It is counted from the answer, which came a moment before the first look at the clock.
    let known = Duration::from_secs(650)..minutes(12);
    let unknown = Duration::from_secs(55)..minutes(2);
    let cases = [
        (
            "an API key over HTTP",
            Idle::Http1(http1(&server, &tenant.key).await),
            &known,
        ),
        (
            "an API key over gRPC",
            called(&grpc, call(LIST, &tenant.key), Code::Ok).await,
            &known,
        ),
        (
            "a grant token",
            called(&grpc, call(EXCHANGE, &grant), Code::NotFound).await,
            &known,
        ),
        (
            "an operator",
            called(
                operators,
                RawCall::new(OPERATE, framed(0, b"")).by(TOKEN),
                Code::Ok,
            )
            .await,
            &known,
        ),
        (
            "an unknown key over HTTP",
            Idle::Http1(http1(&server, "gx_test_nobody_knows_this").await),
            &unknown,
        ),
        (
            "an unknown key over gRPC",
            called(
                &grpc,
                call(LIST, "gx_test_nobody_knows_this"),
                Code::Unauthenticated,
            )
            .await,
            &unknown,
        ),
        (
            "a forged token",
            called(&grpc, call(EXCHANGE, &forged), Code::Unauthenticated).await,
            &unknown,
        ),
        (
            "health",
            called(&grpc, call(CHECK, &tenant.key), Code::NotFound).await,
            &unknown,
        ),
        (
            "an unknown operator",
            called(operators, call(OPERATE, "x"), Code::Unauthenticated).await,
            &unknown,
        ),
        ("what anybody may read", Idle::Http1(upgraded), &unknown),
        (
            "nothing",
            Idle::Http1(TcpStream::connect(server.http_address()).await.unwrap()),
            &unknown,
        ),
    ];
    // From here on the clock jumps whenever everybody waits.
    tokio::time::pause();
    let all = cases.into_iter().map(async |(what, idle, expected)| {
        let lasted = idle.lasts(what).await;
        assert!(expected.contains(&lasted), "{what}: {lasted:?}");
    });
    join_all(all).await;
}

#[tokio::test]
async fn a_connection_is_not_idle_while_a_request_is_under_way() {
    let setup = Setup::new()
        .with("GRANTEX_VAULT_IDLE_TIMEOUT", "1s")
        .with("GRANTEX_VAULT_KMS_TIMEOUT", "20s");
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    server
        .kms
        .set_trouble(Some(Trouble::Slow(Duration::from_secs(3))));
    let body = r#"{"principalId":"user","service":"github","accessToken":"secret"}"#;
    let store = format!(
        "POST /v1/vault/credentials HTTP/1.1\r\nhost: v\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        tenant.key,
        body.len()
    );
    let mut stream = TcpStream::connect(server.http_address()).await.unwrap();
    stream.write_all(store.as_bytes()).await.unwrap();
    let (watching, watched) = http2(&server.grpc_address()).await;
    let watch = RawCall::new(WATCH, framed(0, b""));
    let watch = tokio::spawn(async move { watch.send_on(&watching).await });
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    read.expect("it is closed after that").unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 201 "), "{answer:?}");
    assert!(!watch.is_finished() && !watched.is_finished());
}

#[tokio::test]
async fn the_connection_that_is_idle_the_longest_gives_way_when_there_is_no_room() {
    let setup = Setup::new()
        .with("GRANTEX_VAULT_MAX_CONNECTIONS", "3")
        .with("GRANTEX_VAULT_MAX_CONNECTIONS_PER_ADDRESS", "3");
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    let mut first = http1(&server, &tenant.key).await;
    let others = [
        http1(&server, &tenant.key).await,
        http1(&server, &tenant.key).await,
    ];
    // From here on the clock jumps whenever everybody waits.
    tokio::time::pause();
    sleep(minutes(3)).await;
    // Another address: this one has its share.
    let mut late = crate::harness::connect_from("127.0.0.2", &server.http_address()).await;
    let began = Instant::now();
    ask(&mut late, "/openapi.json", "x").await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(first.read(&mut [0; 9]).await.unwrap(), 0, "it gave way");
    for stream in others {
        let open = stream.try_read(&mut [0; 9]).unwrap_err();
        assert_eq!(open.kind(), std::io::ErrorKind::WouldBlock);
    }
}
