//! Why a grant token is refused: for the operator's log and a metric. The caller learns none of it.

use std::fmt;

use crate::model::grant_check::GrantCheck;

/// The most characters of a presented value that are kept: whoever made the token chose them.
const MAX_PRESENTED_CHARS: usize = 120;

/// Why a grant token is refused. It names the check and what was compared, never the token, its subject
/// or what else it says of people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    check: GrantCheck,
    member: &'static str,
    expected: String,
    presented: Option<String>,
}

impl Rejection {
    /// The member of header or claims that fails a check, and what the check asks of it.
    pub(super) fn new(
        check: GrantCheck,
        member: &'static str,
        expected: impl fmt::Display,
    ) -> Self {
        Self {
            check,
            member,
            expected: expected.to_string(),
            presented: None,
        }
    }

    /// A claim that is missing, stands twice, or is not of its type and size.
    pub(super) fn claim(member: &'static str, expected: impl fmt::Display) -> Self {
        Self::new(GrantCheck::Claims, member, expected)
    }

    /// With what the token presents, cut and escaped: only of members that name nobody.
    pub(super) fn presented(mut self, presented: &str) -> Self {
        let cut: String = presented.chars().take(MAX_PRESENTED_CHARS).collect();
        self.presented = Some(cut.escape_debug().to_string());
        self
    }

    /// The check that failed.
    #[must_use]
    pub fn check(&self) -> GrantCheck {
        self.check
    }

    /// The member of the header or the claims that failed it.
    #[must_use]
    pub fn member(&self) -> &'static str {
        self.member
    }

    /// What the check asks for.
    #[must_use]
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// What the token has instead, cut to 120 characters and escaped; `None` where that could name a
    /// person or be a secret.
    #[must_use]
    pub fn presented_value(&self) -> Option<&str> {
        self.presented.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_token_presents_is_cut_and_cannot_break_a_line() {
        let rejection = Rejection::new(GrantCheck::Key, "kid", "a key of the issuer");
        let long = format!("a\nb\u{1b}[2J{}", "x".repeat(1000));
        let rejection = rejection.presented(&long);
        let presented = rejection.presented_value().unwrap();
        assert!(presented.starts_with(r"a\nb\u{1b}[2Jx"), "{presented}");
        assert!(presented.len() < 200);
    }
}
