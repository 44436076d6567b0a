//! Clients in this process, each with a request under way at a time: over HTTP/1.1 with a connection of
//! its own, over gRPC sixteen on one.

use std::{
    cell::{Cell, RefCell},
    thread,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::{sync::mpsc, time::sleep};

use crate::{
    grpc::Grpc,
    http::Http,
    population::{Choice, Requests, Transport},
};

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) requests: f64,
    pub(crate) seconds: f64,
    /// Milliseconds from the beginning of a request to the end of its answer.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

pub(crate) enum Connection {
    Grpc(Grpc),
    Http(Http),
}

/// Everybody asks again as soon as they are answered.
pub(crate) async fn at_once(
    transport: Transport,
    address: &str,
    clients: usize,
    requests: &Requests,
    run: u32,
    time: Duration,
) -> Load {
    let connections = connect(transport, address, clients).await;
    let (choice, over) = (RefCell::new(Choice::new(run)), Cell::new(false));
    let since = Instant::now();
    let clients = connections.into_iter().map(async |mut connection| {
        let mut latencies = Vec::new();
        let mut request = Vec::new();
        while !over.get() {
            requests.next(&mut choice.borrow_mut(), &mut request);
            let asked = Instant::now();
            connection.ask(&request).await;
            if !over.get() {
                latencies.push(asked.elapsed());
            }
        }
        latencies
    });
    let end = async {
        sleep(time).await;
        over.set(true);
        since.elapsed()
    };
    let (latencies, elapsed) = tokio::join!(join_all(clients), end);
    Load::new(latencies.concat(), elapsed)
}

/// Everybody asks at their time, evenly spread, so many times a second altogether, whether the others
/// were answered or not. Who was not answered yet asks late, and waited from when it was time.
pub(crate) async fn at_rate(
    transport: Transport,
    address: &str,
    clients: usize,
    requests: &Requests,
    rate: f64,
    time: Duration,
) -> Load {
    let connections = connect(transport, address, clients).await;
    let choice = RefCell::new(Choice::new(0));
    let (bells, ears): (Vec<_>, Vec<_>) = (0..clients).map(|_| mpsc::unbounded_channel()).unzip();
    // A thread of its own: the runtime's timer knows only whole milliseconds.
    let clock = thread::spawn(move || {
        let since = Instant::now();
        for number in 0_u32.. {
            let due = Duration::from_secs_f64(f64::from(number) / rate);
            if due >= time {
                break;
            }
            thread::sleep(due.saturating_sub(since.elapsed()));
            let whose = usize::try_from(number).expect("an index") % bells.len();
            let rung = bells[whose].send(Instant::now());
            rung.expect("they listen until the end");
        }
    });
    let since = Instant::now();
    let clients = connections.into_iter().zip(ears);
    let clients = clients.map(async |(mut connection, mut ear)| {
        let mut latencies = Vec::new();
        let mut request = Vec::new();
        while let Some(asked) = ear.recv().await {
            requests.next(&mut choice.borrow_mut(), &mut request);
            connection.ask(&request).await;
            latencies.push(asked.elapsed());
        }
        latencies
    });
    let latencies = join_all(clients).await;
    clock.join().expect("it only sleeps");
    Load::new(latencies.concat(), since.elapsed())
}

/// Asks everything once, from this many clients.
pub(crate) async fn each_once(
    transport: Transport,
    address: &str,
    clients: usize,
    all: &[Vec<u8>],
) {
    let connections = connect(transport, address, clients).await;
    let asking = connections.into_iter().enumerate();
    let asking = asking.map(async |(number, mut connection)| {
        for request in all.iter().skip(number).step_by(clients) {
            connection.ask(request).await;
        }
    });
    join_all(asking).await;
}

async fn connect(transport: Transport, address: &str, clients: usize) -> Vec<Connection> {
    match transport {
        Transport::Grpc => {
            let connected = Grpc::connect(address, clients).await;
            connected.into_iter().map(Connection::Grpc).collect()
        }
        Transport::Http => {
            let connections = (0..clients).map(|_| Http::connect(address));
            let connections = join_all(connections).await;
            connections.into_iter().map(Connection::Http).collect()
        }
    }
}

// === impl Connection ===

impl Connection {
    pub(crate) async fn to(transport: Transport, address: &str) -> Self {
        let one = connect(transport, address, 1).await.pop();
        one.expect("it was asked for")
    }

    /// The message or the body of the answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> &[u8] {
        match self {
            Self::Grpc(grpc) => grpc.ask(request).await,
            Self::Http(http) => http.ask(request).await,
        }
    }
}

// === impl Load ===

impl Load {
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53")]
    fn new(mut latencies: Vec<Duration>, elapsed: Duration) -> Self {
        latencies.sort_unstable();
        let at = |thousandths: usize| {
            let latency = latencies.get(latencies.len() * thousandths / 1000);
            latency.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1000.0)
        };
        Self {
            requests: latencies.len() as f64,
            seconds: elapsed.as_secs_f64(),
            p50: at(500),
            p99: at(990),
            p999: at(999),
        }
    }

    pub(crate) fn rate(&self) -> f64 {
        self.requests / self.seconds
    }
}
