//! How many microseconds of a processor processes have had, as Linux counts them in /proc.

use std::fs;

use tokio_postgres::Client;

/// A tick of /proc/<pid>/stat: `USER_HZ` is 100 on every Linux.
const TICK: f64 = 10_000.0;

/// What /proc/<pid>/stat says of a process.
struct Stat {
    parent: u32,
    own: u32,
    /// Of its children that have ended.
    ended: u32,
}

/// The Postgres of an instance, by the number of its first process.
#[derive(Clone, Copy)]
pub(crate) struct Postgres(u32);

/// What a process has had, with its children that have ended.
pub(crate) fn of_process(pid: u32) -> f64 {
    let Stat { own, ended, .. } = Stat::read(pid).expect("the process runs");
    TICK * f64::from(own + ended)
}

/// What everybody has had together.
pub(crate) fn of_everybody() -> f64 {
    of_processors().iter().sum()
}

/// What everybody has had together, of each processor.
pub(crate) fn of_processors() -> Vec<f64> {
    let text = fs::read_to_string("/proc/stat").expect("this is Linux");
    let lines = text.lines().filter_map(|line| {
        let (number, times) = line.strip_prefix("cpu")?.split_once(' ')?;
        // The first line, without a number, has the sums of all.
        number.parse::<u32>().is_ok().then_some(times)
    });
    lines.map(busy).collect()
}

/// user nice system idle iowait irq softirq steal …
fn busy(times: &str) -> f64 {
    let times = times.split_whitespace().enumerate();
    let busy = times.filter(|(place, _)| matches!(place, 0..3 | 5..8));
    let ticks = busy.filter_map(|(_, ticks)| ticks.parse::<f64>().ok());
    TICK * ticks.sum::<f64>()
}

impl Postgres {
    /// The number of its first process.
    pub(crate) fn pid(self) -> u32 {
        self.0
    }

    /// The server that somebody is connected to.
    pub(crate) async fn of(sql: &Client) -> Self {
        let file = sql.query_one("select pg_read_file('postmaster.pid')", &[]);
        let file: String = file.await.expect("dev connects as superuser").get(0);
        let pid = file.lines().next().and_then(|line| line.parse().ok());
        Self(pid.expect("its first line is a number"))
    }

    /// What all of its processes have had, also those that have ended.
    pub(crate) fn time(self) -> f64 {
        let processes = fs::read_dir("/proc").expect("this is Linux");
        let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let ticks: u32 = numbers
            .filter_map(|pid: u32| Some((pid, Stat::read(pid)?)))
            .map(|(pid, stat)| match stat {
                Stat { own, ended, .. } if pid == self.0 => own + ended,
                Stat { own, parent, .. } if parent == self.0 => own,
                Stat { .. } => 0,
            })
            .sum();
        TICK * f64::from(ticks)
    }
}

impl Stat {
    /// `None` when the process has ended.
    fn read(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may have spaces. The fourth field is two after it.
        let (_, after_name) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = after_name.split(' ').collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u32>().ok();
        Some(Self {
            parent: number(4)?,
            own: number(14)? + number(15)?,
            ended: number(16)? + number(17)?,
        })
    }
}
