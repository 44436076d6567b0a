//! Appending events, as the journal does: what a row costs Postgres, by the size of the batch.

use std::time::{Duration, Instant};

use grantex_vault::{
    audit::canonical::RecordedEvent,
    clock::{Clock, SystemClock},
    model::{
        id::{CredentialId, EventId},
        service_name::ServiceName,
        text::{DeveloperId, GrantId, PrincipalId},
        timestamp::Timestamp,
    },
    store::{
        Store,
        audit_events::{AuditEventRow, Tried},
        schema::Durability,
    },
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    REPETITIONS, WINDOW, cpu, finish,
    instance::{Dev, connect, median},
};

/// How many events the record has in the end.
pub(crate) const EVENTS: u32 = if cfg!(debug_assertions) {
    20_000
} else {
    1_000_000
};
/// By how many rows the record is filled: as many as the journal writes at most.
const BATCH: u32 = 512;
const BATCHES: [u32; 4] = [1, 16, 64, 256];
/// So that nothing but the appending is measured.
const NO_SEALS: (&str, &str) = ("GRANTEX_VAULT_AUDIT_SEAL_INTERVAL", "0");

/// Makes events like those of exchanges.
struct Events {
    developer: DeveloperId,
    service: ServiceName,
    made: u32,
}

/// Rows a second and microseconds of Postgres a row.
struct Measured {
    rate: f64,
    time: f64,
}

/// Measures on an instance that seals nothing. It has [`EVENTS`] events afterwards.
pub(crate) async fn measure() -> Dev {
    let dev = Dev::start(&[NO_SEALS]);
    let sql = connect(&dev.instance.database_url).await;
    let postgres = cpu::Postgres::of(&sql).await;
    let store = store(&dev);
    let mut events = Events::of(&dev);
    let mut measured = BATCHES.map(|_| Vec::new());
    // The first statement connects.
    append(&store, &events.rows(1)).await;
    for _ in 0..REPETITIONS {
        for (batch, measured) in BATCHES.into_iter().zip(&mut measured) {
            let time = WINDOW / 5;
            measured.push(for_a_while(&store, &mut events, batch, time, postgres).await);
            finish(&sql).await;
        }
    }
    println!("events appended by one writer, {REPETITIONS} repetitions\n");
    println!("rows a commit   rows a second (lowest to highest)   µs of Postgres a row");
    for (batch, measured) in BATCHES.into_iter().zip(measured) {
        let mut rates: Vec<f64> = measured.iter().map(|one| one.rate).collect();
        let mut times: Vec<f64> = measured.iter().map(|one| one.time).collect();
        let (rate, time) = (median(&mut rates), median(&mut times));
        let range = format!("({:.0} to {:.0})", rates[0], rates[REPETITIONS - 1]);
        println!("{batch:>13}   {rate:>13.0} {range:<19} {time:>22.1}");
    }
    println!();
    while events.made < EVENTS {
        append(&store, &events.rows(BATCH.min(EVENTS - events.made))).await;
    }
    finish(&sql).await;
    dev
}

/// Appends batches of this size. Making the rows is not counted.
async fn for_a_while(
    store: &Store,
    events: &mut Events,
    batch: u32,
    time: Duration,
    postgres: cpu::Postgres,
) -> Measured {
    let mut rows = 0;
    let mut elapsed = Duration::ZERO;
    let before = postgres.time();
    while elapsed < time && events.made + batch < EVENTS {
        let made = events.rows(batch);
        let since = Instant::now();
        append(store, &made).await;
        elapsed += since.elapsed();
        rows += batch;
    }
    let spent = postgres.time() - before;
    Measured {
        rate: f64::from(rows) / elapsed.as_secs_f64(),
        time: spent / f64::from(rows),
    }
}

async fn append(store: &Store, rows: &[AuditEventRow]) {
    let appended = store.append_audit_events(rows, Tried::Never).await;
    appended.expect("the database answers");
}

fn store(dev: &Dev) -> Store {
    let url = dev.instance.database_url.parse().expect("a URL");
    Store::open(&url, 1, Durability::Required).expect("no TLS")
}

// === impl Events ===

impl Events {
    fn of(dev: &Dev) -> Self {
        let developer = DeveloperId::parse(&dev.instance.developer_id);
        Self {
            developer: developer.expect("the instance made it"),
            service: ServiceName::parse("GitHub").expect("a service"),
            made: 0,
        }
    }

    fn rows(&mut self, count: u32) -> Vec<AuditEventRow> {
        let now = SystemClock.now();
        (0..count).map(|_| self.row(now)).collect()
    }

    /// What the vault records of an exchange.
    fn row(&mut self, now: Timestamp) -> AuditEventRow {
        self.made += 1;
        let (id, credential) = (EventId::make(now), CredentialId::make(now));
        let principal = format!("user-{}", self.made % 1000);
        let grant = format!("grnt_{id}");
        let event = json!({
            "version": 1,
            "developerId": self.developer.as_str(),
            "id": id.to_string(),
            "occurredAt": now.to_string(),
            "verb": "exchange",
            "outcome": "released",
            "reason": null,
            "principalId": principal,
            "service": self.service.as_str(),
            "credentialId": credential.to_string(),
            "caller": {
                "agent": "did:grantex:dev-agent",
                "grantId": grant,
                "tokenId": format!("tok_{id}"),
                "parentAgent": null,
                "parentGrantId": null,
                "delegationDepth": null,
            },
            "requestId": Uuid::new_v4().to_string(),
            "traceId": null,
            "peer": "127.0.0.1",
            "transport": "rest",
        });
        let canonical = event.to_string().into_bytes();
        assert!(RecordedEvent::parse(&canonical).is_ok(), "{event}");
        AuditEventRow {
            developer: Some(self.developer.clone()),
            id,
            principal: Some(PrincipalId::parse(&principal).expect("a principal")),
            service: Some(self.service.key().clone()),
            credential: Some(credential),
            grant: Some(GrantId::parse(&grant).expect("a grant")),
            outcome: "released",
            canonical,
        }
    }
}
