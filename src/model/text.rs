//! Text with a bound on its length and no control characters, and the identifiers that are nothing more.

use std::{fmt, sync::Arc};

use thiserror::Error;

/// Why a text is not what its type asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TextFault {
    /// Nothing in it.
    #[error("must not be empty")]
    Empty,
    /// More Unicode scalar values than this.
    #[error("must be at most {0} characters")]
    TooLong(usize),
    /// A character of Unicode's category Cc.
    #[error("must not contain control characters")]
    ControlCharacter,
}

/// Checks for 1 to `max` Unicode scalar values, none of them of category Cc.
///
/// # Errors
///
/// The first fault found.
pub fn check(text: &str, max: usize) -> Result<(), TextFault> {
    if text.is_empty() {
        return Err(TextFault::Empty);
    }
    // Bytes bound characters from above: only long texts are counted.
    if text.len() > max && text.chars().count() > max {
        return Err(TextFault::TooLong(max));
    }
    if text.chars().any(char::is_control) {
        return Err(TextFault::ControlCharacter);
    }
    Ok(())
}

macro_rules! bounded_text {
    ($(#[$doc:meta])* $name:ident, $max:literal) => {
        $(#[$doc])*
        ///
        /// Compared byte for byte; never trimmed, never normalised.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The most Unicode scalar values that it may have.
            pub const MAX_CHARS: usize = $max;

            /// Parses the text as it stands.
            ///
            /// # Errors
            ///
            /// When it is empty, too long, or holds a control character.
            pub fn parse(text: &str) -> Result<Self, TextFault> {
                check(text, Self::MAX_CHARS)?;
                Ok(Self(text.into()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), self.0)
            }
        }
    };
}

bounded_text!(
    /// An account that stores credentials: the tenant.
    DeveloperId,
    512
);
bounded_text!(
    /// The end user whose credential it is.
    PrincipalId,
    512
);
bounded_text!(
    /// What kind of credential is stored, such as `oauth2` or `api_key`.
    CredentialType,
    64
);
bounded_text!(
    /// The DID of the agent that a grant was given to (claim `urn:grantex:grant.agent_did`, once `agt`).
    AgentId,
    512
);
bounded_text!(
    /// Who signs grant tokens (claim `iss`).
    Issuer,
    512
);
bounded_text!(
    /// An agent's client at its issuer (claim `client_id`).
    ClientId,
    512
);
bounded_text!(
    /// A grant: what the principal consented to (claim `urn:grantex:grant.grant_id`, once `grnt`; else `jti`).
    GrantId,
    512
);
bounded_text!(
    /// One token of a grant (claim `jti`).
    TokenId,
    512
);

bounded_text!(
    /// An operator, as the audit record names it.
    OperatorName,
    256
);
bounded_text!(
    /// An event that a webhook brought, by its sender's id.
    WebhookEventId,
    256
);

impl Default for CredentialType {
    fn default() -> Self {
        Self("oauth2".into())
    }
}

impl From<&TokenId> for GrantId {
    /// A token that names no grant is a grant of its own.
    fn from(token: &TokenId) -> Self {
        Self(Arc::clone(&token.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_counts_characters_not_bytes() {
        assert!(PrincipalId::parse(&"é".repeat(512)).is_ok());
        assert_eq!(
            PrincipalId::parse(&"é".repeat(513)),
            Err(TextFault::TooLong(512))
        );
    }

    #[test]
    fn empty_and_control_characters_are_refused() {
        assert_eq!(PrincipalId::parse(""), Err(TextFault::Empty));
        for control in ["\0", "\n", "\u{7f}", "\u{85}"] {
            assert_eq!(
                PrincipalId::parse(&format!("a{control}b")),
                Err(TextFault::ControlCharacter)
            );
        }
    }

    #[test]
    fn spaces_and_other_normal_forms_stay_as_they_are() {
        assert_eq!(
            PrincipalId::parse(" a ").map(|id| id.as_str().to_owned()),
            Ok(" a ".into())
        );
        assert_ne!(PrincipalId::parse("\u{e9}"), PrincipalId::parse("e\u{301}"));
    }
}
