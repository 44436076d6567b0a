//! Keeps the process' memory out of core dumps and debuggers.
//!
//! A room of its own at the top: it is about the whole process, before any room is used, and neither
//! the envelope nor the settings should know how a system is told.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Switches core dumps off for this process and those that it starts.
///
/// On Linux it becomes not dumpable, too. Without that the limit is not enough: where cores are piped
/// to a program (systemd-coredump, apport) the kernel ignores it. And other processes of the same user
/// can then neither trace this one nor read its memory or environment in `/proc`.
///
/// # Errors
///
/// When the system refuses it.
pub fn protect() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    not_dumpable()
}

#[cfg(target_os = "linux")]
fn not_dumpable() -> io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};

    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

#[cfg(not(target_os = "linux"))]
#[expect(
    clippy::unnecessary_wraps,
    reason = "on Linux it can fail, and callers are the same everywhere"
)]
fn not_dumpable() -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::{DumpableBehavior, dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn a_protected_process_has_no_core_and_is_not_dumpable() {
        protect().unwrap();
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
        let dumpable = dumpable_behavior().unwrap();
        assert_eq!(dumpable, DumpableBehavior::NotDumpable);
    }
}
