//! A rotation between two keys in AWS KMS, of an instance that `dev` runs, with the binary alone.

use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Dev, Moto, instance_directory, run_with, until};

/// Who operates an instance whose master keys are in KMS.
struct Operator<'a> {
    moto: &'a Moto,
    directory: &'a Path,
    primary: String,
    old: String,
}

impl<'a> Operator<'a> {
    fn new(moto: &'a Moto, directory: &'a Path, primary: &str, old: &[&str]) -> Self {
        let setting = |arn: &str| format!("aws-kms:{arn}");
        let old: Vec<String> = old.iter().map(|arn| setting(arn)).collect();
        Self {
            moto,
            directory,
            primary: setting(primary),
            old: old.join(","),
        }
    }

    fn environment(&self) -> Vec<(&str, &str)> {
        let mut variables = vec![
            ("GRANTEX_VAULT_MASTER_KEY", &*self.primary),
            ("GRANTEX_VAULT_OLD_MASTER_KEYS", &*self.old),
        ];
        variables.extend(self.moto.environment());
        variables
    }

    async fn start(&self) -> Dev {
        Dev::start(self.directory, &self.environment()).await
    }

    /// Runs `master-key`; answers whether it succeeded, and all that it said.
    fn say(&self, arguments: &[&str]) -> (bool, String) {
        self.run(&[&["master-key"], arguments].concat())
    }

    fn run(&self, arguments: &[&str]) -> (bool, String) {
        let at = ["--data-dir", self.directory.to_str().unwrap()];
        let output = run_with(&[arguments, &at].concat(), &self.environment());
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }
}

async fn post(url: String, credentials: &str, body: Value) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(url).bearer_auth(credentials).json(&body);
    let answer = request.send().await.expect("dev answers");
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn store(dev: &Dev, service: &str) {
    let url = format!("{}/v1/vault/credentials", dev.get("http"));
    let body = json!({
        "principalId": dev.get("principalId"), "service": service, "accessToken": token(service),
    });
    let (status, answer) = post(url, dev.get("apiKey"), body).await;
    assert_eq!(status, 201, "{answer}");
}

async fn assert_exchanges(dev: &Dev, service: &str) {
    let url = format!("{}/v1/vault/credentials/exchange", dev.get("http"));
    let (status, answer) = post(url, dev.get("grantToken"), json!({"service": service})).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["accessToken"], token(service));
}

fn token(service: &str) -> String {
    format!("canary of {service}")
}

/// Ends it; nothing that it said may be secret.
async fn stop(mut dev: Dev) {
    dev.process.signal(Signal::TERM);
    let ended = dev.process.end().await;
    let log = dev.process.log();
    assert!(ended.success(), "{log}");
    assert!(!log.contains("canary"), "{log}");
}

#[tokio::test]
async fn a_dev_instance_moves_from_one_kms_key_to_another_and_does_without_the_first() {
    let moto = Moto::shared().await;
    let (first, second) = (moto.master_key().await, moto.master_key().await);
    let directory = instance_directory();

    let operator = Operator::new(moto, directory.path(), &first, &[]);
    let dev = operator.start().await;
    store(&dev, "github").await;
    stop(dev).await;
    let dev = operator.start().await;
    assert_exchanges(&dev, "github").await;
    // Its key is made when there is something to seal.
    let sealed = async || dev.process.log().contains("audit events sealed");
    until("the audit record is sealed", sealed).await;
    stop(dev).await;

    let operator = Operator::new(moto, directory.path(), &second, &[&first]);
    let dev = operator.start().await;
    assert_exchanges(&dev, "github").await;
    store(&dev, "slack").await;
    let (done, said) = operator.say(&["retire", &first]);
    assert!(!done && said.contains("is needed"), "{said}");
    let (done, said) = operator.say(&["rewrap"]);
    assert!(done && said.contains("rewrapped 1,"), "{said}");
    // Two credentials, and the key that signs the audit record.
    assert!(said.contains(&format!("{second}\tprimary\t3")), "{said}");
    let (done, said) = operator.say(&["retire", &first]);
    assert!(done, "{said}");
    let (done, said) = operator.say(&["status"]);
    assert!(done, "{said}");
    let mut keys: Vec<_> = said.lines().collect();
    keys.sort_unstable();
    let mut expected = [
        format!("{first}\tretired\t0"),
        format!("{second}\tprimary\t3"),
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert_exchanges(&dev, "github").await;
    stop(dev).await;

    // The first is gone from the configuration, and cannot be used in KMS either.
    let (_, id) = first.split_once(":key/").unwrap();
    let disabled = moto.kms().disable_key().key_id(id).send().await;
    disabled.unwrap();
    let operator = Operator::new(moto, directory.path(), &second, &[]);
    let dev = operator.start().await;
    for service in ["github", "slack"] {
        assert_exchanges(&dev, service).await;
    }
    let (done, said) = operator.say(&["verify"]);
    assert!(done && said.contains("2 of 2 open"), "{said}");
    let (done, said) = operator.run(&["audit", "verify"]);
    assert!(done && said.contains("last seal"), "{said}");
    stop(dev).await;

    // A replica that was forgotten stores nothing under the retired key.
    let enabled = moto.kms().enable_key().key_id(id).send().await;
    enabled.unwrap();
    let operator = Operator::new(moto, directory.path(), &first, &[&second]);
    let dev = operator.start().await;
    assert_exchanges(&dev, "github").await;
    let url = format!("{}/v1/vault/credentials", dev.get("http"));
    let body = json!({
        "principalId": dev.get("principalId"), "service": "github", "accessToken": "canary",
    });
    let (status, answer) = post(url, dev.get("apiKey"), body).await;
    assert_eq!(status, 503, "{answer}");
    assert_exchanges(&dev, "github").await;
    stop(dev).await;
}
