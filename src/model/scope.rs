//! Scopes of a grant, and which of them open a service's credential.

use super::service_name::ServiceKey;

/// One entry of the claim `scp`, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope(Box<str>);

impl Scope {
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
    /// `vault:credentials:exchange`.
    ///
    /// A service named `vault` or `credentials` makes no ambiguity that grants more: each form is
    /// matched as a whole.
    #[must_use]
    pub fn permits_exchange(&self, service: &ServiceKey) -> bool {
        let scope = self.0.to_ascii_lowercase();
        if scope == "*" || scope == "vault:credentials:exchange" {
            return true;
        }
        let after_service = |text: &str| {
            text.strip_prefix(service.as_str())
                .and_then(|rest| rest.strip_prefix(':'))
                .map(str::to_owned)
        };
        let direct = after_service(&scope)
            .is_some_and(|right| ["*", "read", "credentials:read"].contains(&right.as_str()));
        let through_vault = scope
            .strip_prefix("vault:")
            .and_then(after_service)
            .is_some_and(|right| ["*", "read"].contains(&right.as_str()));
        direct || through_vault
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::service_name::ServiceName;

    fn permits(scope: &str, service: &str) -> bool {
        Scope::new(scope).permits_exchange(ServiceName::parse(service).unwrap().key())
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

    proptest! {
        #[test]
        fn a_scope_of_one_service_never_opens_another(
            one in "[a-z0-9][a-z0-9._-]{0,20}", other in "[a-z0-9][a-z0-9._-]{0,20}"
        ) {
            prop_assume!(one != other && one != "vault");
            for form in ["S:*", "S:read", "S:credentials:read", "vault:S:*", "vault:S:read"] {
                prop_assert!(!permits(&form.replace('S', &one), &other));
            }
        }
    }
}
