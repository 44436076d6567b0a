//! Why a database does not do what it is asked, in a few words for whoever looks at a probe.
//!
//! The words are ours: what the server says may have names and values in it, and is for the log.

use std::error::Error;

use thiserror::Error;
use tokio_postgres::error::{DbError, SqlState};

use super::StoreFault;

/// By the server's code (appendix A of Postgres' documentation), its first five characters or its class.
const REASONS: [(&str, &str); 15] = [
    ("53100", "its disk is full"),
    ("53200", "it is out of memory"),
    ("53300", "it has no connection left"),
    (
        "57014",
        "it cancels our statements: look at statement_timeout",
    ),
    ("25006", "takes no writes"),
    ("42501", "its role lacks a privilege"),
    ("42883", "a function is missing"),
    ("42P01", "a table is missing"),
    ("3D000", "there is no database of this name"),
    ("57P03", "it is starting or stopping"),
    ("28", "it refuses our login"),
    ("53", "it is out of resources"),
    ("08", "the connection breaks"),
    ("57P", "it is stopping"),
    ("XX", "its data is damaged"),
];

/// What a server said of an error, without its details: those repeat the row.
#[derive(Debug, Error)]
#[error("{} {message}", code.code())]
pub(super) struct Said {
    code: SqlState,
    message: String,
}

impl Said {
    pub(super) fn of(error: &DbError) -> Self {
        Self {
            code: error.code().clone(),
            message: error.message().to_owned(),
        }
    }
}

impl StoreFault {
    /// What is wrong, in words that are chosen here.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded: too slow, or too many wait",
            Self::Unavailable(cause) | Self::Refused(cause) => {
                of(&**cause).unwrap_or("unreachable")
            }
            Self::RetiredMasterKey(_) => "the master key is retired",
            Self::InvalidApiKey => "the API key is not valid any more",
            Self::Inconsistent { .. } => "a row is inconsistent",
        }
    }
}

/// What the server said of it, if it said something.
fn of(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let postgres = error.downcast_ref::<tokio_postgres::Error>();
        let said = error.downcast_ref().map(|Said { code, .. }| code);
        if let Some(code) = said.or_else(|| postgres.and_then(tokio_postgres::Error::code)) {
            return reason(code);
        }
        cause = error.source();
    }
    None
}

fn reason(code: &SqlState) -> Option<&'static str> {
    let found = REASONS
        .iter()
        .find(|(start, _)| code.code().starts_with(start));
    found.map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_the_reason_of_its_own_or_of_its_class() {
        for (code, expected) in [
            (SqlState::DISK_FULL, Some("its disk is full")),
            (SqlState::INVALID_PASSWORD, Some("it refuses our login")),
            (SqlState::ADMIN_SHUTDOWN, Some("it is stopping")),
            (
                SqlState::CANNOT_CONNECT_NOW,
                Some("it is starting or stopping"),
            ),
            (SqlState::UNIQUE_VIOLATION, None),
        ] {
            assert_eq!(reason(&code), expected, "{code:?}");
        }
    }
}
