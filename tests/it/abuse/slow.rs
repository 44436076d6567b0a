//! Slow loris: connections that are never done.

use futures_util::future::join_all;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    Victim,
    frames::{self, DATA, END_HEADERS, HEADERS, POST, frame, stream},
};
use crate::harness::{Certificates, Trust};

/// As many connections as these have, and from one address.
const MANY: [(&str, &str); 2] = [
    ("GRANTEX_VAULT_MAX_CONNECTIONS", "10000"),
    ("GRANTEX_VAULT_MAX_CONNECTIONS_PER_ADDRESS", "10000"),
];

/// Opens connections that each begin like this.
async fn open(address: &str, count: usize, opening: &[u8]) -> Vec<TcpStream> {
    let open = async |_| {
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(opening).await.unwrap();
        connection
    };
    join_all((0..count).map(open)).await
}

/// Sends each of them a little more.
async fn drip(connections: &mut [TcpStream], drops: &[u8]) {
    let send = async |connection: &mut TcpStream| {
        // It may have been closed by now.
        let _ = connection.write_all(drops).await;
    };
    join_all(connections.iter_mut().map(send)).await;
}

#[tokio::test]
async fn headers_that_drip() {
    let mut victim = Victim::start_with(&MANY, Trust::default()).await;
    let mut held = Vec::new();
    for address in victim.addresses() {
        held.extend(open(address, 500, b"GET / HTTP/1.1\r\nhost: v\r\n").await);
        held.extend(open(address, 500, b"PRI * HTTP/2.0\r\n").await);
    }
    let line = format!("x: {}\r\n", "y".repeat(1000));
    for _ in 0..20 {
        drip(&mut held, line.as_bytes()).await;
        victim.serves("dripping headers").await;
    }
    victim.unharmed("dripping headers", 96).await;
    drop(held);
    victim.stops().await;
}

#[tokio::test]
async fn bodies_that_drip() {
    let mut victim = Victim::start_with(&MANY, Trust::default()).await;
    let [http, grpc] = victim.addresses();
    let head = format!(
        "POST /v1/vault/credentials HTTP/1.1\r\nhost: v\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 1000000\r\n\r\n{{",
        victim.dev.get("apiKey")
    );
    let mut known = open(http, 300, head.as_bytes()).await;
    let mut unknown = open(http, 300, head.replace("Bearer ", "Bearer x").as_bytes()).await;
    let streams = || async {
        let mut connection = frames::open(grpc).await;
        let begin = |n| frame(HEADERS, END_HEADERS, stream(n), POST);
        let heads: Vec<u8> = (0..100).flat_map(begin).collect();
        connection.write_all(&heads).await.unwrap();
        connection
    };
    let mut multiplexed = join_all((0..20).map(|_| streams())).await;
    for _ in 0..20 {
        drip(&mut known, &[b' '; 1000]).await;
        drip(&mut unknown, &[b' '; 1000]).await;
        let drops: Vec<u8> = (0..100)
            .flat_map(|n| frame(DATA, 0, stream(n), b" "))
            .collect();
        drip(&mut multiplexed, &drops).await;
        victim.serves("dripping bodies").await;
    }
    victim.unharmed("dripping bodies", 96).await;
    drop((known, unknown, multiplexed));
    victim.stops().await;
}

#[tokio::test]
async fn handshakes_that_drip() {
    let certificates = Certificates::new();
    let mut victim = Victim::start_with_tls(&MANY, &certificates).await;
    // A ClientHello of 60,000 bytes, in records of 1,000.
    let first = b"\x16\x03\x01\x00\x06\x01\x00\xea\x60\x03\x03";
    let record = [&b"\x16\x03\x01\x03\xe8"[..], &[0; 1000]].concat();
    let mut held = Vec::new();
    for address in victim.addresses() {
        held.extend(open(address, 1500, first).await);
    }
    for _ in 0..40 {
        drip(&mut held, &record).await;
        victim.serves("dripping handshakes").await;
    }
    victim.unharmed("dripping handshakes", 96).await;
    drop(held);
    victim.stops().await;
}
