//! The claims of a grant token whose signature has been verified: one type for both forms of them.
//!
//! With `urn:grantex:grant` a token has the standard form, else the short form of issuers before 0.6.

mod read;
mod short;
mod standard;

use super::rejection::Rejection;
use crate::model::{
    grant_check::GrantCheck,
    json::{Members, check_depth},
    scope::Scope,
    text::{AgentId, ClientId, DeveloperId, GrantId, Issuer, PrincipalId, TokenId},
};

/// The claim that makes a token one of the standard form.
const GRANT: &str = "urn:grantex:grant";

/// All claims that are read, typed.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) form: Form,
    pub(super) audience: Option<Vec<String>>,
    pub(super) issued_at: i64,
    pub(super) expires_at: i64,
    pub(super) not_before: Option<i64>,
    /// Whether the token is bound to a key of the agent (`cnf`).
    pub(super) key_bound: bool,
    pub(super) grant: GrantClaims,
}

/// Which claims a token has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `urn:grantex:grant`, `scope`, `client_id`, `act`: since 0.6.
    Standard,
    /// `agt`, `dev`, `scp`, `grnt`.
    Short,
}

/// What a token grants, and to whom.
#[derive(Debug, Clone)]
pub(super) struct GrantClaims {
    pub(super) issuer: Issuer,
    pub(super) developer: DeveloperId,
    pub(super) principal: PrincipalId,
    pub(super) agent: AgentId,
    pub(super) client: Option<ClientId>,
    pub(super) scopes: Vec<Scope>,
    pub(super) token: TokenId,
    pub(super) grant: GrantId,
    pub(super) parent_grant: Option<GrantId>,
    pub(super) delegation_depth: Option<i64>,
    /// The agents that delegated, first to last, as far as the token names them.
    pub(super) delegation: Vec<AgentId>,
}

impl Claims {
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Rejection> {
        let malformed = |_| Rejection::claim("payload", "one JSON object, 64 levels deep at most");
        let members = Members::split(payload).map_err(malformed)?;
        for (_, raw) in members.iter() {
            check_depth(raw).map_err(malformed)?;
        }
        // A session of a principal has the same issuer and signs with the same keys.
        if members.has("purpose") {
            let expected = "absent: a session of a principal is no grant";
            return Err(Rejection::new(GrantCheck::Purpose, "purpose", expected));
        }
        if members.has(GRANT) {
            standard::claims(&members)
        } else {
            short::claims(&members)
        }
    }
}

impl GrantClaims {
    /// The agent that delegated last.
    pub(super) fn parent_agent(&self) -> Option<&AgentId> {
        self.delegation.last()
    }

    /// How deep the grant was delegated: what the token claims, or how many it names, if they are more.
    pub(super) fn depth(&self) -> i64 {
        let named = i64::try_from(self.delegation.len()).unwrap_or(i64::MAX);
        self.delegation_depth.unwrap_or_default().max(named)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};
    use serde_json::{Value, json};

    use super::*;

    fn parse(claims: &Value) -> Result<Claims, Rejection> {
        Claims::parse(claims.to_string().as_bytes())
    }

    fn registered(subject: &str) -> Value {
        json!({"iss": "https://issuer.test", "sub": subject, "jti": "token", "iat": 1, "exp": 2})
    }

    fn with(mut claims: Value, more: &Value) -> Value {
        let members = more.as_object().unwrap().clone();
        claims.as_object_mut().unwrap().extend(members);
        claims
    }

    fn short(agent: &str, scopes: &[String], grant: Option<&str>, parent: Option<&str>) -> Value {
        let mut claims = json!({"agt": agent, "dev": "acme", "scp": scopes});
        if let Some(grant) = grant {
            claims["grnt"] = grant.into();
        }
        if let Some(parent) = parent {
            claims["parentAgt"] = parent.into();
            claims["delegationDepth"] = 1.into();
        }
        claims
    }

    fn standard(
        agent: &str,
        scopes: &[String],
        grant: Option<&str>,
        parent: Option<&str>,
    ) -> Value {
        let mut named = json!({"agent_did": agent, "developer_id": "acme"});
        let mut claims = json!({"scope": scopes.join(" "), "client_id": "ag_1"});
        if let Some(grant) = grant {
            named["grant_id"] = grant.into();
        }
        if let Some(parent) = parent {
            claims["act"] = json!({"sub": parent});
            named["delegation_depth"] = 1.into();
        }
        claims[GRANT] = named;
        claims
    }

    #[test]
    fn delegators_are_named_first_to_last() {
        let act =
            json!({"sub": "third", "iss": 7, "act": {"sub": "second", "act": {"sub": "first"}}});
        let claims = with(registered("alice"), &standard("agent", &[], None, None));
        let claims = parse(&with(claims, &json!({"act": act}))).unwrap();
        let named: Vec<_> = claims
            .grant
            .delegation
            .iter()
            .map(AgentId::as_str)
            .collect();
        assert_eq!(named, ["first", "second", "third"]);
        assert_eq!(
            claims.grant.parent_agent().map(AgentId::as_str),
            Some("third")
        );
        assert_eq!(claims.grant.depth(), 3);
    }

    proptest! {
        #[test]
        fn both_forms_of_a_grant_say_the_same_and_may_stand_in_one_token(
            subject in "[a-z]{1,8}", agent in "[a-z:]{1,8}", scopes in vec("[a-z:*]{1,8}", 0..4),
            grant in option::of("[a-z]{1,8}"), parent in option::of("[a-z]{1,8}"),
        ) {
            let (grant, parent) = (grant.as_deref(), parent.as_deref());
            let short = short(&agent, &scopes, grant, parent);
            let standard = standard(&agent, &scopes, grant, parent);
            let read = |claims: &Value| {
                let claims = parse(&with(registered(&subject), claims)).unwrap();
                let mut grant = claims.grant;
                grant.client = None;
                (claims.form, format!("{grant:?}"))
            };
            let (of_short, of_standard) = (read(&short), read(&standard));
            prop_assert_eq!(of_short.0, Form::Short);
            prop_assert_eq!(of_standard.0, Form::Standard);
            prop_assert_eq!(of_short.1, &*of_standard.1);
            prop_assert_eq!(read(&with(standard, &short)), of_standard);
        }

        #[test]
        fn an_alias_that_says_something_else_is_refused(
            alias in prop_oneof![Just("agt"), Just("dev"), Just("grnt"), Just("parentAgt"), Just("parentGrnt")],
            other in "[a-z]{1,8}",
        ) {
            prop_assume!(!["agent", "acme", "token"].contains(&&*other));
            let claims = with(registered("alice"), &standard("agent", &[], None, None));
            let refused = parse(&with(claims, &json!({alias: other}))).unwrap_err();
            prop_assert_eq!(refused.check(), GrantCheck::Aliases);
            prop_assert_eq!(refused.member(), alias);
        }

        #[test]
        fn no_payload_makes_it_panic(text in "\\PC{0,80}", bytes in vec(any::<u8>(), 0..80)) {
            let _ = Claims::parse(text.as_bytes());
            let _ = Claims::parse(&bytes);
            let _ = parse(&json!({GRANT: text, "act": text, "scope": text}));
        }
    }
}
