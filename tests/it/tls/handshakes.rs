//! Handshakes that never come to anything hurt nobody else.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::Hello;
use crate::harness::{Certificates, Log, Server, Setup, Via, connect_from};

/// More than may be under way at once.
const MANY: usize = 700;

/// The head of a record that announces a ClientHello of 512 bytes, and a little of it.
const HALF: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

async fn open(address: &str, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let open = async |_| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    };
    join_all((0..count).map(open)).await
}

/// Reads until the other end closes; answers what came.
async fn read_to_end(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut bytes).await;
    bytes
}

async fn with_tls() -> (Certificates, Server) {
    let certificates = Certificates::new();
    let setup = Setup::new()
        .with_tls(&certificates)
        .with("GRANTEX_VAULT_MAX_CONNECTIONS", "20000")
        .with("GRANTEX_VAULT_MAX_CONNECTIONS_PER_ADDRESS", "20000");
    let server = setup.start().await;
    (certificates, server)
}

#[tokio::test]
async fn what_is_not_tls_is_closed_without_a_word_in_the_log() {
    let (_certificates, server) = with_tls().await;
    let tenant = server.tenant("acme").await;
    let log = Log::keep();
    for address in [server.http_address(), server.grpc_address()] {
        for bytes in [
            &b"GET / HTTP/1.1\r\nhost: vault\r\n\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            b"\x16\x03\x01\x00\x05\xff\xff\xff\xff\xff",
            b"\x16\x03\x01\xff\xff",
            b"\x15\x03\x03\x00\x02\x02\x28",
            b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10",
            &[0; 4096],
        ] {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            let _ = stream.write_all(bytes).await;
            let answer = timeout(Duration::from_secs(5), read_to_end(stream)).await;
            let answer = answer.expect("it is closed at once");
            // Nothing, or an alert.
            assert!(
                answer.first().is_none_or(|kind| *kind == 0x15),
                "{answer:?}"
            );
        }
    }
    assert_eq!(log.take(), "");
    for via in Via::BOTH {
        let listed = server.client(via, &tenant.key).list().await;
        assert!(listed.is_ok(), "{via:?} serves on");
    }
}

#[tokio::test]
async fn hundreds_of_half_handshakes_keep_nobody_out() {
    let (certificates, server) = with_tls().await;
    let tenant = server.tenant("acme").await;
    let mut held = Vec::new();
    for address in [server.http_address(), server.grpc_address()] {
        held.extend(open(&address, MANY / 2, HALF).await);
        held.extend(open(&address, MANY / 2, b"").await);
    }
    for via in Via::BOTH {
        let started = Instant::now();
        let developer = server.client(via, &tenant.key);
        developer.store_token("user", "github", "secret").await;
        let took = started.elapsed();
        assert!(took < Duration::from_secs(5), "{via:?} waited {took:?}");
    }
    // A place is free again for everyone who comes later.
    let hello = Hello::new(&certificates.authority);
    for address in [server.http_address(), server.grpc_address()] {
        assert!(hello.clone().say(&address).await.is_ok());
    }
    drop(held);
}

#[tokio::test]
async fn silent_handshakes_of_one_address_keep_no_other_waiting() {
    // More than are given up, at 512 a second, before whoever comes last gives up.
    const SILENT: usize = 6000;
    let (certificates, server) = with_tls().await;
    let hello = Hello::new(&certificates.authority);
    for address in [server.http_address(), server.grpc_address()] {
        let mut flood = JoinSet::new();
        for silent in open(&address, SILENT, b"").await {
            let address = address.clone();
            flood.spawn(async move {
                // Each that is given up comes again, for as long as this may take.
                let mut silent = Ok(silent);
                for _ in 0..5 {
                    let Ok(given_up) = silent else { return };
                    read_to_end(given_up).await;
                    silent = TcpStream::connect(&address).await;
                }
            });
        }
        for _ in 0..3 {
            let started = Instant::now();
            let stream = connect_from("127.0.0.2", &address).await;
            let said = timeout(Duration::from_secs(10), hello.clone().say_on(stream)).await;
            let took = started.elapsed();
            assert!(said.is_ok_and(|said| said.is_ok()), "it waited {took:?}");
            assert!(took < Duration::from_secs(3), "it waited {took:?}");
        }
        flood.shutdown().await;
    }
}

#[tokio::test]
async fn a_handshake_has_ten_seconds() {
    let (_certificates, server) = with_tls().await;
    // From here on the clock jumps whenever everybody waits.
    tokio::time::pause();
    for address in [server.http_address(), server.grpc_address()] {
        for opening in [&b""[..], b"\x16", HALF] {
            let started = Instant::now();
            let held = open(&address, 1, opening).await;
            for stream in held {
                read_to_end(stream).await;
            }
            let took = started.elapsed();
            assert!(took < Duration::from_secs(40), "{opening:?} {took:?}");
        }
    }
}
