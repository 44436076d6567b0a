//! Moto, which speaks the protocol of AWS.

use std::path::Path;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_kms::{
    Client,
    config::{Credentials, SharedCredentialsProvider},
};
use serde_json::Value;
use tokio::sync::OnceCell;

use super::{Issued, Process};

/// Installed by `make setup`.
const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/moto_server");

/// By which it tells service and region; it verifies no signature.
const CREDENTIAL: &str = "AWS4-HMAC-SHA256 Credential=test/20261201/eu-west-1/kms/aws4_request, \
                          SignedHeaders=host, Signature=0";

/// Its region.
const REGION: &str = "eu-west-1";

/// A running server of fake AWS services.
pub(crate) struct Moto {
    pub(crate) url: String,
    _server: Process,
}

static SHARED: OnceCell<Moto> = OnceCell::const_new();

impl Moto {
    /// The one that all tests share, each with keys of its own.
    pub(crate) async fn shared() -> &'static Self {
        SHARED.get_or_init(Self::start).await
    }

    /// One of a test's own behind TLS, with a master key.
    pub(crate) async fn secured(issued: &Issued) -> (Self, String) {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("crt"), directory.path().join("key"));
        std::fs::write(&certificate, &issued.certificate).unwrap();
        std::fs::write(&key, &issued.key).unwrap();
        let file = |path: &Path| path.to_str().unwrap().to_owned();
        let moto = Self::start_with(&["-c", &file(&certificate), "-k", &file(&key)]).await;
        let body = r#"{"Description": "of a test"}"#;
        let made = reqwest::Client::builder()
            .no_proxy()
            .tls_danger_accept_invalid_certs(true)
            .build()
            .unwrap()
            .post(&moto.url)
            .header("x-amz-target", "TrentService.CreateKey")
            .header("authorization", CREDENTIAL)
            .body(body)
            .send();
        let made: Value = made.await.unwrap().json().await.unwrap();
        let arn = made["KeyMetadata"]["Arn"].as_str().unwrap().to_owned();
        (moto, arn)
    }

    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(more: &[&str]) -> Self {
        assert!(
            Path::new(SERVER).exists(),
            "{SERVER} is missing: run `make setup`"
        );
        let arguments = [&["-H", "127.0.0.1", "-p", "0"], more].concat();
        let mut server = Process::start_program(SERVER, &arguments);
        let line = server.logged_line("Running on http").await;
        let (_, url) = line.split_once("Running on ").expect("it was waited for");
        Self {
            url: url.trim().to_owned(),
            _server: server,
        }
    }

    /// What makes a program use it.
    pub(crate) fn environment(&self) -> [(&str, &str); 4] {
        [
            ("AWS_ENDPOINT_URL", &self.url),
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ]
    }

    /// What makes the SDK use it.
    pub(crate) fn config(&self) -> SdkConfig {
        Self::config_of(&self.url)
    }

    /// What makes the SDK use somebody who listens instead of it.
    pub(crate) fn config_of(url: &str) -> SdkConfig {
        Self::config_in(url, REGION)
    }

    /// The same, in a region.
    pub(crate) fn config_in(url: &str, region: &'static str) -> SdkConfig {
        let credentials = Credentials::new("test", "test", None, None, "tests");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region))
            .endpoint_url(url)
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .build()
    }

    /// An administrator of its KMS.
    pub(crate) fn kms(&self) -> Client {
        Client::new(&self.config())
    }

    /// A new master key; answers its ARN.
    pub(crate) async fn master_key(&self) -> String {
        let made = self.kms().create_key().send().await.unwrap();
        made.key_metadata().unwrap().arn().unwrap().to_owned()
    }

    /// A new alias of a master key.
    pub(crate) async fn alias(&self, arn: &str) -> String {
        let alias = format!("alias/{}", uuid::Uuid::new_v4());
        let request = self.kms().create_alias().alias_name(&alias);
        request.target_key_id(arn).send().await.unwrap();
        alias
    }
}
