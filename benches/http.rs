//! A client of HTTP/1.1 that costs little: requests are made beforehand, and of answers only the status
//! and the length are read.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A connection that is kept.
pub(crate) struct Http {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A request with its headers, kept alive.
pub(crate) fn request(method_and_path: &str, token: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{method_and_path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

// === impl Http ===

impl Http {
    /// Connects to an address, or to what an http:// URL names.
    pub(crate) async fn connect(address: &str) -> Self {
        let address = address.trim_start_matches("http://");
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("TCP has it");
        let buffer = Vec::with_capacity(4096);
        Self { stream, buffer }
    }

    /// Sends a request and reads its answer, whose body this is. Any other than a success is a fault.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> &[u8] {
        let sent = self.stream.write_all(request).await;
        sent.expect("the connection is kept");
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await;
            assert_ne!(read.expect("it answers"), 0, "the connection is kept");
            if let Some((body, end)) = whole(&self.buffer)
                && end <= self.buffer.len()
            {
                return &self.buffer[body..end];
            }
        }
    }
}

/// Where the body of an answer begins and ends, once its head is there.
fn whole(answer: &[u8]) -> Option<(usize, usize)> {
    const END_OF_HEAD: &[u8] = b"\r\n\r\n";
    const LENGTH: &[u8] = b"\r\ncontent-length: ";
    let find = |wanted: &[u8]| answer.windows(wanted.len()).position(|part| part == wanted);
    let body = find(END_OF_HEAD)? + END_OF_HEAD.len();
    let shown = String::from_utf8_lossy(answer);
    assert!(answer.starts_with(b"HTTP/1.1 2"), "{shown}");
    let length = find(LENGTH).expect("an answer has a length") + LENGTH.len();
    let digits = answer[length..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    Some((body, body + length))
}
