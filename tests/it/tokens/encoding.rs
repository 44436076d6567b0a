//! The compact form: three parts of canonical base64url and not too long. A token has one spelling.

use base64::{
    Engine, alphabet,
    engine::{
        DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::URL_SAFE_NO_PAD,
    },
};

use super::{Gate, extended};

/// The largest token that is looked at.
const MAX_BYTES: usize = 16 * 1024;

/// A spelling of a part that a lenient reader would take for the same.
type Spelling = fn(&str) -> String;

const SPELLINGS: [(&str, Spelling); 7] = [
    ("padding", |part| format!("{part}==")),
    ("half a padding", |part| format!("{part}=")),
    ("the other alphabet", |part| {
        part.replace('-', "+").replace('_', "/")
    }),
    ("loose last bits", loosened),
    ("a space", |part| spaced(part, " ")),
    ("an escaped character", |part| spaced(part, "%20")),
    ("less than a byte more", |part| format!("{part}AAA")),
];

fn spaced(part: &str, space: &str) -> String {
    let (one, two) = part.split_at(part.len() / 2);
    format!("{one}{space}{two}")
}

/// Sets a bit behind the last byte.
fn loosened(part: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (rest, last) = part.split_at(part.len() - 1);
    let value = ALPHABET.find(last).unwrap();
    assert_eq!(value % 16, 0, "its last character has four loose bits");
    let loose = format!("{rest}{}", &ALPHABET[value + 1..value + 2]);
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone);
    let lenient = GeneralPurpose::new(&alphabet::URL_SAFE, config);
    assert_eq!(lenient.decode(&loose), URL_SAFE_NO_PAD.decode(part));
    loose
}

/// An encoded part that differs in every spelling: it has characters of both alphabets and loose bits.
fn part(object: &serde_json::Value) -> String {
    let mut text = extended(object, "x", "\"???~~~>>>\"");
    while text.len() % 3 != 1 {
        text.push(' ');
    }
    let encoded = URL_SAFE_NO_PAD.encode(text);
    assert!(encoded.contains('_'));
    encoded
}

#[tokio::test]
async fn a_part_that_is_not_canonical_base64url_is_refused() {
    let gate = Gate::open().await;
    let key = gate.key();
    let (header, payload) = (part(&key.header()), part(&gate.claims()));
    let good = key.sign_parts(&header, &payload);
    gate.admits("canonical", &good).await;
    for (case, spell) in SPELLINGS {
        // Header and payload are signed as they are spelled.
        let token = key.sign_parts(&spell(&header), &payload);
        gate.refuses(&format!("{case} in the header"), &token).await;
        let token = key.sign_parts(&header, &spell(&payload));
        gate.refuses(&format!("{case} in the payload"), &token)
            .await;
        let (message, signature) = good.rsplit_once('.').unwrap();
        let token = format!("{message}.{}", spell(signature));
        // A signature can lack both characters in which the alphabets differ.
        if token != good {
            gate.refuses(&format!("{case} in the signature"), &token)
                .await;
        }
    }
}

#[tokio::test]
async fn a_token_has_three_parts() {
    let gate = Gate::open().await;
    let good = gate.token();
    let parts: Vec<&str> = good.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        panic!("three parts")
    };
    for token in [
        ".",
        "..",
        "...",
        "x",
        header,
        &format!("{header}.{payload}"),
        &format!("{payload}.{signature}"),
        &format!("{header}.{payload}."),
        &format!("{header}..{signature}"),
        &format!(".{payload}.{signature}"),
        &format!("{good}."),
        &format!(".{good}"),
        &format!("{good}.{signature}"),
        &format!("{header}.{good}"),
        &format!("{header}.{payload}..{signature}"),
        &format!("{header}.{payload}.{signature}.x.y"),
        &format!("{header},{payload},{signature}"),
        &format!("{good},{good}"),
        &format!("{good} {good}"),
        &format!("\"{good}\""),
    ] {
        gate.refuses(token, token).await;
    }
}

/// A good token of this many bytes, or of one less where no base64url has so many.
fn token_of_length(gate: &Gate, length: usize) -> String {
    let claims = gate.claims();
    let unpadded = gate.token_of(extended(&claims, "pad", "\"\"")).len();
    let pad = "x".repeat((length - unpadded) / 4 * 3);
    let mut payload = extended(&claims, "pad", &format!("\"{pad}\""));
    loop {
        let token = gate.token_of(&payload);
        payload.push(' ');
        if gate.token_of(&payload).len() > length {
            return token;
        }
    }
}

#[tokio::test]
async fn a_token_of_16_kib_is_taken_and_a_longer_one_is_refused() {
    let gate = Gate::open().await;
    let largest = token_of_length(&gate, MAX_BYTES);
    assert!((MAX_BYTES - 1..=MAX_BYTES).contains(&largest.len()));
    gate.admits("the largest", &largest).await;
    // Headers have 32 KiB in all.
    for longer in [MAX_BYTES + 2, MAX_BYTES * 3 / 2] {
        let token = token_of_length(&gate, longer);
        assert!(token.len() > MAX_BYTES);
        gate.refuses(&format!("{} bytes", token.len()), &token)
            .await;
    }
}
