//! A revocation that was committed before an exchange begins is honoured, on every replica: thousands of
//! rounds in which one commits while two servers over one database exchange, through both transports.

use std::{
    cell::Cell,
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use grantex_vault::store::authority::Authority;
use serde_json::json;
use tokio::{sync::Notify, task::yield_now};

use crate::harness::{Client, Granted, ManualClock, Realm, Server, Setup, Tenant, Via, connect};

/// The rounds of one test. There are four: 3,040 together.
const WARM_ROUNDS: usize = 1120;
const COLD_ROUNDS: usize = 400;

/// The most answers that a revocation waits for, and turns of the scheduler after the last of them.
const MOST_ANSWERS: u64 = 2;
const MOST_TURNS: u64 = 30;

/// What revokes a grant in the vault, whoever its authority is.
const HERE: [&str; 3] = [
    "insert into vault.revocations values ('acme', 'token', '{jti}', now(), null)",
    "insert into vault.revocations values ('acme', 'grant', '{grnt}', now(), null)",
    "insert into vault.revocations values ('acme', 'grant', 'parent of {grnt}', now(), null)",
];

/// What revokes one in Grantex, as its auth service does it.
const THERE: [&str; 2] = [
    "update public.grants set status = 'revoked', revoked_at = now()
        where id = '{grnt}' and developer_id = 'acme' and status = 'active'",
    "update public.grant_tokens t set is_revoked = true from public.grants g
        where t.jti = '{jti}' and t.grant_id = g.id and g.developer_id = 'acme'
            and not t.is_revoked",
];

/// Whether the data keys of the exchanges are in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DataKeys {
    /// Of all exchanges, from the first of each server on.
    Warm,
    /// Of none: a server's clock goes on before each.
    Cold,
}

/// How far the revocation of a round is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Revocation {
    /// Written perhaps, its commit not asked for.
    Pending,
    /// Its commit was asked for.
    Committing,
    /// Its commit was acknowledged, or somebody was refused by it.
    Committed,
}

/// Two servers over one database.
struct Replicas {
    realm: Realm,
    second: Server,
    tenant: Tenant,
    data_keys: DataKeys,
}

struct Round {
    revocation: Cell<Revocation>,
    answered: Notify,
}

/// How many exchanges were answered what.
#[derive(Debug, Default)]
struct Seen {
    /// Answered before the commit was asked for.
    released_before: Cell<usize>,
    /// Under way beside the commit.
    released_beside: Cell<usize>,
    refused_beside: Cell<usize>,
    /// Begun after it.
    refused_after: Cell<usize>,
}

// === impl DataKeys ===

impl DataKeys {
    fn rounds(self) -> usize {
        match self {
            Self::Warm => WARM_ROUNDS,
            Self::Cold => COLD_ROUNDS,
        }
    }

    /// How many rounds are under way at once, each with a credential of its own.
    fn lanes(self) -> usize {
        match self {
            Self::Warm => 8,
            Self::Cold => 1,
        }
    }

    fn time_to_live(self) -> &'static str {
        match self {
            Self::Warm => "5m",
            Self::Cold => "1s",
        }
    }
}

// === impl Replicas ===

impl Replicas {
    async fn start(authority: Authority, data_keys: DataKeys) -> Self {
        let caching =
            || Setup::new().with("GRANTEX_VAULT_DATA_KEY_CACHE_TTL", data_keys.time_to_live());
        let realm = Realm::start_with(authority, caching()).await;
        let mut second = realm.replica(caching());
        if data_keys == DataKeys::Cold {
            // Each has its own time then: no key may end while the KMS is asked for it.
            second.clock = Arc::new(ManualClock::start());
        }
        Self {
            second: second.start().await,
            tenant: realm.tenant("acme").await,
            realm,
            data_keys,
        }
    }

    fn both(&self) -> [&Server; 2] {
        [&self.realm.server, &self.second]
    }

    /// A delegated token with a grant of its own.
    async fn issued(&self, principal: &str) -> Granted {
        let mut claims = self.realm.claims(&self.tenant, principal);
        let grant = claims["grnt"].as_str().unwrap();
        claims["parentGrnt"] = json!(format!("parent of {grant}"));
        claims["delegationDepth"] = json!(1);
        // The clocks of the replicas go on apart.
        claims["iat"] = json!(0);
        self.realm.issue(claims).await
    }

    /// The rounds of all lanes, each with one of these ways to revoke.
    async fn run(&self, ways: &[&str]) -> Seen {
        let seen = Seen::default();
        let lanes = (0..self.data_keys.lanes()).map(|lane| self.lane(lane, ways, &seen));
        let lanes: FuturesUnordered<_> = lanes.collect();
        lanes.collect::<()>().await;
        seen
    }

