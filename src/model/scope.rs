//! Scopes of a grant, which of them open a service's credential, and those that a credential asks for.

use std::str::FromStr;

use super::{
    service_name::ServiceKey,
    text::{self, TextFault},
};

/// Which forms of a scope permit an exchange.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ScopeMode {
    /// Those of the TypeScript vault, `*` and `<service>:read` among them.
    #[default]
    Compatible,
    /// Those that name credentials.
    Strict,
}

impl FromStr for ScopeMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "compatible" => Ok(Self::Compatible),
            "strict" => Ok(Self::Strict),
            _ => Err("must be compatible or strict"),
        }
    }
}

/// One entry of the claim `scp`, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope(Box<str>);

/// A scope that a credential asks of every grant, whatever its service; as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredScope(Box<str>);

impl Scope {
    /// The most Unicode scalar values that a token's may have.
    pub const MAX_CHARS: usize = 256;

    /// Any text; one that cannot match simply never does.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The scope as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this scope alone lets an agent exchange for the service, compared without ASCII case:
    /// `*`, `s:*`, `s:read`, `s:credentials:read`, `vault:s:*`, `vault:s:read`,
    /// `vault:credentials:exchange`; of these, in the strict mode, the last four.
    ///
    /// A service named `vault` or `credentials` makes no ambiguity that grants more: each form is
    /// matched as a whole.
    #[must_use]
    pub fn permits_exchange(&self, service: &ServiceKey, mode: ScopeMode) -> bool {
        let scope = self.0.to_ascii_lowercase();
        let compatible = mode == ScopeMode::Compatible;
        if scope == "vault:credentials:exchange" {
            return true;
        }
        if scope == "*" {
            return compatible;
        }
        let after_service = |text: &str| {
            text.strip_prefix(service.as_str())
                .and_then(|rest| rest.strip_prefix(':'))
                .map(str::to_owned)
        };
        let direct = after_service(&scope).is_some_and(|right| match right.as_str() {
            "credentials:read" => true,
            "*" | "read" => compatible,
            _ => false,
        });
        let through_vault = scope
            .strip_prefix("vault:")
            .and_then(after_service)
            .is_some_and(|right| ["*", "read"].contains(&right.as_str()));
        direct || through_vault
    }

    /// Whether this is the scope that is required, compared without ASCII case.
    ///
    /// To the letter: what permits an exchange by its meaning, `*` above all, stands for no other scope
    /// here. A credential that requires `*` is for grants that carry `*`.
    #[must_use]
    pub fn is(&self, required: &RequiredScope) -> bool {
        self.0.eq_ignore_ascii_case(&required.0)
    }
}

// === impl RequiredScope ===

impl RequiredScope {
    /// The most Unicode scalar values that it may have: as many as a scope of a token.
    pub const MAX_CHARS: usize = Scope::MAX_CHARS;

    /// Parses the text as it stands.
    ///
    /// # Errors
    ///
    /// When it is empty, too long, or holds a control character.
    pub fn parse(text: &str) -> Result<Self, TextFault> {
        text::check(text, Self::MAX_CHARS)?;
        Ok(Self(text.into()))
    }

    /// The scope as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both are met by the same scopes.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::service_name::ServiceName;

    fn permits(scope: &str, service: &str) -> bool {
        permits_in(scope, service, ScopeMode::Compatible)
    }

    fn permits_in(scope: &str, service: &str, mode: ScopeMode) -> bool {
        let service = ServiceName::parse(service).unwrap();
        Scope::new(scope).permits_exchange(service.key(), mode)
    }

    #[test]
    fn strictly_only_what_names_credentials_permits() {
        for (scope, permitted) in [
            ("*", false),
            ("github:*", false),
            ("github:read", false),
            ("github:credentials:read", true),
            ("vault:github:*", true),
            ("vault:github:read", true),
            ("vault:credentials:exchange", true),
        ] {
            for spelling in [scope.to_owned(), scope.to_uppercase()] {
                let strict = permits_in(&spelling, "GitHub", ScopeMode::Strict);
                assert_eq!(strict, permitted, "{spelling}");
            }
        }
    }

    #[test]
    fn the_seven_forms_permit_in_any_case() {
        for scope in [
            "*",
            "github:*",
            "github:read",
            "github:credentials:read",
            "vault:github:*",
            "vault:github:read",
            "vault:credentials:exchange",
        ] {
            assert!(permits(scope, "GitHub"), "{scope}");
            assert!(
                permits(&scope.to_uppercase(), "github"),
                "{scope} in upper case"
            );
        }
    }

    #[test]
    fn what_only_looks_alike_does_not_permit() {
        for scope in [
            "",
            "**",
            "github",
            "github:",
            "github:write",
            "github:read:all",
            "github:credentials:*",
            "vault:github",
            "vault:github:credentials:read",
            "vault:*",
            "vault:credentials:read",
            "slack:read",
            "git:*",
            "github2:read",
            " github:read",
            "github:read ",
            "G\u{130}THUB:read",
        ] {
            assert!(!permits(scope, "github"), "{scope:?}");
        }
    }

    fn is(scope: &str, required: &str) -> bool {
        Scope::new(scope).is(&RequiredScope::parse(required).unwrap())
    }

    #[test]
    fn a_required_scope_is_met_to_the_letter_but_for_its_case() {
        for (scope, required) in [("repo", "repo"), ("REPO:Read", "repo:rEAD"), ("*", "*")] {
            assert!(is(scope, required), "{scope} is {required}");
        }
        for (scope, required) in [
            ("*", "repo"),
            ("repo:*", "repo:read"),
            ("repo", "repo:read"),
            ("repo", "*"),
            ("repo ", "repo"),
            ("vault:credentials:exchange", "github:read"),
            ("\u{130}", "i\u{307}"),
            ("\u{e9}", "\u{c9}"),
            ("\u{212a}", "k"),
        ] {
            assert!(!is(scope, required), "{scope} is not {required}");
        }
    }

    proptest! {
        #[test]
        fn a_scope_of_one_service_never_opens_another(
            one in "[a-z0-9][a-z0-9._-]{0,20}", other in "[a-z0-9][a-z0-9._-]{0,20}"
        ) {
            prop_assume!(one != other && one != "vault");
            for form in ["S:*", "S:read", "S:credentials:read", "vault:S:*", "vault:S:read"] {
                for mode in [ScopeMode::Compatible, ScopeMode::Strict] {
                    prop_assert!(!permits_in(&form.replace('S', &one), &other, mode));
                }
            }
        }
    }
}
