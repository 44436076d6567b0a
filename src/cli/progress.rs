//! How far a long command is: a line that changes on a terminal, lines elsewhere. On standard error.

use std::{
    cell::Cell,
    fmt::Display,
    io::{IsTerminal, stderr},
    pin::pin,
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::output::{errln, outln, say};
use crate::{
    rotation::{Broken, Counts, Watch},
    store::rotation::RowKey,
};

/// How often a terminal is told, and everybody else.
const ON_TERMINAL: Duration = Duration::from_millis(200);
const ELSEWHERE: Duration = Duration::from_secs(5);
/// Blanks what is left of a longer line before.
const CLEAR: &str = "\r\x1b[K";

/// Runs work over `total` credentials and tells how far it is; what is broken is printed as it is
/// found. Answers what the work did, and its counts.
pub(super) async fn watch<T>(
    command: &str,
    verb: &str,
    total: u64,
    work: impl AsyncFnOnce(&Watch<'_>) -> T,
) -> (T, Counts) {
    let terminal = stderr().is_terminal();
    let report = |broken: &Broken| print(broken);
    let watch = Watch::new(&report);
    let started = Instant::now();
    let tell = || line(command, verb, total, watch.counts(), started.elapsed());
    let answer = telling(work(&watch), terminal, &tell).await;
    let counts = watch.counts();
    errln!("{}", line(command, verb, total, counts, started.elapsed()));
    (answer, counts)
}

/// Runs work and tells what is shown of it.
pub(super) async fn while_waiting<T>(
    work: impl Future<Output = T>,
    shown: &impl Fn() -> String,
) -> T {
    telling(work, stderr().is_terminal(), shown).await
}

/// Prints a line of a report, which the line on a terminal makes way for.
pub(super) fn print(line: &impl Display) {
    clear(stderr().is_terminal());
    outln!("{line}");
}

async fn telling<T>(
    work: impl Future<Output = T>,
    terminal: bool,
    shown: &impl Fn() -> String,
) -> T {
    let every = if terminal { ON_TERMINAL } else { ELSEWHERE };
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut work = pin!(work);
    let answer = loop {
        tokio::select! {
            answer = &mut work => break answer,
            _ = ticks.tick() => tell(terminal, &shown()),
        }
    };
    clear(terminal);
    answer
}

fn tell(terminal: bool, line: &str) {
    if terminal {
        say(format_args!("{CLEAR}{line}"));
    } else {
        errln!("{line}");
    }
}

/// Where a scan could go on after a kill: told now and then, and not to a terminal, where the line
/// that changes would cover it.
#[derive(Default)]
pub(super) struct Places(Cell<Option<Instant>>);

impl Places {
    /// All up to this place are done.
    pub(super) fn reached(&self, place: &RowKey) {
        let due = self.0.get().is_none_or(|last| last.elapsed() >= ELSEWHERE);
        if due && !stderr().is_terminal() {
            errln!("done up to --after '{place}'");
            self.0.set(Some(Instant::now()));
        }
    }
}

fn clear(terminal: bool) {
    if terminal {
        say(format_args!("{CLEAR}"));
    }
}

fn line(command: &str, verb: &str, total: u64, counts: Counts, elapsed: Duration) -> String {
    let Counts {
        looked,
        done,
        broken,
        ..
    } = counts;
    // More may have been stored since they were counted.
    let percent = (looked * 100).checked_div(total).unwrap_or(100).min(100);
    let rate = u128::from(looked) * 1000 / elapsed.as_millis().max(1);
    format!(
        "{command}: {percent}%, {looked} of {total} looked at, {done} {verb}, {broken} do not open, {rate}/s"
    )
}
