//! What an exchange of one credential needs beside a scope for its service.

use super::{
    invalid::InvalidInput,
    scope::RequiredScope,
    text::{AgentId, TextFault},
};

/// The most entries that a list of a credential may have.
pub const MAX_ENTRIES: usize = 64;

/// Who may exchange a credential. The default restricts nothing.
///
/// The lists keep the order they were given in, without what stands twice: they are sealed with the
/// credential, and must come out of the database as they went in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restrictions {
    required_scopes: Vec<RequiredScope>,
    allowed_agents: Vec<AgentId>,
}

impl Restrictions {
    /// Parses both lists as they stand in a request; an empty one restricts nothing.
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    pub fn parse<T: AsRef<str>>(
        required_scopes: &[T],
        allowed_agents: &[T],
    ) -> Result<Self, InvalidInput> {
        let mut parsed = Self {
            required_scopes: entries("requiredScopes", required_scopes, RequiredScope::parse)?,
            allowed_agents: entries("allowedAgents", allowed_agents, AgentId::parse)?,
        };
        keep_first(&mut parsed.required_scopes, RequiredScope::is_same_as);
        keep_first(&mut parsed.allowed_agents, AgentId::eq);
        Ok(parsed)
    }

    /// Reads the columns; `None` when they hold what [`Self::parse`] never makes.
    #[must_use]
    pub fn from_stored(
        required_scopes: Option<&[&str]>,
        allowed_agents: Option<&[&str]>,
    ) -> Option<Self> {
        // What restricts nothing is null: a credential has one form, in the table as in the envelope.
        let is_empty = |list: Option<&[&str]>| list.is_some_and(<[_]>::is_empty);
        if is_empty(required_scopes) || is_empty(allowed_agents) {
            return None;
        }
        let (scopes, agents) = (
            required_scopes.unwrap_or_default(),
            allowed_agents.unwrap_or_default(),
        );
        let parsed = Self::parse(scopes, agents).ok()?;
        let lengths = [parsed.required_scopes.len(), parsed.allowed_agents.len()];
        (lengths == [scopes.len(), agents.len()]).then_some(parsed)
    }

    /// Each of these must be among the token's scopes; any token will do when there is none.
    #[must_use]
    pub fn required_scopes(&self) -> &[RequiredScope] {
        &self.required_scopes
    }

    /// The token's agent must be one of these; any agent will do when there is none.
    #[must_use]
    pub fn allowed_agents(&self) -> &[AgentId] {
        &self.allowed_agents
    }

    /// Whether a scope for the service is all that an exchange needs.
    #[must_use]
    pub fn restricts_nothing(&self) -> bool {
        self.required_scopes.is_empty() && self.allowed_agents.is_empty()
    }
}

fn entries<T>(
    field: &'static str,
    texts: &[impl AsRef<str>],
    parse: impl Fn(&str) -> Result<T, TextFault>,
) -> Result<Vec<T>, InvalidInput> {
    if texts.len() > MAX_ENTRIES {
        let rule = format_args!("must have at most {MAX_ENTRIES} entries");
        return Err(InvalidInput::breaks(field, rule));
    }
    let entry = |text: &str| {
        parse(text).map_err(|fault| InvalidInput::breaks(field, format_args!("entries {fault}")))
    };
    texts.iter().map(|text| entry(text.as_ref())).collect()
}

/// Takes out what stands for the same as an entry before it; both lists are short.
fn keep_first<T>(entries: &mut Vec<T>, same: impl Fn(&T, &T) -> bool) {
    let mut kept = Vec::with_capacity(entries.len());
    for entry in entries.drain(..) {
        if !kept.iter().any(|earlier| same(earlier, &entry)) {
            kept.push(entry);
        }
    }
    *entries = kept;
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn message(scopes: &[String], agents: &[String]) -> String {
        Restrictions::parse(scopes, agents).unwrap_err().message
    }

    #[test]
    fn every_broken_rule_names_the_field() {
        let many: Vec<_> = (0..65).map(|number| format!("{number}")).collect();
        for (field, longest) in [("requiredScopes", 256), ("allowedAgents", 512)] {
            for (list, rule) in [
                (many.clone(), "must have at most 64 entries".to_owned()),
                (owned(&["a", ""]), "entries must not be empty".to_owned()),
                (
                    owned(&["a", "b\n"]),
                    "entries must not contain control characters".to_owned(),
                ),
                (
                    vec!["é".repeat(longest + 1)],
                    format!("entries must be at most {longest} characters"),
                ),
            ] {
                let found = match field {
                    "requiredScopes" => message(&list, &[]),
                    _ => message(&[], &list),
                };
                assert_eq!(found, format!("{field} {rule}"));
            }
        }
        assert!(Restrictions::parse(&many[1..], &many[1..]).is_ok());
    }

    #[test]
    fn what_stands_for_the_same_is_kept_once() {
        let scopes = owned(&["repo", "Admin", "REPO", "admin", "repo "]);
        let agents = owned(&["did:b", "did:a", "did:B", "did:b"]);
        let parsed = Restrictions::parse(&scopes, &agents).unwrap();
        let scopes = parsed.required_scopes().iter().map(RequiredScope::as_str);
        assert_eq!(scopes.collect::<Vec<_>>(), ["repo", "Admin", "repo "]);
        let agents = parsed.allowed_agents().iter().map(AgentId::as_str);
        assert_eq!(agents.collect::<Vec<_>>(), ["did:b", "did:a", "did:B"]);
    }

    #[test]
    fn columns_that_the_vault_never_writes_are_noticed() {
        let long = ["a"; 65];
        for bad in [
            &[][..],
            &[""],
            &["a", "a"],
            &["a\u{0}"],
            &long,
            &[&"x".repeat(513)],
        ] {
            assert_eq!(Restrictions::from_stored(Some(bad), None), None, "{bad:?}");
            assert_eq!(Restrictions::from_stored(None, Some(bad)), None, "{bad:?}");
        }
        let none = Restrictions::from_stored(None, None);
        assert!(none.is_some_and(|none| none.restricts_nothing()));
    }

    proptest! {
        #[test]
        fn what_is_parsed_is_read_again_as_it_is(
            scopes in vec("[a-cA-C:*]{1,3}", 0..10), agents in vec("[a-cA-C:]{1,3}", 0..10),
        ) {
            let parsed = Restrictions::parse(&scopes, &agents).unwrap();
            let scopes: Vec<_> = parsed.required_scopes().iter().map(RequiredScope::as_str).collect();
            let agents: Vec<_> = parsed.allowed_agents().iter().map(AgentId::as_str).collect();
            let column = |list: &'_ [&'_ str]| !list.is_empty();
            let read = Restrictions::from_stored(
                column(&scopes).then_some(&scopes[..]), column(&agents).then_some(&agents[..]),
            );
            prop_assert_eq!(read, Some(parsed));
        }
    }
}
