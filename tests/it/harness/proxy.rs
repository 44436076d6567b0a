//! An HTTP proxy that lets nothing through, and remembers what it was asked for.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// A proxy that listens.
pub(crate) struct RecordingProxy {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl RecordingProxy {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let record = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(refuse(stream, Arc::clone(&record)));
            }
        });
        Self { url, asked }
    }

    /// What it was asked for, as `CONNECT host:port` or `POST http://host/path`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Whether that is among it.
    pub(crate) fn was_asked_for(&self, what: &str) -> bool {
        self.asked().iter().any(|asked| asked.starts_with(what))
    }
}

async fn refuse(stream: TcpStream, record: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    if stream.read_line(&mut line).await.is_ok() {
        let request = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
        record.lock().unwrap().push(request);
    }
    let answer = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let _ = stream.write_all(answer).await;
}
