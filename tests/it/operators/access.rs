//! Who is let in, and where.

use grantex_vault::grpc::{ADMIN_DESCRIPTOR_SET, pb::admin::ListDevelopersRequest};
use prost_reflect::DescriptorPool;
use tonic::{Code, Request, Status, transport::Channel};
use tonic_prost::ProstCodec;

use super::{Files, TOKEN, channel, named, operator, presenting, recorded, refused, start};
use crate::{
    grpc_services::{reflected, reflected_to},
    harness::{Certificates, Setup, Trust, Via},
};

/// The paths of all calls of operators.
pub(super) fn calls() -> Vec<String> {
    let pool = DescriptorPool::decode(ADMIN_DESCRIPTOR_SET).unwrap();
    let service = pool.get_service_by_name("grantex.vault.admin.v1.AdminService");
    let service = service.expect("it is described");
    let path = |name: &str| format!("/{}/{name}", service.full_name());
    service
        .methods()
        .map(|method| path(method.name()))
        .collect()
}

/// Makes a call with an empty message.
pub(super) async fn call(
    channel: Channel,
    path: &str,
    authorization: Option<&str>,
) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let mut request = Request::new(());
    if let Some(value) = authorization {
        let value = value.parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let codec = ProstCodec::<(), ()>::default();
    let answer = client.unary(request, path.parse().unwrap(), codec).await;
    answer.map(|_| ())
}

#[tokio::test]
async fn every_call_without_or_with_a_wrong_credential_is_refused_and_does_nothing() {
    let (_files, server) = start().await;
    let tenant = server.tenant("acme").await;
    let grant = server.grant(&tenant, "user", &["vault:github:exchange"]);
    let bearer = |text: &str| Some(format!("Bearer {text}"));
    let credentials = [
        None,
        Some(String::new()),
        Some(TOKEN.to_owned()),
        Some(format!("Basic {TOKEN}")),
        bearer(""),
        bearer(&TOKEN[1..]),
        bearer(&format!("{TOKEN}x")),
        bearer(&TOKEN.to_uppercase()),
        bearer(&"x".repeat(20_000)),
        bearer(&tenant.key),
        bearer(&grant),
    ];
    let calls = calls();
    assert!(calls.len() > 10, "{calls:?}");
    for path in &calls {
        for presented in &credentials {
            let status = call(channel(&server), path, presented.as_deref()).await;
            let status = status.unwrap_err();
            let expected = (Code::Unauthenticated, "UNAUTHORIZED".to_owned());
            assert_eq!(refused(&status), expected, "{path} {presented:?}");
        }
    }
    assert_eq!(recorded(&server).await, [""; 0], "nothing was done");
    assert_eq!(server.rows("developers").await.len(), 1);
    // The same calls with the token are known, so that it was the credential that was refused.
    for path in &calls {
        let known = call(channel(&server), path, Some(&format!("Bearer {TOKEN}"))).await;
        let code = known.map_or_else(|status| status.code(), |()| Code::Ok);
        assert!(
            matches!(code, Code::Ok | Code::InvalidArgument),
            "{path}: {code:?}"
        );
    }
}

