//! How deep metadata may be: as deep as every client of both transports can send and read.

use grantex_vault::{grpc::pb, model::metadata::Metadata};
use prost::Message;
use serde_json::{Value, json};
use tonic::Code;

use crate::harness::{Server, Via, store_request};

const PATH: &str = "/v1/vault/credentials";
const TOO_DEEP: &str = "metadata must be nested at most 32 levels deep";

/// What nests.
const SHAPES: [fn(Value) -> Value; 2] = [|inner| json!({"a": inner}), |inner| json!([inner])];

/// Metadata of so many levels around a scalar; those within are of one shape.
fn nested(shape: fn(Value) -> Value, levels: usize) -> Value {
    let inner = (1..levels).fold(json!("deepest"), |inner, _| shape(inner));
    json!({"metadata": inner, "beside": [true, {"b": null}]})
}

fn fields(principal: &str, metadata: &Value) -> Value {
    json!({
        "principalId": principal, "service": "github", "accessToken": "secret", "metadata": metadata,
    })
}

#[tokio::test]
async fn thirty_two_levels_go_in_and_out_over_both_transports() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    for into in Via::BOTH {
        for (number, shape) in SHAPES.into_iter().enumerate() {
            let principal = format!("user-{into:?}-{number}");
            let metadata = nested(shape, 32);
            let developer = server.client(into, &tenant.key);
            let stored = developer.store(fields(&principal, &metadata)).await;
            let id = stored.unwrap()["id"].as_str().unwrap().to_owned();
            for out in Via::BOTH {
                let developer = server.client(out, &tenant.key);
                assert_eq!(developer.get(&id).await.unwrap()["metadata"], metadata);
                let of_principal = json!({"principalId": principal});
                let listed = developer.list_where(of_principal).await.unwrap();
                assert_eq!(listed["credentials"][0]["metadata"], metadata);
                // Once with the row read from the database, once with the one that is kept.
                for _ in 0..2 {
                    let agent = server.agent(out, &tenant, &principal);
                    let exchanged = agent.exchange("github").await.unwrap();
                    assert_eq!(exchanged["metadata"], metadata);
                }
            }
        }
    }
}

#[tokio::test]
async fn one_level_more_is_refused_over_both_transports_and_stores_nothing() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        // Lists take fewer messages of protobuf than structs do: more of them come as far as our rule.
        for (shape, levels) in [(SHAPES[0], 33), (SHAPES[1], 33), (SHAPES[1], 48)] {
            let deep = fields("user", &nested(shape, levels));
            let refused = developer.store(deep).await.unwrap_err();
            assert_eq!(refused.says(), (400, "BAD_REQUEST", TOO_DEEP), "{levels}");
            let field = (via == Via::Grpc).then_some("metadata");
            assert_eq!(refused.field.as_deref(), field);
        }
    }
    // REST says so of any depth, beyond what is taken in of any body too.
    let developer = server.client(Via::Rest, &tenant.key);
    for levels in [34, 62, 63, 64, 100, 100_000] {
        let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
        let body = format!(
            r#"{{"principalId":"u","service":"s","accessToken":"t","metadata":{{"a":{open}{close}}}}}"#
        );
        let refused = developer.post_raw(PATH, body).await.unwrap_err();
        assert_eq!(refused.says(), (400, "BAD_REQUEST", TOO_DEEP), "{levels}");
    }
    assert!(server.rows("credentials").await.is_empty());
    assert!(server.audit_events().await.is_empty());
    assert_eq!(server.kms.generated(), 0);
}

/// How many levels a decoder of protobuf reads of what this encodes.
fn readable(shape: fn(Value) -> Value, reads: fn(pb::StoreCredentialRequest) -> bool) -> usize {
    let read = |levels: &usize| reads(store_request(&fields("user", &nested(shape, *levels))));
    (1..100).take_while(read).count()
}

#[test]
fn the_bound_leaves_room_below_what_a_decoder_of_protobuf_reads() {
    let in_a_request = |request: pb::StoreCredentialRequest| {
        pb::StoreCredentialRequest::decode(request.encode_to_vec().as_slice()).is_ok()
    };
    let in_a_list = |request: pb::StoreCredentialRequest| {
        let credential = pb::Credential {
            metadata: request.metadata,
            ..Default::default()
        };
        let page = pb::ListCredentialsResponse {
            credentials: vec![credential],
            ..Default::default()
        };
        pb::ListCredentialsResponse::decode(page.encode_to_vec().as_slice()).is_ok()
    };
    let [structs, lists] = SHAPES;
    assert_eq!(readable(structs, in_a_request), 33);
    assert_eq!(readable(structs, in_a_list), 33);
    assert_eq!(readable(lists, in_a_request), 49);
    assert_eq!(readable(lists, in_a_list), 49);
    assert_eq!(Metadata::MAX_DEPTH, 32);
}

#[tokio::test]
async fn what_no_decoder_of_protobuf_reads_cannot_be_read() {
    let server = Server::start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Grpc, &tenant.key);
    for (shape, levels) in [(SHAPES[0], 34), (SHAPES[1], 50)] {
        let request = store_request(&fields("user", &nested(shape, levels)));
        let request = developer.request(request);
        let refused = developer
            .grpc()
            .store_credential(request)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::Internal, "{refused:?}");
        assert_eq!(refused.message(), "The message cannot be read");
    }
    assert!(server.rows("credentials").await.is_empty());
}
