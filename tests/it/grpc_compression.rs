//! Requests may be gzip, within the bounds of what is in clear; answers never are.

use grantex_vault::grpc::pb;
use prost::Message;
use tonic::{Code, codec::CompressionEncoding};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::{RawCall, RawGrpcAnswer, Server, Setup, Tenant, Via, framed, gzipped};

const STORE: &str = "grantex.vault.v1.VaultService/StoreCredential";
const MIB: usize = 1024 * 1024;

fn storable(access_token: String) -> pb::StoreCredentialRequest {
    pb::StoreCredentialRequest {
        principal_id: "user".to_owned(),
        service: "github".to_owned(),
        access_token,
        ..Default::default()
    }
}

/// Stores a body that is said to be compressed like this.
async fn stored(server: &Server, tenant: &Tenant, encoding: &str, body: Vec<u8>) -> RawGrpcAnswer {
    let call = RawCall::new(STORE, body).by(&tenant.key);
    let call = call.with("grpc-encoding", encoding);
    call.send(&server.grpc_address()).await
}

#[tokio::test]
async fn every_call_of_a_client_that_compresses_is_served() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Grpc, &tenant.key);
    let mut vault = developer.grpc().send_compressed(CompressionEncoding::Gzip);
    // Small ones, and one that needs the memory of large ones once it is decompressed.
    for length in [6, 9_000, 200_000] {
        let message = storable("x".repeat(length));
        let stored = vault.store_credential(developer.request(message)).await;
        let id = stored.unwrap().into_inner().id;
        let message = pb::GetCredentialRequest { id };
        vault
            .get_credential(developer.request(message))
            .await
            .unwrap();
    }
    let message = pb::ListCredentialsRequest::default();
    let listed = vault.list_credentials(developer.request(message)).await;
    let listed = listed.unwrap().into_inner().credentials;
    assert_eq!(listed.len(), 1);
    let agent = server.agent(Via::Grpc, &tenant, "user");
    let service = "github".to_owned();
    let message = pb::ExchangeCredentialRequest { service };
    let exchanged = vault.exchange_credential(agent.request(message)).await;
    assert_eq!(exchanged.unwrap().into_inner().access_token.len(), 200_000);
    let message = pb::DeleteCredentialRequest {
        id: listed[0].id.clone(),
    };
    vault
        .delete_credential(developer.request(message))
        .await
        .unwrap();
    let audit = developer.audit_grpc();
    let mut audit = audit.send_compressed(CompressionEncoding::Gzip);
    let message = pb::ListAuditEventsRequest::default();
    let events = audit.list_audit_events(developer.request(message)).await;
    assert!(!events.unwrap().into_inner().events.is_empty());
    let mut health =
        HealthClient::new(server.channel.clone()).send_compressed(CompressionEncoding::Gzip);
    assert!(health.check(HealthCheckRequest::default()).await.is_ok());
}

#[tokio::test]
async fn no_answer_is_compressed_whatever_its_client_accepts() {
    const EXCHANGE: &str = "grantex.vault.v1.VaultService/ExchangeCredential";
    let setup = Setup::new().with("GRANTEX_VAULT_GRPC_REFLECTION", "true");
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    let secret = "x".repeat(10_000);
    let developer = server.client(Via::Grpc, &tenant.key);
    developer.store_token("user", "github", &secret).await;
    let token = server.grant(&tenant, "user", &["vault:github:exchange"]);
    let message = pb::ExchangeCredentialRequest {
        service: "github".to_owned(),
    };
    let message = message.encode_to_vec();
    for (path, message, credentials, shows) in [
        (EXCHANGE, &message[..], &token, secret.as_str()),
        (
            "grantex.vault.v1.VaultService/ListCredentials",
            b"",
            &tenant.key,
            "github",
        ),
        (
            "grantex.vault.v1.AuditService/ListAuditEvents",
            b"",
            &tenant.key,
            "github",
        ),
        ("grpc.health.v1.Health/Check", b"", &tenant.key, ""),
        // `file_by_filename`
        (
            "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            b"\x1a\x1cgrantex/vault/v1/vault.proto",
            &tenant.key,
            "StoreCredentialRequest",
        ),
    ] {
        for body in [framed(0, message), gzipped(message)] {
            let call = RawCall::new(path, body)
                .by(credentials)
                .with("grpc-encoding", "gzip")
                .with("grpc-accept-encoding", "gzip,identity,deflate,zstd");
            let answer = call.send(&server.grpc_address()).await;
            assert_eq!(answer.code(), Code::Ok, "{path} {:?}", answer.status());
            assert_eq!(answer.headers.get("grpc-encoding"), None, "{path}");
            assert_eq!(answer.body[0], 0, "{path}");
            let is_in_clear = shows.is_empty()
                || answer
                    .body
                    .windows(shows.len())
                    .any(|part| part == shows.as_bytes());
            assert!(is_in_clear, "{path}");
        }
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_once_it_is_decompressed_is_refused() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    // Up to the bound it is the field's rule that refuses it.
    let envelope = storable(String::new()).encode_to_vec().len() + 4;
    let fits = storable("x".repeat(MIB - envelope)).encode_to_vec();
    assert_eq!(fits.len(), MIB);
    let answer = stored(&server, &tenant, "gzip", gzipped(&fits)).await;
    assert_eq!(answer.code(), Code::InvalidArgument, "{answer:?}");
    let bomb = gzipped(&vec![b'x'; 200 * MIB]);
    assert!(bomb.len() < MIB, "{}", bomb.len());
    let over = storable("x".repeat(MIB - envelope + 1)).encode_to_vec();
    for (what, body) in [
        ("one byte", gzipped(&over)),
        ("a bomb", bomb),
        ("compressed", framed(1, &vec![b'x'; MIB + 1])),
        ("in clear", framed(0, &over)),
    ] {
        let answer = stored(&server, &tenant, "gzip", body).await;
        let status = answer.status();
        let text = "The message is too large";
        let expected = (Code::ResourceExhausted, text);
        assert_eq!((status.code(), status.message()), expected, "{what}");
    }
    let refused =
        "grantex_vault_requests_total{outcome=\"bad_request\",transport=\"grpc\",verb=\"store\"}";
    assert_eq!(server.metric(refused).await, Some(5.0));
    assert_eq!(server.rows("credentials").await.len(), 0);
}

#[tokio::test]
async fn what_is_compressed_by_anything_but_gzip_is_unimplemented() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let health = "grpc.health.v1.Health/Check";
    let message = storable("secret".to_owned()).encode_to_vec();
    for encoding in ["zstd", "deflate", "snappy", "gzip, zstd", "GZIP", ""] {
        let of_health = RawCall::new(health, framed(1, b""));
        let of_health = of_health.with("grpc-encoding", encoding);
        for answer in [
            stored(&server, &tenant, encoding, framed(1, &message)).await,
            of_health.send(&server.grpc_address()).await,
        ] {
            assert_eq!(answer.code(), Code::Unimplemented, "{encoding}");
            let accepted = answer.headers.get("grpc-accept-encoding").unwrap();
            assert_eq!(accepted, "identity,gzip", "{encoding}");
        }
    }
    let answer = stored(&server, &tenant, "identity", framed(0, &message)).await;
    assert_eq!(answer.code(), Code::Ok, "{answer:?}");
}
