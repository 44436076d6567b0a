//! HTTP/2 frames written by hand, for connections that no client would make.

use std::{future::pending, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

pub(super) const DATA: u8 = 0x0;
pub(super) const HEADERS: u8 = 0x1;
pub(super) const RST_STREAM: u8 = 0x3;
pub(super) const SETTINGS: u8 = 0x4;
pub(super) const PING: u8 = 0x6;
pub(super) const CONTINUATION: u8 = 0x9;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;

/// `GET / HTTP/2` of the host `v`: three entries of HPACK's table, and one name of it with a value.
pub(super) const GET: &[u8] = b"\x82\x84\x86\x41\x01v";
/// The same as `POST`, which a body may follow.
pub(super) const POST: &[u8] = b"\x83\x84\x86\x41\x01v";

/// How long the server may leave something unread, or a connection open, until that is taken as its
/// answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How an attack ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The server closed the connection.
    Closed,
    /// The server reads no more of it for now.
    NotRead,
    /// Everything was sent.
    Sent,
}

/// One frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A client's stream: they have odd numbers.
pub(super) fn stream(number: u32) -> u32 {
    number * 2 + 1
}

/// What a client says first.
pub(super) fn preface() -> Vec<u8> {
    let magic = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    [magic, &*frame(SETTINGS, 0, 0, b"")].concat()
}

/// Opens a connection with the preface.
pub(super) async fn open(address: &str) -> TcpStream {
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(&preface()).await.unwrap();
    connection
}

/// Whether the headers of an answer come on a stream.
pub(super) async fn answered(connection: &mut TcpStream, stream: u32) -> bool {
    let mut head = [0; 9];
    while let Ok(Ok(_)) = timeout(PATIENCE, connection.read_exact(&mut head)).await {
        if head[3] == HEADERS && head[5..] == stream.to_be_bytes() {
            return true;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        connection.read_exact(&mut payload).await.unwrap();
    }
    false
}

/// Sends parts one after another, as long as the server takes them; what it answers is read, and in
/// the end it is awaited whether it closes.
pub(super) async fn send(connection: TcpStream, parts: impl Iterator<Item = Vec<u8>>) -> End {
    let (mut reader, mut writer) = connection.into_split();
    let drain = async {
        let mut buffer = vec![0; 64 * 1024];
        while reader.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    };
    let write = async {
        match write(&mut writer, parts).await {
            // What was sent last may not have been looked at yet.
            End::Sent => {
                let _ = timeout(PATIENCE, pending::<()>()).await;
                End::Sent
            }
            // The answer says so too, when it ends.
            End::Closed => pending().await,
            End::NotRead => End::NotRead,
        }
    };
    tokio::select! {
        () = drain => End::Closed,
        end = write => end,
    }
}

/// The same without ever reading an answer.
pub(super) async fn send_deaf(connection: TcpStream, parts: impl Iterator<Item = Vec<u8>>) -> End {
    write(connection, parts).await
}

async fn write(
    mut writer: impl AsyncWriteExt + Unpin,
    parts: impl Iterator<Item = Vec<u8>>,
) -> End {
    for part in parts {
        match timeout(PATIENCE, writer.write_all(&part)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return End::Closed,
            Err(_) => return End::NotRead,
        }
    }
    End::Sent
}
