//! A client of gRPC that costs little: the frames of a request are made beforehand, and of answers only
//! the frames' heads are read.
//!
//! `h2load` sends the same headers with every request of a process, and so one grant token. This one
//! sends another with each. It is measured beside `h2load`, which shows that it is no slower.
//!
//! A request's headers are literal: the server has no table to look them up in, and more bytes to read
//! than from most clients.

use std::collections::HashMap;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

/// Calls that are under way on one connection.
pub(crate) const STREAMS: usize = 16;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// What a client may send us unasked, of a connection and of a stream: more than we ever read.
const WINDOW: u32 = (1 << 31) - 1;
const FIRST_WINDOW: u32 = 65_535;
/// Of a gRPC message: whether it is compressed, and its length.
const MESSAGE_HEAD: usize = 5;

/// A client with one call under way at a time, on a connection that others call on too.
pub(crate) struct Grpc {
    /// Among those of its connection.
    number: usize,
    calls: mpsc::UnboundedSender<(usize, Vec<u8>)>,
    answers: mpsc::UnboundedReceiver<Vec<u8>>,
    message: Vec<u8>,
}

/// A connection that is kept.
struct Connection {
    stream: TcpStream,
    calls: mpsc::UnboundedReceiver<(usize, Vec<u8>)>,
    clients: Vec<mpsc::UnboundedSender<Vec<u8>>>,
    /// By their streams: whose calls, and what came of the answers.
    under_way: HashMap<u32, (usize, Vec<u8>)>,
    next_stream: u32,
}

/// The frames of a call, for stream 0: its connection names the stream.
pub(crate) fn request(method: &str, token: &str, message: &[u8]) -> Vec<u8> {
    // :method POST and :scheme http are whole entries of the static table; the others name one.
    let mut headers = vec![0x83, 0x86];
    headers.push(0x04);
    text(
        &mut headers,
        &format!("/grantex.vault.v1.VaultService/{method}"),
    );
    headers.push(0x01);
    text(&mut headers, "localhost");
    headers.extend([0x0f, 31 - 15]);
    text(&mut headers, "application/grpc");
    headers.push(0x00);
    text(&mut headers, "te");
    text(&mut headers, "trailers");
    headers.extend([0x0f, 23 - 15]);
    text(&mut headers, &format!("Bearer {token}"));

    let length = u32::try_from(message.len()).expect("messages are short");
    let body = [&[0], &length.to_be_bytes()[..], message].concat();
    let mut frames = frame(HEADERS, END_HEADERS, &headers);
    frames.extend(frame(DATA, END_STREAM, &body));
    frames
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("frames are short");
    let [_, length @ ..] = length.to_be_bytes();
    [&length[..], &[kind, flags, 0, 0, 0, 0], payload].concat()
}

/// A string of HPACK, as it is.
fn text(headers: &mut Vec<u8>, text: &str) {
    const LONG: usize = 127;
    if text.len() < LONG {
        headers.extend(u8::try_from(text.len()));
    } else {
        headers.extend(u8::try_from(LONG));
        let mut rest = text.len() - LONG;
        while rest >= 128 {
            headers.extend(u8::try_from(rest % 128 + 128));
            rest /= 128;
        }
        headers.extend(u8::try_from(rest));
    }
    headers.extend(text.bytes());
}

/// The length of the frame that begins here.
fn length_of(frame: &[u8]) -> usize {
    usize::from(frame[0]) << 16 | usize::from(frame[1]) << 8 | usize::from(frame[2])
}

// === impl Grpc ===

impl Grpc {
    /// So many clients, which share connections as those of an application would.
    pub(crate) async fn connect(address: &str, clients: usize) -> Vec<Self> {
        let mut connected = Vec::with_capacity(clients);
        while connected.len() < clients {
            let streams = (clients - connected.len()).min(STREAMS);
            connected.extend(Connection::open(address, streams).await);
        }
        connected
    }

