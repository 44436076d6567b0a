//! `grantex-vault audit …` as an operator runs it, against a `dev` instance.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Dev, Process, connect, instance_directory, run, until};

pub(super) struct Instance {
    pub(super) dev: Dev,
    directory: TempDir,
}

impl Instance {
    pub(super) async fn start() -> Self {
        let directory = instance_directory();
        let settings = [("GRANTEX_VAULT_AUDIT_SEAL_INTERVAL", "100ms")];
        let dev = Dev::start(directory.path(), &settings).await;
        let instance = Self { dev, directory };
        let body = json!({
            "principalId": instance.dev.get("principalId"), "service": "github",
            "accessToken": "canary",
        });
        let stored = instance.post("", instance.dev.get("apiKey"), body).await;
        assert_eq!(stored, 201);
        instance
    }

    pub(super) async fn post(&self, path: &str, credentials: &str, body: Value) -> u16 {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{}/v1/vault/credentials{path}", self.dev.get("http"));
        let request = client.post(url).bearer_auth(credentials).json(&body);
        request.send().await.unwrap().status().as_u16()
    }

    pub(super) async fn exchange(&self) {
        let body = json!({"service": "github"});
        let exchanged = self
            .post("/exchange", self.dev.get("grantToken"), body)
            .await;
        assert_eq!(exchanged, 200);
    }

    /// Runs `audit`; answers whether it succeeded, what it printed, and what it complained of.
    pub(super) fn audit(&self, arguments: &[&str]) -> (bool, String, String) {
        let (code, printed, complaint) = self.audit_with_code(arguments);
        (code == Some(0), printed, complaint)
    }

    /// The same with the exit code.
    pub(super) fn audit_with_code(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let at = ["--data-dir", self.directory.path().to_str().unwrap()];
        let output = run(&[&["audit"], arguments, &at].concat());
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    /// A file in its directory.
    pub(super) fn file(&self, name: &str) -> String {
        let path = self.directory.path().join(name);
        path.to_str().unwrap().to_owned()
    }

    pub(super) async fn execute(&self, sql: &str) {
        let client = connect(self.dev.get("databaseUrl")).await;
        client.batch_execute(sql).await.unwrap();
    }

    pub(super) async fn all_sealed(&self) {
        until("every event is sealed", async || {
            let (_, said, _) = self.audit(&["verify"]);
            said.contains("last seal") && !said.contains("not sealed yet")
        })
        .await;
    }
}

#[tokio::test]
async fn an_operator_verifies_exports_and_checks() {
    let instance = Instance::start().await;
    for _ in 0..3 {
        instance.exchange().await;
    }
    instance.all_sealed().await;
    let (well, said, _) = instance.audit(&["verify"]);
    assert!(well && said.starts_with("4 events of "), "{said}");
    assert!(said.contains("the tail is unproven"), "{said}");
    let anchor = said
        .lines()
        .find_map(|line| line.strip_prefix("last seal "))
        .unwrap();
    let log = instance.dev.process.log();
    let hash = anchor.split_once(':').unwrap().1;
    assert!(log.contains(hash), "the log has each seal");
    let (well, said, _) = instance.audit(&["verify", "--anchor", anchor]);
    assert!(well && !said.contains("unproven"), "{said}");

    let file = |name: &str| instance.file(name);
    let (well, pem, _) = instance.audit(&["public-key"]);
    assert!(
        well && pem.starts_with("-----BEGIN PUBLIC KEY-----"),
        "{pem}"
    );
    fs::write(file("vault.pem"), pem).unwrap();
    let (well, said, _) = instance.audit(&["verify", "--public-key", &file("vault.pem")]);
    assert!(well, "{said}");
    let (well, events, _) = instance.audit(&["export"]);
    assert!(well && !events.contains("canary"), "{events}");
    fs::write(file("events"), &events).unwrap();
    let check = [
        "audit",
        "verify-file",
        "--public-key",
        &file("vault.pem"),
        &file("events"),
    ];
    let output = run(&check);
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    // With the event of the export itself, if that was sealed meanwhile.
    assert!(
        ["4 events of ", "5 events of "]
            .iter()
            .any(|begin| said.starts_with(begin)),
        "{said}"
    );
    fs::write(
        file("events"),
        events.replacen("\"released\"", "\"denied\"", 1),
    )
    .unwrap();
    let output = run(&check);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("the event is not in its seal"), "{said}");
}

