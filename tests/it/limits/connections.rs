//! Connections are bounded: how many one address has, and what each may have sent that nobody reads.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::harness::{Server, Setup, Via, connect_from};

const KIB: u32 = 1024;
const LIVES: &str = "GET / HTTP/1.1\r\nhost: v\r\n\r\n";

fn admin_address(server: &Server) -> String {
    let url = server.admin_url();
    url.split_once("://").unwrap().1.to_owned()
}

/// The windows that a connection begins with: of a stream, of all of them.
async fn windows(address: &str) -> (u32, u32) {
    const SETTINGS: u8 = 4;
    const WINDOW_UPDATE: u8 = 8;
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream.write_all(preface).await.unwrap();
    let (mut of_stream, mut of_connection) = (65_535, 65_535);
    // What it begins with comes at once.
    while let Ok(head) = timeout(Duration::from_secs(1), stream.read_u64()).await {
        let head = head.unwrap().to_be_bytes();
        stream.read_u8().await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        match head[3] {
            SETTINGS => {
                for setting in payload.chunks_exact(6) {
                    let name = u16::from_be_bytes([setting[0], setting[1]]);
                    let value = u32::from_be_bytes(setting[2..].try_into().unwrap());
                    if name == INITIAL_WINDOW_SIZE {
                        of_stream = value;
                    }
                }
            }
            WINDOW_UPDATE => of_connection += u32::from_be_bytes(payload.try_into().unwrap()),
            _ => {}
        }
    }
    (of_stream, of_connection)
}

#[tokio::test]
async fn every_connection_has_small_windows() {
    let server = Server::start().await;
    for address in [
        server.http_address(),
        server.grpc_address(),
        admin_address(&server),
    ] {
        assert_eq!(windows(&address).await, (64 * KIB, 128 * KIB), "{address}");
    }
}

/// Whether a connection stays open when it has asked for something.
async fn is_taken(stream: &mut TcpStream) -> bool {
    // It may be closed by now.
    let _ = stream.write_all(LIVES.as_bytes()).await;
    let answered = timeout(Duration::from_secs(5), stream.read(&mut [0; 1024])).await;
    let answered = answered.expect("it is answered or closed");
    answered.is_ok_and(|length| length > 0)
}

#[tokio::test]
async fn one_address_has_a_share_of_the_connections_of_all_listeners_together() {
    let setup = Setup::new()
        .with("GRANTEX_VAULT_MAX_CONNECTIONS", "40")
        .with("GRANTEX_VAULT_MAX_CONNECTIONS_PER_ADDRESS", "10");
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    let mut held = Vec::new();
    for number in 0..12 {
        let mut stream = connect_from("127.0.0.2", &server.http_address()).await;
        assert_eq!(is_taken(&mut stream).await, number < 10, "{number}");
        held.push(stream);
    }
    let mut other = connect_from("127.0.0.2", &server.grpc_address()).await;
    assert!(!is_taken(&mut other).await, "they are counted together");
    for via in Via::BOTH {
        let listed = server.client(via, &tenant.key).list().await;
        assert!(listed.is_ok(), "another address is served: {listed:?}");
    }
    // Who probes and scrapes has a share of its own.
    let mut probe = connect_from("127.0.0.2", &admin_address(&server)).await;
    assert!(is_taken(&mut probe).await);
    drop(held.swap_remove(0));
    crate::harness::until("there is room again", async || {
        let mut stream = connect_from("127.0.0.2", &server.http_address()).await;
        is_taken(&mut stream).await
    })
    .await;
}

#[tokio::test]
async fn a_trusted_proxy_has_as_many_connections_as_there_are() {
    let setup = Setup::new()
        .with("GRANTEX_VAULT_MAX_CONNECTIONS", "40")
        .with("GRANTEX_VAULT_TRUSTED_PROXIES", "127.0.0.2")
        .with("GRANTEX_VAULT_MAX_CONNECTIONS_PER_ADDRESS", "10");
    let server = setup.start().await;
    let mut held = Vec::new();
    for number in 0..30 {
        let mut stream = connect_from("127.0.0.2", &server.http_address()).await;
        assert!(is_taken(&mut stream).await, "{number}");
        held.push(stream);
    }
}