    /// Makes a call and reads its answer, whose message this is. Any other than a success is a fault:
    /// only that has a message.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> &[u8] {
        let call = (self.number, request.to_vec());
        self.calls.send(call).expect("the connection is kept");
        self.message = self.answers.recv().await.expect("the connection is kept");
        let message = self.message.get(MESSAGE_HEAD..);
        message.expect("a call that succeeds has a message")
    }
}

// === impl Connection ===

impl Connection {
    async fn open(address: &str, streams: usize) -> Vec<Grpc> {
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("TCP has it");
        let (calls, called) = mpsc::unbounded_channel();
        let (answer, answers): (Vec<_>, Vec<_>) =
            (0..streams).map(|_| mpsc::unbounded_channel()).unzip();
        let connection = Self {
            stream,
            calls: called,
            clients: answer,
            under_way: HashMap::new(),
            next_stream: 1,
        };
        tokio::spawn(connection.run());
        let clients = answers.into_iter().enumerate();
        let client = |(number, answers)| Grpc {
            number,
            calls: calls.clone(),
            answers,
            message: Vec::new(),
        };
        clients.map(client).collect()
    }

    /// Until its clients are gone.
    async fn run(mut self) {
        // SETTINGS_INITIAL_WINDOW_SIZE is 4.
        let window = [&[0, 4], &WINDOW.to_be_bytes()[..]].concat();
        let more = (WINDOW - FIRST_WINDOW).to_be_bytes();
        self.send(PREFACE).await;
        self.send(&frame(SETTINGS, 0, &window)).await;
        self.send(&frame(WINDOW_UPDATE, 0, &more)).await;
        let (mut calls, mut received) = (Vec::new(), Vec::with_capacity(64 * 1024));
        loop {
            tokio::select! {
                taken = self.calls.recv_many(&mut calls, STREAMS) => {
                    if taken == 0 {
                        return;
                    }
                    let frames: Vec<u8> = calls.drain(..).flat_map(|call| self.begin(call)).collect();
                    self.send(&frames).await;
                }
                read = self.stream.read_buf(&mut received) => {
                    assert_ne!(read.expect("it answers"), 0, "the connection is kept");
                    self.take_frames(&mut received).await;
                }
            }
        }
    }

    /// The frames of a call, with the stream that is its own from now on.
    fn begin(&mut self, (client, mut request): (usize, Vec<u8>)) -> Vec<u8> {
        let number = self.next_stream;
        self.next_stream += 2;
        let name = number.to_be_bytes();
        let data = HEAD + length_of(&request);
        request[HEAD - 4..HEAD].copy_from_slice(&name);
        request[data + HEAD - 4..data + HEAD].copy_from_slice(&name);
        self.under_way.insert(number, (client, Vec::new()));
        request
    }

    /// Takes the frames that are whole, and gives those their answers whose streams have ended.
    async fn take_frames(&mut self, received: &mut Vec<u8>) {
        let (mut taken, mut answers) = (0, Vec::new());
        while let Some(head) = received.get(taken..taken + HEAD) {
            let (kind, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let end = taken + HEAD + length_of(head);
            let Some(payload) = received.get(taken + HEAD..end) else {
                break;
            };
            match kind {
                DATA => {
                    let call = self.under_way.get_mut(&stream);
                    call.expect("it was made").1.extend(payload);
                }
                SETTINGS if flags & ACK == 0 => answers.extend(frame(SETTINGS, ACK, &[])),
                PING if flags & ACK == 0 => answers.extend(frame(PING, ACK, payload)),
                RESET | GOAWAY => panic!("the server gave up: frame {kind}, {payload:?}"),
                _ => {}
            }
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                let (client, message) = self.under_way.remove(&stream).expect("it was made");
                // Its client may not have waited.
                let _ = self.clients[client].send(message);
            }
            taken = end;
        }
        received.drain(..taken);
        if !answers.is_empty() {
            self.send(&answers).await;
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        let sent = self.stream.write_all(bytes).await;
        sent.expect("the connection is kept");
    }
}
