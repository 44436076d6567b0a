//! What gRPC takes in: every broken rule names the field of the message, and nothing is stored.

use grantex_vault::grpc::pb;
use prost_types::{ListValue, Struct, Timestamp, Value as PbValue, value::Kind};
use tonic::Code;

use crate::harness::{Client, Problem, Server, Via, problem};

fn storable() -> pb::StoreCredentialRequest {
    pb::StoreCredentialRequest {
        principal_id: "user".to_owned(),
        service: "github".to_owned(),
        access_token: "secret".to_owned(),
        ..Default::default()
    }
}

fn metadata(kind: Option<Kind>) -> Struct {
    let fields = [("key".to_owned(), PbValue { kind })];
    Struct {
        fields: fields.into(),
    }
}

type Change = fn(&mut pb::StoreCredentialRequest);

/// Texts that break a rule: field, message, and how to break it.
const TEXTS: [(&str, &str, Change); 9] = [
    ("principal_id", REQUIRED, |m| m.principal_id.clear()),
    ("service", REQUIRED, |m| m.service.clear()),
    ("access_token", REQUIRED, |m| m.access_token.clear()),
    ("service", SERVICE, |m| m.service.push(' ')),
    (
        "principal_id",
        "principalId must not contain control characters",
        |m| m.principal_id.push('\0'),
    ),
    (
        "principal_id",
        "principalId must be at most 512 characters",
        |m| m.principal_id = "é".repeat(513),
    ),
    ("credential_type", "credentialType must not be empty", |m| {
        m.credential_type = Some(String::new());
    }),
    (
        "access_token",
        "accessToken must be at most 262144 bytes",
        |m| m.access_token = "x".repeat(262_145),
    ),
    (
        "refresh_token",
        "refreshToken must be at most 262144 bytes",
        |m| m.refresh_token = "x".repeat(262_145),
    ),
];

/// The same for what is no text in gRPC.
const OTHERS: [(&str, &str, Change); 10] = [
    ("token_expires_at", RANGE, |m| {
        m.token_expires_at = Some(at(253_402_300_800, 0));
    }),
    ("token_expires_at", RANGE, |m| {
        m.token_expires_at = Some(at(-62_135_596_801, 0));
    }),
    ("token_expires_at", RANGE, |m| {
        m.token_expires_at = Some(at(0, -1));
    }),
    ("token_expires_at", RANGE, |m| {
        m.token_expires_at = Some(at(0, 1_000_000_000));
    }),
    ("token_expires_at", RANGE, |m| {
        m.token_expires_at = Some(at(i64::MAX, 0));
    }),
    ("metadata", FINITE, |m| {
        m.metadata = Some(metadata(Some(Kind::NumberValue(f64::NAN))));
    }),
    ("metadata", FINITE, |m| {
        m.metadata = Some(metadata(Some(Kind::NumberValue(f64::NEG_INFINITY))));
    }),
    ("metadata", "metadata has a value without a kind", |m| {
        m.metadata = Some(metadata(None));
    }),
    (
        "metadata",
        "metadata must not contain NUL characters",
        |m| m.metadata = Some(text("\0")),
    ),
    (
        "metadata",
        "metadata must be at most 65536 bytes as JSON",
        |m| {
            m.metadata = Some(text(&"x".repeat(65_536)));
        },
    ),
];

const REQUIRED: &str = "principalId, service, and accessToken are required";
const SERVICE: &str =
    "service must be 1-64 characters and contain only letters, numbers, dot, underscore, or dash";
const RANGE: &str = "tokenExpiresAt must be of the years 0001 to 9999";
const FINITE: &str = "metadata must not contain numbers that are not finite";

fn at(seconds: i64, nanos: i32) -> Timestamp {
    Timestamp { seconds, nanos }
}

fn text(text: &str) -> Struct {
    metadata(Some(Kind::StringValue(text.to_owned())))
}

#[tokio::test]
async fn a_broken_rule_names_the_field_of_the_message() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Grpc, &tenant.key);
    for (field, message, change) in TEXTS.into_iter().chain(OTHERS) {
        let mut broken = storable();
        change(&mut broken);
        let problem = refused(&developer, broken).await;
        assert_eq!(problem.says(), (400, "BAD_REQUEST", message));
        assert_eq!(problem.field.as_deref(), Some(field), "{message}");
    }
    assert_eq!(server.rows("credentials").await.len(), 0);
    let agent = server.agent(Via::Grpc, &tenant, "user");
    let unnamed = agent.exchange("").await.unwrap_err();
    assert_eq!(
        (unnamed.status, unnamed.field.as_deref()),
        (400, Some("service"))
    );
}

async fn refused(client: &Client<'_>, message: pb::StoreCredentialRequest) -> Problem {
    let request = client.request(message);
    problem(&client.grpc().store_credential(request).await.unwrap_err())
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_refused_once_its_sender_is_known() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let [known, nobody] = [
        server.client(Via::Grpc, &tenant.key),
        server.client_with(Via::Grpc, None),
    ];
    let large = || pb::StoreCredentialRequest {
        access_token: "x".repeat(1024 * 1024),
        ..storable()
    };
    // Deeper than any decoder of protobuf follows.
    let deep = || {
        let mut value = PbValue {
            kind: Some(Kind::NullValue(0)),
        };
        for _ in 0..200 {
            value = PbValue {
                kind: Some(Kind::ListValue(ListValue {
                    values: vec![value],
                })),
            };
        }
        pb::StoreCredentialRequest {
            metadata: Some(metadata(value.kind)),
            ..storable()
        }
    };
    for (message, code) in [(large(), Code::ResourceExhausted), (deep(), Code::Internal)] {
        let unknown = nobody.request(message.clone());
        let unknown = nobody.grpc().store_credential(unknown).await.unwrap_err();
        assert_eq!(unknown.code(), Code::Unauthenticated, "{unknown:?}");
        let refused = known.request(message);
        let refused = known.grpc().store_credential(refused).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
    }
    assert!(known.list().await.is_ok(), "it goes on");
}

#[test]
fn messages_with_secrets_do_not_show_them() {
    let store = pb::StoreCredentialRequest {
        access_token: "canary".to_owned(),
        refresh_token: "canary".to_owned(),
        principal_id: "canary".to_owned(),
        metadata: Some(metadata(Some(Kind::StringValue("canary".to_owned())))),
        ..storable()
    };
    let exchanged = pb::ExchangeCredentialResponse {
        access_token: "canary".to_owned(),
        ..Default::default()
    };
    let shown = format!("{store:?} {store:#?} {exchanged:?} {exchanged:#?}");
    assert!(!shown.contains("canary"), "{shown}");
}
