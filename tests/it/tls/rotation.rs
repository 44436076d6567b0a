//! Certificates that are replaced while the server serves.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use grantex_vault::{
    clock::SystemClock,
    grpc::pb::{ExchangeCredentialRequest, vault_service_client::VaultServiceClient},
    listener::tls::{Listener, Tls, TlsFiles},
    model::timestamp::Timestamp,
};
use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, interval_at},
};

use super::{Hello, presented, served_certificate};
use crate::harness::{Certificates, Client, Issued, Log, Server, Setup, Via, answer, until};

const ROTATIONS: usize = 6;
const LOOK_EVERY: Duration = Duration::from_secs(5);

async fn until_served(server: &Server, certificates: &Certificates, issued: &Issued) {
    until("both listeners serve the new certificate", async || {
        for address in [server.http_address(), server.grpc_address()] {
            if served_certificate(&certificates.authority, &address).await != issued.der {
                return false;
            }
        }
        true
    })
    .await;
}

/// Exchanges on a connection of its own.
async fn exchange_anew(agent: &Client<'_>, certificates: &Certificates) -> String {
    let (server, trust) = (agent.server, certificates.trust());
    match agent.via {
        Via::Rest => {
            let url = format!("{}/v1/vault/credentials/exchange", server.http_url);
            let request = trust.http().request(Method::POST, url);
            let request = request.header("authorization", agent.authorization.clone().unwrap());
            let sent = request.json(&json!({"service": "github"})).send().await;
            let exchanged = answer(sent.expect("no connection fails")).await.unwrap();
            exchanged["accessToken"].as_str().unwrap().to_owned()
        }
        Via::Grpc => {
            let mut client = VaultServiceClient::new(trust.channel(&server.grpc_url));
            let request = agent.request(ExchangeCredentialRequest {
                service: "github".to_owned(),
            });
            let exchanged = client.exchange_credential(request).await;
            exchanged
                .expect("no connection fails")
                .into_inner()
                .access_token
        }
    }
}

#[tokio::test]
async fn rotated_under_load_no_request_fails() {
    let certificates = Certificates::new();
    let server = Setup::new().with_tls(&certificates).start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    developer.store_token("user", "github", "secret").await;

    let rotated = AtomicBool::new(false);
    let [kept, anew] = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let under_way = || !rotated.load(Ordering::Relaxed);
    let on_kept = async |number: usize| {
        let agent = server.agent(Via::BOTH[number % 2], &tenant, "user");
        while under_way() {
            let exchanged = agent.exchange("github").await.expect("no request fails");
            assert_eq!(exchanged["accessToken"], "secret");
            kept.fetch_add(1, Ordering::Relaxed);
        }
    };
    let on_new = async |number: usize| {
        let agent = server.agent(Via::BOTH[number % 2], &tenant, "user");
        while under_way() {
            assert_eq!(exchange_anew(&agent, &certificates).await, "secret");
            anew.fetch_add(1, Ordering::Relaxed);
        }
    };
    let rotate = async {
        for number in 0..ROTATIONS {
            let issued = certificates.authority.issue();
            if number % 2 == 0 {
                certificates.swap(&issued);
            } else {
                certificates.rewrite(&issued);
            }
            until_served(&server, &certificates, &issued).await;
            let (before, before_anew) =
                (kept.load(Ordering::Relaxed), anew.load(Ordering::Relaxed));
            until(
                "requests went on over both kinds of connections",
                async || {
                    kept.load(Ordering::Relaxed) > before + 20
                        && anew.load(Ordering::Relaxed) > before_anew + 4
                },
            )
            .await;
        }
        rotated.store(true, Ordering::Relaxed);
    };
    tokio::join!(
        rotate,
        join_all((0..8).map(on_kept)),
        join_all((0..6).map(on_new)),
    );
}

