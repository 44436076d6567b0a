//! Metadata as the TypeScript vault has it: an object, or a string that holds the text of one.

use serde_json::value::RawValue;

use super::outcome::MetadataProblem;
use crate::{
    model::{
        json::{Json, JsonFault},
        metadata::{Metadata, MetadataFault},
    },
    store::grantex_source::Bounded,
};

/// The object, and what is wrong when there is none: a credential is not given up for it.
pub(super) fn unwrapped(stored: &Bounded) -> (Metadata, Option<MetadataProblem>) {
    let read = match stored {
        Bounded::Null => Ok(Metadata::default()),
        Bounded::TooLong => Err(MetadataProblem::Rule(MetadataFault::TooLarge)),
        Bounded::Text(text) => read(text),
    };
    match read {
        Ok(metadata) => (metadata, None),
        Err(problem) => (Metadata::default(), Some(problem)),
    }
}

fn read(text: &str) -> Result<Metadata, MetadataProblem> {
    let value = match json(text)? {
        // Once: what that service wrote was a string, never a string in a string.
        Json::String(text) => json(&text)?,
        value => value,
    };
    match value {
        Json::Null => Ok(Metadata::default()),
        value => Metadata::new(&value).map_err(MetadataProblem::Rule),
    }
}

fn json(text: &str) -> Result<Json, MetadataProblem> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|_| MetadataProblem::NotJson)?;
    Json::parse_member(raw).map_err(|fault| match fault {
        JsonFault::TooDeep => MetadataProblem::Rule(MetadataFault::TooDeep),
        JsonFault::Malformed | JsonFault::DuplicateKey => MetadataProblem::NotJson,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> (String, Option<MetadataProblem>) {
        let (metadata, problem) = unwrapped(&Bounded::Text(text.to_owned()));
        (metadata.as_str().to_owned(), problem)
    }

    #[test]
    fn an_object_is_taken_and_a_string_that_holds_one_is_unwrapped() {
        for (stored, metadata) in [
            ("{}", "{}"),
            (
                r#"{"b": 1, "a": [true, null]}"#,
                r#"{"b":1,"a":[true,null]}"#,
            ),
            (r#""{\"org\":\"acme\"}""#, r#"{"org":"acme"}"#),
            (r#""{\"z\": 1, \"a\": \"ö\"}""#, r#"{"z":1,"a":"ö"}"#),
            ("null", "{}"),
            (r#""null""#, "{}"),
        ] {
            assert_eq!(of(stored), (metadata.to_owned(), None), "{stored}");
        }
        assert_eq!(unwrapped(&Bounded::Null).1, None);
    }

    #[test]
    fn anything_else_becomes_an_empty_object_and_is_said() {
        use MetadataProblem::{NotJson, Rule};
        let object = |levels: usize| {
            let arrays = levels - 1;
            format!(r#"{{"a":{}{}}}"#, "[".repeat(arrays), "]".repeat(arrays))
        };
        assert_eq!(of(&object(32)), (object(32), None));
        let deep_text = serde_json::to_string(&object(33)).unwrap();
        let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(Metadata::MAX_BYTES));
        for (stored, problem) in [
            ("[1]", Rule(MetadataFault::NotAnObject)),
            ("1", Rule(MetadataFault::NotAnObject)),
            ("true", Rule(MetadataFault::NotAnObject)),
            (r#""[]""#, Rule(MetadataFault::NotAnObject)),
            (r#""\"{}\"""#, Rule(MetadataFault::NotAnObject)),
            (r#""""#, NotJson),
            (r#""text""#, NotJson),
            (r#""{\"a\":1,\"a\":2}""#, NotJson),
            (r#""{\"a\":\"\\u0000\"}""#, Rule(MetadataFault::Nul)),
            (r#"{"a":1e999}"#, NotJson),
            (&object(33), Rule(MetadataFault::TooDeep)),
            (&object(100_000), Rule(MetadataFault::TooDeep)),
            (&deep_text, Rule(MetadataFault::TooDeep)),
            (&large, Rule(MetadataFault::TooLarge)),
        ] {
            assert_eq!(of(stored), ("{}".to_owned(), Some(problem)), "{stored:.80}");
        }
        let (_, problem) = unwrapped(&Bounded::TooLong);
        assert_eq!(problem, Some(Rule(MetadataFault::TooLarge)));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}") {
            let _ = of(&text);
            let _ = of(&serde_json::to_string(&text).unwrap());
        }
    }
}
