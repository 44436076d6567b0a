//! What the exit code of a check says.
//!
//! | Code | |
//! |---|---|
//! | 0 | everything that was asked for is proven |
//! | 1 | something was found, or nothing is proven |
//! | 2 | the input cannot be used: arguments (clap's code too), settings, a file |
//! | 3 | the database, or the master key, cannot be used now |

use std::{error::Error, fmt};

use super::explain;

/// Input that cannot be used.
const UNUSABLE: u8 = 2;
/// The database, or the master key, cannot be used now.
const AWAY: u8 = 3;

/// Why a command failed, and with which code it ends.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: u8,
    text: String,
}

/// Somebody must give other input.
pub(super) fn unusable(error: impl fmt::Display) -> Box<dyn Error> {
    Failure {
        code: UNUSABLE,
        text: error.to_string(),
    }
    .into()
}

/// It may succeed later.
pub(super) fn away(error: impl Error + 'static) -> Box<dyn Error> {
    Failure {
        code: AWAY,
        text: explain(error).to_string(),
    }
    .into()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Failure {}
