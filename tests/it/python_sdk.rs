//! The official Python SDK, unmodified.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use crate::harness::{Dev, instance_directory, python_program};

#[tokio::test]
async fn the_python_sdk_works_with_only_its_base_url_changed() {
    let directory = instance_directory();
    let dev = Dev::start(directory.path(), &[]).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk/check.py");
    let mut python = Command::new(python_program("python"))
        .arg(script)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python runs");
    let mut input = python.stdin.take().expect("it was asked for");
    input
        .write_all(dev.instance.to_string().as_bytes())
        .unwrap();
    drop(input);
    let output = tokio::task::spawn_blocking(|| python.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
