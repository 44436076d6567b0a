//! Client certificates: they admit a connection, and say nothing of who calls.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Hello;
use crate::harness::{Authority, Certificates, Issued, Server, Setup, Trust, Via, until};

/// Whether a client that presents this is let in, through each door.
async fn admitted(server: &Server, trust: &Trust) -> [bool; 2] {
    let rest = trust.http().get(format!("{}/", server.http_url));
    let rest = rest.send().await.is_ok();
    let channel = trust.channel(&server.grpc_url);
    let request = tonic_health::pb::HealthCheckRequest::default();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    [rest, health.check(request).await.is_ok()]
}

fn presenting(certificates: &Certificates, client: &Issued) -> Trust {
    certificates.trust().with_identity(client)
}

#[tokio::test]
async fn a_client_needs_a_certificate_of_the_authority() {
    let certificates = Certificates::new();
    let server = Setup::new().with_mutual_tls(&certificates).start().await;
    let good = certificates.authority.issue_client("good");
    let stranger = Authority::new("somebody else's").issue_client("stranger");
    let namesake = Authority::new("the vault's").issue_client("of a namesake");
    for (trust, admits) in [
        (presenting(&certificates, &good), true),
        (certificates.trust(), false),
        (presenting(&certificates, &stranger), false),
        (presenting(&certificates, &namesake), false),
    ] {
        assert_eq!(admitted(&server, &trust).await, [admits; 2]);
    }
}

#[tokio::test]
async fn an_expired_client_certificate_is_refused_even_when_it_was_admitted_before() {
    let certificates = Certificates::new();
    let server = Setup::new().with_mutual_tls(&certificates).start().await;
    let trust = presenting(&certificates, &certificates.authority.issue_client("old"));
    assert_eq!(admitted(&server, &trust).await, [true; 2]);
    server.clock.advance(Duration::from_hours(24 * 365 * 80));
    assert_eq!(admitted(&server, &trust).await, [false; 2]);
}

#[tokio::test]
async fn a_certificate_is_no_credential() {
    let certificates = Certificates::new();
    let server = Setup::new().with_mutual_tls(&certificates).start().await;
    let tenant = server.tenant("acme").await;
    for via in Via::BOTH {
        let nobody = server.client_with(via, None);
        assert_eq!(nobody.list().await.unwrap_err().status, 401, "{via:?}");
        let developer = server.client(via, &tenant.key);
        developer.store_token("user", "github", "secret").await;
    }
}

#[tokio::test]
async fn authorities_are_exchanged_while_it_serves() {
    let certificates = Certificates::new();
    let server = Setup::new().with_mutual_tls(&certificates).start().await;
    let tenant = server.tenant("acme").await;
    let former = presenting(
        &certificates,
        &certificates.authority.issue_client("former"),
    );
    let next_authority = Authority::new("next");
    let next = presenting(&certificates, &next_authority.issue_client("next"));
    assert_eq!(admitted(&server, &former).await, [true; 2]);
    for via in Via::BOTH {
        let developer = server.client(via, &tenant.key);
        developer.store_token("user", "github", "secret").await;
    }

    let issued = certificates.authority.issue();
    certificates.swap_all(&issued.certificate, &issued.key, &next_authority.pem());
    until("clients of the next authority are admitted", async || {
        admitted(&server, &next).await == [true; 2]
    })
    .await;
    assert_eq!(admitted(&server, &former).await, [false; 2]);
    for via in Via::BOTH {
        let listed = server.client(via, &tenant.key).list().await;
        assert!(listed.is_ok(), "an open connection goes on");
    }
}

#[tokio::test]
async fn the_client_learns_that_a_certificate_is_asked_for() {
    let certificates = Certificates::new();
    let server = Setup::new().with_mutual_tls(&certificates).start().await;
    let hello = Hello::of_versions(&certificates.authority, &[&rustls::version::TLS13]);
    let mut stream = hello.say(&server.http_address()).await.unwrap();
    // In 1.3 the client is done before it is judged.
    let _ = stream
        .write_all(b"GET / HTTP/1.1\r\nhost: vault\r\n\r\n")
        .await;
    let alert = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert!(alert.to_string().contains("CertificateRequired"), "{alert}");
}
