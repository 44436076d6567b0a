//! Values of claims, each of its type and within its bounds.

use super::{Claims, Form, GrantClaims};
use crate::{
    auth::rejection::Rejection,
    model::{
        json::{Json, Members},
        scope::Scope,
        text::TextFault,
    },
};

/// The most scopes that a token may carry.
const MAX_SCOPES: usize = 256;
/// Seconds that are exact as a double (2⁵³): what every JSON reader agrees on.
const MAX_SECONDS: i64 = 1 << 53;

const A_TEXT: &str = "a string of 1 to 512 characters without control characters";
const AN_INTEGER: &str = "an integer within 2^53";

/// The claims of a token, and what `null` means in them.
pub(super) struct Reader<'a> {
    pub(super) members: &'a Members<'a>,
    pub(super) null: Null,
}

/// What a claim says that is `null`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Null {
    /// The same as when it is left out: the tolerance of the short form.
    IsAbsent,
    /// A value of a wrong type.
    IsMistyped,
}

impl Reader<'_> {
    /// What a token says beside its grant, in both forms by the same claims (RFC 7519, section 4.1).
    pub(super) fn claims_of(&self, form: Form, grant: GrantClaims) -> Result<Claims, Rejection> {
        Ok(Claims {
            form,
            audience: self.audience()?,
            issued_at: self.required_seconds("iat")?,
            expires_at: self.required_seconds("exp")?,
            not_before: self.seconds("nbf")?,
            key_bound: self.members.has("cnf"),
            grant,
        })
    }

    /// The claim, which must not stand twice.
    pub(super) fn value(&self, name: &'static str) -> Result<Option<Json>, Rejection> {
        let value = match self.null {
            Null::IsAbsent => self.members.get(name),
            Null::IsMistyped => self.members.value(name),
        };
        value.map_err(|fault| Rejection::claim(name, format_args!("JSON that is read: it {fault}")))
    }

    pub(super) fn text<T>(
        &self,
        name: &'static str,
        parse: fn(&str) -> Result<T, TextFault>,
    ) -> Result<Option<T>, Rejection> {
        text(name, self.value(name)?, parse)
    }

    pub(super) fn required_text<T>(
        &self,
        name: &'static str,
        parse: fn(&str) -> Result<T, TextFault>,
    ) -> Result<T, Rejection> {
        required(name, A_TEXT, self.text(name, parse)?)
    }

    fn seconds(&self, name: &'static str) -> Result<Option<i64>, Rejection> {
        integer(name, self.value(name)?)
    }

    fn required_seconds(&self, name: &'static str) -> Result<i64, Rejection> {
        required(name, AN_INTEGER, self.seconds(name)?)
    }

    pub(super) fn depth(&self, name: &'static str) -> Result<Option<i64>, Rejection> {
        depth(name, self.value(name)?)
    }

    /// A string, or an array of at least one (RFC 7519, section 4.1.3).
    fn audience(&self) -> Result<Option<Vec<String>>, Rejection> {
        let mistyped = || Rejection::claim("aud", "a string, or an array of strings");
        match self.value("aud")? {
            None => Ok(None),
            Some(Json::String(one)) => Ok(Some(vec![one])),
            Some(Json::Array(items)) if !items.is_empty() => {
                strings(items).map(Some).ok_or_else(mistyped)
            }
            Some(_) => Err(mistyped()),
        }
    }

    /// The claim `scp`.
    pub(super) fn scope_list(&self) -> Result<Option<Vec<Scope>>, Rejection> {
        let mistyped = || Rejection::claim("scp", "an array of strings");
        let Some(value) = self.value("scp")? else {
            return Ok(None);
        };
        let Json::Array(items) = value else {
            return Err(mistyped());
        };
        let entries = strings(items).ok_or_else(mistyped)?;
        scopes("scp", entries.iter().map(String::as_str)).map(Some)
    }

    /// The claim `scope`: split at single spaces (RFC 6749, section 3.3); an empty one is no scope.
    pub(super) fn scope_text(&self) -> Result<Option<Vec<Scope>>, Rejection> {
        match self.value("scope")? {
            None => Ok(None),
            Some(Json::String(text)) if text.is_empty() => Ok(Some(Vec::new())),
            Some(Json::String(text)) => scopes("scope", text.split(' ')).map(Some),
            Some(_) => Err(Rejection::claim("scope", "a string")),
        }
    }
}

/// The claim, which must be there.
pub(super) fn required<T>(
    name: &'static str,
    expected: &'static str,
    value: Option<T>,
) -> Result<T, Rejection> {
    value.ok_or_else(|| Rejection::claim(name, expected))
}

/// A text that its type takes.
pub(super) fn text<T>(
    name: &'static str,
    value: Option<Json>,
    parse: fn(&str) -> Result<T, TextFault>,
) -> Result<Option<T>, Rejection> {
    match value {
        None => Ok(None),
        Some(Json::String(text)) => parse(&text)
            .map(Some)
            .map_err(|_| Rejection::claim(name, A_TEXT)),
        Some(_) => Err(Rejection::claim(name, A_TEXT)),
    }
}

/// How often a grant was delegated.
pub(super) fn depth(name: &'static str, value: Option<Json>) -> Result<Option<i64>, Rejection> {
    let depth = integer(name, value)?;
    if depth.is_some_and(|depth| depth < 0) {
        return Err(Rejection::claim(name, "an integer from 0"));
    }
    Ok(depth)
}

/// An integer within ±2⁵³; `1e3` and `1.0` are not integers here.
fn integer(name: &'static str, value: Option<Json>) -> Result<Option<i64>, Rejection> {
    let mistyped = || Rejection::claim(name, AN_INTEGER);
    match value {
        None => Ok(None),
        Some(Json::Number(number)) => number
            .as_i64()
            .filter(|number| (-MAX_SECONDS..=MAX_SECONDS).contains(number))
            .map(Some)
            .ok_or_else(mistyped),
        Some(_) => Err(mistyped()),
    }
}

fn strings(items: Vec<Json>) -> Option<Vec<String>> {
    let string = |item| match item {
        Json::String(text) => Some(text),
        _ => None,
    };
    items.into_iter().map(string).collect()
}

fn scopes<'a>(
    name: &'static str,
    entries: impl Iterator<Item = &'a str>,
) -> Result<Vec<Scope>, Rejection> {
    let mut scopes = Vec::new();
    for entry in entries {
        if scopes.len() == MAX_SCOPES || entry.chars().count() > Scope::MAX_CHARS {
            let expected = "at most 256 scopes of at most 256 characters";
            return Err(Rejection::claim(name, expected));
        }
        scopes.push(Scope::new(entry));
    }
    Ok(scopes)
}
