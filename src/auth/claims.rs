//! The claims of a grant token whose signature has been verified.

use crate::model::{
    json::{Json, JsonFault, Members, check_depth},
    scope::Scope,
    text::{AgentId, DeveloperId, GrantId, PrincipalId, TextFault, TokenId},
};

/// The most scopes that a token may carry.
const MAX_SCOPES: usize = 256;
/// Seconds that are exact as a double (2⁵³): what every JSON reader agrees on.
const MAX_SECONDS: i64 = 1 << 53;

/// A claim is missing, stands twice, or is not of its type and size. The caller learns only that the
/// token is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadClaims;

/// All claims that are read, typed.
pub(super) struct Claims {
    pub(super) issuer: String,
    pub(super) audience: Option<Vec<String>>,
    pub(super) issued_at: i64,
    pub(super) expires_at: i64,
    pub(super) not_before: Option<i64>,
    pub(super) principal: PrincipalId,
    pub(super) agent: AgentId,
    pub(super) developer: DeveloperId,
    pub(super) scopes: Vec<Scope>,
    pub(super) token: TokenId,
    pub(super) grant: GrantId,
    pub(super) parent_agent: Option<AgentId>,
    pub(super) parent_grant: Option<GrantId>,
    pub(super) delegation_depth: Option<i64>,
}

impl Claims {
    pub(super) fn parse(payload: &[u8]) -> Result<Self, BadClaims> {
        let members = Members::split(payload)?;
        for (_, raw) in members.iter() {
            check_depth(raw)?;
        }
        let token = required(text(&members, "jti", TokenId::parse)?)?;
        Ok(Self {
            issuer: required(string(members.get("iss")?)?)?,
            audience: audience(members.get("aud")?)?,
            issued_at: required(seconds(&members, "iat")?)?,
            expires_at: required(seconds(&members, "exp")?)?,
            not_before: seconds(&members, "nbf")?,
            principal: required(text(&members, "sub", PrincipalId::parse)?)?,
            agent: required(text(&members, "agt", AgentId::parse)?)?,
            developer: required(text(&members, "dev", DeveloperId::parse)?)?,
            scopes: scopes(required(members.get("scp")?)?)?,
            grant: text(&members, "grnt", GrantId::parse)?.unwrap_or_else(|| (&token).into()),
            token,
            parent_agent: text(&members, "parentAgt", AgentId::parse)?,
            parent_grant: text(&members, "parentGrnt", GrantId::parse)?,
            delegation_depth: depth(seconds(&members, "delegationDepth")?)?,
        })
    }
}

fn required<T>(claim: Option<T>) -> Result<T, BadClaims> {
    claim.ok_or(BadClaims)
}

fn string(claim: Option<Json>) -> Result<Option<String>, BadClaims> {
    match claim {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(_) => Err(BadClaims),
    }
}

fn text<T>(
    members: &Members<'_>,
    name: &str,
    parse: impl Fn(&str) -> Result<T, TextFault>,
) -> Result<Option<T>, BadClaims> {
    let text = string(members.get(name)?)?;
    text.map(|text| parse(&text).map_err(|_| BadClaims))
        .transpose()
}

/// An integer within ±2⁵³; `1e3` and `1.0` are not integers here.
fn seconds(members: &Members<'_>, name: &str) -> Result<Option<i64>, BadClaims> {
    match members.get(name)? {
        None => Ok(None),
        Some(Json::Number(number)) => {
            let value = number.as_i64().ok_or(BadClaims)?;
            (-MAX_SECONDS..=MAX_SECONDS)
                .contains(&value)
                .then_some(Some(value))
                .ok_or(BadClaims)
        }
        Some(_) => Err(BadClaims),
    }
}

fn depth(claim: Option<i64>) -> Result<Option<i64>, BadClaims> {
    if claim.is_some_and(|depth| depth < 0) {
        Err(BadClaims)
    } else {
        Ok(claim)
    }
}

/// A string, or an array of at least one (RFC 7519, section 4.1.3).
fn audience(claim: Option<Json>) -> Result<Option<Vec<String>>, BadClaims> {
    match claim {
        None => Ok(None),
        Some(Json::String(one)) => Ok(Some(vec![one])),
        Some(Json::Array(items)) if !items.is_empty() => {
            let each = |item| string(Some(item)).and_then(required);
            items
                .into_iter()
                .map(each)
                .collect::<Result<_, _>>()
                .map(Some)
        }
        Some(_) => Err(BadClaims),
    }
}

fn scopes(claim: Json) -> Result<Vec<Scope>, BadClaims> {
    let Json::Array(items) = claim else {
        return Err(BadClaims);
    };
    if items.len() > MAX_SCOPES {
        return Err(BadClaims);
    }
    let scope = |item| match item {
        Json::String(text) if text.chars().count() <= Scope::MAX_CHARS => Ok(Scope::new(&text)),
        _ => Err(BadClaims),
    };
    items.into_iter().map(scope).collect()
}

impl From<JsonFault> for BadClaims {
    fn from(_: JsonFault) -> Self {
        Self
    }
}
