//! Every error over gRPC carries the details that the contract promises, whoever made it.

use grantex_vault::grpc::pb;
use http::Method;
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::{RawCall, RawGrpcAnswer, Server, Setup, Trouble, framed, gzipped};

const STORE: &str = "grantex.vault.v1.VaultService/StoreCredential";
const EXCHANGE: &str = "grantex.vault.v1.VaultService/ExchangeCredential";
const EVENTS: &str = "grantex.vault.v1.AuditService/ListAuditEvents";
const OPERATE: &str = "grantex.vault.admin.v1.AdminService/ListDevelopers";
const CHECK: &str = "grpc.health.v1.Health/Check";
const WATCH: &str = "grpc.health.v1.Health/Watch";
const REFLECT: [&str; 2] = [
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

const TOKEN: &str = "an-operators-token-of-enough-characters";
const REQUEST_ID: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";

/// What is answered: code, reason, and the status of HTTP.
type Expected = (Code, &'static str, u16);

const NO_METHOD: Expected = (Code::Unimplemented, "UNIMPLEMENTED", 200);
const UNREADABLE: Expected = (Code::Internal, "INTERNAL_ERROR", 200);
const TOO_LARGE: Expected = (Code::ResourceExhausted, "BAD_REQUEST", 200);
const UNKNOWN: Expected = (Code::Unauthenticated, "UNAUTHORIZED", 200);
const NOT_FOUND: Expected = (Code::NotFound, "NOT_FOUND", 200);
const INVALID: Expected = (Code::InvalidArgument, "BAD_REQUEST", 200);

/// A server with everything that it can serve.
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

fn without_scheme(url: &str) -> String {
    url.split_once("://").unwrap().1.to_owned()
}

fn check(what: &str, answer: &RawGrpcAnswer, (code, reason, http): Expected) {
    let status: Status = answer.status();
    assert_eq!(
        (status.code(), answer.http),
        (code, http),
        "{what} {status:?}"
    );
    assert!(!status.message().is_empty(), "{what}");
    let details = status.get_error_details();
    let info = details.error_info();
    let info = info.unwrap_or_else(|| panic!("{what}: no ErrorInfo: {status:?}"));
    let expected = (reason, "vault.grantex.dev");
    assert_eq!((&*info.reason, &*info.domain), expected, "{what}");
    let request = details.request_info().unwrap();
    assert_eq!(request.request_id, REQUEST_ID, "{what}");
    let violations = details.bad_request().is_some();
    assert_eq!(violations, code == Code::InvalidArgument, "{what}");
    let is_retried = matches!(reason, "UNAVAILABLE" | "RATE_LIMIT_EXCEEDED");
    assert_eq!(details.retry_info().is_some(), is_retried, "{what}");
    // A library's text can hold what was sent.
    assert!(!format!("{status:?}").contains("canary"), "{what}");
}

/// Makes calls and looks at what they are answered.
async fn walk(address: &str, calls: Vec<(&str, RawCall, Expected)>) {
    for (what, call, expected) in calls {
        let answer = call.with("x-request-id", REQUEST_ID).send(address).await;
        check(what, &answer, expected);
    }
}

/// Bodies that are no message, and what becomes of them.
fn bodies(most: usize) -> Vec<(&'static str, Vec<u8>, &'static str, Expected)> {
    let too_long = u32::try_from(most + 1).unwrap().to_be_bytes();
    let bomb = gzipped(&vec![0; 64 * most]);
    vec![
        (
            "not decodable",
            framed(0, b"\xffcanary"),
            "identity",
            UNREADABLE,
        ),
        (
            "compressed, and not said",
            framed(1, b""),
            "identity",
            UNREADABLE,
        ),
        ("another flag", framed(7, b""), "identity", UNREADABLE),
        (
            "an end too early",
            framed(0, b"canary")[..8].to_vec(),
            "identity",
            UNREADABLE,
        ),
        ("half a prefix", vec![0; 3], "identity", UNREADABLE),
        ("no gzip", framed(1, b"canary"), "gzip", UNREADABLE),
        (
            "half a gzip",
            framed(1, &gzipped(&[0; 99])[5..20]),
            "gzip",
            UNREADABLE,
        ),
        (
            "gzip of nonsense",
            gzipped(b"\xffcanary"),
            "gzip",
            UNREADABLE,
        ),
        (
            "too large",
            framed(0, &vec![0; most + 1]),
            "identity",
            TOO_LARGE,
        ),
        (
            "too large, it says",
            [&[0], &too_long[..]].concat(),
            "identity",
            TOO_LARGE,
        ),
        ("a bomb", bomb, "gzip", TOO_LARGE),
        ("zstd", framed(1, b"canary"), "zstd", NO_METHOD),
        ("deflate", framed(1, b"canary"), "deflate", NO_METHOD),
    ]
}

fn calls_with_bodies<'a>(
    path: &str,
    credentials: &str,
    most: usize,
) -> Vec<(&'a str, RawCall, Expected)> {
    let calls = bodies(most)
        .into_iter()
        .map(|(what, body, encoding, expected)| {
            let call = RawCall::new(path, body).by(credentials);
            (what, call.with("grpc-encoding", encoding), expected)
        });
    calls.collect()
}

/// What is wrong of a call before its message.
fn no_calls(path: &str) -> Vec<(&'static str, RawCall, Expected)> {
    let (service, _) = path.split_once('/').unwrap();
    let call = || RawCall::new(path, framed(0, b""));
    let mut other_method = call();
    other_method.method = Method::GET;
    let mut no_type = call();
    no_type.headers.clear();
    let unsupported = (Code::InvalidArgument, "BAD_REQUEST", 415);
    vec![
        (
            "another service",
            RawCall::new("other.Service/Call", framed(0, b"")).by(TOKEN),
            NO_METHOD,
        ),
        (
            "another method",
            RawCall::new(&format!("{service}/Other"), framed(0, b"")).by(TOKEN),
            NO_METHOD,
        ),
        (
            "no path",
            RawCall::new("", framed(0, b"")).by(TOKEN),
            NO_METHOD,
        ),
        (
            "another type",
            call().with("content-type", "application/json"),
            unsupported,
        ),
        (
            "gRPC for browsers",
            call().with("content-type", "application/grpc-web"),
            unsupported,
        ),
        ("no type", no_type, unsupported),
        (
            "no POST",
            other_method,
            (Code::Unimplemented, "UNIMPLEMENTED", 405),
        ),
    ]
}

#[tokio::test]
async fn every_error_of_the_vaults_own_calls_carries_its_details() {
    let (_directory, server) = start().await;
    let tenant = server.tenant("acme").await;
    let address = server.grpc_address();
    for path in [STORE, EVENTS] {
        walk(&address, no_calls(path)).await;
        walk(&address, calls_with_bodies(path, &tenant.key, 1024 * 1024)).await;
        let twice = [framed(0, b""), framed(0, b"")].concat();
        let call = |body: Vec<u8>| RawCall::new(path, body);
        let calls = vec![
            ("no message", call(Vec::new()).by(&tenant.key), UNREADABLE),
            ("two messages", call(twice).by(&tenant.key), NO_METHOD),
            ("nobody", call(framed(0, b"")), UNKNOWN),
            (
                "nobody, in zstd",
                call(framed(1, b"")).with("grpc-encoding", "zstd"),
                UNKNOWN,
            ),
            (
                "nobody, a bomb",
                call(gzipped(&[0; 99])).with("grpc-encoding", "gzip"),
                UNKNOWN,
            ),
        ];
        walk(&address, calls).await;
    }
}

#[tokio::test]
async fn every_error_of_health_and_reflection_carries_its_details() {
    let (_directory, server) = start().await;
    let operators = without_scheme(&server.operator_url());
    let admin = without_scheme(&server.admin_url());
    let public = server.grpc_address();
    // `service`
    let unknown = framed(0, b"\x0a\x06canary");
    for path in [CHECK, WATCH] {
        for address in [&public, &admin] {
            walk(address, calls_with_bodies(path, TOKEN, 4096)).await;
        }
    }
    for address in [&public, &admin] {
        let call = RawCall::new(CHECK, unknown.clone());
        walk(address, vec![("another service", call, NOT_FOUND)]).await;
        let other = RawCall::new("grpc.health.v1.Health/Other", framed(0, b""));
        walk(address, vec![("another method", other, NO_METHOD)]).await;
    }
    for path in REFLECT {
        for address in [&public, &operators] {
            let call = |body: Vec<u8>| RawCall::new(path, body).by(TOKEN);
            let calls = vec![
                // `file_by_filename`, `file_containing_symbol`
                (
                    "another file",
                    call(framed(0, b"\x1a\x06canary")),
                    NOT_FOUND,
                ),
                (
                    "another symbol",
                    call(framed(0, b"\x22\x06canary")),
                    NOT_FOUND,
                ),
                ("no question", call(framed(0, b"")), INVALID),
                (
                    "zstd",
                    call(framed(1, b"")).with("grpc-encoding", "zstd"),
                    NO_METHOD,
                ),
            ];
            walk(address, calls).await;
        }
    }
}

#[tokio::test]
async fn every_error_of_operators_calls_carries_its_details() {
    let (_directory, server) = start().await;
    let address = without_scheme(&server.operator_url());
    walk(&address, no_calls(OPERATE)).await;
    walk(&address, calls_with_bodies(OPERATE, TOKEN, 64 * 1024)).await;
    let nobody = RawCall::new(OPERATE, framed(1, b"")).with("grpc-encoding", "zstd");
    walk(&address, vec![("nobody", nobody, UNKNOWN)]).await;
    let compressed = RawCall::new(OPERATE, gzipped(b"")).by(TOKEN);
    let compressed = compressed.with("grpc-encoding", "gzip");
    let answer = compressed.send(&address).await;
    assert_eq!(answer.code(), Code::Ok, "{answer:?}");
}

#[tokio::test]
async fn what_ends_a_call_in_the_middle_carries_its_details() {
    let setup = Setup::new().with("GRANTEX_VAULT_KMS_TIMEOUT", "20s");
    let server = setup.without_data_keys().start().await;
    let tenant = server.tenant("acme").await;
    let address = server.grpc_address();
    let message = pb::StoreCredentialRequest {
        principal_id: "user".to_owned(),
        service: "github".to_owned(),
        access_token: "secret".to_owned(),
        ..Default::default()
    };
    let store = || RawCall::new(STORE, framed(0, &message.encode_to_vec())).by(&tenant.key);
    let deadline = (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", 200);
    let unexpected = (Code::Internal, "INTERNAL_ERROR", 200);
    let unavailable = (Code::Unavailable, "UNAVAILABLE", 200);
    for (trouble, timeout, expected) in [
        (Trouble::Hangs, "50m", deadline),
        (Trouble::Panics, "5S", unexpected),
        (Trouble::Throttled, "5S", unavailable),
    ] {
        server.kms.set_trouble(Some(trouble));
        let call = store().with("grpc-timeout", timeout);
        walk(&address, vec![("in trouble", call, expected)]).await;
    }
    server.kms.set_trouble(None);
    let exchange = RawCall::new(EXCHANGE, framed(0, b"")).by("no-token");
    walk(&address, vec![("no token", exchange, UNKNOWN)]).await;
    // What is no timeout is none.
    for timeout in ["soon", "", "1", "-1S"] {
        let answer = store().with("grpc-timeout", timeout).send(&address).await;
        assert_eq!(answer.code(), Code::Ok, "{timeout}");
    }
}

#[tokio::test]
async fn what_a_stream_is_ended_by_carries_its_details() {
    let (_directory, server) = start().await;
    let address = server.grpc_address();
    // From here on the clock jumps whenever everybody waits.
    tokio::time::pause();
    let watch = RawCall::new(WATCH, framed(0, b"")).with("x-request-id", REQUEST_ID);
    let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let answer = watch.send_on(&client).await;
    check("a watch", &answer, (Code::Unavailable, "UNAVAILABLE", 200));
}
