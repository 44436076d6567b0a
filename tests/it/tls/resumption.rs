//! Sessions that are resumed: never past a change of the files, never under client certificates.

use rustls::{HandshakeKind, version::TLS12, version::TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Hello, served_certificate};
use crate::harness::{Certificates, Server, Setup, until};

/// How a connection began. It asks something as well: tickets come with the answer.
async fn kind(hello: &Hello, server: &Server) -> HandshakeKind {
    let mut stream = hello.clone().say(&server.http_address()).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: vault\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    stream.get_ref().1.handshake_kind().unwrap()
}

#[tokio::test]
async fn a_session_is_resumed_until_the_files_change() {
    let certificates = Certificates::new();
    let server = Setup::new().with_tls(&certificates).start().await;
    for version in [&TLS12, &TLS13] {
        let hello = Hello::of_versions(&certificates.authority, &[version]);
        assert_eq!(kind(&hello, &server).await, HandshakeKind::Full);
        assert_eq!(kind(&hello, &server).await, HandshakeKind::Resumed);
        let issued = certificates.authority.issue();
        certificates.swap(&issued);
        until("the new certificate is served", async || {
            let address = server.http_address();
            served_certificate(&certificates.authority, &address).await == issued.der
        })
        .await;
        assert_eq!(kind(&hello, &server).await, HandshakeKind::Full);
    }
}

#[tokio::test]
async fn who_needs_a_certificate_is_asked_for_it_each_time() {
    let certificates = Certificates::new();
    let server = Setup::new().with_mutual_tls(&certificates).start().await;
    let client = certificates.authority.issue_client("returning");
    for version in [&TLS12, &TLS13] {
        let hello = Hello::of_versions(&certificates.authority, &[version]);
        let hello = hello.presenting(&client);
        for _ in 0..3 {
            assert_eq!(kind(&hello, &server).await, HandshakeKind::Full);
        }
    }
}