#[tokio::test]
async fn operators_are_on_a_listener_of_their_own_with_nothing_else() {
    let (_files, server) = start().await;
    let bearer = format!("Bearer {TOKEN}");
    let admin = || Trust::default().channel(&server.admin_url());
    for path in calls() {
        let status = call(admin(), &path, Some(&bearer)).await;
        assert_eq!(status.unwrap_err().code(), Code::Unimplemented, "{path}");
    }
    let status = reflected_to(admin(), Some(&bearer)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    for path in [
        "/livez",
        "/readyz",
        "/metrics",
        "/grpc.health.v1.Health/Check",
    ] {
        let status = call(channel(&server), path, None).await.unwrap_err();
        assert_eq!(refused(&status).0, Code::Unauthenticated, "{path}");
        let status = call(channel(&server), path, Some(&bearer)).await;
        assert_eq!(status.unwrap_err().code(), Code::Unimplemented, "{path}");
    }
    assert_eq!(recorded(&server).await, [""; 0]);
}

/// What a start with these settings is refused by.
pub(super) async fn start_refused(settings: &[(&str, &str)]) -> String {
    let set = |setup: Setup, (name, value): &(&str, &str)| setup.with(name, value);
    let started = settings.iter().fold(Setup::new(), set).try_start().await;
    started.err().expect("it is refused").to_string()
}

#[tokio::test]
async fn a_token_without_tls_is_refused_except_on_loopback() {
    let files = Files::with_token(TOKEN);
    let certificates = Certificates::new();
    let (token_file, [certificate, key]) = (
        files.token_path(),
        ["tls.crt", "tls.key"].map(|name| certificates.path(name)),
    );
    let token = ("GRANTEX_VAULT_OPERATOR_TOKEN_FILE", token_file.as_str());
    for everywhere in ["0.0.0.0:0", "[::]:0"] {
        let address = ("GRANTEX_VAULT_OPERATOR_ADDR", everywhere);
        let text = start_refused(&[address, token]).await;
        let sentence =
            "GRANTEX_VAULT_OPERATOR_TOKEN_FILE needs GRANTEX_VAULT_OPERATOR_TLS_CERT_FILE";
        assert!(text.contains(sentence), "{text}");
    }
    let server = files
        .setup()
        .with("GRANTEX_VAULT_OPERATOR_ADDR", "0.0.0.0:0")
        .with("GRANTEX_VAULT_OPERATOR_TLS_CERT_FILE", &certificate)
        .with("GRANTEX_VAULT_OPERATOR_TLS_KEY_FILE", &key)
        .start()
        .await;
    let url = server
        .operator_url()
        .replace("http://0.0.0.0", "https://127.0.0.1");
    let channel = certificates.trust().channel(&url);
    let mut operator = presenting(channel, Some(&format!("Bearer {TOKEN}")));
    operator.create_developer(named("acme")).await.unwrap();
}

#[tokio::test]
async fn settings_of_operators_that_do_not_fit_together_are_refused_by_name() {
    let address = ("GRANTEX_VAULT_OPERATOR_ADDR", "127.0.0.1:0");
    let text = start_refused(&[address]).await;
    let sentence = "GRANTEX_VAULT_OPERATOR_ADDR needs GRANTEX_VAULT_OPERATOR_TOKEN_FILE or";
    assert!(text.contains(sentence), "{text}");
    for name in [
        "GRANTEX_VAULT_OPERATOR_TOKEN_FILE",
        "GRANTEX_VAULT_OPERATOR_TLS_CERT_FILE",
        "GRANTEX_VAULT_OPERATOR_TLS_CLIENT_CA_FILE",
    ] {
        let text = start_refused(&[(name, "a-file")]).await;
        assert!(text.contains(&format!("{name} needs ")), "{text}");
    }
}

#[tokio::test]
async fn no_public_listener_serves_operators() {
    let (_files, server) = start().await;
    let authorization = format!("Bearer {TOKEN}");
    for path in calls() {
        let status = call(server.channel.clone(), &path, Some(&authorization)).await;
        assert_eq!(status.unwrap_err().code(), Code::Unimplemented, "{path}");
        let posted = server.http.post(format!("{}{path}", server.http_url));
        let posted = posted.bearer_auth(TOKEN).send().await.unwrap();
        assert_eq!(posted.status(), 404, "{path}");
    }
    assert_eq!(recorded(&server).await, [""; 0]);
    let public = String::from_utf8_lossy(grantex_vault::grpc::DESCRIPTOR_SET);
    assert!(
        !public.contains("AdminService"),
        "reflection knows nothing of it"
    );
    let unknown = reflected(channel(&server)).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unauthenticated, "who is not known");
    let reflected = reflected_to(channel(&server), Some(&authorization)).await;
    let reflected = reflected.unwrap();
    let admin = "grantex.vault.admin.v1.AdminService";
    assert!(reflected.iter().any(|name| name == admin), "{reflected:?}");
}

#[tokio::test]
async fn a_token_can_be_replaced_while_the_vault_serves() {
    let (files, server) = start().await;
    operator(&server)
        .create_developer(named("one"))
        .await
        .unwrap();
    let other = "another-token-of-enough-characters-for-it";
    files.write_token(other);
    let status = operator(&server).create_developer(named("two")).await;
    assert_eq!(status.unwrap_err().code(), Code::Unauthenticated);
    let mut replaced = presenting(channel(&server), Some(&format!("bearer  {other}")));
    replaced.create_developer(named("three")).await.unwrap();
    files.write_token("short");
    let status = replaced.create_developer(named("four")).await;
    assert_eq!(status.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(server.rows("developers").await.len(), 2);
}

#[tokio::test]
async fn a_token_that_is_none_ends_the_start_with_the_settings_name() {
    let files = Files::with_token("short");
    let fault = files
        .setup()
        .try_start()
        .await
        .err()
        .expect("it is refused");
    let text = fault.to_string();
    assert!(
        text.contains("GRANTEX_VAULT_OPERATOR_TOKEN_FILE names "),
        "{text}"
    );
    assert!(!text.contains("short"), "{text}");
}

#[tokio::test]
async fn the_token_is_in_no_answer_no_log_and_no_table() {
    let (_files, server) = start().await;
    let mut operator = operator(&server);
    operator.create_developer(named("acme")).await.unwrap();
    let listed = operator.list_developers(ListDevelopersRequest::default());
    let listed = format!("{:?}", listed.await.unwrap().into_inner());
    let events = server.audit_events().await;
    for text in [listed, serde_json::to_string(&events).unwrap()] {
        assert!(!text.contains(TOKEN), "{text}");
    }
    assert_eq!(events[0]["caller"]["operator"], "token");
    let tenant = server.tenant("globex").await;
    for via in Via::BOTH {
        let refused = server.client(via, TOKEN).list().await.unwrap_err();
        assert_eq!(refused.status, 401, "it is no API key of {}", tenant.id);
    }
}
