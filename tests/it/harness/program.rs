//! Programs that run beside the tests. One is gone when it is dropped, or when the test process is,
//! however that ends.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use super::until;

/// Runs the program of its arguments, its own input held open by the test process: when that ends,
/// it ends the program.
const REAPER: &str = r#"
trap '' INT TERM HUP
"$@" </dev/null 1>&2 &
exec 2>/dev/null
cat >/dev/null
kill -KILL $!
"#;

/// A program that runs.
pub(crate) struct Program {
    said: Arc<Mutex<Said>>,
    reaper: Child,
}

#[derive(Default)]
struct Said {
    lines: Vec<String>,
    ended: bool,
}

impl Program {
    /// Starts it with an environment of nothing but these variables.
    pub(crate) fn start(path: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut reaper = Command::new("/bin/sh")
            .args(["-c", REAPER, "reaper", path])
            .args(arguments)
            .env_clear()
            .envs(environment.iter().copied())
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let output = reaper.stderr.take().expect("it was asked for");
        let said = Arc::new(Mutex::new(Said::default()));
        let listener = Arc::clone(&said);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                listener.lock().unwrap().lines.push(line);
            }
            listener.lock().unwrap().ended = true;
        });
        Self { said, reaper }
    }

    /// Waits for a line with this text.
    pub(crate) async fn line_with(&self, text: &str) -> String {
        let mut found = None;
        until(&format!("a program says {text:?}"), async || {
            let said = self.said.lock().unwrap();
            found = said.lines.iter().find(|line| line.contains(text)).cloned();
            assert!(found.is_some() || !said.ended, "it ended: {:?}", said.lines);
            found.is_some()
        })
        .await;
        found.expect("it was waited for")
    }

    /// All that it has said so far.
    pub(crate) fn output(&self) -> String {
        self.said.lock().unwrap().lines.join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.reaper.stdin.take());
        let _ = self.reaper.wait();
    }
}
