//! Grant tokens: what is exactly right is taken, everything else is refused in one and the same way.

mod audience;
mod claims;
mod delegation;
mod elliptic;
mod encoding;
mod forms;
mod header;
mod json;
mod key_sets;
mod keys;
mod other_libraries;
mod reasons;
mod signature;
mod standard;
mod times;

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Server, Setup, SigningKey, Tenant, Via};

const REFUSED: (u16, &str, &str) = (401, "UNAUTHORIZED", "Invalid or expired grant token");
const NO_CREDENTIAL: (u16, &str, &str) = (
    404,
    "NOT_FOUND",
    "No credential found for this principal and service",
);

/// For so long no unknown `kid` makes the vault ask its issuer again.
const COOLDOWN: Duration = Duration::from_secs(10);

/// A server that holds one credential, and what becomes of tokens there.
struct Gate {
    server: Server,
    tenant: Tenant,
}

impl Gate {
    async fn open() -> Self {
        Self::open_with(Setup::new()).await
    }

    async fn open_with(setup: Setup) -> Self {
        let server = setup.start().await;
        let tenant = server.tenant("acme").await;
        let developer = server.client(Via::Rest, &tenant.key);
        developer.store_token("user", "github", "gho_secret").await;
        Self { server, tenant }
    }

    /// The issuer's key.
    fn key(&self) -> SigningKey {
        self.server.issuer.key()
    }

    /// Claims that pass.
    fn claims(&self) -> Value {
        self.server
            .claims(&self.tenant.id, "user", &["vault:github:exchange"])
    }

    /// The same as standard claims, without the aliases.
    fn standard_claims(&self) -> Value {
        let short = self.claims();
        json!({
            "iss": short["iss"], "sub": short["sub"], "jti": short["jti"], "iat": short["iat"],
            "exp": short["exp"], "client_id": "ag_1", "scope": "vault:github:exchange",
            "urn:grantex:grant": {
                "grant_id": short["grnt"], "agent_did": short["agt"], "developer_id": short["dev"],
            },
        })
    }

    /// A token of the issuer's first key and of the type of access tokens.
    fn access_token(&self, claims: &Value) -> String {
        self.access_token_of(claims.to_string())
    }

    /// The same of a payload of any content.
    fn access_token_of(&self, payload: impl AsRef<[u8]>) -> String {
        let key = self.key();
        let header = replaced(&key.header(), "typ", Some("\"at+jwt\""));
        key.sign_raw(header, payload)
    }

    /// Has the issuer publish one more key, and the vault fetch the set when it first sees its `kid`.
    fn publish(&self, key: &SigningKey) {
        self.server.issuer.publish(key.clone());
        self.server.clock.advance(COOLDOWN);
    }

    /// The same of a whole set of any content.
    fn publish_all(&self, keys: &[Value]) {
        let document = json!({"keys": keys}).to_string();
        self.server.issuer.set_document(Some(&document));
        self.server.clock.advance(COOLDOWN);
    }

    /// A token that passes.
    fn token(&self) -> String {
        self.key().sign(&self.claims())
    }

    /// A token of a header of any content, with claims that pass.
    fn token_under(&self, header: impl AsRef<[u8]>) -> String {
        self.key().sign_raw(header, self.claims().to_string())
    }

    /// A token of a payload of any content, with a header that passes.
    fn token_of(&self, payload: impl AsRef<[u8]>) -> String {
        let key = self.key();
        key.sign_raw(key.header().to_string(), payload)
    }

    /// A token that would pass but for one claim; `None` leaves it out.
    fn token_with(&self, claim: &str, raw: Option<&str>) -> String {
        self.token_of(replaced(&self.claims(), claim, raw))
    }

    async fn exchange(&self, via: Via, token: &str) -> Answer {
        self.server.client(via, token).exchange("github").await
    }

    async fn judges(&self, good: bool, case: &str, token: &str) {
        if good {
            self.admits(case, token).await;
        } else {
            self.refuses(case, token).await;
        }
    }

    async fn admits(&self, case: &str, token: &str) {
        for via in Via::BOTH {
            let answer = self.exchange(via, token).await;
            let answer = answer.unwrap_or_else(|problem| panic!("{via:?}, {case}: {problem:?}"));
            assert_eq!(answer["accessToken"], "gho_secret", "{via:?}, {case}");
        }
    }

    async fn refuses(&self, case: &str, token: &str) {
        self.answers(REFUSED, case, token).await;
    }

    async fn answers(&self, expected: (u16, &str, &str), case: &str, token: &str) {
        for via in Via::BOTH {
            let answer = self.exchange(via, token).await;
            let problem = answer.map_or_else(Ok, Err).unwrap_or_else(|answer| {
                panic!("{via:?}, {case}: {answer}");
            });
            assert_eq!(problem.says(), expected, "{via:?}, {case}");
        }
    }
}

/// An object as JSON text, one member replaced by text of any content; `None` leaves it out.
fn replaced(object: &Value, name: &str, raw: Option<&str>) -> String {
    let others = object.as_object().unwrap().iter();
    let others = others.filter(|(other, _)| *other != name);
    let mut members: Vec<String> = others
        .map(|(other, value)| format!("{}:{value}", json!(other)))
        .collect();
    members.extend(raw.map(|raw| format!("{}:{raw}", json!(name))));
    format!("{{{}}}", members.join(","))
}

/// An object as JSON text with one more member, which may stand there already.
fn extended(object: &Value, name: &str, raw: &str) -> String {
    let text = object.to_string();
    let text = text.strip_suffix('}').expect("an object");
    format!("{text},\"{name}\":{raw}}}")
}

#[tokio::test]
async fn a_token_that_is_exactly_right_is_taken() {
    let gate = Gate::open().await;
    gate.admits("as it should be", &gate.token()).await;
}

#[tokio::test]
async fn without_a_token_the_caller_is_told_that_it_is_missing() {
    let gate = Gate::open().await;
    let token = gate.token();
    let missing = (401, "UNAUTHORIZED", "Missing grant token");
    for authorization in [
        None,
        Some(token.clone()),
        Some("Bearer".to_owned()),
        Some(format!("Basic {token}")),
        Some(format!("Bearer:{token}")),
        Some(format!("BearerX {token}")),
    ] {
        for via in Via::BOTH {
            let client = gate.server.client_with(via, authorization.clone());
            let problem = client.exchange("github").await.unwrap_err();
            assert_eq!(problem.says(), missing, "{via:?}, {authorization:?}");
        }
    }
}

#[tokio::test]
async fn an_api_key_is_no_grant_token() {
    let gate = Gate::open().await;
    gate.refuses("an API key", &gate.tenant.key).await;
}
