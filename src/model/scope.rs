//! Scopes of a grant, which of them open a service's credential, and those that a credential asks for.

use std::str::FromStr;

use super::{
    service_name::ServiceKey,
    text::{self, TextFault},
};

/// Which forms of a scope permit an exchange.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ScopeMode {
    /// `vault:<service>:exchange` only: what issuers write today.
    #[default]
    Exact,
    /// Also the wider forms that the documents of spring 2026 name, `*` and `<service>:read` among them.
    Compatible,
}

impl FromStr for ScopeMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "exact" => Ok(Self::Exact),
            "compatible" => Ok(Self::Compatible),
            _ => Err("must be exact or compatible"),
        }
    }
}

/// One entry of the claim `scope` or `scp`, as it was written.
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

    /// Whether this scope alone lets an agent exchange for the service, compared without ASCII case.
    ///
    /// In the exact mode that is `vault:s:exchange` for the service `s` and nothing else. The compatible
    /// mode also takes `*`, `s:*`, `s:read`, `s:credentials:read`, `vault:s:*`, `vault:s:read` and
    /// `vault:credentials:exchange`.
    ///
    /// Each form is matched as a whole, so a service named `vault` or `credentials` makes no ambiguity
    /// that grants more.
    #[must_use]
    pub fn permits_exchange(&self, service: &ServiceKey, mode: ScopeMode) -> bool {
        let exact = after(&self.0, "vault")
            .and_then(|rest| after(rest, service.as_str()))
            .is_some_and(|right| right.eq_ignore_ascii_case("exchange"));
        exact || mode == ScopeMode::Compatible && self.permits_in_a_wider_form(service)
    }

    /// The forms of spring 2026. Releasing a credential is more than reading from its service, which is
    /// why issuers do not write them any more.
    fn permits_in_a_wider_form(&self, service: &ServiceKey) -> bool {
        let scope = self.0.to_ascii_lowercase();
        let direct = after(&scope, service.as_str());
        let through_vault = after(&scope, "vault").and_then(|rest| after(rest, service.as_str()));
        matches!(&*scope, "*" | "vault:credentials:exchange")
            || matches!(direct, Some("*" | "read" | "credentials:read"))
            || matches!(through_vault, Some("*" | "read"))
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

/// What stands behind `<part>:`, if the scope begins with that; compared without ASCII case.
fn after<'a>(scope: &'a str, part: &str) -> Option<&'a str> {
    let (begins_with, rest) = scope.split_at_checked(part.len())?;
    let rest = rest.strip_prefix(':')?;
    begins_with.eq_ignore_ascii_case(part).then_some(rest)
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

    const WIDER_FORMS: [&str; 7] = [
        "*",
        "github:*",
        "github:read",
        "github:credentials:read",
        "vault:github:*",
        "vault:github:read",
        "vault:credentials:exchange",
    ];
    const MODES: [ScopeMode; 2] = [ScopeMode::Exact, ScopeMode::Compatible];

    fn permits(scope: &str, service: &str, mode: ScopeMode) -> bool {
        let service = ServiceName::parse(service).unwrap();
        Scope::new(scope).permits_exchange(service.key(), mode)
    }

    #[test]
    fn the_exact_form_permits_in_both_modes_and_in_any_case() {
        for mode in MODES {
            for scope in ["vault:github:exchange", "VAULT:GitHub:Exchange"] {
                assert!(permits(scope, "GitHub", mode), "{scope}, {mode:?}");
            }
        }
    }

    #[test]
    fn the_wider_forms_permit_in_the_compatible_mode_only() {
        for scope in WIDER_FORMS {
            for spelling in [scope.to_owned(), scope.to_uppercase()] {
                let in_mode = |mode| permits(&spelling, "GitHub", mode);
                assert_eq!(MODES.map(in_mode), [false, true], "{spelling}");
            }
        }
    }

    #[test]
    fn a_service_named_like_a_part_of_a_scope_gains_nothing() {
        for (scope, service, exact, compatible) in [
            ("vault:credentials:exchange", "credentials", true, true),
            ("vault:credentials:exchange", "github", false, true),
            ("vault:vault:exchange", "vault", true, true),
            ("vault:exchange", "vault", false, false),
            ("vault:read", "vault", false, true),
            ("vault:vault:exchange", "exchange", false, false),
        ] {
            let in_mode = |mode| permits(scope, service, mode);
            let case = format!("{scope} for {service}");
            assert_eq!(MODES.map(in_mode), [exact, compatible], "{case}");
        }
    }

    #[test]
    fn what_only_looks_alike_does_not_permit() {
        for scope in [
            "",
            ":",
            "vault:",
            "**",
            "github",
            "github:",
            "github:write",
            "github:exchange",
            "github:read:all",
            "github:credentials:*",
            "vault:github",
            "vault:github:",
            "vault:github:credentials:read",
            "vault:github:exchange ",
            " vault:github:exchange",
            "vault:github:exchange:",
            "vault::github:exchange",
            "vault:github::exchange",
            "vault:githu:exchange",
            "vault:github2:exchange",
            "vault:gi\u{74}hub:exchang",
            "vault:G\u{130}THUB:exchange",
            "vault:\u{fb01}thub:exchange",
            "vault:*",
            "vault:*:exchange",
            "vault:credentials:read",
            "slack:read",
            "git:*",
            "github2:read",
            " github:read",
            "github:read ",
            "G\u{130}THUB:read",
        ] {
            for mode in MODES {
                assert!(!permits(scope, "github", mode), "{scope:?}, {mode:?}");
            }
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
            let forms = [
                "vault:S:exchange", "S:*", "S:read", "S:credentials:read", "vault:S:*", "vault:S:read",
            ];
            for form in forms {
                for mode in MODES {
                    // `vault:credentials:exchange` is of every service there.
                    let of_all = one == "credentials" && form == forms[0];
                    prop_assume!(!(of_all && mode == ScopeMode::Compatible));
                    prop_assert!(!permits(&form.replace('S', &one), &other, mode));
                }
            }
        }
    }
}
