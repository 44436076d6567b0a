//! Postgres and the vault killed under load, many times: what was acknowledged is there, once.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

use futures_util::future::join_all;
use grantex_vault::{
    clock::{Clock, SystemClock},
    grpc::pb::{ExchangeCredentialRequest, vault_service_client::VaultServiceClient},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tonic::{Code, Request, transport::Endpoint};

use super::released;
use crate::{
    harness::{
        Answer, Cluster, FakeIssuer, ISSUER, Process, Server, Setup, Tenant, Via, connect,
        instance_directory, run_with, until,
    },
    sealing, stop,
};

const CRASHES: usize = 8;
const CLIENTS: usize = 16;
/// How many of them exchange; the others store.
const AGENTS: usize = 12;
/// How much is answered between two crashes.
const ANSWERS: usize = 40;

/// What the clients were told.
#[derive(Default)]
struct Told {
    /// The tokens that a secret was received on.
    exchanged: RefCell<BTreeSet<String>>,
    /// The credentials that were stored.
    stored: RefCell<BTreeSet<String>>,
    refused: Cell<usize>,
    /// The clients are to stop.
    over: Cell<bool>,
}

impl Told {
    fn answers(&self) -> usize {
        self.exchanged.borrow().len() + self.stored.borrow().len()
    }

    async fn until_more_is_answered(&self) {
        let before = self.answers();
        until("requests are answered", async || {
            self.answers() >= before + ANSWERS
        })
        .await;
    }

    fn refused(&self) {
        self.refused.set(self.refused.get() + 1);
    }

    fn exchanged(&self, token: &str, answer: &Value) {
        assert_eq!(answer["accessToken"], "secret");
        self.exchanged.borrow_mut().insert(token.to_owned());
    }

    /// Compares with what is there.
    async fn assert_nothing_is_lost_or_doubled(&self, database_url: &str) {
        const EVENTS: &str = "select canonical from vault.audit_events";
        const IDS: &str = "select id from vault.credentials";
        let sql = connect(database_url).await;
        let rows = sql.query(EVENTS, &[]).await.unwrap();
        let events: Vec<Value> = rows
            .iter()
            .map(|row| serde_json::from_slice(row.get(0)).unwrap())
            .collect();
        // A token is used once, and may be released on without its client hearing of it.
        let released = released(&events);
        let doubled: Vec<_> = released.iter().filter(|(_, count)| **count > 1).collect();
        assert!(doubled.is_empty(), "{doubled:?}");
        for token in self.exchanged.borrow().iter() {
            assert!(released.contains_key(token), "{token} left no event");
        }
        // A credential and its event: both, or neither.
        let mut stored = BTreeMap::<String, usize>::new();
        for event in events.iter().filter(|event| event["verb"] == "store") {
            assert_eq!(event["outcome"], "stored");
            let id = event["credentialId"].as_str().unwrap().to_owned();
            *stored.entry(id).or_default() += 1;
        }
        let rows = sql.query(IDS, &[]).await.unwrap();
        let there: BTreeMap<String, usize> = rows.iter().map(|row| (row.get(0), 1)).collect();
        assert_eq!(stored, there);
        for id in self.stored.borrow().iter() {
            assert!(there.contains_key(id), "{id} was acknowledged");
        }
        assert!(self.refused.get() > 0, "there were no crashes");
    }
}

/// Where one stores that nobody stored before.
fn new_credential() -> Value {
    let service = format!("service-{}", uuid::Uuid::new_v4());
    json!({"principalId": "user", "service": service, "accessToken": "another"})
}

/// Exchanges or stores until it is over, over one transport.
async fn ask_a_server(server: &Server, tenant: &Tenant, told: &Told, number: usize) {
    let via = Via::BOTH[number % 2];
    let tell = |answer: Answer| {
        answer.map_err(|refused| {
            assert_eq!(refused.status, 503, "{refused:?}");
            told.refused();
        })
    };
    while !told.over.get() {
        if number < AGENTS {
            let claims = server.claims(&tenant.id, "user", &["vault:github:exchange"]);
            let agent = server.client(via, &server.issuer.key().sign(&claims));
            if let Ok(exchanged) = tell(agent.exchange("github").await) {
                told.exchanged(claims["jti"].as_str().unwrap(), &exchanged);
            }
        } else {
            let developer = server.client(via, &tenant.key);
            if let Ok(stored) = tell(developer.store(new_credential()).await) {
                let id = stored["id"].as_str().unwrap().to_owned();
                told.stored.borrow_mut().insert(id);
            }
        }
    }
}

/// Kills a backend that serves the vault: Postgres ends all the others and recovers.
async fn kill_a_backend(server: &Server) {
    const SQL: &str = "
        select pid from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()
        order by query like '%vault.audit_events%' desc, query_start desc limit 1";
    let row = server.sql().await.query_one(SQL, &[]).await.unwrap();
    let pid = Pid::from_raw(row.get(0)).expect("a process has an id");
    kill_process(pid, Signal::KILL).expect("it is ours");
}

#[tokio::test]
async fn postgres_crashes_under_load_and_what_was_acknowledged_is_there_once() {
    let cluster = Cluster::start().await;
    let url = cluster.database().await;
    let setup = Setup::new()
        .with("DATABASE_URL", &url)
        .with("GRANTEX_VAULT_AUDIT_SEAL_INTERVAL", "50ms");
    let server = setup.start().await;
    let tenant = server.tenant("acme").await;
    let developer = server.client(Via::Rest, &tenant.key);
    developer.store_token("user", "github", "secret").await;

    let told = Told::default();
    let clients = (0..CLIENTS).map(|number| ask_a_server(&server, &tenant, &told, number));
    let crashes = async {
        for round in 0..CRASHES {
            told.until_more_is_answered().await;
            let refused = told.refused.get();
            let somebody_is_refused =
                until("somebody is refused", async || told.refused.get() > refused);
            if round % 2 == 0 {
                cluster.crash().await;
                somebody_is_refused.await;
                cluster.start_again().await;
            } else {
                kill_a_backend(&server).await;
                somebody_is_refused.await;
            }
        }
        told.until_more_is_answered().await;
        told.over.set(true);
    };
    tokio::join!(join_all(clients), crashes);
    for via in Via::BOTH {
        let agent = server.agent(via, &tenant, "user");
        assert!(agent.exchange("github").await.is_ok());
    }
    told.assert_nothing_is_lost_or_doubled(&url).await;
    sealing::all_sealed(&server).await;
    sealing::assert_whole(&server).await;
}

/// Who speaks to a `grantex-vault serve` that is killed, and to its successors.
struct Killed {
    /// Where REST and gRPC are.
    addresses: RefCell<[String; 2]>,
    developer: String,
    key: String,
}

/// An answer of the vault; nothing when there was none to the end.
type Heard = Option<Result<Value, u16>>;

impl Killed {
    async fn addresses(process: &Process) -> [String; 2] {
        [
            format!("http://{}", process.logged_field("http").await),
            format!("http://{}", process.logged_field("grpc").await),
        ]
    }

    /// Posts a request to REST.
    async fn post(&self, http: &reqwest::Client, path: &str, who: &str, body: &Value) -> Heard {
        let [rest, _] = self.addresses.borrow().clone();
        let request = http.post(format!("{rest}/v1/vault/credentials{path}"));
        let response = request.bearer_auth(who).json(body).send().await.ok()?;
        let status = response.status();
        let body = response.bytes().await.ok()?;
        if status.is_success() {
            return Some(Ok(serde_json::from_slice(&body).unwrap()));
        }
        Some(Err(status.as_u16()))
    }

    /// Exchanges over gRPC.
    async fn exchange(&self, token: &str) -> Heard {
        let [_, grpc] = self.addresses.borrow().clone();
        let channel = Endpoint::from_shared(grpc).unwrap().connect().await.ok()?;
        let service = "github".to_owned();
        let mut request = Request::new(ExchangeCredentialRequest { service });
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        let answer = VaultServiceClient::new(channel)
            .exchange_credential(request)
            .await;
        match answer {
            Ok(answer) => Some(Ok(json!({"accessToken": answer.into_inner().access_token}))),
            // The vault names the request in whatever it says.
            Err(status) if status.metadata().contains_key("x-request-id") => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                Some(Err(503))
            }
            Err(_) => None,
        }
    }

    fn claims(&self) -> Value {
        let now = SystemClock.now().as_second();
        json!({
            "iss": ISSUER, "sub": "user", "agt": "did:grantex:agent", "dev": self.developer,
            "scp": ["vault:github:exchange"], "jti": format!("token-{}", uuid::Uuid::new_v4()),
            "iat": now, "exp": now + 3600,
        })
    }

    /// Exchanges or stores until it is over.
    async fn ask(&self, told: &Told, number: usize) {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let issuer = FakeIssuer::start();
        while !told.over.get() {
            let heard = if number < AGENTS {
                let claims = self.claims();
                let token = issuer.key().sign(&claims);
                let heard = if number.is_multiple_of(2) {
                    let body = json!({"service": "github"});
                    self.post(&http, "/exchange", &token, &body).await
                } else {
                    self.exchange(&token).await
                };
                if let Some(Ok(exchanged)) = &heard {
                    told.exchanged(claims["jti"].as_str().unwrap(), exchanged);
                }
                heard
            } else {
                let heard = self.post(&http, "", &self.key, &new_credential()).await;
                if let Some(Ok(stored)) = &heard {
                    let id = stored["id"].as_str().unwrap().to_owned();
                    told.stored.borrow_mut().insert(id);
                }
                heard
            };
            match heard {
                Some(Ok(_)) => {}
                Some(Err(status)) => assert_eq!(status, 503),
                None => told.refused(),
            }
        }
    }
}

