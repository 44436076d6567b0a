//! What the server of a test logs: it runs on the thread of its test.

use std::{cell::RefCell, io::Write, sync::Once};

use tracing::Level;

thread_local! {
    static KEPT: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// The log of this thread, from now on.
pub(crate) struct Log;

/// Writes to the log of its thread, if that is kept.
struct Line;

impl Log {
    pub(crate) fn keep() -> Self {
        // One subscriber for all threads: what a thread without one sees first would stay switched
        // off for the others.
        static STARTED: Once = Once::new();
        STARTED.call_once(|| {
            let lines = tracing_subscriber::fmt().with_ansi(false);
            let lines = lines.with_max_level(Level::INFO).with_writer(|| Line);
            lines.init();
        });
        KEPT.set(Some(Vec::new()));
        Self
    }

    /// What was logged since it was last asked.
    #[expect(clippy::unused_self, reason = "only who keeps a log may take it")]
    pub(crate) fn take(&self) -> String {
        let kept = KEPT.replace(Some(Vec::new()));
        String::from_utf8(kept.expect("it is kept")).unwrap()
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        KEPT.with_borrow_mut(|kept| {
            if let Some(kept) = kept {
                kept.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        KEPT.set(None);
    }
}
