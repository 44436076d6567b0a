//! Operators by client certificates: which of an authority's are one.

use grantex_vault::grpc::pb::admin::ListDevelopersRequest;
use rcgen::SanType;
use tonic::{Code, transport::Channel};

use super::{
    Files, TOKEN,
    access::{call, calls, start_refused},
    named, presenting, refused,
};
use crate::harness::{Authority, Certificates, Issued, Log, Server, Setup, until};

const SANS: &str = "GRANTEX_VAULT_OPERATOR_SANS";
const OPERATORS_CA: &str = "GRANTEX_VAULT_OPERATOR_TLS_CLIENT_CA_FILE";
const LISTED: &str = "grace.ops.test, ada@ops.test, spiffe://ops.test/deploy";

fn host(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn address(name: &str) -> SanType {
    SanType::Rfc822Name(name.try_into().unwrap())
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

/// The settings of operators who are known by certificates of an authority.
fn settings(certificates: &Certificates) -> Vec<(&'static str, String)> {
    vec![
        ("GRANTEX_VAULT_OPERATOR_ADDR", "127.0.0.1:0".to_owned()),
        (
            "GRANTEX_VAULT_OPERATOR_TLS_CERT_FILE",
            certificates.path("tls.crt"),
        ),
        (
            "GRANTEX_VAULT_OPERATOR_TLS_KEY_FILE",
            certificates.path("tls.key"),
        ),
        (OPERATORS_CA, certificates.path("ca.crt")),
        (SANS, LISTED.to_owned()),
    ]
}

fn with(setup: Setup, settings: &[(&'static str, String)]) -> Setup {
    let set = |setup: Setup, (name, value): &(&str, String)| setup.with(name, value);
    settings.iter().fold(setup, set)
}

async fn start(certificates: &Certificates) -> Server {
    with(Setup::new(), &settings(certificates)).start().await
}

/// A connection of a client with a certificate.
fn connect(server: &Server, certificates: &Certificates, client: &Issued) -> Channel {
    let url = server.operator_url().replace("http://", "https://");
    let trust = certificates.trust().with_identity(client);
    trust.channel(&url)
}

#[tokio::test]
async fn a_certificate_with_a_listed_name_is_recorded_with_that_name_and_its_serial() {
    let certificates = Certificates::new();
    let server = start(&certificates).await;
    for (also, serial, recorded) in [
        (
            vec![host("elsewhere.test"), host("Grace.Ops.test")],
            &[0x0a, 0xbc][..],
            "cert:grace.ops.test:0abc",
        ),
        (vec![address("ada@ops.test")], &[7], "cert:ada@ops.test:07"),
        (
            vec![uri("spiffe://ops.test/deploy")],
            &[0x7f; 20],
            &format!("cert:spiffe://ops.test/deploy:{}", "7f".repeat(20)),
        ),
    ] {
        let client = certificates.authority.issue_named("token", also, serial);
        let channel = connect(&server, &certificates, &client);
        let mut operator = presenting(channel, None);
        operator.create_developer(named("acme")).await.unwrap();
        let events = server.audit_events().await;
        let last = events.last().unwrap();
        assert_eq!(last["verb"], "create_developer");
        assert_eq!(last["caller"]["operator"], recorded);
    }
}

#[tokio::test]
async fn a_certificate_without_a_listed_name_is_nobody_whatever_its_subject_says() {
    let certificates = Certificates::new();
    let server = start(&certificates).await;
    let issue = |subject: &str, also| certificates.authority.issue_named(subject, also, &[1]);
    let strangers = [
        issue("token", vec![]),
        issue("uid 0", vec![]),
        issue("grace.ops.test", vec![]),
        issue("cert:grace.ops.test:01", vec![host("mallory.ops.test")]),
        issue("mallory", vec![host("ops.test"), host("a.grace.ops.test")]),
        issue("mallory", vec![host("*.ops.test")]),
        // The right text as a name of another type.
        issue(
            "mallory",
            vec![host("ada@ops.test"), address("grace.ops.test")],
        ),
        issue("mallory", vec![host("spiffe://ops.test/deploy")]),
        issue("mallory", vec![uri("spiffe://ops.test/Deploy")]),
    ];
    for stranger in &strangers {
        let channel = connect(&server, &certificates, stranger);
        for path in calls() {
            let status = call(channel.clone(), &path, None).await.unwrap_err();
            assert_eq!(refused(&status).0, Code::Unauthenticated, "{path}");
        }
    }
    let events = server.audit_events().await;
    assert_eq!(events.len(), strangers.len() * calls().len());
    for event in events {
        assert_eq!(event["verb"], "log_in");
        assert_eq!(event["caller"]["operator"], "unknown");
    }

    let other = Authority::new("the vault's").issue_named("g", vec![host("grace.ops.test")], &[1]);
    let status = presenting(connect(&server, &certificates, &other), None)
        .list_developers(ListDevelopersRequest::default())
        .await;
    assert!(status.is_err(), "its handshake fails");
}

#[tokio::test]
async fn the_token_admits_beside_certificates_and_is_recorded_as_such() {
    let (certificates, files) = (Certificates::new(), Files::with_token(TOKEN));
    let mut settings = settings(&certificates);
    settings.push(("GRANTEX_VAULT_OPERATOR_TOKEN_FILE", files.token_path()));
    let server = with(Setup::new(), &settings).start().await;
    let bearer = format!("Bearer {TOKEN}");
    let stranger = certificates.authority.issue_client("grace.ops.test");
    let channel = connect(&server, &certificates, &stranger);
    let mut operator = presenting(channel, Some(&bearer));
    operator.create_developer(named("acme")).await.unwrap();
    let events = server.audit_events().await;
    assert_eq!(events.last().unwrap()["caller"]["operator"], "token");
}

#[tokio::test]
async fn authorities_without_a_list_of_names_are_refused_by_the_settings_name() {
    let certificates = Certificates::new();
    let all = settings(&certificates);
    let borrowed = |list: &str| -> Vec<(&'static str, String)> {
        let mut all = all.clone();
        all.retain(|(name, _)| *name != SANS);
        all.push((SANS, list.to_owned()));
        all
    };
    for (list, sentence) in [
        ("", "GRANTEX_VAULT_OPERATOR_SANS is required beside"),
        (" , ", "GRANTEX_VAULT_OPERATOR_SANS is required beside"),
        ("*.ops.test", "GRANTEX_VAULT_OPERATOR_SANS is wrong"),
        (
            "grace.ops.test,two words",
            "GRANTEX_VAULT_OPERATOR_SANS is wrong",
        ),
    ] {
        let settings = borrowed(list);
        let settings: Vec<_> = settings.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let text = start_refused(&settings).await;
        assert!(text.contains(sentence), "{list}: {text}");
    }
    let text = start_refused(&[(SANS, "grace.ops.test")]).await;
    assert!(
        text.contains("GRANTEX_VAULT_OPERATOR_SANS needs "),
        "{text}"
    );
}

/// A server for whose public clients these authorities are, if it starts.
async fn beside_public(
    operators: &Certificates,
    public: &Certificates,
    public_authorities: &str,
) -> Result<Server, String> {
    let issued = public.authority.issue();
    public.swap_all(&issued.certificate, &issued.key, public_authorities);
    let setup = Setup::new().with_mutual_tls(public);
    let started = with(setup, &settings(operators)).try_start().await;
    started.map_err(|fault| fault.to_string())
}

#[tokio::test]
async fn an_authority_of_public_clients_too_is_refused_at_start() {
    let (operators, public) = (Certificates::new(), Certificates::new());
    let own = operators.authority.pem();
    let other = Authority::new("another").pem();
    let signed = operators.authority.subordinate("signed by the operators'");
    for (what, authorities) in [
        ("the same", own.clone()),
        ("the same among others", format!("{other}{own}")),
        ("the same key", operators.authority.renamed_pem("renamed")),
        ("one that it signed", signed.pem()),
    ] {
        let refused = beside_public(&operators, &public, &authorities).await;
        let text = refused.err().unwrap_or_else(|| panic!("{what} is served"));
        assert!(text.contains(&format!("{OPERATORS_CA} names ")), "{text}");
        assert!(text.contains("both public clients and operators"), "{text}");
    }
    let own_public = public.authority.pem();
    let fine = beside_public(&operators, &public, &format!("{own_public}{other}")).await;
    fine.expect("authorities that have nothing to do with another are served");
}

#[tokio::test]
async fn an_authority_that_becomes_shared_later_is_not_taken_up() {
    let (operators, public) = (Certificates::new(), Certificates::new());
    let log = Log::keep();
    let own_public = public.authority.pem();
    let server = beside_public(&operators, &public, &own_public).await;
    let server = server.unwrap();
    let issued = public.authority.issue();
    let own = operators.authority.pem();
    public.swap_all(&issued.certificate, &issued.key, &own);
    until("the change was seen", async || {
        log.take().contains("both public clients and operators")
    })
    .await;
    let client = operators.authority.issue_client("an operator");
    let trust = public.trust().with_identity(&client);
    let answer = trust.http().get(format!("{}/", server.http_url)).send();
    assert!(
        answer.await.is_err(),
        "the public listener trusts what it trusted"
    );
}

#[tokio::test]
async fn a_certificate_of_an_authority_of_public_clients_is_no_operators_whoever_signed_that() {
    let (operators, public) = (Certificates::new(), Certificates::new());
    let between = operators.authority.subordinate("between");
    let clients = between.subordinate("of public clients");
    let server = beside_public(&operators, &public, &clients.pem())
        .await
        .unwrap();
    let names = vec![host("grace.ops.test")];
    let own = operators
        .authority
        .issue_named("grace", names.clone(), &[1]);
    let list = "/grantex.vault.admin.v1.AdminService/ListDevelopers";
    let admitted = call(connect(&server, &operators, &own), list, None).await;
    assert!(admitted.is_ok(), "{admitted:?}");
    let chains = [
        // What an operator's authority signed may be between.
        (
            between.issue_named("grace", names.clone(), &[2]),
            between.pem(),
            true,
        ),
        (
            clients.issue_named("grace", names, &[3]),
            format!("{}{}", clients.pem(), between.pem()),
            false,
        ),
    ];
    for (mut client, chain, is_admitted) in chains {
        client.certificate.push_str(&chain);
        let answer = call(connect(&server, &operators, &client), list, None).await;
        assert_eq!(answer.is_ok(), is_admitted, "{answer:?}");
    }
}

#[tokio::test]
async fn an_authority_that_operators_give_up_is_taken_up_for_public_clients_after_all() {
    let (operators, public) = (Certificates::new(), Certificates::new());
    let (one, other) = (operators.authority.pem(), public.authority.pem());
    let log = Log::keep();
    let server = beside_public(&operators, &public, &other).await.unwrap();
    let issued = public.authority.issue();
    public.swap_all(&issued.certificate, &issued.key, &one);
    until(
        "it is refused while the operators' is the same",
        async || log.take().contains("both public clients and operators"),
    )
    .await;
    let issued = operators.authority.issue();
    let third = Authority::new("a third").pem();
    operators.swap_all(&issued.certificate, &issued.key, &third);
    let client = operators.authority.issue_client("a client");
    let trust = public.trust().with_identity(&client);
    until("a client of the authority is let in", async || {
        let asked = trust.http().get(format!("{}/", server.http_url)).send();
        asked.await.is_ok()
    })
    .await;
}
