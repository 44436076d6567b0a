//! Setting secrets at the command line, on a running instance, and rotating the key that wraps them.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use grantex_vault::clock::{Clock, SystemClock};

use super::{SECRET, revoked, signature};
use crate::harness::{Dev, instance_directory, print};

/// Runs a command with something on its standard input.
fn run_with_input(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grantex-vault"));
    command.args(arguments).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

async fn send(dev: &Dev, developer: &str, secret: &str) -> u16 {
    let body = revoked("the-grant");
    let at = SystemClock.now().as_second();
    let url = format!("{}/v1/webhooks/grantex/{developer}", dev.get("http"));
    let request = reqwest::Client::new()
        .post(url)
        .header("content-type", "application/json")
        .header("x-grantex-timestamp", at.to_string())
        .header(
            "x-grantex-signature-v2",
            signature(secret, format!("{at}.{body}").as_bytes()),
        );
    request.body(body).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_secret_is_set_from_standard_input_listed_rewrapped_and_removed() {
    let directory = instance_directory();
    let path = directory.path().to_str().unwrap();
    let unsealed = [("GRANTEX_VAULT_AUDIT_SEAL_INTERVAL", "0")];
    let dev = Dev::start(directory.path(), &unsealed).await;
    let developer = dev.get("developerId");
    let on = |verb: &'static str| {
        let command = ["webhook-secret", verb, "--developer", developer];
        [&command[..], &["--data-dir", path]].concat()
    };
    for wrong in [
        "",
        "too short",
        "with a space in the middle",
        &"x".repeat(600),
    ] {
        let output = run_with_input(&on("set"), wrong);
        assert!(!output.status.success(), "{wrong}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains("16 to 512 visible ASCII characters"),
            "{said}"
        );
    }
    let output = run_with_input(&on("set"), &format!("{SECRET}\r\n"));
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && !said.contains(SECRET), "{said}");
    let id = said.trim().to_owned();
    assert_eq!(id.len(), 26, "{said}");
    assert_eq!(send(&dev, developer, SECRET).await, 204);
    assert!(print(&on("list")).starts_with(&format!("{id}\t")));

    let master_key = |arguments: &[&str]| {
        let command = [&["master-key"], arguments, &["--data-dir", path]].concat();
        print(&command)
    };
    print(&["keyring", "add-key", "--data-dir", path]);
    print(&["keyring", "set-primary", "2", "--data-dir", path]);
    let before = master_key(&["status"]);
    assert!(before.contains("/1\tactive\t1"), "{before}");
    let rewrapped = master_key(&["rewrap"]);
    assert!(rewrapped.contains("/2\tprimary\t1"), "{rewrapped}");
    assert_eq!(send(&dev, developer, SECRET).await, 204);

    let remove = [&on("remove")[..], &[&id]].concat();
    assert_eq!(print(&remove).trim(), format!("{id} removed"));
    assert_eq!(print(&remove).trim(), format!("{id} was not there"));
    assert_eq!(send(&dev, developer, SECRET).await, 401);
}
