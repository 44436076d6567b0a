//! Who is there, what they have, and what they ask.

use std::{ops::Range, time::Duration};

use grantex_vault::{
    auth::key_set::SignatureAlgorithm,
    clock::{Clock, SystemClock},
    dev::{
        self,
        issuer::{ClaimsForm, DevIssuer, GrantClaims},
    },
    envelope::local_keyring::LocalKeyring,
    grpc::pb,
};
use prost::Message;
use serde_json::json;
use tokio_postgres::Client;

use crate::{grpc, http, instance::Dev, sealed_rows};

/// Credentials of each agent's principal.
pub(crate) const SERVICES: u32 = 10;
/// Principals are numbers, as many applications' users are.
pub(crate) const FIRST_PRINCIPAL: u32 = 100_000;
/// The principal of a stored credential is this and so many digits.
const STORED: &str = "stored-";
const DIGITS: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Grpc,
    Http,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Exchange,
    Store,
    Get,
    List,
}

/// A developer with agents, each with a principal and a grant token of its own, and credentials.
pub(crate) struct Population {
    pub(crate) agents: u32,
    /// Among how many principals there is one with an agent.
    every: u32,
    pub(crate) developer: String,
    api_key: String,
    tokens: Vec<String>,
    /// Of the credentials, in the order of their numbers.
    ids: Vec<String>,
}

/// Requests, made beforehand.
pub(crate) enum Requests {
    /// One of these, by chance.
    Any(Vec<Vec<u8>>),
    /// What stands before and after a number that no request had yet.
    Numbered([Vec<u8>; 2]),
}

/// Which request is next: the same in every run of the benchmark.
pub(crate) struct Choice {
    random: u64,
    number: u64,
}

// === impl Transport ===

impl Transport {
    pub(crate) const ALL: [Self; 2] = [Self::Grpc, Self::Http];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Grpc => "gRPC",
            Self::Http => "HTTP/1.1",
        }
    }

    /// What the metrics call it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "rest",
        }
    }
}

// === impl Verb ===

impl Verb {
    pub(crate) const ALL: [Self; 4] = [Self::Exchange, Self::Store, Self::Get, Self::List];

    /// Also what the metrics call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Store => "store",
            Self::Get => "get",
            Self::List => "list",
        }
    }
}

// === impl Population ===

impl Population {
    /// Stores the credentials of those who ask, and no others.
    pub(crate) async fn settle(dev: &Dev, sql: &Client, agents: u32) -> Self {
        let ids = fill(dev, sql, 0..agents * SERVICES).await;
        Self {
            ids,
            ..Self::among(dev, agents, 1)
        }
    }

    /// Agents of every so many of the principals whose credentials are stored. Which ids these have is
    /// not known.
    pub(crate) fn among(dev: &Dev, agents: u32, every: u32) -> Self {
        let instance = &dev.instance;
        let issuer = DevIssuer::load(dev.directory.path()).expect("the instance made it");
        let scopes = (0..SERVICES).map(|number| dev::exchange_scope(&service(number)));
        let scopes: Vec<String> = scopes.collect();
        let token = |agent| {
            let claims = GrantClaims {
                issuer: instance.issuer.as_deref().expect("it has its own"),
                developer: &instance.developer_id,
                principal: &principal(agent * every),
                agent: "did:grantex:dev-agent",
                scopes: &scopes,
                audience: None,
                now: SystemClock.now(),
                expires_in: Duration::from_hours(24),
            };
            issuer.mint(&claims, ClaimsForm::Standard, SignatureAlgorithm::Rs256)
        };
        Self {
            agents,
            every,
            developer: instance.developer_id.clone(),
            api_key: instance.api_key.clone(),
            tokens: (0..agents).map(token).collect(),
            ids: Vec::new(),
        }
    }

    /// All that can be asked of a verb.
    pub(crate) fn requests(&self, verb: Verb, transport: Transport) -> Requests {
        let credentials = 0..self.agents * SERVICES;
        Requests::Any(match verb {
            Verb::Exchange => credentials
                .map(|number| self.exchange(number, transport))
                .collect(),
            Verb::Store => return self.store(transport),
            Verb::Get => self.ids.iter().map(|id| self.get(id, transport)).collect(),
            Verb::List => (0..self.agents)
                .map(|agent| self.list(agent, transport))
                .collect(),
        })
    }

    pub(crate) fn exchange(&self, number: u32, transport: Transport) -> Vec<u8> {
        let token = self.token(number / SERVICES);
        let service = service(number % SERVICES);
        match transport {
            Transport::Grpc => {
                let message = pb::ExchangeCredentialRequest { service };
                grpc::request("ExchangeCredential", token, &message.encode_to_vec())
            }
            Transport::Http => {
                let body = json!({ "service": service }).to_string();
                http::request("POST /v1/vault/credentials/exchange", token, &body)
            }
        }
    }