    async fn lane(&self, lane: usize, ways: &[&str], seen: &Seen) {
        let principal = format!("user {lane}");
        let developer = self.realm.server.client(Via::Rest, &self.tenant.key);
        developer.store_token(&principal, "github", "secret").await;
        let sql = connect(&self.realm.server.database_url).await;
        for round in 0..self.data_keys.rounds() / self.data_keys.lanes() {
            let granted = self.issued(&principal).await;
            let revoke = granted.sql(ways[round % ways.len()]);
            let [first, second] = [0, 1].map(|server| {
                // Each server is asked through each transport for each way.
                let via = Via::BOTH[(round / ways.len() + server) % 2];
                self.both()[server].client(via, &granted.token)
            });
            let round = Round::new();
            tokio::join!(
                round.revoke(&sql, &revoke),
                round.exchange(self.data_keys, &first, seen),
                round.exchange(self.data_keys, &second, seen),
            );
        }
    }
}

// === impl Round ===

impl Round {
    fn new() -> Self {
        Self {
            revocation: Cell::new(Revocation::Pending),
            answered: Notify::new(),
        }
    }

    /// Writes the revocation, and commits it at some moment.
    async fn revoke(&self, sql: &tokio_postgres::Client, revoke: &str) {
        sql.batch_execute("begin").await.unwrap();
        assert_eq!(sql.execute(revoke, &[]).await.unwrap(), 1, "{revoke}");
        for _ in 0..any_up_to(MOST_ANSWERS) {
            self.answered.notified().await;
        }
        for _ in 0..any_up_to(MOST_TURNS) {
            yield_now().await;
        }
        self.revocation.set(Revocation::Committing);
        sql.batch_execute("commit").await.unwrap();
        self.revocation.set(Revocation::Committed);
    }

    /// Exchanges until an exchange began after the commit.
    async fn exchange(&self, data_keys: DataKeys, agent: &Client<'_>, seen: &Seen) {
        use Revocation::{Committed, Committing, Pending};
        loop {
            if data_keys == DataKeys::Cold {
                agent.server.clock.advance(Duration::from_secs(2));
            }
            let began = self.revocation.get();
            let answer = agent.exchange("github").await;
            let status = answer.map_or_else(|refused| refused.status, |_| 200);
            let count = match (began, self.revocation.get(), status) {
                (Pending, Pending, 200) => &seen.released_before,
                (Pending | Committing, Committing | Committed, 200) => &seen.released_beside,
                (Pending | Committing, Committing | Committed, 401) => {
                    // It is there for one: whoever asks now, on whichever replica, must not be released.
                    self.revocation.set(Committed);
                    &seen.refused_beside
                }
                (Committed, Committed, 401) => &seen.refused_after,
                (began, ended, status) => {
                    panic!(
                        "{status} on {:?}: {began:?} to {ended:?}, {seen:?}",
                        agent.via
                    )
                }
            };
            count.set(count.get() + 1);
            self.answered.notify_one();
            if began == Committed {
                return;
            }
        }
    }
}

/// A number that is another one each time.
fn any_up_to(most: u64) -> u64 {
    RandomState::new().build_hasher().finish() % (most + 1)
}

async fn is_honoured(authority: Authority, data_keys: DataKeys) {
    let replicas = Box::pin(Replicas::start(authority, data_keys)).await;
    let ways = match authority {
        Authority::Standalone => HERE.to_vec(),
        Authority::Grantex => [&THERE[..], &HERE].concat(),
    };
    let seen = replicas.run(&ways).await;
    let [before, beside, refused, after] = [
        &seen.released_before,
        &seen.released_beside,
        &seen.refused_beside,
        &seen.refused_after,
    ]
    .map(Cell::get);
    // Both servers of each round were asked once after it, and many things were seen before.
    assert_eq!(after, 2 * data_keys.rounds());
    assert!(before > data_keys.rounds() / 2, "{seen:?}");
    assert!(beside > 0 && refused > 0, "{seen:?}");
    let asked = replicas.realm.server.kms.unwrapped();
    match data_keys {
        // The one that stored has each key already.
        DataKeys::Warm => assert_eq!(asked, data_keys.lanes(), "{seen:?}"),
        // And none that was refused for what it read; one that lived then may have asked.
        DataKeys::Cold => {
            let released = before + beside;
            assert!(
                (released..=released + refused).contains(&asked),
                "{asked}, {seen:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_in_the_vault_is_honoured_with_warm_data_keys() {
    is_honoured(Authority::Standalone, DataKeys::Warm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_in_the_vault_is_honoured_with_cold_data_keys() {
    is_honoured(Authority::Standalone, DataKeys::Cold).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_in_grantex_is_honoured_with_warm_data_keys() {
    is_honoured(Authority::Grantex, DataKeys::Warm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_in_grantex_is_honoured_with_cold_data_keys() {
    is_honoured(Authority::Grantex, DataKeys::Cold).await;
}
