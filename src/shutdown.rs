//! When to stop: the signals, and what they set off.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What everything that runs in the background holds: it ends when `closing` is cancelled, and the
/// process waits for what `tasks` tracks.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Cancelled when no new work is taken.
    pub closing: CancellationToken,
    /// What is still under way.
    pub tasks: TaskTracker,
}

/// SIGTERM and SIGINT.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// From now on the signals are ours: they no longer end the process by themselves.
    ///
    /// # Errors
    ///
    /// When the system refuses a handler.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// SIGHUP: what an operator sends to have caches forgotten.
///
/// # Errors
///
/// When the system refuses a handler.
pub fn hangups() -> std::io::Result<Signal> {
    signal(SignalKind::hangup())
}
