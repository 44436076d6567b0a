//! Header and payload as JSON: one object each, UTF-8, not too deep.

use super::{Gate, extended};

/// Texts that are not one JSON object, made of one that is.
fn spoiled(object: &str) -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: String| text.into_bytes();
    let inner = &object[1..object.len() - 1];
    vec![
        ("nothing", Vec::new()),
        ("null", text("null".to_owned())),
        ("a string", text(format!("{object:?}"))),
        ("an array", text(format!("[{object}]"))),
        ("a byte-order mark", text(format!("\u{feff}{object}"))),
        ("something behind it", text(format!("{object}x"))),
        ("a NUL behind it", text(format!("{object}\0"))),
        ("two objects", text(format!("{object}{object}"))),
        ("a trailing comma", text(format!("{{{inner},}}"))),
        ("a comment", text(format!("/**/{object}"))),
        ("its end missing", text(format!("{{{inner}"))),
        (
            "a raw control character",
            text(format!("{{{inner},\"x\":\"\n\"}}")),
        ),
        ("no number", text(format!("{{{inner},\"x\":01}}"))),
        ("NaN", text(format!("{{{inner},\"x\":NaN}}"))),
        (
            "UTF-16",
            object.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        ),
        (
            "bad UTF-8",
            [b"{\"x\":\"\xff\",", inner.as_bytes(), b"}"].concat(),
        ),
        (
            "bad UTF-8 in a name",
            [b"{\"\xc3\":1,", inner.as_bytes(), b"}"].concat(),
        ),
        (
            "an overlong slash",
            [b"{\"x\":\"\xc0\xaf\",", inner.as_bytes(), b"}"].concat(),
        ),
        (
            "an encoded surrogate",
            [b"{\"x\":\"\xed\xa0\x80\",", inner.as_bytes(), b"}"].concat(),
        ),
    ]
}

#[tokio::test]
async fn a_header_that_is_not_one_json_object_is_refused() {
    let gate = Gate::open().await;
    for (case, header) in spoiled(&gate.key().header().to_string()) {
        gate.refuses(case, &gate.token_under(header)).await;
    }
}

#[tokio::test]
async fn a_payload_that_is_not_one_json_object_is_refused() {
    let gate = Gate::open().await;
    for (case, payload) in spoiled(&gate.claims().to_string()) {
        gate.refuses(case, &gate.token_of(payload)).await;
    }
}

#[tokio::test]
async fn white_space_around_and_within_the_objects_is_no_matter() {
    let gate = Gate::open().await;
    let key = gate.key();
    let header = format!(" \r\n{:#}\t", key.header());
    let payload = format!("\n{:#}\n\n", gate.claims());
    gate.admits("pretty", &key.sign_raw(header, payload)).await;
}

/// A value so deep that with the object around it there are this many levels.
fn nested(levels: usize) -> [String; 2] {
    let inner = levels - 1;
    [
        format!("{}{}", "[".repeat(inner), "]".repeat(inner)),
        format!("{}1{}", r#"{"a":"#.repeat(inner), "}".repeat(inner)),
    ]
}

#[tokio::test]
async fn sixty_four_levels_are_taken_and_one_more_is_refused() {
    let gate = Gate::open().await;
    let (header, claims) = (gate.key().header(), gate.claims());
    for deep in nested(64) {
        gate.admits(
            "header of 64",
            &gate.token_under(extended(&header, "x", &deep)),
        )
        .await;
        gate.admits(
            "payload of 64",
            &gate.token_of(extended(&claims, "x", &deep)),
        )
        .await;
    }
    for levels in [65, 1500] {
        for deep in nested(levels) {
            let token = gate.token_under(extended(&header, "x", &deep));
            gate.refuses(&format!("header of {levels}"), &token).await;
            let token = gate.token_of(extended(&claims, "x", &deep));
            gate.refuses(&format!("payload of {levels}"), &token).await;
        }
    }
}
