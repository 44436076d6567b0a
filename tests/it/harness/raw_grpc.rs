//! Calls over gRPC written by hand, for requests that no client would send and answers as they stood.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use h2::client::SendRequest;
use http::{HeaderMap, Method};
use tokio::{net::TcpStream, time::timeout};
use tonic::{Code, Status};

use super::PATIENCE;

/// A call to be made.
pub(crate) struct RawCall {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Prefixes included.
    pub(crate) body: Vec<u8>,
}

/// An answer as it stood on the wire.
#[derive(Debug)]
pub(crate) struct RawGrpcAnswer {
    pub(crate) http: u16,
    /// Those before and those after the body.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl RawCall {
    /// A call of this service and method with these bytes.
    pub(crate) fn new(path: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            method: Method::POST,
            path: format!("/{path}"),
            headers: vec![("content-type", "application/grpc".to_owned())],
            body: body.into(),
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(found, _)| *found != name);
        self.headers.push((name, value.into()));
        self
    }

    /// For whoever has these credentials.
    pub(crate) fn by(self, credentials: &str) -> Self {
        self.with("authorization", format!("Bearer {credentials}"))
    }

    /// Makes it on a connection of its own.
    pub(crate) async fn send(self, address: &str) -> RawGrpcAnswer {
        let stream = TcpStream::connect(address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let answer = timeout(PATIENCE, self.send_on(&client)).await;
        connection.abort();
        answer.expect("it is answered in time")
    }

    /// Makes it on this connection.
    pub(crate) async fn send_on(self, client: &SendRequest<Bytes>) -> RawGrpcAnswer {
        let mut client = client.clone().ready().await.unwrap();
        let mut request = http::Request::builder()
            .method(self.method)
            .uri(format!("http://vault{}", self.path))
            .header("te", "trailers");
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let (answer, mut body) = client
            .send_request(request.body(()).unwrap(), false)
            .unwrap();
        // What refuses a message need not read it.
        let _ = body.send_data(self.body.into(), true);
        let (head, mut rest) = answer.await.unwrap().into_parts();
        let (mut headers, mut bytes) = (head.headers, Vec::new());
        while let Some(data) = rest.data().await {
            let data = data.unwrap();
            rest.flow_control().release_capacity(data.len()).unwrap();
            bytes.extend_from_slice(&data);
        }
        headers.extend(rest.trailers().await.unwrap().unwrap_or_default());
        RawGrpcAnswer {
            http: head.status.as_u16(),
            headers,
            body: bytes,
        }
    }
}

impl RawGrpcAnswer {
    pub(crate) fn status(&self) -> Status {
        Status::from_header_map(&self.headers).expect("every answer has a status")
    }

    pub(crate) fn code(&self) -> Code {
        self.status().code()
    }
}

/// A message with its prefix.
pub(crate) fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flag], &length[..], message].concat()
}

/// A message, compressed, with its prefix.
pub(crate) fn gzipped(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(message).unwrap();
    framed(1, &encoder.finish().unwrap())
}
