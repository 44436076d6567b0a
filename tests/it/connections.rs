//! What a client can use up is bounded: time without a request, headers, streams, resets, age.
//!
//! Time is paused here: whenever everybody waits, the clock jumps to the next timer.

use std::{
    convert::Infallible,
    net::SocketAddr,
    time::{Duration, Instant as RealInstant},
};

use bytes::Bytes;
use grantex_vault::{
    listener::{
        self, Protocol,
        connections::{Connections, MaxConnections},
        door::{Door, Shared},
    },
    metrics::Metrics,
    model::request::Transport,
    shutdown::Shutdown,
};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tower::util::{BoxCloneSyncService, service_fn};

use crate::harness::{Server, Via};

type Hello = BoxCloneSyncService<Request<Incoming>, Response<Full<Bytes>>, Infallible>;

/// A listener whose every answer is `hello`.
async fn listen(transport: Transport) -> SocketAddr {
    listen_slowly(transport, Duration::ZERO).await
}

/// The same, which takes its time.
async fn listen_slowly(transport: Transport, takes: Duration) -> SocketAddr {
    let hello = move |_: Request<Incoming>| async move {
        tokio::time::sleep(takes).await;
        Ok(Response::new(Full::from("hello")))
    };
    let door: Door<Hello, _> = Door {
        transport,
        shared: Shared::new(Metrics::unobserved(), Vec::new()),
        service: BoxCloneSyncService::new(service_fn(hello)),
        verb_of: |_, _| None,
        route_of: |_| None,
        interrupted: |why, _| Response::new(Full::from(format!("{why:?}"))),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let protocol = match transport {
        Transport::Grpc => Protocol::Http2,
        _ => Protocol::Http,
    };
    let shutdown = Shutdown::default();
    let max = MaxConnections {
        total: 100,
        per_address: 100,
    };
    let connections = Connections::new(max, &[]);
    tokio::spawn(listener::serve(
        listener,
        protocol,
        door,
        connections,
        shutdown,
    ));
    address
}

/// Reads until the other end closes; answers what came and how long it took.
async fn read_to_end(mut stream: TcpStream) -> (String, Duration) {
    let started = Instant::now();
    let mut text = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut text).await;
    (
        String::from_utf8_lossy(&text).into_owned(),
        started.elapsed(),
    )
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: vault\r\n\r\n";

/// Sends a request over HTTP/1.1 and reads its answer, which has a body of five bytes.
async fn get(stream: &mut TcpStream) -> String {
    stream.write_all(GET).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nhello") {
        assert!(
            stream.read_buf(&mut answer).await.unwrap() > 0,
            "the connection is open"
        );
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_asks_is_closed() {
    for transport in [Transport::Rest, Transport::Grpc] {
        let address = listen(transport).await;
        for opening in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(opening).await.unwrap();
            let (_, after) = read_to_end(stream).await;
            assert!(
                after <= Duration::from_secs(95),
                "{transport:?} {opening:?} {after:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn headers_that_never_end_are_not_waited_for() {
    let mut stream = TcpStream::connect(listen(Transport::Rest).await)
        .await
        .unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
    let (_, after) = read_to_end(stream).await;
    assert!(after <= Duration::from_secs(95), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_outlives_a_load_balancers_idle_time_and_not_much_more() {
    let mut stream = TcpStream::connect(listen(Transport::Rest).await)
        .await
        .unwrap();
    get(&mut stream).await;
    let (_, after) = read_to_end(stream).await;
    assert!(
        after > Duration::from_mins(1) && after < Duration::from_secs(100),
        "{after:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_is_asked_to_close() {
    let mut stream = TcpStream::connect(listen(Transport::Rest).await)
        .await
        .unwrap();
    let started = Instant::now();
    let mut every_minute = tokio::time::interval(Duration::from_mins(1));
    // An idle connection is not closed while a request may be on its way: its last answer says so.
    loop {
        every_minute.tick().await;
        if get(&mut stream).await.contains("\r\nconnection: close\r\n") {
            break;
        }
    }
    let (rest, _) = read_to_end(stream).await;
    assert_eq!(rest, "", "it is closed");
    let closed_after = started.elapsed();
    let expected = Duration::from_mins(29)..Duration::from_mins(38);
    assert!(expected.contains(&closed_after), "{closed_after:?}");
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_answers_what_is_under_way_before_it_closes() {
    for transport in [Transport::Rest, Transport::Grpc] {
        let address = listen_slowly(transport, Duration::from_secs(40)).await;
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let started = Instant::now();
        while let Ok(ready) = client.clone().ready().await {
            client = ready;
            let request = Request::get("http://vault/").body(()).unwrap();
            let Ok((answer, _)) = client.send_request(request, true) else {
                break;
            };
            assert_eq!(answer.await.unwrap().status(), 200, "{transport:?}");
        }
        drop(client);
        let ended = connection.await.unwrap();
        assert!(ended.is_ok(), "it is told to go away: {ended:?}");
        let closed_after = started.elapsed();
        let expected = Duration::from_mins(29)..Duration::from_mins(38);
        assert!(expected.contains(&closed_after), "{closed_after:?}");
    }
}

#[tokio::test]
async fn a_flood_of_headers_is_cut_off() {
    let address = listen(Transport::Rest).await;
    let many = "x: y\r\n".repeat(200);
    let long = format!("x: {}\r\n", "y".repeat(128 * 1024));
    for headers in [many, long] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nhost: vault\r\n{headers}\r\n");
        // The server may stop reading in the middle.
        let _ = stream.write_all(request.as_bytes()).await;
        let (answer, _) = read_to_end(stream).await;
        let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 431 ");
        assert!(refused, "{answer}");
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert!(get(&mut stream).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn streams_of_one_connection_are_bounded() {
    for transport in [Transport::Rest, Transport::Grpc] {
        let stream = TcpStream::connect(listen(transport).await).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let request = Request::get("http://vault/").body(()).unwrap();
        let (answer, _) = client.send_request(request, true).unwrap();
        answer.await.unwrap();
        // The server's settings have arrived with its answer.
        assert_eq!(client.current_max_send_streams(), 128, "{transport:?}");
        connection.abort();
    }
}

#[tokio::test]
async fn a_rapid_reset_ends_its_own_connection_and_nobody_elses() {
    let server = Server::start().await;
    let tenant = server.tenant("dev_one").await;
    for address in [server.http_address(), server.grpc_address()] {
        let started = RealInstant::now();
        let stream = TcpStream::connect(&address).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut opened = 0;
        while opened < 50_000 {
            let Ok(ready) = client.ready().await else {
                break;
            };
            client = ready;
            let request = Request::get("http://vault/v1/vault/credentials")
                .body(())
                .unwrap();
            let Ok((_, mut stream)) = client.send_request(request, true) else {
                break;
            };
            // Its headers go out first: a stream that was never seen is no reset.
            tokio::task::yield_now().await;
            stream.send_reset(h2::Reason::CANCEL);
            opened += 1;
        }
        assert!(
            opened < 50_000,
            "{address} took {opened} resets in {:?}",
            started.elapsed()
        );
        let ended = connection.await.unwrap().unwrap_err();
        assert_eq!(
            ended.reason(),
            Some(h2::Reason::ENHANCE_YOUR_CALM),
            "{ended}"
        );
    }
    for via in Via::BOTH {
        let listed = server.client(via, &tenant.key).list().await;
        assert!(listed.is_ok(), "{via:?} serves on");
    }
}
