//! What anybody may call, health and reflection, is small, ends by itself and is little for one address.

use std::time::Duration;

use bytes::Bytes;
use h2::{
    SendStream,
    client::{ResponseFuture, SendRequest},
};
use tokio::time::{Instant, timeout};
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use crate::harness::{Server, Setup, connect_from};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const REFLECT: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const OPERATE: &str = "/grantex.vault.admin.v1.AdminService/ListDevelopers";

/// An empty message, and the beginning of one of 4 KiB.
const EMPTY: &[u8] = &[0; 5];
const HALF: &[u8] = b"\0\0\0\x10\0x";

/// What admits operators.
const TOKEN: &str = "an-operators-token-of-enough-characters";

/// A server with everything that can be called without being known, and operators beside it.
async fn start() -> (tempfile::TempDir, Server) {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let setup = Setup::new()
        .with("GRANTEX_VAULT_GRPC_REFLECTION", "true")
        .with("GRANTEX_VAULT_OPERATOR_ADDR", "127.0.0.1:0")
        .with("GRANTEX_VAULT_OPERATOR_TOKEN_FILE", token.to_str().unwrap());
    (directory, setup.start().await)
}

/// Where health is called: the public listener, and that of probes.
fn addresses(server: &Server) -> [String; 2] {
    [server.grpc_address(), without_scheme(&server.admin_url())]
}

fn without_scheme(url: &str) -> String {
    let (_, address) = url.split_once("://").unwrap();
    address.to_owned()
}

async fn connect(address: &str, from: &str) -> SendRequest<Bytes> {
    let stream = connect_from(from, address).await;
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Begins a call with some bytes, which may be all of it.
async fn begin(
    client: &SendRequest<Bytes>,
    path: &str,
    bytes: &'static [u8],
    is_all: bool,
) -> (ResponseFuture, SendStream<Bytes>) {
    let mut client = client.clone().ready().await.unwrap();
    let request = http::Request::post(format!("http://vault{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        // What is not for operators does not look at it.
        .header("authorization", format!("Bearer {TOKEN}"));
    let (answer, mut body) = client
        .send_request(request.body(()).unwrap(), false)
        .unwrap();
    body.send_data(Bytes::from_static(bytes), is_all).unwrap();
    (answer, body)
}

/// The code at the end of an answer.
async fn code(answer: ResponseFuture) -> String {
    let answer = answer.await.unwrap();
    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
    if let Some(code) = answer.headers().get("grpc-status") {
        return text(code);
    }
    let mut body = answer.into_body();
    while let Some(data) = body.data().await {
        let length = data.unwrap().len();
        body.flow_control().release_capacity(length).unwrap();
    }
    let trailers = body.trailers().await.unwrap().unwrap();
    text(trailers.get("grpc-status").unwrap())
}

#[tokio::test]
async fn a_message_that_anybody_may_send_is_at_most_4_kib() {
    let (_directory, server) = start().await;
    let channel = |address: &str| {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        endpoint.connect_lazy()
    };
    let operators = without_scheme(&server.operator_url());
    for (length, code) in [(4000, Code::NotFound), (4100, Code::ResourceExhausted)] {
        for address in addresses(&server) {
            let channel = channel(&address);
            let service = "x".repeat(length);
            let request = HealthCheckRequest { service };
            let mut health = HealthClient::new(channel.clone());
            let refused = health.check(request.clone()).await.unwrap_err();
            assert_eq!(refused.code(), code, "{address}");
            let refused = health.watch(request).await.unwrap_err();
            assert_eq!(refused.code(), code, "{address}");
        }
        for address in [server.grpc_address(), operators.clone()] {
            let file = MessageRequest::FileByFilename("x".repeat(length));
            let stream = tonic::codegen::tokio_stream::once(ServerReflectionRequest {
                host: String::new(),
                message_request: Some(file),
            });
            let log_in = |mut request: tonic::Request<()>| {
                let token = format!("Bearer {TOKEN}").parse().unwrap();
                request.metadata_mut().insert("authorization", token);
                Ok(request)
            };
            let mut reflection =
                ServerReflectionClient::with_interceptor(channel(&address), log_in);
            let answers = reflection.server_reflection_info(stream).await;
            let mut answers = answers.unwrap().into_inner();
            match answers.message().await {
                Err(refused) => assert_eq!(refused.code(), code, "{address}"),
                // It breaks off what it cannot read.
                Ok(answer) => assert!(
                    answer.is_none() && code == Code::ResourceExhausted,
                    "{address}"
                ),
            }
        }
    }
}

#[tokio::test]
async fn what_anybody_may_call_ends_by_itself() {
    const OK: &str = "0";
    let minutes = Duration::from_mins;
    let (_directory, server) = start().await;
    let [public, private] = addresses(&server);
    let operators = without_scheme(&server.operator_url());
    // From here on the clock jumps whenever everybody waits.
    tokio::time::pause();
    for (address, path, bytes, is_all, most) in [
        (&public, CHECK, HALF, false, minutes(1)),
        (&public, WATCH, HALF, false, minutes(1)),
        (&public, WATCH, EMPTY, true, minutes(20)),
        (&public, REFLECT, HALF, false, minutes(1)),
        (&public, REFLECT, EMPTY, false, minutes(1)),
        (&private, CHECK, HALF, false, minutes(1)),
        (&private, WATCH, EMPTY, true, minutes(20)),
        (&operators, REFLECT, HALF, false, minutes(1)),
        (&operators, REFLECT, EMPTY, false, minutes(1)),
        (&operators, OPERATE, HALF, false, minutes(1)),
    ] {
        let client = connect(address, "127.0.0.1").await;
        let begun = Instant::now();
        let (answer, body) = begin(&client, path, bytes, is_all).await;
        let code = timeout(most, code(answer)).await;
        let code = code.unwrap_or_else(|_| panic!("{path} {bytes:?} of {address} does not end"));
        assert_ne!(code, OK, "{path}");
        if is_all {
            let lasted = begun.elapsed();
            assert!(lasted >= minutes(5), "a client watches health: {lasted:?}");
        }
        drop(body);
    }
}

#[tokio::test]
async fn one_address_has_a_quarter_of_the_streams_that_anybody_may_open() {
    let (_directory, server) = start().await;
    let resource_exhausted = Code::ResourceExhausted as i32;
    for address in addresses(&server) {
        let mut held = Vec::new();
        let mut refused = 0;
        for _ in 0..8 {
            let client = connect(&address, "127.0.0.1").await;
            for _ in 0..50 {
                let (answer, body) = begin(&client, WATCH, EMPTY, true).await;
                let answer = answer.await.unwrap();
                match answer.headers().get("grpc-status") {
                    None => held.push((answer, body)),
                    Some(code) => {
                        let code: i32 = code.to_str().unwrap().parse().unwrap();
                        assert_eq!(code, resource_exhausted);
                        refused += 1;
                    }
                }
            }
        }
        assert_eq!((held.len(), refused), (256, 144), "{address}");
        let other = connect(&address, "127.0.0.2").await;
        let (answer, _body) = begin(&other, WATCH, EMPTY, true).await;
        let answer = answer.await.unwrap();
        assert!(!answer.headers().contains_key("grpc-status"), "{address}");
        let (answer, _body) = begin(&other, CHECK, EMPTY, true).await;
        assert_eq!(code(answer).await, "0");
    }
}
