//! The short form: tokens of issuers before 0.6. Only these claims count, whatever else is there.

use super::{
    Claims, Form, GrantClaims,
    read::{Null, Reader, required},
};
use crate::{
    auth::rejection::Rejection,
    model::{
        json::Members,
        text::{AgentId, DeveloperId, GrantId, Issuer, PrincipalId, TokenId},
    },
};

pub(super) fn claims(members: &Members<'_>) -> Result<Claims, Rejection> {
    let reader = Reader {
        members,
        null: Null::IsAbsent,
    };
    let token = reader.required_text("jti", TokenId::parse)?;
    let grant = reader.text("grnt", GrantId::parse)?;
    let grant = GrantClaims {
        issuer: reader.required_text("iss", Issuer::parse)?,
        developer: reader.required_text("dev", DeveloperId::parse)?,
        principal: reader.required_text("sub", PrincipalId::parse)?,
        agent: reader.required_text("agt", AgentId::parse)?,
        client: None,
        scopes: required("scp", "an array of strings", reader.scope_list()?)?,
        grant: grant.unwrap_or_else(|| (&token).into()),
        token,
        parent_grant: reader.text("parentGrnt", GrantId::parse)?,
        delegation_depth: reader.depth("delegationDepth")?,
        delegation: reader
            .text("parentAgt", AgentId::parse)?
            .into_iter()
            .collect(),
    };
    reader.claims_of(Form::Short, grant)
}
