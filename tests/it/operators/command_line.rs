//! The same at the command line, on a running instance.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Dev, instance_directory, print, run};

/// A running instance, and commands that act on it.
struct Instance {
    directory: TempDir,
    dev: Dev,
}

impl Instance {
    async fn start() -> Self {
        let directory = instance_directory();
        let unsealed = [("GRANTEX_VAULT_AUDIT_SEAL_INTERVAL", "0")];
        let dev = Dev::start(directory.path(), &unsealed).await;
        Self { directory, dev }
    }

    /// What a command prints.
    fn say(&self, arguments: &[&str]) -> String {
        print(&self.on(arguments)).trim_end().to_owned()
    }

    fn on<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        let directory = self.directory.path().to_str().unwrap();
        [arguments, &["--data-dir", directory]].concat()
    }

    /// The columns of what a command prints.
    fn rows(&self, arguments: &[&str]) -> Vec<Vec<String>> {
        let columns = |line: &str| line.split('\t').map(str::to_owned).collect();
        self.say(arguments).lines().map(columns).collect()
    }

    async fn post(&self, path: &str, bearer: &str, body: &str) -> u16 {
        let url = format!("{}/v1/vault/{path}", self.dev.get("http"));
        let request = reqwest::Client::new().post(url).bearer_auth(bearer);
        let request = request.header("content-type", "application/json");
        let answer = request.body(body.to_owned()).send().await;
        answer.unwrap().status().as_u16()
    }

    /// The status that the developer gets.
    async fn list(&self) -> u16 {
        let url = format!("{}/v1/vault/credentials", self.dev.get("http"));
        let request = reqwest::Client::new().get(url);
        let request = request.bearer_auth(self.dev.get("apiKey"));
        request.send().await.unwrap().status().as_u16()
    }

    async fn store(&self) -> u16 {
        let principal = self.dev.get("principalId");
        let body =
            format!(r#"{{"principalId":"{principal}","service":"github","accessToken":"secret"}}"#);
        self.post("credentials", self.dev.get("apiKey"), &body)
            .await
    }

    async fn exchange(&self, token: &str) -> u16 {
        let body = r#"{"service":"github"}"#;
        self.post("credentials/exchange", token, body).await
    }

    fn mint(&self) -> String {
        let principal = self.dev.get("principalId");
        self.say(&[
            "grant",
            "mint",
            "--principal",
            principal,
            "--service",
            "github",
            "--form",
            "both",
        ])
    }

    /// What operators left in the record at a command line, oldest first.
    fn recorded(&self) -> Vec<String> {
        let events = self.say(&["audit", "list"]);
        let events = events.lines().rev();
        let events = events.map(|line| serde_json::from_str::<Value>(line).unwrap());
        let events: Vec<_> = events
            .filter(|event| event["transport"] == "command_line")
            .filter(|event| event["verb"] != "list_audit_events")
            .collect();
        let uid = format!("uid {}", rustix::process::getuid().as_raw());
        assert!(
            events
                .iter()
                .all(|event| event["caller"]["operator"] == *uid)
        );
        let text = |event: &Value| {
            let [verb, outcome] = ["verb", "outcome"].map(|name| event[name].as_str().unwrap());
            format!("{verb} {outcome}")
        };
        events.iter().map(text).collect()
    }
}

fn claim(token: &str, name: &str) -> String {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap());
    let claims: Value = serde_json::from_slice(&payload.unwrap()).unwrap();
    claims[name].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn grants_and_tokens_are_revoked_by_a_command_and_that_is_recorded() {
    let instance = Instance::start().await;
    let developer = instance.dev.get("developerId");
    assert_eq!(instance.store().await, 201);
    let (first, second) = (instance.mint(), instance.mint());
    assert_eq!(instance.exchange(&first).await, 200);

    let token = claim(&first, "jti");
    let revoke = ["token", "revoke", "--developer", developer, &token];
    assert_eq!(instance.say(&revoke), format!("{token} revoked"));
    assert_eq!(
        instance.say(&revoke),
        format!("{token} was revoked already")
    );
    assert_eq!(instance.exchange(&first).await, 401);
    assert_eq!(instance.exchange(&second).await, 200);
    let grant = claim(&second, "grnt");
    let revoke = ["grant", "revoke", "--developer", developer, &grant];
    assert_eq!(instance.say(&revoke), format!("{grant} revoked"));
    assert_eq!(instance.exchange(&second).await, 401);

    let revoked = instance.rows(&["grant", "revocations", "--developer", developer]);
    let revoked: Vec<_> = revoked
        .iter()
        .map(|row| [&*row[0], &row[1], &row[3]])
        .collect();
    let expected = [["grant", &grant, "for ever"], ["token", &token, "for ever"]];
    assert_eq!(revoked, expected);
    assert_eq!(
        instance.recorded(),
        [
            "revoke_token done",
            "revoke_token unchanged",
            "revoke_grant done",
            "list_revocations listed",
        ]
    );
}

#[tokio::test]
async fn developers_are_suspended_and_deleted_by_a_command_and_that_is_recorded() {
    let instance = Instance::start().await;
    let developer = instance.dev.get("developerId");
    assert_eq!(instance.store().await, 201);
    let suspended = instance.say(&["developer", "suspend", developer]);
    assert_eq!(suspended, format!("{developer} suspended"));
    assert_eq!(instance.list().await, 401);
    assert_eq!(instance.rows(&["developer", "list"])[0][2], "suspended");
    let resumed = instance.say(&["developer", "resume", developer]);
    assert_eq!(resumed, format!("{developer} resumed"));
    assert_eq!(instance.list().await, 200);

    let unsure = run(&instance.on(&["developer", "delete", developer]));
    assert!(!unsure.status.success());
    assert_eq!(instance.list().await, 200);
    let deleted = instance.say(&["developer", "delete", developer, "--yes"]);
    assert_eq!(deleted, format!("{developer} deleted, with 1 credentials"));
    assert_eq!(instance.list().await, 401);
    assert_eq!(
        instance.recorded(),
        [
            "suspend_developer done",
            "list_developers listed",
            "resume_developer done",
            "suspend_developer done",
            "delete_developer deleted",
        ]
    );
}
