//! The standard form (grant-token profile 0.6), and the aliases of the short form beside it: while an
//! issuer still writes them, they must say the same.

use super::{
    Claims, Form, GRANT, GrantClaims,
    read::{self, Null, Reader, required},
};
use crate::{
    auth::rejection::Rejection,
    model::{
        grant_check::GrantCheck,
        json::{Json, Members},
        text::{AgentId, ClientId, DeveloperId, GrantId, Issuer, PrincipalId, TextFault, TokenId},
    },
};

/// The most delegations that a token may name.
const MAX_ACTORS: usize = 10;

const A_TEXT: &str = "a string";

pub(super) fn claims(members: &Members<'_>) -> Result<Claims, Rejection> {
    let reader = Reader {
        members,
        null: Null::IsMistyped,
    };
    ignored(&reader)?;
    let named = GrantMember::of(&reader)?;
    let token = reader.required_text("jti", TokenId::parse)?;
    let agent = named.text("urn:grantex:grant.agent_did", AgentId::parse)?;
    let developer = named.text("urn:grantex:grant.developer_id", DeveloperId::parse)?;
    let grant = named.text("urn:grantex:grant.grant_id", GrantId::parse)?;
    let scopes = match reader.scope_text()? {
        Some(scopes) => Some(scopes),
        // A scope with white space in it has no place in `scope`.
        None => reader.scope_list()?,
    };
    let grant = GrantClaims {
        issuer: reader.required_text("iss", Issuer::parse)?,
        developer: required("urn:grantex:grant.developer_id", A_TEXT, developer)?,
        principal: reader.required_text("sub", PrincipalId::parse)?,
        agent: required("urn:grantex:grant.agent_did", A_TEXT, agent)?,
        client: reader.text("client_id", ClientId::parse)?,
        scopes: required("scope", A_TEXT, scopes)?,
        grant: grant.unwrap_or_else(|| (&token).into()),
        token,
        parent_grant: named.text("urn:grantex:grant.parent_grant_id", GrantId::parse)?,
        delegation_depth: named.depth("urn:grantex:grant.delegation_depth")?,
        delegation: actors(reader.value("act")?)?,
    };
    aliases_agree(&reader, &grant)?;
    reader.claims_of(Form::Standard, grant)
}

/// The claim that names the grant.
struct GrantMember(Vec<(String, Json)>);

impl GrantMember {
    fn of(reader: &Reader<'_>) -> Result<Self, Rejection> {
        match reader.value(GRANT)? {
            Some(Json::Object(members)) => Ok(Self(members)),
            _ => Err(Rejection::claim(GRANT, "an object")),
        }
    }

    /// The member that the last part of a path names.
    fn value(&self, path: &'static str) -> Option<Json> {
        let (_, name) = path.rsplit_once('.')?;
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone())
    }

    fn text<T>(
        &self,
        path: &'static str,
        parse: fn(&str) -> Result<T, TextFault>,
    ) -> Result<Option<T>, Rejection> {
        read::text(path, self.value(path), parse)
    }

    fn depth(&self, path: &'static str) -> Result<Option<i64>, Rejection> {
        read::depth(path, self.value(path))
    }
}

/// Claims of which only the type matters: what they say is for others.
fn ignored(reader: &Reader<'_>) -> Result<(), Rejection> {
    if !matches!(
        reader.value("authorization_details")?,
        None | Some(Json::Array(_))
    ) {
        return Err(Rejection::claim("authorization_details", "an array"));
    }
    match reader.value("bdg")? {
        Some(Json::Null) => Err(Rejection::claim("bdg", "absent, or a budget")),
        _ => Ok(()),
    }
}

/// The agents that delegated, first to last. In `act` (RFC 8693, section 4.1) the last is outermost.
fn actors(act: Option<Json>) -> Result<Vec<AgentId>, Rejection> {
    let mut actors = Vec::new();
    let mut outermost = act;
    while let Some(actor) = outermost {
        let Json::Object(members) = actor else {
            return Err(Rejection::claim("act", "an object with sub"));
        };
        if actors.len() == MAX_ACTORS {
            return Err(Rejection::claim("act", "at most 10 actors deep"));
        }
        let (mut sub, mut inner) = (None, None);
        for (name, value) in members {
            match name.as_str() {
                "sub" => sub = Some(value),
                "act" => inner = Some(value),
                _ => {}
            }
        }
        let sub = read::text("act.sub", sub, AgentId::parse)?;
        actors.push(required("act.sub", A_TEXT, sub)?);
        outermost = inner;
    }
    actors.reverse();
    Ok(actors)
}

/// An alias that is there says what the standard claim says, or what the token would say without it.
fn aliases_agree(reader: &Reader<'_>, grant: &GrantClaims) -> Result<(), Rejection> {
    let agrees = |alias, agrees| {
        let expected = "what the standard claim says";
        let disagrees = || Rejection::new(GrantCheck::Aliases, alias, expected);
        if agrees { Ok(()) } else { Err(disagrees()) }
    };
    let agent = reader.text("agt", AgentId::parse)?;
    agrees("agt", agent.is_none_or(|agent| agent == grant.agent))?;
    let developer = reader.text("dev", DeveloperId::parse)?;
    agrees(
        "dev",
        developer.is_none_or(|developer| developer == grant.developer),
    )?;
    let id = reader.text("grnt", GrantId::parse)?;
    agrees("grnt", id.is_none_or(|id| id == grant.grant))?;
    let scopes = reader.scope_list()?;
    agrees("scp", scopes.is_none_or(|scopes| scopes == grant.scopes))?;
    let parent = reader.text("parentAgt", AgentId::parse)?;
    agrees(
        "parentAgt",
        parent.is_none_or(|parent| Some(&parent) == grant.parent_agent()),
    )?;
    let parent = reader.text("parentGrnt", GrantId::parse)?;
    agrees(
        "parentGrnt",
        parent.is_none_or(|parent| Some(&parent) == grant.parent_grant.as_ref()),
    )?;
    let depth = reader.depth("delegationDepth")?;
    let claimed = grant.delegation_depth.unwrap_or_default();
    agrees(
        "delegationDepth",
        depth.is_none_or(|depth| depth == claimed),
    )
}
