//! What commands write: results to standard output, everything else to standard error.
//!
//! A result that nobody reads ends its command, quietly, as SIGPIPE ends other tools: `audit export | head`.
//! The signal itself is ignored in this process, because it would also end a server whose client left.
//! Standard error is for people: what cannot be written there is lost, and changes nothing.

use std::{
    fmt,
    io::{self, IsTerminal, StdoutLock, Write},
    process,
};

use super::exit::Failure;

/// Standard output. A write to it succeeds, or ends the process with the exit code that says why.
pub(super) struct Output;

/// Writes a line to standard output, or ends the process.
macro_rules! outln {
    ($($argument:tt)*) => {
        $crate::cli::output::write(format_args!("{}\n", format_args!($($argument)*)))
    };
}

/// Writes a line to standard error, if it can be written.
macro_rules! errln {
    ($($argument:tt)*) => {
        $crate::cli::output::say(format_args!("{}\n", format_args!($($argument)*)))
    };
}

pub(super) use {errln, outln};

/// Writes a result, or ends the process.
pub(super) fn write(text: fmt::Arguments<'_>) {
    if let Err(error) = try_write(text) {
        end(&error);
    }
}

/// Writes a result. For those who have something to put in order before they end.
pub(super) fn try_write(text: fmt::Arguments<'_>) -> io::Result<()> {
    let mut output = standard_output();
    output.write_fmt(text)?;
    output.flush()
}

/// Hands over what another has written to standard output.
pub(super) fn flush() -> io::Result<()> {
    standard_output().flush()
}

/// Tells a person something that is no result.
pub(super) fn say(text: fmt::Arguments<'_>) {
    let mut error = io::stderr().lock();
    let _ = error.write_fmt(text).and_then(|()| error.flush());
}

/// Ends the process because a result cannot be written.
fn end(error: &io::Error) -> ! {
    let failure = Failure::unwritten(error);
    failure.tell();
    process::exit(failure.code.into());
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that writes to standard output"
)]
fn standard_output() -> StdoutLock<'static> {
    io::stdout().lock()
}

// === impl Output ===

impl Output {
    /// Whether a person reads it.
    pub(super) fn is_terminal() -> bool {
        standard_output().is_terminal()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match standard_output().write(bytes) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => end(&error),
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        standard_output().flush().or_else(|error| end(&error))
    }
}
