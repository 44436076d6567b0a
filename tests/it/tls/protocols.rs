//! What is spoken inside TLS, and that all that is served in clear is served there.

use http::Request;
use rustls::{
    ProtocolVersion,
    version::{TLS12, TLS13},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::Hello;
use crate::harness::{Certificates, Server, Setup, Via};

/// The status of an answer over HTTP/2 on this connection.
async fn ask_over_http2(stream: TlsStream<TcpStream>) -> u16 {
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = Request::get("https://vault/v1/vault/credentials").body(());
    let (answer, _) = client.send_request(request.unwrap(), true).unwrap();
    let status = answer.await.unwrap().status().as_u16();
    connection.abort();
    status
}

fn addresses(server: &Server) -> [String; 2] {
    [server.http_address(), server.grpc_address()]
}

#[tokio::test]
async fn the_verbs_work_over_tls() {
    let certificates = Certificates::new();
    let server = Setup::new().with_tls(&certificates).start().await;
    let tenant = server.tenant("acme").await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        let stored = developer.store_token("user", "github", "secret").await;
        assert_eq!(
            developer.list().await.unwrap()["credentials"][0]["id"],
            stored["id"]
        );
        let agent = server.agent(via, &tenant, "user");
        let exchanged = agent.exchange("github").await.unwrap();
        assert_eq!(exchanged["accessToken"], "secret", "{via:?}");
        let refused = agent.store(json!({})).await.unwrap_err();
        assert_eq!(refused.status, 401, "{via:?}");
        let id = stored["id"].as_str().unwrap();
        developer.delete(id).await.unwrap();
        assert_eq!(developer.get(id).await.unwrap_err().status, 404);
    }
}

#[tokio::test]
async fn both_listeners_speak_1_2_and_1_3() {
    let certificates = Certificates::new();
    let server = Setup::new().with_tls(&certificates).start().await;
    for address in addresses(&server) {
        for (version, negotiated) in [
            (&TLS12, ProtocolVersion::TLSv1_2),
            (&TLS13, ProtocolVersion::TLSv1_3),
        ] {
            let hello = Hello::of_versions(&certificates.authority, &[version]);
            let stream = hello.offering(&["h2"]).say(&address).await.unwrap();
            assert_eq!(stream.get_ref().1.protocol_version(), Some(negotiated));
            let status = ask_over_http2(stream).await;
            // HTTP asks who it is, and a GET is no call of gRPC.
            assert!([401, 405].contains(&status), "{status}");
        }
    }
}

#[tokio::test]
async fn what_is_spoken_inside_is_negotiated() {
    let certificates = Certificates::new();
    let server = Setup::new().with_tls(&certificates).start().await;
    let [http, grpc] = addresses(&server);
    for (address, offered, chosen) in [
        (&http, &["h2", "http/1.1"][..], Ok(Some("h2"))),
        (&http, &["http/1.1", "h2"], Ok(Some("h2"))),
        (&http, &["http/1.1"], Ok(Some("http/1.1"))),
        (&http, &[], Ok(None)),
        (&http, &["spdy/3"], Err(())),
        (&grpc, &["http/1.1", "h2"], Ok(Some("h2"))),
        (&grpc, &[], Ok(None)),
        (&grpc, &["http/1.1"], Err(())),
    ] {
        let hello = Hello::new(&certificates.authority).offering(offered);
        let made = hello.say(address).await;
        let found = made.as_ref().map_err(|_| ()).map(|stream| {
            let protocol = stream.get_ref().1.alpn_protocol();
            protocol.map(|name| std::str::from_utf8(name).unwrap())
        });
        assert_eq!(found, chosen, "{offered:?} at {address}");
    }
}

#[tokio::test]
async fn who_negotiates_nothing_is_understood() {
    let certificates = Certificates::new();
    let server = Setup::new().with_tls(&certificates).start().await;
    let hello = Hello::new(&certificates.authority);
    for address in addresses(&server) {
        let stream = hello.clone().say(&address).await.unwrap();
        assert!([401, 405].contains(&ask_over_http2(stream).await));
    }
    let mut stream = hello.say(&server.http_address()).await.unwrap();
    let request = b"GET /v1/vault/credentials HTTP/1.1\r\nhost: vault\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    // It ends with a close of TLS, not only of TCP: that would be an error here.
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}