    pub(crate) fn token(&self, agent: u32) -> &str {
        &self.tokens[usize::try_from(agent).expect("an index")]
    }

    fn store(&self, transport: Transport) -> Requests {
        let zeros = "0".repeat(DIGITS);
        let (principal_id, service) = (format!("{STORED}{zeros}"), "GitHub".to_owned());
        let (access_token, refresh_token) = (format!("gho_{:036}", 0), format!("ghr_{:072}", 0));
        let request = match transport {
            Transport::Grpc => {
                let message = pb::StoreCredentialRequest {
                    principal_id,
                    service,
                    access_token,
                    refresh_token,
                    ..pb::StoreCredentialRequest::default()
                };
                grpc::request("StoreCredential", &self.api_key, &message.encode_to_vec())
            }
            Transport::Http => {
                let body = json!({
                    "principalId": principal_id,
                    "service": service,
                    "accessToken": access_token,
                    "refreshToken": refresh_token,
                });
                let store = "POST /v1/vault/credentials";
                http::request(store, &self.api_key, &body.to_string())
            }
        };
        let stored = STORED.as_bytes();
        let place = request
            .windows(stored.len())
            .position(|part| part == stored);
        let place = place.expect("the request names it") + stored.len();
        let (before, after) = (&request[..place], &request[place + DIGITS..]);
        Requests::Numbered([before.to_vec(), after.to_vec()])
    }

    fn get(&self, id: &str, transport: Transport) -> Vec<u8> {
        match transport {
            Transport::Grpc => {
                let message = pb::GetCredentialRequest { id: id.to_owned() };
                grpc::request("GetCredential", &self.api_key, &message.encode_to_vec())
            }
            Transport::Http => http::request(
                &format!("GET /v1/vault/credentials/{id}"),
                &self.api_key,
                "",
            ),
        }
    }

    fn list(&self, agent: u32, transport: Transport) -> Vec<u8> {
        let principal = principal(agent * self.every);
        match transport {
            Transport::Grpc => {
                let message = pb::ListCredentialsRequest {
                    principal_id: Some(principal),
                    ..pb::ListCredentialsRequest::default()
                };
                grpc::request("ListCredentials", &self.api_key, &message.encode_to_vec())
            }
            Transport::Http => {
                let list = format!("GET /v1/vault/credentials?principalId={principal}");
                http::request(&list, &self.api_key, "")
            }
        }
    }

    /// Removes what was stored, so that everybody finds as many credentials as before.
    pub(crate) async fn forget_stored(&self, sql: &Client) {
        const SQL: &str = "
            delete from vault.credentials
            where developer_id = $1 and principal_id >= 'stored-' and principal_id < 'stored.'";
        let deleted = sql.execute(SQL, &[&self.developer]).await;
        deleted.expect("dev connects as superuser");
    }
}

/// Stores the credentials of these numbers; their ids.
pub(crate) async fn fill(dev: &Dev, sql: &Client, numbers: Range<u32>) -> Vec<String> {
    let keyring = LocalKeyring::load(&dev::keyring_file(dev.directory.path()));
    let keyring = keyring.expect("the instance made it");
    let place = |number| (principal(number / SERVICES), service(number % SERVICES));
    sealed_rows::fill(sql, &keyring, &dev.instance.developer_id, numbers, place).await
}

pub(crate) fn service(number: u32) -> String {
    format!("service-{number}")
}

fn principal(agent: u32) -> String {
    (FIRST_PRINCIPAL + agent).to_string()
}

// === impl Requests ===

impl Requests {
    /// Makes the next one.
    pub(crate) fn next(&self, choice: &mut Choice, request: &mut Vec<u8>) {
        request.clear();
        match self {
            Self::Any(requests) => {
                let chosen = choice.random() % requests.len() as u64;
                let chosen = usize::try_from(chosen).expect("an index");
                request.extend(&requests[chosen]);
            }
            Self::Numbered([before, after]) => {
                choice.number += 1;
                request.extend(before);
                request.extend(format!("{:0DIGITS$}", choice.number).bytes());
                request.extend(after);
            }
        }
    }
}

// === impl Choice ===

impl Choice {
    /// `run` is the number of the measurement, so that each stores what is new.
    pub(crate) fn new(run: u32) -> Self {
        Self {
            random: 0x9E37_79B9_7F4A_7C15 ^ u64::from(run),
            number: Self::first_number(run),
        }
    }

    pub(crate) fn first_number(run: u32) -> u64 {
        u64::from(run) * 1_000_000
    }

    /// Marsaglia's xorshift.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
