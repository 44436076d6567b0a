//! ES256: a point on P-256, and signatures of `r` and `s` in 32 bytes each.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{COOLDOWN, Gate};
use crate::harness::SigningKey;

/// The order of the curve's group, big-endian (SEC 2, section 2.4.2).
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

async fn gate_with(key: &SigningKey) -> Gate {
    let gate = Gate::open().await;
    gate.publish(key);
    gate
}

fn resigned(token: &str, signature: &[u8]) -> String {
    let (message, _) = token.rsplit_once('.').unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn signature(token: &str) -> Vec<u8> {
    let (_, signature) = token.rsplit_once('.').unwrap();
    URL_SAFE_NO_PAD.decode(signature).unwrap()
}

#[tokio::test]
async fn every_flipped_bit_and_every_other_length_of_a_signature_is_noticed() {
    let key = SigningKey::p256("elliptic");
    let gate = gate_with(&key).await;
    let good = key.sign(&gate.claims());
    gate.admits("as it should be", &good).await;
    let signature = signature(&good);
    assert_eq!(signature.len(), 64);
    for at in 0..signature.len() {
        let mut flipped = signature.clone();
        flipped[at] ^= 1 << (at % 8);
        gate.refuses(&format!("byte {at}"), &resigned(&good, &flipped))
            .await;
    }
    for other in [
        &signature[..63],
        &signature[1..],
        &[&[0], &signature[..]].concat(),
        &[&signature[..], &[0]].concat(),
        &[],
    ] {
        let case = format!("{} bytes", other.len());
        gate.refuses(&case, &resigned(&good, other)).await;
    }
}

#[tokio::test]
async fn numbers_out_of_range_are_no_signature() {
    let key = SigningKey::p256("elliptic");
    let gate = gate_with(&key).await;
    let good = key.sign(&gate.claims());
    let signature = signature(&good);
    let (r, s) = signature.split_at(32);
    let zero = [0; 32];
    for (case, r, s) in [
        ("r is zero", &zero[..], s),
        ("s is zero", r, &zero),
        ("both are zero", &zero, &zero),
        ("r is the order", &ORDER, s),
        ("s is the order", r, &ORDER),
        ("r is out of range", &[0xff; 32], s),
        ("s is out of range", r, &[0xff; 32]),
        ("exchanged", s, r),
    ] {
        gate.refuses(case, &resigned(&good, &[r, s].concat())).await;
    }
}

#[tokio::test]
async fn a_signature_in_der_is_refused() {
    let gate = Gate::open().await;
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    gate.publish_all(&[point("der", "P-256", "ES256", x, y)]);
    let message = message(&gate, "der", "ES256");
    let signed = pair.sign(&random, message.as_bytes()).unwrap();
    assert_eq!(signed.as_ref()[0], 0x30, "a sequence");
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signed.as_ref()));
    gate.refuses("DER", &token).await;
}

#[tokio::test]
async fn a_key_on_another_curve_is_not_used_whatever_it_claims() {
    let gate = Gate::open().await;
    let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let (x, y) = pair.public_key().as_ref()[1..].split_at(48);
    let keys = [
        point("true", "P-384", "ES384", x, y),
        point("alg", "P-384", "ES256", x, y),
        point("both", "P-256", "ES256", x, y),
        point("cut", "P-256", "ES256", &x[..32], &y[..32]),
        gate.key().jwk(),
    ];
    gate.publish_all(&keys);
    let random = SystemRandom::new();
    for kid in ["true", "alg", "both", "cut"] {
        for alg in ["ES256", "ES384"] {
            let message = message(&gate, kid, alg);
            let signed = pair.sign(&random, message.as_bytes()).unwrap();
            let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signed.as_ref()));
            gate.refuses(&format!("{kid} {alg}"), &token).await;
        }
    }
    gate.admits("the key beside them", &gate.token()).await;
}

#[tokio::test]
async fn the_algorithm_is_the_keys_and_a_header_that_says_another_is_refused() {
    let key = SigningKey::p256("elliptic");
    let gate = gate_with(&key).await;
    let claims = gate.claims().to_string();
    gate.admits("its own algorithm", &key.sign(&gate.claims()))
        .await;
    gate.server.clock.advance(COOLDOWN);
    let fetches = gate.server.issuer.fetches();
    for (signer, kid, alg) in [
        (&key, "elliptic", "RS256"),
        (&key, "key-0", "ES256"),
        (&key, "key-0", "RS256"),
        (&gate.key(), "key-0", "ES256"),
        (&gate.key(), "elliptic", "RS256"),
        (&gate.key(), "elliptic", "ES256"),
        (&key, "elliptic", "ES384"),
        (&key, "elliptic", "none"),
        (&key, "elliptic", "HS256"),
    ] {
        let header = json!({"alg": alg, "kid": kid}).to_string();
        let case = format!("{} says {alg} by {kid}", signer.algorithm());
        gate.refuses(&case, &signer.sign_raw(header, &claims)).await;
    }
    assert_eq!(
        gate.server.issuer.fetches(),
        fetches,
        "no token makes the vault ask"
    );
}

#[tokio::test]
async fn a_set_of_keys_of_every_kind_has_those_that_can_be_used() {
    let key = SigningKey::p256("elliptic");
    let gate = Gate::open().await;
    let weak: Value = serde_json::from_str(include_str!("weak_key.json")).unwrap();
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    gate.publish_all(&[
        json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "okp", "x": encode(&[7; 32])}),
        json!({"kty": "oct", "alg": "HS256", "use": "sig", "kid": "oct", "k": encode(&[7; 32])}),
        weak["jwk"].clone(),
        json!({"kty": "EC", "crv": "P-256", "kid": "broken", "x": encode(&[7; 32]), "y": encode(&[7; 32])}),
        key.jwk(),
        gate.key().jwk(),
    ]);
    gate.admits("ES256", &key.sign(&gate.claims())).await;
    gate.admits("RS256", &gate.token()).await;
    gate.refuses("1024 bits", weak["token"].as_str().unwrap())
        .await;
    for kid in ["okp", "oct", "broken"] {
        for signer in [&key, &gate.key()] {
            let token = signer.called(kid).sign(&gate.claims());
            gate.refuses(kid, &token).await;
        }
    }
    for (name, keys) in [
        ("grantex_vault_jwks_keys", 2.0),
        ("grantex_vault_jwks_keys_skipped", 4.0),
    ] {
        assert_eq!(gate.server.metric(name).await, Some(keys), "{name}");
    }
}

fn point(kid: &str, crv: &str, alg: &str, x: &[u8], y: &[u8]) -> Value {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    json!({"kty": "EC", "crv": crv, "alg": alg, "kid": kid, "x": encode(x), "y": encode(y)})
}

fn message(gate: &Gate, kid: &str, alg: &str) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = encode(&json!({"alg": alg, "kid": kid}));
    format!("{header}.{}", encode(&gate.claims()))
}
