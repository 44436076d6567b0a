//! Strangers on as many connections as they get: what they make a process hold has one budget.

use futures_util::future::join_all;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    Victim,
    frames::{self, CONTINUATION, DATA, END_HEADERS, GET, HEADERS, POST, frame, stream},
    passing_header,
};
use crate::harness::connect_from;

/// Where they come from; those who use it as meant come from `127.0.0.1`.
const ADDRESSES: [&str; 3] = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];
/// Of each address and to each listener: more than it is given.
const CONNECTIONS: usize = 300;
/// What all of it may take, in MiB; it is half of the memory that the chart gives a pod.
const BUDGET: u64 = 256;

/// Opens connections that each begin like this, and keeps those that were taken.
async fn hold(address: &str, opening: &[u8]) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for from in ADDRESSES {
        let open = async |_| {
            let mut connection = connect_from(from, address).await;
            connection
                .write_all(opening)
                .await
                .is_ok()
                .then_some(connection)
        };
        let opened = join_all((0..CONNECTIONS).map(open)).await;
        held.extend(opened.into_iter().flatten());
    }
    held
}

#[tokio::test]
async fn strangers_on_every_connection_that_they_get_take_a_bounded_amount_of_memory() {
    let preface = frames::preface();
    let lines = format!("x: {}\r\n", "y".repeat(1000)).repeat(62);
    let headers = format!("GET / HTTP/1.1\r\nhost: v\r\n{lines}").into_bytes();
    let block = [GET, &passing_header().repeat(3)].concat();
    let continued = frame(CONTINUATION, 0, 1, &passing_header().repeat(4));
    let unfinished = [
        preface.clone(),
        frame(HEADERS, 0, 1, &block),
        continued.repeat(3),
    ]
    .concat();
    // As much as a connection lets anybody send, on streams that ask for health and for nothing.
    let health =
        b"\x83\x86\x04\x1c/grpc.health.v1.Health/Check\x41\x01v\x0f\x10\x10application/grpc";
    let bodies = (0..16).flat_map(|number| {
        let head = if number % 2 == 0 { POST } else { health };
        let open = frame(HEADERS, END_HEADERS, stream(number), head);
        [open, frame(DATA, 0, stream(number), &[0; 4000])].concat()
    });
    let bodies: Vec<u8> = [preface, bodies.collect()].concat();
    for (what, opening) in [
        ("headers of HTTP/1", headers),
        ("headers of HTTP/2", unfinished),
        ("bodies", bodies),
    ] {
        let mut victim = Victim::start().await;
        let [http, grpc] = victim.addresses().map(str::to_owned);
        let mut held = hold(&http, &opening).await;
        held.extend(hold(&grpc, &opening).await);
        victim.serves(what).await;
        victim.unharmed(what, BUDGET - victim.usual / 1024).await;
        println!("{what}: {} KiB", victim.dev.process.memory("VmHWM:"));
        drop(held);
        victim.stops().await;
    }
}
