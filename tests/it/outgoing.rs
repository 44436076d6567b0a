//! How requests leave: through which proxy, and trusting whom. `doctor` makes each of them once.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode},
    routing::get,
};
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Authority, Moto, RecordingProxy, run_with};

const NOWHERE: &str = "postgres://vault@127.0.0.1:1/vault?sslmode=disable";

/// What `doctor` is started with, its master key in KMS.
struct Doctor {
    settings: BTreeMap<&'static str, String>,
    directory: TempDir,
}

impl Doctor {
    fn new(kms: &str, master_key: &str) -> Self {
        let settings = [
            ("DATABASE_URL", NOWHERE),
            ("GRANTEX_VAULT_MASTER_KEY", master_key),
            ("GRANTEX_VAULT_KMS_TIMEOUT", "5s"),
            ("GRANTEX_VAULT_ISSUER", "https://issuer.test"),
            ("AWS_ENDPOINT_URL", kms),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        let settings = settings.map(|(name, value)| (name, value.to_owned()));
        Self {
            settings: BTreeMap::from(settings),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    async fn of_moto() -> Self {
        let moto = Moto::shared().await;
        Self::new(&moto.url, &format!("aws-kms:{}", moto.master_key().await))
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.settings.insert(name, value.into());
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.settings.remove(name);
        self
    }

    /// A file of its own.
    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// A configuration of AWS' tools.
    fn profile(self, content: &str) -> Self {
        let path = self.file("config", content);
        let credentials = self.directory.path().join("none");
        let home = self.directory.path().display().to_string();
        self.with("AWS_CONFIG_FILE", shown(&path))
            .with("AWS_SHARED_CREDENTIALS_FILE", shown(&credentials))
            .with("HOME", home)
            .without("AWS_ACCESS_KEY_ID")
            .without("AWS_SECRET_ACCESS_KEY")
    }

    async fn says(&self) -> String {
        let settings = self.settings.clone();
        let output = tokio::task::spawn_blocking(move || {
            let variables: Vec<(&str, &str)> = settings.iter().map(|(n, v)| (*n, &**v)).collect();
            run_with(&["doctor"], &variables)
        });
        let output = output.await.unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test]
async fn this_machine_is_never_asked_through_a_proxy() {
    let proxy = RecordingProxy::start().await;
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        let doctor = Doctor::of_moto().await;
        let doctor = doctor
            .with("GRANTEX_VAULT_JWKS_URL", "http://127.0.0.1:1/jwks")
            .with(name, &proxy.url);
        let said = doctor.says().await;
        assert!(said.contains("Decrypt works"), "{name}: {said}");
        assert_eq!(proxy.asked(), Vec::<String>::new(), "{name}");
    }
}

#[tokio::test]
async fn the_issuer_and_kms_are_asked_through_the_proxy_of_their_scheme() {
    let (http, https) = (RecordingProxy::start().await, RecordingProxy::start().await);
    let doctor = Doctor::new("http://kms.test:7", "aws-kms:alias/vault")
        .with("HTTP_PROXY", &http.url)
        .with(
            "HTTPS_PROXY",
            https.url.replace("http://", "http://user:canary@"),
        );
    let said = doctor.says().await;
    assert!(http.was_asked_for("POST http://kms.test:7/"), "{said}");
    assert!(https.was_asked_for("CONNECT issuer.test:443"), "{said}");
    assert!(!http.was_asked_for("CONNECT"), "{:?}", http.asked());
    assert!(!https.was_asked_for("POST"), "{:?}", https.asked());
    assert!(!said.contains("canary"), "{said}");

    let secured = Doctor::new("https://kms.test", "aws-kms:alias/vault");
    let said = secured.with("all_proxy", &https.url).says().await;
    assert!(https.was_asked_for("CONNECT kms.test:443"), "{said}");
}

#[tokio::test]
async fn whom_no_proxy_names_is_asked_directly_by_every_client() {
    let proxy = RecordingProxy::start().await;
    for directly in ["issuer.test,kms.test", ".test", "*"] {
        let doctor = Doctor::new("http://kms.test:7", "aws-kms:alias/vault")
            .with("HTTP_PROXY", &proxy.url)
            .with("HTTPS_PROXY", &proxy.url)
            .with("no_proxy", directly);
        let said = doctor.says().await;
        assert_eq!(proxy.asked(), Vec::<String>::new(), "{directly}: {said}");
    }
}

#[tokio::test]
async fn what_names_no_proxy_is_refused_by_name_and_not_shown() {
    for name in ["HTTP_PROXY", "https_proxy", "ALL_PROXY"] {
        let doctor = Doctor::of_moto().await;
        let said = doctor.with(name, "socks5://canary:1080").says().await;
        assert!(
            said.contains(&format!("{name} must be the URL of a proxy")),
            "{said}"
        );
        assert!(!said.contains("canary"), "{said}");
    }
}

#[tokio::test]
async fn aws_is_verified_by_the_authorities_of_aws_ca_bundle() {
    let authority = Authority::new("authority of a VPC endpoint");
    let (moto, key) = Moto::secured(&authority.issue()).await;
    let master_key = format!("aws-kms:{key}");
    let said = Doctor::new(&moto.url, &master_key).says().await;
    assert!(!said.contains("Decrypt works"), "{said}");

    let doctor = Doctor::new(&moto.url, &master_key);
    let others = Authority::new("another").pem();
    let bundle = doctor.file("bundle.pem", &format!("{others}\n{}", authority.pem()));
    let said = doctor.with("AWS_CA_BUNDLE", shown(&bundle)).says().await;
    assert!(said.contains("Decrypt works"), "{said}");

    for (content, complaint) in [
        ("", "holds no certificate in PEM"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "holds a certificate that cannot be used",
        ),
    ] {
        let doctor = Doctor::new(&moto.url, &master_key);
        let bundle = doctor.file("bundle.pem", content);
        let said = doctor.with("AWS_CA_BUNDLE", shown(&bundle)).says().await;
        let complaint = format!(
            "AWS_CA_BUNDLE names {}, which {complaint}",
            bundle.display()
        );
        assert!(said.contains(&complaint), "{said}");
    }
}

#[tokio::test]
async fn a_profile_may_name_a_process_that_gives_credentials() {
    let doctor = Doctor::of_moto().await;
    let credentials = json!({"Version": 1, "AccessKeyId": "test", "SecretAccessKey": "test"});
    let script = doctor.file(
        "credentials.sh",
        &format!("#!/bin/sh\necho '{credentials}'\n"),
    );
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let profile = format!("[default]\ncredential_process = {}\n", script.display());
    let said = doctor.profile(&profile).says().await;
    assert!(said.contains("Decrypt works"), "{said}");
}

/// What asked KMS, by its key.
type Asked = Arc<Mutex<Vec<String>>>;

/// The portal of IAM Identity Center, and a KMS that lets nobody in.
async fn portal() -> (String, Asked) {
    let asked = Asked::default();
    let answer = Router::new()
        .route(
            "/federation/credentials",
            get(async |RawQuery(query): RawQuery| {
                assert!(query.unwrap().contains("role_name=vault"));
                json!({"roleCredentials": {
                    "accessKeyId": "key-of-sso", "secretAccessKey": "s", "sessionToken": "t",
                    "expiration": 4_102_444_800_000_i64,
                }})
                .to_string()
            }),
        )
        .fallback(async |State(asked): State<Asked>, headers: HeaderMap| {
            let signed = headers["authorization"].to_str().unwrap().to_owned();
            asked.lock().unwrap().push(signed);
            let denied = json!({"__type": "AccessDeniedException"});
            (StatusCode::BAD_REQUEST, denied.to_string())
        })
        .with_state(Arc::clone(&asked));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, answer).await });
    (url, asked)
}

#[tokio::test]
async fn a_profile_may_name_a_session_of_iam_identity_center() {
    let (url, asked) = portal().await;
    let doctor = Doctor::new(&url, "aws-kms:alias/vault");
    let token = json!({
        "accessToken": "token", "expiresAt": "2099-01-01T00:00:00Z",
        "region": "eu-west-1", "startUrl": "https://portal.test",
    });
    // Where `aws sso login` leaves it: SHA-1 of the session's name.
    let cache = ".aws/sso/cache/a0f1490a20d0211c997b44bc357e1972deab8ae3.json";
    doctor.file(cache, &token.to_string());
    let profile = "[default]\nsso_session = s\nsso_account_id = 111122223333\nsso_role_name = vault\n\
                   [sso-session s]\nsso_region = eu-west-1\nsso_start_url = https://portal.test\n";
    let said = doctor.profile(profile).says().await;
    let asked = asked.lock().unwrap();
    let by_role = |signed: &String| signed.contains("Credential=key-of-sso/");
    assert!(asked.iter().any(by_role), "{asked:?}: {said}");
}
