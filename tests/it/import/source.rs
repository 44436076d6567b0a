//! A database as the TypeScript vault leaves it, and a served vault that takes it over.

use std::{sync::Mutex, time::Duration};

use aws_lc_rs::aead::{AES_256_GCM, Aad, RandomizedNonceKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use grantex_vault::{
    envelope::legacy_grantex::{LegacyKey, MAX_STORED_CHARS},
    import::{Counts, Import, ImportFault, Report, Seals, Watch},
    pace::Pace,
    store::{Store, grantex_source::GrantexSource, schema::Durability},
};

use crate::harness::{Cluster, Server, Setup, Tenant, Via, connect};

/// The key of the vectors: 000102…1e1f.
pub(crate) const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
/// What every token begins with that a test makes up.
pub(super) const CANARY: &str = "canary-3f1b";

/// Tokens with what the TypeScript vault made of them under that key.
pub(super) const VECTORS: [(&str, &str); 4] = [
    ("hello", "Hie+GdXQ6Y/kGuaWwOZZfn5GjjqWB/fqLlyUTdNP/NFJ"),
    (
        "ghp_xxxxxxxxxxxx",
        "JI3QyDbw2aUs8CtUtOFwKhuWTjRJgzpo3w2Fa+ZNJey2ih1TMtpJldT7ffA=",
    ),
    (
        "tök✓😀",
        "Fyh2S5grazJr2+bEKabHAYSIzdNNhgVZNvsT7j3Erdnso+JDUjCw",
    ),
    ("a\0b", "UfyoMptkpFbmcR8gSgo9xp9IF8K3fkjo+6vRSdgZOA=="),
];
pub(super) const EMPTY: &str = "FEYg/VNNQN8BuSFhc/+BxHhwAAO3+zOQviPttQ==";

/// As the TypeScript vault and the auth service beside it make them.
const TABLES: &str = "
    create table public.vault_credentials (
        id text primary key, developer_id text not null, principal_id text not null,
        service text not null, credential_type text not null default 'oauth2',
        access_token text not null, refresh_token text, token_expires_at timestamptz,
        metadata jsonb not null default '{}', created_at timestamptz not null default now(),
        updated_at timestamptz not null default now(),
        unique (developer_id, principal_id, service));
    create table public.developers (
        id text primary key, api_key_hash text not null unique, name text not null, mode text)";

/// A row of `public.vault_credentials`, as the service itself writes one; a test changes what it is
/// about.
pub(super) struct Row<'a> {
    pub(super) id: String,
    pub(super) developer: &'a str,
    pub(super) principal: &'a str,
    pub(super) service: &'a str,
    pub(super) credential_type: &'a str,
    pub(super) access_token: String,
    pub(super) refresh_token: Option<String>,
    pub(super) token_expires_at: Option<&'a str>,
    pub(super) metadata: &'a str,
    pub(super) created_at: &'a str,
    pub(super) updated_at: &'a str,
}

/// A database of the TypeScript vault.
pub(crate) struct Source {
    pub(crate) url: String,
    sql: tokio_postgres::Client,
}

/// That database, and a vault.
pub(super) struct Move {
    pub(super) source: Source,
    pub(super) server: Server,
    pub(super) tenant: Tenant,
}

/// The id of this number in the form that the service itself gives: `vault_` and a ULID.
pub(super) fn id(number: usize) -> String {
    format!("vault_01HXYZ{number:020}")
}

/// What the TypeScript vault stores of a token.
pub(super) fn encrypted(token: &str) -> String {
    encrypted_under(token, &std::array::from_fn(|at| u8::try_from(at).unwrap()))
}

pub(super) fn encrypted_under(token: &str, key: &[u8; 32]) -> String {
    let mut body = token.as_bytes().to_vec();
    let nonce = RandomizedNonceKey::new(&AES_256_GCM, key)
        .unwrap()
        .seal_in_place_append_tag(Aad::empty(), &mut body)
        .unwrap();
    let (ciphertext, tag) = body.split_at(body.len() - 16);
    STANDARD.encode([nonce.as_ref().as_slice(), tag, ciphertext].concat())
}

/// Works, and answers the counts and the lines that were reported.
pub(super) async fn watched(
    work: impl AsyncFnOnce(&Watch<'_>) -> Result<(), ImportFault>,
) -> (Result<(), ImportFault>, Counts, Vec<String>) {
    let lines = Mutex::new(Vec::new());
    let report = |report: &Report<'_>| lines.lock().unwrap().push(report.to_string());
    let watch = Watch::new(&report);
    let done = work(&watch).await;
    let counts = watch.counts();
    (done, counts, lines.into_inner().unwrap())
}

// === impl Row ===

impl Default for Row<'_> {
    fn default() -> Self {
        Self {
            id: id(1),
            developer: "acme",
            principal: "user",
            service: "GitHub",
            credential_type: "oauth2",
            access_token: encrypted(CANARY),
            refresh_token: None,
            token_expires_at: None,
            metadata: r#""{\"org\":\"acme\"}""#,
            created_at: "2026-01-01T00:00:00.123456Z",
            updated_at: "2026-01-02T00:00:00.123456Z",
        }
    }
}