#[tokio::test]
async fn the_vault_is_killed_under_load_and_what_it_acknowledged_is_there_once() {
    let directory = instance_directory();
    let mut settings = stop::settings(directory.path()).await;
    settings.insert("GRANTEX_VAULT_LIMIT_EXCHANGE_PER_GRANT", "0".to_owned());
    settings.insert("GRANTEX_VAULT_LIMIT_REQUESTS_PER_DEVELOPER", "0".to_owned());
    settings.insert("GRANTEX_VAULT_AUDIT_SEAL_INTERVAL", "50ms".to_owned());
    let url = settings["DATABASE_URL"].clone();
    let key = stop::api_key(&url).await;
    // So that there are always some whose events wait when it is killed.
    let name = url.split(['/', '?']).nth(3).unwrap();
    let slow = format!(
        "alter database {name} set commit_delay = 10000;
         alter database {name} set commit_siblings = 0"
    );
    connect(&url).await.batch_execute(&slow).await.unwrap();
    let owner = "select developer_id from vault.api_keys";
    let owner = connect(&url).await.query_one(owner, &[]).await.unwrap();
    let mut process = stop::serve(&settings);
    let vault = Killed {
        addresses: RefCell::new(Killed::addresses(&process).await),
        developer: owner.get(0),
        key,
    };
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut first = new_credential();
    first["service"] = json!("github");
    first["accessToken"] = json!("secret");
    let stored = vault.post(&http, "", &vault.key, &first).await;
    assert!(stored.unwrap().is_ok());

    let told = Told::default();
    let clients = (0..CLIENTS).map(|number| vault.ask(&told, number));
    let kills = async {
        for _ in 0..CRASHES {
            told.until_more_is_answered().await;
            process.signal(Signal::KILL);
            process.end().await;
            process = stop::serve(&settings);
            vault.addresses.replace(Killed::addresses(&process).await);
        }
        told.until_more_is_answered().await;
        told.over.set(true);
    };
    tokio::join!(join_all(clients), kills);
    told.assert_nothing_is_lost_or_doubled(&url).await;
    // It was killed while it sealed, too.
    let variables: Vec<_> = settings
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    until(
        "every event is sealed, and the record is whole",
        async || {
            let output = run_with(&["audit", "verify"], &variables);
            let said = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{said}");
            !said.contains("not sealed yet")
        },
    )
    .await;
}