#[tokio::test]
async fn an_open_connection_keeps_its_certificate_and_goes_on() {
    let certificates = Certificates::new();
    let server = Setup::new().with_tls(&certificates).start().await;
    let address = server.http_address();
    let mut open = Hello::new(&certificates.authority)
        .say(&address)
        .await
        .unwrap();
    let issued = certificates.authority.issue();
    certificates.swap(&issued);
    until_served(&server, &certificates, &issued).await;
    assert_ne!(presented(&open), issued.der);
    let request = b"GET / HTTP/1.1\r\nhost: vault\r\nconnection: close\r\n\r\n";
    open.write_all(request).await.unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn files_that_cannot_be_used_change_nothing_and_are_said_once() {
    let certificates = Certificates::new();
    let log = Log::keep();
    let first = certificates.authority.issue();
    certificates.swap(&first);
    let server = Setup::new().with_mutual_tls(&certificates).start().await;
    let started = log.take();
    assert!(
        started.contains("TLS is on not_after=2100-01-01T"),
        "{started}"
    );

    let other = certificates.authority.issue();
    let authority = certificates.authority.pem();
    let half = &other.certificate[..other.certificate.len() / 2];
    let sets = [
        (half, &*other.key, &*authority, "CERT_FILE"),
        (&other.certificate, &first.key, &authority, "KEY_FILE"),
        (&other.certificate, "canary", &authority, "KEY_FILE"),
        (&other.certificate, &other.key, "", "CLIENT_CA_FILE"),
    ];
    for (certificate, key, client_ca, named) in sets {
        certificates.swap_all(certificate, key, client_ca);
        let mut said = String::new();
        until("it is said", async || {
            said.push_str(&log.take());
            said.contains(named)
        })
        .await;
        assert!(said.contains("WARN") && !said.contains("canary"), "{said}");
        let presented = served_certificate(&certificates.authority, &server.http_address()).await;
        assert_eq!(presented, first.der, "{named}");
    }

    // Gone altogether, and back.
    let data = fs::canonicalize(certificates.path("tls.crt")).unwrap();
    fs::remove_file(&data).unwrap();
    until("it is said", async || log.take().contains("cannot be read")).await;
    certificates.swap(&first);
    until("it is said", async || log.take().contains("say again")).await;

    let last = certificates.authority.issue();
    certificates.swap(&last);
    let mut said = String::new();
    until("the next good set is taken up", async || {
        said.push_str(&log.take());
        said.contains("the TLS files have changed not_after=2100-01-01T")
    })
    .await;
    assert!(!said.contains("WARN"), "nothing was said twice: {said}");
    until_served(&server, &certificates, &last).await;
}

/// Time is paused: it moves on when everybody waits.
#[tokio::test(start_paused = true)]
async fn a_change_is_taken_up_when_two_looks_saw_the_same() {
    let certificates = Certificates::new();
    let files = TlsFiles {
        certificate: certificates.path("tls.crt").into(),
        key: certificates.path("tls.key").into(),
        client_ca: None,
        listener: Listener::Public,
    };
    let tls = Arc::new(Tls::load(files, Arc::new(SystemClock), Arc::default()).unwrap());
    let serving = Arc::clone(&tls);
    let following = tokio::spawn(async move { serving.follow_files(LOOK_EVERY).await });
    // Between two looks, and so for each round.
    let mut rounds = interval_at(Instant::now() + LOOK_EVERY / 2, LOOK_EVERY);
    let expires = |year: &str| Timestamp::parse(&format!("{year}-01-01")).unwrap();

    rounds.tick().await;
    certificates.swap(&certificates.authority.issue_until(2091));
    rounds.tick().await;
    assert_eq!(tls.not_after(), expires("2100"), "seen once");
    certificates.swap(&certificates.authority.issue_until(2092));
    rounds.tick().await;
    assert_eq!(tls.not_after(), expires("2100"), "another, seen once");
    rounds.tick().await;
    assert_eq!(tls.not_after(), expires("2092"), "seen twice");
    following.abort();
}
