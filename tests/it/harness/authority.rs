//! Whose word a server takes: that of the vault's own tables, or that of a Grantex auth service, whose
//! tables a test fills as the service does.

use grantex_vault::{
    auth::api_key::{self, Mode},
    store::authority::Authority,
};
use serde_json::{Value, json};

use super::{Client, Cluster, Server, Setup, Tenant, Via, connect};

/// A server, and who says which developers there are and which grants live.
pub(crate) struct Realm {
    pub(crate) server: Server,
    /// Beside which it serves; `None` when it stands alone.
    pub(crate) grantex: Option<Grantex>,
}

/// A Grantex auth service, as far as the vault sees one: what it writes.
pub(crate) struct Grantex {
    sql: tokio_postgres::Client,
}

/// A grant token as its issuer has it.
pub(crate) struct Granted {
    pub(crate) token: String,
    pub(crate) claims: Value,
}

// === impl Realm ===

impl Realm {
    pub(crate) const BOTH: [Authority; 2] = [Authority::Standalone, Authority::Grantex];

    /// One as most tests need it.
    pub(crate) async fn start(authority: Authority) -> Self {
        Self::start_with(authority, Setup::new()).await
    }

    /// The same on a database of its own, with a setup that a test changed.
    pub(crate) async fn start_with(authority: Authority, setup: Setup) -> Self {
        let url = Cluster::shared().await.database().await;
        let (setup, grantex) = match authority {
            Authority::Standalone => (setup.with("DATABASE_URL", &url), None),
            Authority::Grantex => {
                let grantex = Grantex::on(&url).await;
                (setup.beside_grantex(&url), Some(grantex))
            }
        };
        let server = setup.start().await;
        Self { server, grantex }
    }

    /// Another server beside the first one, by the word of the same authority.
    pub(crate) fn replica(&self, setup: Setup) -> Setup {
        let setup = match self.grantex {
            None => setup,
            Some(_) => setup.beside_grantex(&self.server.database_url),
        };
        setup.beside(&self.server)
    }

    /// Has the authority know a developer with an API key.
    pub(crate) async fn tenant(&self, id: &str) -> Tenant {
        match &self.grantex {
            None => self.server.tenant(id).await,
            Some(grantex) => grantex.register(id).await,
        }
    }

    /// A token for everything, with a grant of its own, that lives by the word of the authority.
    pub(crate) async fn issued(&self, tenant: &Tenant, principal: &str) -> Granted {
        self.issue(self.claims(tenant, principal)).await
    }

    /// The claims of one, to be changed.
    pub(crate) fn claims(&self, tenant: &Tenant, principal: &str) -> Value {
        let mut claims = self
            .server
            .claims(&tenant.id, principal, &["vault:github:exchange"]);
        claims["grnt"] = json!(name("grnt"));
        claims["jti"] = json!(name("tok"));
        claims
    }

    /// The token of these claims, of which the authority knows.
    pub(crate) async fn issue(&self, claims: Value) -> Granted {
        if let Some(grantex) = &self.grantex {
            grantex.issue(&claims).await;
        }
        self.only_signed(claims)
    }

    /// One that is signed, and of which nobody told the authority.
    pub(crate) fn only_signed(&self, claims: Value) -> Granted {
        Granted {
            token: self.server.issuer.key().sign(&claims),
            claims,
        }
    }

    /// Speaks as an agent with such a token.
    pub(crate) fn agent(&self, via: Via, issued: &Granted) -> Client<'_> {
        self.server.client(via, &issued.token)
    }
}

// === impl Grantex ===

impl Grantex {
    /// Its tables, as it documents them.
    pub(crate) const TABLES: &str = "
        create table public.developers (
            id text primary key, api_key_hash text not null unique, name text not null, mode text);
        create table public.grants (
            id text primary key, agent_id text not null, principal_id text not null,
            developer_id text not null, scopes text[] not null,
            status text not null default 'active', issued_at timestamptz default now(),
            expires_at timestamptz not null, revoked_at timestamptz);
        create table public.grant_tokens (
            jti text primary key, grant_id text not null, is_revoked boolean not null default false,
            expires_at timestamptz not null, created_at timestamptz default now())";

    /// Makes its tables in a database.
    pub(crate) async fn on(url: &str) -> Self {
        let sql = connect(url).await;
        sql.batch_execute(Self::TABLES).await.unwrap();
        Self { sql }
    }

    /// Signs a developer up.
    pub(crate) async fn register(&self, id: &str) -> Tenant {
        const SQL: &str = "insert into public.developers (id, api_key_hash, name, mode)
            values ($1, encode(sha256(convert_to($2, 'UTF8')), 'hex'), $1, 'live')";
        let key = api_key::make(Mode::Live).expose().to_owned();
        self.sql.execute(SQL, &[&id, &key]).await.unwrap();
        Tenant {
            id: id.to_owned(),
            key,
            key_id: String::new(),
        }
    }

    /// Issues a token: the first of its grant with the grant, a refreshed one beside it.
    pub(crate) async fn issue(&self, claims: &Value) {
        const SQL: &str = "
            with made as (
                insert into public.grants
                    (id, agent_id, principal_id, developer_id, scopes, expires_at)
                values ($1, 'ag_of_the_tests', $2, $3, $4, to_timestamp($5::bigint))
                on conflict (id) do nothing)
            insert into public.grant_tokens (jti, grant_id, expires_at)
            values ($6, $1, to_timestamp($5::bigint))";
        let text = |name: &str| claims[name].as_str().unwrap();
        let scopes = claims["scp"].as_array().unwrap().iter();
        let scopes: Vec<_> = scopes.map(|scope| scope.as_str().unwrap()).collect();
        let expires = claims["exp"].as_i64().unwrap();
        let (grant, principal, developer) = (text("grnt"), text("sub"), text("dev"));
        self.sql
            .execute(
                SQL,
                &[
                    &grant,
                    &principal,
                    &developer,
                    &scopes,
                    &expires,
                    &text("jti"),
                ],
            )
            .await
            .unwrap();
    }
}

// === impl Granted ===

impl Granted {
    /// A claim that is a text.
    pub(crate) fn claim(&self, name: &str) -> &str {
        self.claims[name].as_str().unwrap()
    }

    /// A statement of this token: `{jti}` and `{grnt}` stand for its claims.
    pub(crate) fn sql(&self, template: &str) -> String {
        let sql = template.replace("{jti}", self.claim("jti"));
        sql.replace("{grnt}", self.claim("grnt"))
    }
}

/// A name of nobody else, in the form of Grantex' own.
fn name(kind: &str) -> String {
    format!("{kind}_{}", uuid::Uuid::new_v4().simple())
}
