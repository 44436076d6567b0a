//! What the parts of a request cost, each by itself: `cargo bench --bench micro`.
//!
//! Only what the library shows can be called: the additional data of the envelope is in sealing and
//! opening, the conversions of the transports are near to the reading and writing that stands for them.

#[expect(dead_code, reason = "some of it is for others")]
mod instance;

use std::{hint::black_box, net::Ipv4Addr, sync::Arc, time::Duration};

use criterion::{BatchSize, Bencher, Criterion};
use futures_util::future::join_all;
use grantex_vault::{
    audit::{
        canonical::RecordedEvent,
        event::{AuditEvent, Outcome},
        journal::Journal,
    },
    auth::{
        grant_rules::{AudiencePolicy, GrantPolicy},
        grant_verifier::GrantVerifier,
        jwks::VerificationKeys,
        key_set::SignatureAlgorithm,
        key_source::FileKeySource,
    },
    clock::{Clock, SystemClock},
    dev::{
        self,
        issuer::{ClaimsForm, DevIssuer, GrantClaims},
    },
    envelope::{
        context::{Attributes, Place},
        data_key::{DataKey, FreshDataKey},
        kms::Kms,
        local_keyring::LocalKeyring,
    },
    grpc::pb,
    health::{Health, Need},
    metrics::Metrics,
    model::{
        bearer::ApiKeyHash,
        bearer::GrantToken,
        caller::Developer,
        id::CredentialId,
        json::Json,
        metadata::Metadata,
        request::{RequestContext, Transport, Verb},
        restrictions::Restrictions,
        scope::{Scope, ScopeMode},
        sealed::{Sealed, SealedCredential},
        secret::{AccessToken, RefreshToken},
        service_name::ServiceName,
        text::{CredentialType, DeveloperId, Issuer, PrincipalId},
    },
    store::{Store, schema::Durability},
};
use instance::Dev;
use prost::Message;
use serde_json::value::RawValue;
use tokio::runtime::Runtime;
use uuid::Uuid;
use zeroize::Zeroizing;

const SCOPE: &str = "vault:github:exchange";
const METADATA: &str = r#"{"team":"platform","scopes":["repo","read:org"],"installation":12345678,"enterprise":false}"#;
/// Events that are recorded together.
const TOGETHER: usize = 64;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let runtime = Runtime::new().expect("the system has threads");
    // Its own vault is idle, and must not seal what is recorded here.
    let dev = Dev::start(&[("GRANTEX_VAULT_AUDIT_SEAL_INTERVAL", "0")]);
    grant(&mut criterion, &runtime, &dev);
    envelope(&mut criterion, &runtime, &dev);
    json(&mut criterion);
    protobuf(&mut criterion);
    journal(&mut criterion, &runtime, &dev);
    criterion.final_summary();
}

fn grant(criterion: &mut Criterion, runtime: &Runtime, dev: &Dev) {
    let issuer = DevIssuer::load(dev.directory.path()).expect("the instance made it");
    let name = dev.instance.issuer.clone().expect("it has its own");
    let claims = GrantClaims {
        issuer: &name,
        developer: &dev.instance.developer_id,
        principal: "user_abc123",
        agent: "did:grantex:dev-agent",
        scopes: &[SCOPE.to_owned()],
        audience: None,
        now: SystemClock.now(),
        expires_in: Duration::from_hours(24),
    };
    let token = issuer.mint(&claims, ClaimsForm::Standard, SignatureAlgorithm::Rs256);
    let token = GrantToken::new(&token);
    let source = Arc::new(FileKeySource::new(dev.directory.path().join("jwks.json")));
    let stale = Duration::from_hours(24);
    let keys = VerificationKeys::new(source, Arc::new(SystemClock), stale);
    runtime
        .block_on(keys.refresh())
        .expect("the instance made it");
    let policy = GrantPolicy {
        audience: AudiencePolicy::Optional(None),
        max_delegation_depth: Some(1),
        max_token_lifetime: None,
        scope_mode: ScopeMode::Exact,
    };
    let issuer_name = Issuer::parse(&name).expect("an instance's issuer is a URL");
    let verifier = GrantVerifier::new(Arc::new(keys), Arc::new(SystemClock), issuer_name, policy);
    criterion.bench_function("token verification", |bencher| {
        bencher.to_async(runtime).iter(async || {
            let grant = verifier.verify(black_box(&token)).await;
            grant.expect("it is good")
        });
    });

    let service = ServiceName::parse("GitHub").expect("a service");
    let check = |bencher: &mut Bencher<'_>, scope: &str, permitted| {
        let scope = Scope::new(scope);
        let mode = ScopeMode::Exact;
        assert_eq!(scope.permits_exchange(service.key(), mode), permitted);
        bencher.iter(|| black_box(&scope).permits_exchange(black_box(service.key()), mode));
    };
    criterion.bench_function("scope check, permits", |bencher| {
        check(bencher, SCOPE, true);
    });
    criterion.bench_function("scope check, does not", |bencher| {
        check(bencher, "vault:gitlab:read", false);
    });
}

