//! What the exit code of a command says. Those of checks tell 1 and 3 apart, the others end with 1.
//!
//! | Code | |
//! |---|---|
//! | 0 | done; of a check: everything that was asked for is proven |
//! | 1 | not done; of a check: something was found, or nothing is proven |
//! | 2 | the input cannot be used (arguments, clap's code too; settings; a file), or the output not written |
//! | 3 | the database, or the master key, cannot be used now |
//! | 141 | nobody reads standard output any more; what a shell shows of tools that SIGPIPE ends |

use std::{error::Error, fmt, io};

use super::{explain, output::errln};

/// Input that cannot be used, or output that cannot be written: of a check it is no finding.
const UNUSABLE: u8 = 2;
/// The database, or the master key, cannot be used now.
const AWAY: u8 = 3;

/// Nobody reads: 128 and the number of SIGPIPE.
const NOBODY_READS: u8 = 141;

/// Why a command failed, and with which code it ends.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: u8,
    /// Empty when there is nothing to say.
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

impl Failure {
    /// A result cannot be written. Whoever has seen enough, `head` for example, makes no failure of it.
    pub(super) fn unwritten(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self {
                code: NOBODY_READS,
                text: String::new(),
            },
            _ => Self {
                code: UNUSABLE,
                text: format!("standard output cannot be written: {error}"),
            },
        }
    }

    /// Tells a person, if there is something to say.
    pub(super) fn tell(&self) {
        if !self.text.is_empty() {
            errln!("grantex-vault: {self}");
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Failure {}
