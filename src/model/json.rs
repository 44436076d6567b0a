//! JSON as it is taken in: strict, bounded, in the order it was written.
//!
//! An object's members are split first and read one by one, so that every fault can name the member
//! it is in. Duplicate keys, lone surrogates, a byte-order mark, numbers that are no finite double
//! and nesting beyond [`MAX_DEPTH`] are refused.

use std::{cell::Cell, fmt};

use serde::{
    Serialize, Serializer,
    de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::{Number, value::RawValue};
use thiserror::Error;

/// Levels of nesting that are taken in; the outermost object is the first.
pub const MAX_DEPTH: usize = 64;

/// A JSON value whose objects keep their order.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number; finite as a double.
    Number(Number),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object; no key stands twice.
    Object(Vec<(String, Json)>),
}

/// What is wrong with a JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum JsonFault {
    /// Not JSON (RFC 8259), or not UTF-8, or with a lone surrogate or a number too large.
    #[error("is not valid JSON")]
    Malformed,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("is nested deeper than 64 levels")]
    TooDeep,
    /// A key stands twice in one object.
    #[error("has a duplicate key")]
    DuplicateKey,
}

/// The members of an object that was split but not read further.
#[derive(Debug)]
pub struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Splits an object.
    ///
    /// # Errors
    ///
    /// [`JsonFault::Malformed`] when the text is not one JSON object.
    pub fn split(text: &'a [u8]) -> Result<Self, JsonFault> {
        let mut json = serde_json::Deserializer::from_slice(text);
        let members = json
            .deserialize_map(MembersVisitor)
            .map_err(|_| JsonFault::Malformed)?;
        json.end().map_err(|_| JsonFault::Malformed)?;
        Ok(Self(members))
    }

    /// All members in their order, duplicates included.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, raw)| (name.as_str(), *raw))
    }

    /// Whether there is a member of this name, whatever its value.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.iter().any(|(key, _)| key == name)
    }

    /// The member of this name; `null` is absent.
    ///
    /// # Errors
    ///
    /// [`JsonFault::DuplicateKey`] when it stands twice, or what is wrong inside it.
    pub fn get(&self, name: &str) -> Result<Option<Json>, JsonFault> {
        let value = self.value(name)?;
        Ok(value.filter(|value| *value != Json::Null))
    }

    /// The member of this name; `null` is a value like others.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    pub fn value(&self, name: &str) -> Result<Option<Json>, JsonFault> {
        let mut found = self.iter().filter(|(key, _)| *key == name);
        let Some((_, raw)) = found.next() else {
            return Ok(None);
        };
        if found.next().is_some() {
            return Err(JsonFault::DuplicateKey);
        }
        Json::parse_member(raw).map(Some)
    }
}

// === impl Json ===

impl Json {
    /// Reads the value of a member of the outermost object.
    ///
    /// # Errors
    ///
    /// See [`JsonFault`].
    pub fn parse_member(raw: &RawValue) -> Result<Self, JsonFault> {
        check_depth(raw)?;
        let fault = Cell::new(JsonFault::Malformed);
        let mut json = serde_json::Deserializer::from_str(raw.get());
        ValueSeed(&fault)
            .deserialize(&mut json)
            .map_err(|_| fault.get())
    }

    /// The value as compact JSON text.
    #[must_use]
    pub fn to_compact(&self) -> String {
        serde_json::to_string(self).expect("strings are keys and numbers are finite")
    }