/// With the additional data, which is in every seal and opening.
fn envelope(criterion: &mut Criterion, runtime: &Runtime, dev: &Dev) {
    let keyring = LocalKeyring::load(&dev::keyring_file(dev.directory.path()));
    let keyring = keyring.expect("the instance made it");
    let service = ServiceName::parse("GitHub").expect("a service");
    let metadata = Metadata::from_stored(METADATA).expect("an object");
    let attributes = Attributes {
        service: &service,
        credential_type: &CredentialType::default(),
        token_expires_at: Some(SystemClock.now()),
        metadata: &metadata,
        restrictions: &Restrictions::default(),
    };
    let place = Place {
        developer: DeveloperId::parse(&dev.instance.developer_id).expect("the instance made it"),
        principal: PrincipalId::parse("user_abc123").expect("a principal"),
        service: service.key().clone(),
    };
    let access = AccessToken::new(Zeroizing::new(format!("gho_{:036}", 0))).expect("a token");
    let refresh = RefreshToken::new(Zeroizing::new(format!("ghr_{:072}", 0))).expect("a token");
    let fresh = || {
        let fresh = runtime.block_on(keyring.generate(&place.kms_context()));
        fresh.expect("a local keyring answers")
    };
    criterion.bench_function("context of the KMS", |bencher| {
        bencher.iter(|| black_box(&place).kms_context());
    });
    criterion.bench_function("data key, made and wrapped by the keyring", |bencher| {
        bencher.iter(fresh);
    });
    criterion.bench_function("seal both tokens", |bencher| {
        let seal = |fresh: FreshDataKey| fresh.seal(&place, &attributes, &access, Some(&refresh));
        bencher.iter_batched(fresh, seal, BatchSize::SmallInput);
    });
    let (sealed, key): (SealedCredential, DataKey) =
        fresh().seal(&place, &attributes, &access, Some(&refresh));
    criterion.bench_function("data key, unwrapped by the keyring", |bencher| {
        let context = place.kms_context();
        bencher.to_async(runtime).iter(async || {
            let key = keyring.unwrap(black_box(&sealed.data_key), &context).await;
            key.expect("it was wrapped so")
        });
    });
    criterion.bench_function("open the access token", |bencher| {
        let copy = || Sealed::from_stored(sealed.access_token.as_bytes().to_vec());
        let open = |sealed| key.open_access_token(&place, &attributes, sealed);
        bencher.iter_batched(copy, open, BatchSize::SmallInput);
    });
}

fn json(criterion: &mut Criterion) {
    let raw = RawValue::from_string(METADATA.to_owned()).expect("JSON");
    criterion.bench_function("metadata, from JSON", |bencher| {
        bencher.iter(|| {
            let value = Json::parse_member(black_box(&raw)).expect("strict JSON");
            Metadata::new(&value).expect("an object")
        });
    });
    criterion.bench_function("metadata, from the database", |bencher| {
        bencher.iter(|| Metadata::from_stored(black_box(METADATA)));
    });
}

fn protobuf(criterion: &mut Criterion) {
    let request = pb::ExchangeCredentialRequest {
        service: "GitHub".to_owned(),
    };
    let bytes = request.encode_to_vec();
    criterion.bench_function("exchange, request from protobuf", |bencher| {
        bencher.iter(|| pb::ExchangeCredentialRequest::decode(black_box(&bytes[..])));
    });
    let response = pb::ExchangeCredentialResponse {
        access_token: format!("gho_{:036}", 0),
        service: "GitHub".to_owned(),
        credential_type: "oauth2".to_owned(),
        ..pb::ExchangeCredentialResponse::default()
    };
    criterion.bench_function("exchange, response to protobuf", |bencher| {
        bencher.iter(|| black_box(&response).encode_to_vec());
    });
}

/// On a Postgres of its own, with its default durability.
fn journal(criterion: &mut Criterion, runtime: &Runtime, dev: &Dev) {
    let url = dev.instance.database_url.parse().expect("a URL");
    let store = Store::open(&url, 2, Durability::Required).expect("no TLS");
    let health = Arc::new(Health::new(Arc::new(SystemClock), Duration::from_secs(30)));
    let probe = health.need(Need::Audit);
    let event = event(dev);
    let journal = {
        let _runtime = runtime.enter();
        Journal::start(store, Arc::new(SystemClock), Metrics::unobserved(), probe)
    };
    let record = async || journal.record(&event).await.expect("the database answers");
    criterion.bench_function("journal, an event alone", |bencher| {
        bencher.to_async(runtime).iter(record);
    });
    criterion.bench_function("journal, 64 events together", |bencher| {
        let together = async || join_all((0..TOGETHER).map(|_| record())).await.len();
        bencher.to_async(runtime).iter(together);
    });

    let row = runtime.block_on(async {
        let sql = instance::connect(&dev.instance.database_url).await;
        let one = "select canonical from vault.audit_events limit 1";
        sql.query_one(one, &[]).await.expect("it was recorded")
    });
    let canonical: &[u8] = row.get(0);
    criterion.bench_function("audit event, from its canonical bytes", |bencher| {
        bencher.iter(|| RecordedEvent::parse(black_box(canonical)).expect("it is one"));
    });
    let event = RecordedEvent::parse(canonical).expect("it is one");
    criterion.bench_function("audit event, to its canonical bytes", |bencher| {
        bencher.iter(|| black_box(&event).to_bytes());
    });
    runtime.block_on(journal.close());
}

fn event(dev: &Dev) -> AuditEvent {
    let request = RequestContext {
        id: Uuid::new_v4(),
        trace: None,
        transport: Transport::Grpc,
        peer: Ipv4Addr::LOCALHOST.into(),
    };
    let developer = Developer {
        id: DeveloperId::parse(&dev.instance.developer_id).expect("the instance made it"),
        api_key_id: None,
        api_key_hash: ApiKeyHash::from_bytes([0; 32]),
    };
    let mut event = AuditEvent::by_developer(request, &developer, Verb::Get, Outcome::Read);
    event.principal = PrincipalId::parse("user_abc123").ok();
    event.service = ServiceName::parse("GitHub").ok();
    event.credential = Some(CredentialId::make(SystemClock.now()));
    event
}
