//! Credentials that are really sealed, stored beside the API, so that a benchmark has many soon.

use std::{fmt::Write, ops::Range};

use bytes::Bytes;
use futures_util::SinkExt;
use grantex_vault::{
    clock::{Clock, SystemClock},
    envelope::{
        context::{Attributes, Place},
        kms::Kms,
        local_keyring::LocalKeyring,
    },
    model::{
        id::CredentialId,
        metadata::Metadata,
        restrictions::Restrictions,
        secret::{AccessToken, RefreshToken},
        service_name::ServiceName,
        text::{CredentialType, DeveloperId, PrincipalId},
    },
};
use tokio_postgres::Client;
use zeroize::Zeroizing;

const COPY: &str = "
    copy vault.credentials (developer_id, id, principal_id, service, service_key, credential_type,
        access_token, refresh_token, wrapped_key, master_key, metadata, created_at, updated_at)
    from stdin";
/// What is sent at once.
const CHUNK: usize = 1 << 20;

/// The access token of a credential, as long as GitHub's.
pub(crate) fn access_token(number: u32) -> String {
    format!("gho_{number:036}")
}

/// Stores credentials of a developer, each for the principal and the service that `place` says. Their
/// ids, in the order of their numbers.
pub(crate) async fn fill(
    sql: &Client,
    keyring: &LocalKeyring,
    developer: &str,
    numbers: Range<u32>,
    place: impl Fn(u32) -> (String, String),
) -> Vec<String> {
    let sink = sql.copy_in(COPY).await.expect("the database answers");
    let mut sink = Box::pin(sink);
    let primary = keyring.check().await.expect("a local keyring answers");
    let developer = DeveloperId::parse(developer).expect("the instance made it");
    let mut ids = Vec::with_capacity(numbers.len());
    let mut lines = String::new();
    for number in numbers {
        let (principal, service) = place(number);
        let service = ServiceName::parse(&service).expect("a service");
        let place = Place {
            developer: developer.clone(),
            principal: PrincipalId::parse(&principal).expect("a principal"),
            service: service.key().clone(),
        };
        let id = CredentialId::make(SystemClock.now()).to_string();
        let sealed = seal(keyring, &place, &service, number).await;
        let at = SystemClock.now();
        let (key, primary) = (service.key().as_str(), primary.as_str());
        let line = writeln!(
            lines,
            "{developer}\t{id}\t{principal}\t{service}\t{key}\toauth2\t{sealed}\t{primary}\t{{}}\t{at}\t{at}",
            developer = developer.as_str(),
            service = service.as_str(),
        );
        line.expect("a string takes everything");
        if lines.len() > CHUNK {
            let sent = sink.send(Bytes::from(std::mem::take(&mut lines))).await;
            sent.expect("the database answers");
        }
        ids.push(id);
    }
    let sent = sink.send(Bytes::from(lines)).await;
    sent.expect("the database answers");
    sink.as_mut().finish().await.expect("they are well-formed");
    ids
}

/// Both tokens and the data key, as columns of a line.
async fn seal(keyring: &LocalKeyring, place: &Place, service: &ServiceName, number: u32) -> String {
    let attributes = Attributes {
        service,
        credential_type: &CredentialType::default(),
        token_expires_at: None,
        metadata: &Metadata::from_stored("{}").expect("an object"),
        restrictions: &Restrictions::default(),
    };
    let access = AccessToken::new(Zeroizing::new(access_token(number))).expect("a token");
    let refresh = RefreshToken::new(Zeroizing::new(format!("ghr_{number:072}"))).expect("a token");
    let fresh = keyring.generate(&place.kms_context()).await;
    let fresh = fresh.expect("a local keyring answers");
    let (sealed, _) = fresh.seal(place, &attributes, &access, Some(&refresh));
    let refresh = sealed.refresh_token.expect("one was sealed");
    let columns = [
        sealed.access_token.as_bytes(),
        refresh.as_bytes(),
        &sealed.data_key.bytes,
    ];
    columns.map(hex).join("\t")
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::from(r"\\x");
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}