    /// Levels of nesting: 0 of a scalar, 1 of an object or array of scalars.
    #[must_use]
    pub fn depth(&self) -> usize {
        let deepest = match self {
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) => return 0,
            Self::Array(items) => items.iter().map(Self::depth).max(),
            Self::Object(members) => members.iter().map(|(_, value)| value.depth()).max(),
        };
        1 + deepest.unwrap_or_default()
    }

    /// Whether any string or key in it, at any depth, satisfies the predicate.
    pub fn any_text(&self, predicate: &impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Null | Self::Bool(_) | Self::Number(_) => false,
            Self::String(text) => predicate(text),
            Self::Array(items) => items.iter().any(|item| item.any_text(predicate)),
            Self::Object(members) => members
                .iter()
                .any(|(key, value)| predicate(key) || value.any_text(predicate)),
        }
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(items) => {
                let mut sequence = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    sequence.serialize_element(item)?;
                }
                sequence.end()
            }
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (key, value) in members {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

/// Splits an object into raw members without copying their text.
struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

/// Refuses a member of the outermost object that is nested too deep, without reading it.
///
/// # Errors
///
/// [`JsonFault::TooDeep`].
pub fn check_depth(raw: &RawValue) -> Result<(), JsonFault> {
    let (mut depth, mut in_string, mut escaped) = (1_usize, false, false);
    for byte in raw.get().bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(JsonFault::TooDeep);
        }
    }
    Ok(())
}

/// Reads a value; a duplicate key is noted in the cell, because serde's errors cannot carry it.
#[derive(Clone, Copy)]
struct ValueSeed<'f>(&'f Cell<JsonFault>);

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Json, E> {
        Number::from_f64(value)
            .map(Json::Number)
            .ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(Json::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members: Vec<(String, Json)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            members.push((key, map.next_value_seed(self)?));
        }
        if has_duplicates(members.iter().map(|(key, _)| key.as_str())) {
            self.0.set(JsonFault::DuplicateKey);
            return Err(A::Error::custom("duplicate key"));
        }
        Ok(Json::Object(members))
    }
}

/// Whether any key stands twice.
pub fn has_duplicates<'a>(keys: impl Iterator<Item = &'a str>) -> bool {
    let mut keys: Vec<&str> = keys.collect();
    keys.sort_unstable();
    keys.windows(2).any(|pair| pair.first() == pair.last())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(text: &str) -> Result<Option<Json>, JsonFault> {
        Members::split(text.as_bytes())?.get("a")
    }

    fn nested(levels: usize) -> String {
        // The outermost object is one level more.
        format!(
            "{{\"a\":{}{}}}",
            "[".repeat(levels - 1),
            "]".repeat(levels - 1)
        )
    }

    #[test]
    fn order_is_kept_and_numbers_stay_equal_as_doubles() {
        let text = r#"{"a":{"z":1,"b":[1.5,-0.0,1e3,18446744073709551615],"a":"\u00e9"}}"#;
        assert_eq!(
            member(text).unwrap().unwrap().to_compact(),
            r#"{"z":1,"b":[1.5,-0.0,1000.0,18446744073709551615],"a":"é"}"#
        );
    }

    #[test]
    fn sixty_four_levels_are_read_and_one_more_is_refused() {
        assert!(member(&nested(64)).is_ok());
        assert_eq!(member(&nested(65)), Err(JsonFault::TooDeep));
        assert_eq!(member(&nested(100_000)), Err(JsonFault::TooDeep));
    }

    #[test]
    fn duplicates_are_refused_at_any_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":{"x":1,"x":2}}"#,
            r#"{"a":[{"x":{"y":1,"\u0079":2}}]}"#,
        ] {
            assert_eq!(member(text), Err(JsonFault::DuplicateKey), "{text}");
        }
    }

    #[test]
    fn malformed_text_is_refused() {
        for text in [
            "",
            "[]",
            "null",
            "{",
            "{}x",
            "\u{feff}{}",
            r#"{"a":1e999}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\udc00\ud800"}"#,
            r#"{"a":01}"#,
            r#"{"a":NaN}"#,
            "{\"a\":\"\n\"}",
            "{'a':1}",
            r#"{"a":1,}"#,
        ] {
            assert_eq!(member(text), Err(JsonFault::Malformed), "{text}");
        }
        assert!(
            Members::split(b"{\"a\":\"\xff\"}")
                .and_then(|members| members.get("a"))
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(members) = Members::split(&bytes) {
                let _ = members.get("a");
            }
        }

        #[test]
        fn doubles_survive(value in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL) {
            let text = format!("{{\"a\":{value:e}}}");
            let read = member(&text).unwrap().unwrap().to_compact();
            prop_assert_eq!(read.parse::<f64>().unwrap().to_bits(), value.to_bits());
        }
    }
}
