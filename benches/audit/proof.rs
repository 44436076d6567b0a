//! Sealing a large record, verifying and exporting it, and finding what was changed in it.

use std::{
    fs,
    io::Read,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tokio::time::sleep;
use tokio_postgres::Client;

use crate::{
    cpu,
    events::EVENTS,
    instance::{Dev, connect, vault},
};

const OFTEN: (&str, &str) = ("GRANTEX_VAULT_AUDIT_SEAL_INTERVAL", "200ms");

/// What a command of the vault did, and said: the answer before the rest.
struct Ran {
    success: bool,
    output: String,
    elapsed: Duration,
    /// The most memory that it held, in MiB.
    memory: u64,
}

/// Starts the instance again, to seal all that it has, and works on that.
pub(crate) async fn measure(dev: Dev) {
    let Dev {
        directory, process, ..
    } = dev;
    drop(process);
    let dev = Dev::start_in(directory, &[OFTEN]);
    let sql = connect(&dev.instance.database_url).await;
    println!("{EVENTS} events of one developer\n");
    println!("              seconds   events a second   MiB at most");
    let [postgres, vault] = seal(&dev, &sql).await;

    let verify = run(&dev, &["audit", "verify"]);
    assert!(verify.success, "{}", verify.output);
    let all = format!("{EVENTS} events of ");
    assert!(verify.output.starts_with(&all), "{}", verify.output);
    verify.print("verify");

    let export = run(&dev, &["audit", "export"]);
    assert!(export.success, "{}", export.output);
    let all = format!("{EVENTS} events with proofs");
    assert!(export.output.contains(&all), "{}", export.output);
    export.print("export");

    let expected = tamper(&sql).await;
    let verify = run(&dev, &["audit", "verify"]);
    assert!(!verify.success, "{}", verify.output);
    for (id, what) in &expected {
        let is_it = |line: &str| line.contains(id) && line.contains(what);
        let named = verify.output.lines().any(is_it);
        assert!(named, "{id} {what}: {}", verify.output);
    }
    let named = verify.output.lines().filter(|line| line.contains('\t'));
    assert_eq!(named.count(), expected.len(), "{}", verify.output);
    verify.print("tampered with");
    println!("\nto seal an event took {postgres:.1} µs of Postgres and {vault:.1} µs of the vault");
    println!("found: {}", expected.map(|(_, what)| what).join(", "));
}

fn print(name: &str, events: f64, elapsed: Duration, memory: &str) {
    let seconds = elapsed.as_secs_f64();
    let rate = events / seconds;
    println!("{name:<13} {seconds:>7.1} {rate:>17.0} {memory:>13}");
}

/// Waits until everything is sealed. Microseconds of Postgres and of the vault an event.
async fn seal(dev: &Dev, sql: &Client) -> [f64; 2] {
    let postgres = cpu::Postgres::of(sql).await;
    let time = || [postgres.time(), cpu::of_process(dev.process.0.id())];
    // It began when it started, not when we look.
    let (begun, before, since) = (sealed(sql).await, time(), Instant::now());
    while sealed(sql).await < EVENTS {
        sleep(Duration::from_millis(20)).await;
    }
    let (after, elapsed) = (time(), since.elapsed());
    let events = f64::from(EVENTS - begun);
    print("sealed", events, elapsed, "");
    [0, 1].map(|who| (after[who] - before[who]) / events)
}

/// How many events are in seals.
async fn sealed(sql: &Client) -> u32 {
    const SQL: &str = "
        select coalesce(sum((convert_from(header, 'UTF8')::json ->> 'events')::integer), 0)::bigint::oid
        from vault.audit_seals";
    let row = sql.query_one(SQL, &[]).await;
    row.expect("the database answers").get(0)
}

/// Changes sealed rows behind the vault's back. Their ids, and what verifying must say of each.
async fn tamper(sql: &Client) -> [(String, &'static str); 5] {
    let ids = "
        select array_agg(id order by id) from (
            select id from vault.audit_events order by xid, id offset 7 limit 5000) as early
        union all
        select array_agg(id order by id) from (
            select id from vault.audit_events order by xid desc, id limit 5000) as late";
    let rows = sql.query(ids, &[]).await.expect("the database answers");
    let [early, late]: [Vec<String>; 2] = [rows[0].get(0), rows[1].get(0)];
    let [updated, deleted, model] = [&early[1], &late[1], &early[2]];
    let [one, other] = [&early[3], &late[3]];
    let inserted = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let statements = format!(
        "update vault.audit_events
            set canonical = convert_to(
                replace(convert_from(canonical, 'UTF8'), 'released', 'listed'), 'UTF8')
            where id = '{updated}';
        delete from vault.audit_events where id = '{deleted}';
        insert into vault.audit_events (developer_id, id, principal_id, service_key, credential_id,
                grant_id, outcome, era, xid, canonical)
            select developer_id, '{inserted}', principal_id, service_key, credential_id,
                grant_id, outcome, era, xid,
                convert_to(replace(convert_from(canonical, 'UTF8'), id, '{inserted}'), 'UTF8')
            from vault.audit_events where id = '{model}';
        update vault.audit_events as one set xid = other.xid from vault.audit_events as other
            where one.id in ('{one}', '{other}') and other.id in ('{one}', '{other}')
              and one.id <> other.id"
    );
    let changed = sql.batch_execute(&statements).await;
    changed.expect("its user owns the table");
    [
        (updated.clone(), "changed"),
        (deleted.clone(), "removed"),
        (inserted.to_owned(), "added"),
        (one.clone(), "reordered"),
        (other.clone(), "reordered"),
    ]
}

/// Runs a command on an instance. What an export writes is not kept.
fn run(dev: &Dev, arguments: &[&str]) -> Ran {
    let mut command: Command = vault();
    command
        .args(arguments)
        .arg("--data-dir")
        .arg(dev.directory.path());
    let exports = arguments.contains(&"export");
    let output = if exports {
        Stdio::null()
    } else {
        Stdio::piped()
    };
    let since = Instant::now();
    let child = command.stdout(output).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("the binary runs");
    let mut memory = 0;
    let status = loop {
        memory = peak_memory(child.id()).unwrap_or(memory);
        if let Some(status) = child.try_wait().expect("it is our child") {
            break status;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let elapsed = since.elapsed();
    // More than a pipe holds would have kept it from ending.
    let mut output = String::new();
    if let Some(mut stdout) = child.stdout {
        let read = stdout.read_to_string(&mut output);
        read.expect("it prints text");
    }
    let read = child
        .stderr
        .expect("it was asked for")
        .read_to_string(&mut output);
    read.expect("it prints text");
    Ran {
        success: status.success(),
        output,
        elapsed,
        memory,
    }
}

/// The most memory that a process has held so far, in MiB.
fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib.div_ceil(1024))
}

// === impl Ran ===

impl Ran {
    fn print(&self, name: &str) {
        let memory = self.memory.to_string();
        print(name, f64::from(EVENTS), self.elapsed, &memory);
    }
}
