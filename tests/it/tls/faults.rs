//! Settings and files that TLS cannot be served with.

use std::fs;

use grantex_vault::{
    app::StartFault,
    clock::{Clock, SystemClock},
    listener::tls::{self, ClientAuthorities, Listener, TlsFile, TlsFiles},
    model::timestamp::Timestamp,
};
use rcgen::KeyPair;

use crate::harness::{Certificates, Log, Setup};

/// Why a server with these files does not start.
async fn refusal(setup: Setup) -> String {
    let fault = setup.try_start().await.err().expect("no server starts");
    assert!(matches!(fault, StartFault::Config(_)), "{fault:?}");
    fault.to_string()
}

#[tokio::test]
async fn a_file_that_cannot_be_used_refuses_the_start_by_the_name_of_its_setting() {
    let certificates = Certificates::new();
    let good = certificates.authority.issue();
    let authority = certificates.authority.pem();
    let other_key = KeyPair::generate().unwrap().serialize_pem();
    let secret = &other_key[40..80];
    let damaged = good.certificate.replacen("MII", "AAA", 1);
    let half = &other_key[..80];
    let chain_with_a_break = format!("{}{}", good.certificate, damaged);
    let encrypted = other_key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let large = " ".repeat(2 * 1024 * 1024);
    for (certificate, key, client_ca, setting, problem) in [
        ("", &*good.key, &*authority, "CERT_FILE", "no certificate"),
        (
            &other_key,
            &good.key,
            &authority,
            "CERT_FILE",
            "no certificate",
        ),
        (&damaged, &good.key, &authority, "CERT_FILE", "parsed"),
        (
            &chain_with_a_break,
            &good.key,
            &authority,
            "CERT_FILE",
            "parsed",
        ),
        (&large, &good.key, &authority, "CERT_FILE", "larger"),
        (
            &good.certificate,
            "",
            &authority,
            "KEY_FILE",
            "no private key",
        ),
        (
            &good.certificate,
            half,
            &authority,
            "KEY_FILE",
            "no private key",
        ),
        (
            &good.certificate,
            &encrypted,
            &authority,
            "KEY_FILE",
            "not encrypted",
        ),
        (
            &good.certificate,
            &other_key,
            &authority,
            "KEY_FILE",
            "does not belong",
        ),
        (
            &good.certificate,
            &good.key,
            "",
            "CLIENT_CA_FILE",
            "no certificate",
        ),
        (
            &good.certificate,
            &good.key,
            &damaged,
            "CLIENT_CA_FILE",
            "verified",
        ),
    ] {
        certificates.swap_all(certificate, key, client_ca);
        let said = refusal(Setup::new().with_mutual_tls(&certificates)).await;
        let name = format!("GRANTEX_VAULT_TLS_{setting} names ");
        assert!(said.contains(&name) && said.contains(problem), "{said}");
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test]
async fn a_path_without_a_file_refuses_the_start() {
    let certificates = Certificates::new();
    for name in ["CERT_FILE", "KEY_FILE", "CLIENT_CA_FILE"] {
        for path in ["/does/not/exist", "/dev/null", "/"] {
            let name = format!("GRANTEX_VAULT_TLS_{name}");
            let setup = Setup::new().with_mutual_tls(&certificates);
            let said = refusal(setup.with(&name, path)).await;
            let expected = format!("{name} names {path}, which cannot be read: ");
            assert!(said.contains(&expected), "{said}");
        }
    }
}

#[tokio::test]
async fn settings_that_miss_one_another_are_all_named_at_once() {
    let certificate = certificates_path("tls.crt");
    let setup = Setup::new()
        .with("GRANTEX_VAULT_TLS_CERT_FILE", &certificate)
        .with("GRANTEX_VAULT_HTTP_ADDR", "eighty");
    let said = refusal(setup).await;
    assert!(
        said.contains("GRANTEX_VAULT_TLS_KEY_FILE is required"),
        "{said}"
    );
    assert!(said.contains("GRANTEX_VAULT_HTTP_ADDR is wrong"), "{said}");
}

fn certificates_path(name: &str) -> String {
    Certificates::new().path(name)
}

#[tokio::test]
async fn an_expired_certificate_is_served_with_a_warning() {
    let certificates = Certificates::new();
    certificates.swap(&certificates.authority.issue_until(2020));
    let log = Log::keep();
    let _server = Setup::new().with_tls(&certificates).start().await;
    let said = log.take();
    let expected = "the TLS certificate has expired not_after=2020-01-01T00:00:00.000Z";
    assert!(said.contains("WARN") && said.contains(expected), "{said}");
}

#[test]
fn files_can_be_checked_without_a_server() {
    let certificates = Certificates::new();
    let files = TlsFiles {
        certificate: certificates.path("tls.crt").into(),
        key: certificates.path("tls.key").into(),
        client_ca: None,
        listener: Listener::Public,
    };
    let now = SystemClock.now();
    let validity = tls::check(&files, &ClientAuthorities::default()).unwrap();
    assert_eq!(Timestamp::parse("2100-01-01"), Ok(validity.not_after));
    assert_eq!(validity.now(now), Ok(()));
    let after = Timestamp::parse("2100-01-02").unwrap();
    assert_eq!(validity.now(after), Err("has expired"));
    let before = Timestamp::parse("1900-01-01").unwrap();
    assert_eq!(validity.now(before), Err("is not valid yet"));

    let key = fs::read_to_string(&files.key).unwrap();
    fs::write(&files.key, key.replace("EY--", "EX--")).unwrap();
    let fault = tls::check(&files, &ClientAuthorities::default()).unwrap_err();
    assert_eq!(fault.file, TlsFile::Key);
}