// === impl Source ===

impl Source {
    pub(crate) async fn new() -> Self {
        let url = Cluster::shared().await.empty_database().await;
        let sql = connect(&url).await;
        sql.batch_execute(TABLES).await.unwrap();
        Self { url, sql }
    }

    pub(super) async fn insert(&self, row: Row<'_>) {
        const SQL: &str = "insert into public.vault_credentials values ($1, $2, $3, $4, $5, $6, $7,
            $8::text::timestamptz, $9::text::jsonb, $10::text::timestamptz, $11::text::timestamptz)";
        self.sql
            .execute(
                SQL,
                &[
                    &row.id,
                    &row.developer,
                    &row.principal,
                    &row.service,
                    &row.credential_type,
                    &row.access_token,
                    &row.refresh_token,
                    &row.token_expires_at,
                    &row.metadata,
                    &row.created_at,
                    &row.updated_at,
                ],
            )
            .await
            .unwrap();
    }

    /// So many rows from the number 1 on, a principal each: `user-1` has the token `canary 1`.
    pub(super) async fn fill(&self, count: usize) {
        for number in 1..=count {
            self.insert(Row {
                id: id(number),
                principal: &format!("user-{number}"),
                access_token: encrypted(&format!("{CANARY} {number}")),
                refresh_token: Some(encrypted(&format!("{CANARY} refresh {number}"))),
                ..Row::default()
            })
            .await;
        }
    }

    pub(super) async fn execute(&self, sql: &str) {
        self.sql.batch_execute(sql).await.unwrap();
    }

    /// Whether there is anything in a table.
    pub(super) async fn has_rows(&self, table: &str) -> bool {
        let asked = format!("select from {table} limit 1");
        self.sql.query_opt(&asked, &[]).await.unwrap().is_some()
    }

    /// Has a row hold another token from this moment on.
    pub(super) async fn change(&self, id: &str, token: &str, updated_at: &str) {
        let stored = encrypted(token);
        self.execute(&format!(
            "update public.vault_credentials
             set access_token = '{stored}', updated_at = '{updated_at}' where id = '{id}'"
        ))
        .await;
    }

    pub(super) async fn read(&self) -> GrantexSource {
        let url = self.url.parse().unwrap();
        GrantexSource::connect(&url, MAX_STORED_CHARS)
            .await
            .unwrap()
    }
}

// === impl Move ===

impl Move {
    pub(super) async fn new() -> Self {
        Self::with(Setup::new()).await
    }

    pub(super) async fn with(setup: Setup) -> Self {
        let server = setup.start().await;
        Self {
            source: Source::new().await,
            tenant: server.tenant("acme").await,
            server,
        }
    }

    /// An import into this vault, or a rehearsal of one.
    pub(super) fn import(&self, key: &str, dry_run: bool) -> Import {
        let url = self.server.database_url.parse().unwrap();
        let store = Store::open(&url, 8, Durability::Required).unwrap();
        let seals = Seals {
            kms: self.server.kms.clone(),
            timeout: Duration::from_secs(3),
        };
        let seals = (!dry_run).then_some(seals);
        let key = LegacyKey::parse(key).unwrap();
        Import::new(store, key, seals, Pace::new(8, None))
    }

    /// Takes over what can be; answers the counts and the lines that were reported, in order.
    pub(super) async fn run(&self) -> (Counts, Vec<String>) {
        self.run_with(KEY, false).await
    }

    pub(super) async fn run_with(&self, key: &str, dry_run: bool) -> (Counts, Vec<String>) {
        let (import, mut source) = (self.import(key, dry_run), self.source.read().await);
        let work = async |watch: &Watch<'_>| import.credentials(&mut source, watch).await;
        let (done, counts, mut lines) = watched(work).await;
        done.unwrap();
        lines.sort();
        (counts, lines)
    }

    /// How many are imported by a run that reports nothing.
    pub(super) async fn imported(&self) -> u64 {
        let (counts, lines) = self.run().await;
        assert!(lines.is_empty(), "{lines:?}");
        counts.imported
    }

    /// What an agent of this principal receives for GitHub, over both transports.
    pub(super) async fn token(&self, principal: &str) -> String {
        let [rest, grpc] = Via::BOTH.map(|via| self.server.agent(via, &self.tenant, principal));
        let [rest, grpc] = [rest.exchange("github").await, grpc.exchange("GITHUB").await];
        let [rest, grpc] =
            [rest, grpc].map(|answer| answer.expect("it opens")["accessToken"].clone());
        assert_eq!(rest, grpc);
        rest.as_str().unwrap().to_owned()
    }

    /// The credentials that the developer has, newest first.
    pub(super) async fn list(&self) -> Vec<serde_json::Value> {
        let listed = self.server.client(Via::Rest, &self.tenant.key).list().await;
        listed.unwrap()["credentials"].as_array().unwrap().clone()
    }
}