#[tokio::test]
async fn what_is_done_to_the_record_ends_verify_with_1_and_is_named() {
    let instance = Instance::start().await;
    for _ in 0..6 {
        instance.exchange().await;
    }
    instance.all_sealed().await;
    let (_, listed, _) = instance.audit(&["list"]);
    let id = |at: usize| {
        let event: Value = serde_json::from_str(listed.lines().nth(at).unwrap()).unwrap();
        event["id"].as_str().unwrap().to_owned()
    };
    let tamper = format!(
        "update vault.audit_events set outcome = 'denied' where id = '{}';
         delete from vault.audit_events where id = '{}';
         insert into vault.audit_events (developer_id, id, outcome, xid, canonical)
            values ('acme', '01ARZ3NDEKTSV4RRFFQ69G5FAV', 'read', '3', '');
         update vault.audit_events e set canonical = o.canonical from vault.audit_events o
            where (e.id, o.id) in (('{two}', '{three}'), ('{three}', '{two}'))",
        id(0),
        id(1),
        two = id(2),
        three = id(3),
    );
    instance.execute(&tamper).await;
    let (well, said, complaint) = instance.audit(&["verify"]);
    assert!(!well, "{said}");
    assert!(
        complaint.contains("5 things are not as they were sealed"),
        "{complaint}"
    );
    for (id, what) in [
        (id(0), "changed: column outcome"),
        (id(1), "removed"),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(), "added"),
        (id(2), "changed"),
        (id(3), "changed"),
    ] {
        let named = said
            .lines()
            .any(|line| line.contains(&format!("{id}\t{what}")));
        assert!(named, "{id} {what} in {said}");
    }
}

#[tokio::test]
async fn an_operator_lists_what_is_looked_for_the_last_first() {
    let instance = Instance::start().await;
    instance.exchange().await;
    let developer = instance.dev.get("developerId");
    let lines = |arguments: &[&str]| {
        let (well, said, complaint) = instance.audit(&[&["list"], arguments].concat());
        assert!(well, "{complaint}");
        let events = said.lines().map(|line| serde_json::from_str(line).unwrap());
        events.collect::<Vec<Value>>()
    };
    let outcomes = |events: &[Value]| -> Vec<String> {
        events
            .iter()
            .map(|event| event["outcome"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = lines(&[]);
    assert_eq!(outcomes(&all), ["released", "stored"]);
    let now = all[0]["occurredAt"].as_str().unwrap();
    let grant = all[0]["caller"]["grantId"].as_str().unwrap();
    let credential = all[0]["credentialId"].as_str().unwrap();
    for (arguments, count) in [
        (&["--limit", "1"][..], 1),
        (&["--developer", "nobody"], 0),
        // With the look before, which was at the events of nobody.
        (&["--developer", developer], 2),
        (&["--principal", instance.dev.get("principalId")], 2),
        (&["--service", "GITHUB"], 2),
        (&["--credential", credential], 2),
        (&["--grant", grant], 1),
        (&["--outcome", "stored"], 1),
        (&["--from", now, "--outcome", "released"], 1),
        (&["--to", now], 1),
    ] {
        assert_eq!(lines(arguments).len(), count, "{arguments:?}");
    }
}

#[tokio::test]
async fn whoever_has_seen_enough_of_a_list_ends_it_quietly() {
    let instance = Instance::start().await;
    let more = "insert into vault.audit_events (developer_id, id, outcome, canonical)
        select developer_id, '01ARZ3NDEKTSV4RRFF' || lpad(n::text, 8, '0'), outcome, canonical
        from vault.audit_events, generate_series(1, 5000) n";
    instance.execute(more).await;
    let binary = env!("CARGO_BIN_EXE_grantex-vault");
    let at = instance.directory.path().display();
    let pipe = format!(
        "{binary} audit list --limit 10000 --data-dir {at} | head -n 1 | grep -c version; echo ${{PIPESTATUS[0]}}"
    );
    let output = std::process::Command::new("bash")
        .args(["-c", &pipe])
        .output()
        .unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    // What SIGPIPE makes of other tools.
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "1\n141\n");
    assert_eq!(complaint, "");
}

#[tokio::test]
async fn an_operator_follows_what_is_committed() {
    let instance = Instance::start().await;
    let at = instance.directory.path().to_str().unwrap();
    let tail = Process::start(
        &["audit", "tail", "--outcome", "released", "--data-dir", at],
        &[],
    );
    let lines = || tail.output().lines().count();
    for round in 1..=3 {
        instance.exchange().await;
        until("the exchange is shown", async || lines() == round).await;
    }
    let output = tail.output();
    let event = |line: &str| serde_json::from_str::<Value>(line).unwrap()["verb"].clone();
    assert!(
        output.lines().all(|line| event(line) == "exchange"),
        "{output}"
    );
    let later = Process::start(&["audit", "tail", "--data-dir", at], &[]);
    until("it begins with the last ones", async || {
        // The beginning of both tails is an event too.
        later.output().lines().count() == 6
    })
    .await;
}
