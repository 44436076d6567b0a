//! Input that breaks a rule.

use thiserror::Error;

/// A field of a request that breaks its rule. The message is chosen for the caller and names the field.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct InvalidInput {
    /// The field's name as REST spells it; `body` for the request as a whole.
    pub field: &'static str,
    /// What the caller is told.
    pub message: String,
}

impl InvalidInput {
    /// The message is the field's name and the rule it breaks: `metadata must be an object`.
    #[must_use]
    pub fn breaks(field: &'static str, rule: impl std::fmt::Display) -> Self {
        Self {
            field,
            message: format!("{field} {rule}"),
        }
    }

    /// The message is a sentence of its own.
    #[must_use]
    pub fn says(field: &'static str, message: impl Into<String>) -> Self {
        Self {
            field,
            message: message.into(),
        }
    }
}
