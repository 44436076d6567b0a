//! The signature: RSASSA-PKCS1-v1_5 with SHA-256 by the issuer's key, bit for bit.

use std::time::Duration;

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    hmac,
    rand::SystemRandom,
    signature::{
        KeyPair, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RSA_PKCS1_SHA384,
        RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding, RsaPublicKeyComponents,
    },
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use super::Gate;
use crate::harness::SigningKey;

/// Header and payload, encoded.
fn message(gate: &Gate, alg: &str) -> String {
    let header = json!({"alg": alg, "typ": "JWT", "kid": "key-0"});
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(&header), encode(&gate.claims()))
}

fn token(message: &str, signature: &[u8]) -> String {
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn rsa_signature(key: &SigningKey, encoding: &'static dyn RsaEncoding, message: &str) -> Vec<u8> {
    let mut signature = vec![0; key.pair().public_modulus_len()];
    let signed = key.pair().sign(
        encoding,
        &SystemRandom::new(),
        message.as_bytes(),
        &mut signature,
    );
    signed.unwrap();
    signature
}

fn public_pem(key: &SigningKey) -> String {
    let der: PublicKeyX509Der<'_> = key.pair().public_key().as_der().unwrap();
    let base64 = STANDARD.encode(der.as_ref());
    let lines: Vec<&str> = base64
        .as_bytes()
        .chunks(64)
        .map(|line| str::from_utf8(line).unwrap())
        .collect();
    let body = lines.join("\n");
    format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
}

#[tokio::test]
async fn an_unsigned_token_is_refused() {
    let gate = Gate::open().await;
    for alg in ["none", "None", "NONE", "", "RS256"] {
        let unsigned = token(&message(&gate, alg), b"");
        gate.refuses(&format!("unsigned {alg:?}"), &unsigned).await;
    }
}

#[tokio::test]
async fn the_public_key_is_no_secret_to_sign_with() {
    let gate = Gate::open().await;
    let key = gate.key();
    let modulus = key.jwk()["n"].as_str().unwrap().to_owned();
    let pem = public_pem(&key);
    let der: PublicKeyX509Der<'_> = key.pair().public_key().as_der().unwrap();
    for (what, secret) in [
        ("PEM", pem.as_bytes()),
        ("PEM without its last newline", pem.trim_end().as_bytes()),
        ("DER", der.as_ref()),
        ("modulus", &URL_SAFE_NO_PAD.decode(&modulus).unwrap()),
        ("modulus as base64url", modulus.as_bytes()),
        ("nothing", b""),
    ] {
        for alg in ["HS256", "RS256"] {
            let message = message(&gate, alg);
            let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
            let tag = hmac::sign(&secret, message.as_bytes());
            let forged = token(&message, tag.as_ref());
            gate.refuses(&format!("{alg} with the {what}"), &forged)
                .await;
        }
    }
}

#[tokio::test]
async fn other_rsa_signatures_of_the_same_key_are_refused() {
    let gate = Gate::open().await;
    let key = gate.key();
    let encodings: [(&str, &'static dyn RsaEncoding); 3] = [
        ("RS384", &RSA_PKCS1_SHA384),
        ("RS512", &RSA_PKCS1_SHA512),
        ("PS256", &RSA_PSS_SHA256),
    ];
    for (alg, encoding) in encodings {
        for claimed in [alg, "RS256"] {
            let message = message(&gate, claimed);
            let signed = token(&message, &rsa_signature(&key, encoding, &message));
            gate.refuses(&format!("{alg} that says {claimed}"), &signed)
                .await;
        }
    }
}

#[tokio::test]
async fn a_signature_of_another_key_or_of_another_message_is_refused() {
    let gate = Gate::open().await;
    let other = SigningKey::number(1).called("key-0");
    gate.refuses("another key", &other.sign(&gate.claims()))
        .await;
    let (one, two) = (gate.token(), gate.token());
    let (message, _) = one.rsplit_once('.').unwrap();
    let (_, signature) = two.rsplit_once('.').unwrap();
    gate.refuses("another message", &format!("{message}.{signature}"))
        .await;
}

#[tokio::test]
async fn every_flipped_bit_and_every_other_length_of_a_signature_is_noticed() {
    let gate = Gate::open().await;
    let good = gate.token();
    let (message, signature) = good.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    for at in 0..signature.len() {
        let mut flipped = signature.clone();
        flipped[at] ^= 1 << (at % 8);
        gate.refuses(&format!("byte {at}"), &token(message, &flipped))
            .await;
    }
    let length = signature.len();
    for other in [
        &signature[..length - 1],
        &signature[1..],
        &[&[0], &*signature].concat(),
        &[&*signature, &[0]].concat(),
        &signature.repeat(2),
        &vec![0; length],
        &vec![0xff; length],
    ] {
        gate.refuses(&format!("{} bytes", other.len()), &token(message, other))
            .await;
    }
}

/// An RSA key of 1024 bits, and a token by it whose claims never expire. It was made once with
/// OpenSSL: no library of ours makes or signs with such a key.
const WEAK: &str = include_str!("weak_key.json");

#[tokio::test]
async fn a_key_of_1024_bits_is_not_used_although_it_is_published() {
    let gate = Gate::open().await;
    let weak: Value = serde_json::from_str(WEAK).unwrap();
    let token = weak["token"].as_str().unwrap();
    assert!(is_signed_by(&weak["jwk"], token), "the token is genuine");
    let document = json!({"keys": [weak["jwk"], gate.key().jwk()]});
    gate.server.issuer.set_document(Some(&document.to_string()));
    gate.server.clock.advance(Duration::from_secs(10));
    gate.refuses("a key of 1024 bits", token).await;
    assert_eq!(gate.server.issuer.fetches(), 2, "the key set was read");
    gate.admits("the key beside it", &gate.token()).await;
}

fn is_signed_by(jwk: &Value, token: &str) -> bool {
    let number = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let key = RsaPublicKeyComponents {
        n: number("n"),
        e: number("e"),
    };
    let lenient = &RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY;
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    key.verify(lenient, message.as_bytes(), &signature).is_ok()
}
