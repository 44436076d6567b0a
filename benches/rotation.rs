//! How fast `master-key rewrap` and `verify` go beside bare `UPDATE`s of the same rows, which are the
//! least that a rewrap could cost: `cargo bench --bench rotation`.
//!
//! It starts a `grantex-vault dev` of its own and stops it again. The work is called in-process, as
//! the command line does: what is measured is the work, not the start of a program.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

#[expect(dead_code, reason = "starting an instance again is for others")]
mod instance;
mod sealed_rows;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use grantex_vault::{
    clock::{Clock, SystemClock},
    dev,
    envelope::{local_keyring::LocalKeyring, master_keys::MasterKeys},
    pace::Pace,
    rotation::{Broken, Counts, Extent, Rotation, RotationFault, Watch},
    store::{Store, schema::Durability},
};
use instance::{Dev, connect, median};
use tokio_postgres::Client;

/// Seconds of `UPDATE`s. An unoptimised build only shows that the program works.
const CREDENTIALS: u32 = if cfg!(debug_assertions) { 500 } else { 20_000 };
/// What `--concurrency` is when nobody says.
const CONCURRENCY: usize = 8;
const REPETITIONS: usize = 3;

#[tokio::main]
async fn main() {
    let dev = Dev::start(&[]);
    let keyring = LocalKeyring::load(&dev::keyring_file(dev.directory.path()));
    let keyring = Arc::new(keyring.expect("the instance made it"));
    let sql = connect(&dev.instance.database_url).await;
    let developer = &dev.instance.developer_id;
    let place = |number| (format!("user-{number}"), "GitHub".to_owned());
    let mut ids = sealed_rows::fill(&sql, &keyring, developer, 0..CREDENTIALS, place).await;
    // The order of the primary key: that in which a rotation goes.
    ids.sort_unstable();
    let lanes = join_all((0..CONCURRENCY).map(|_| connect(&dev.instance.database_url))).await;
    let rotation = rotation(&dev.instance.database_url, &keyring);

    // In turns, so that a slower minute of the machine is one of all three.
    let [mut updates, mut rewraps, mut verifies] = [const { Vec::new() }; 3];
    for _ in 0..REPETITIONS {
        vacuum(&sql).await;
        updates.push(rate(update(&lanes, developer, &ids)).await);

        let key = keyring.add_key(SystemClock.now()).expect("it is our file");
        keyring.set_primary(key.version).expect("it was added");
        vacuum(&sql).await;
        rewraps.push(rate(complete(async |watch| rotation.rewrap(watch).await)).await);

        vacuum(&sql).await;
        let verify = complete(async |watch| rotation.verify(Extent::All, watch).await);
        verifies.push(rate(verify).await);
    }

    println!("{CREDENTIALS} credentials, {CONCURRENCY} at once, {REPETITIONS} repetitions\n");
    println!("              credentials/s (lowest to highest)   of bare UPDATEs");
    let bare = median(&mut updates);
    let names = ["bare UPDATE", "rewrap", "verify"];
    for (name, mut rates) in names.into_iter().zip([updates, rewraps, verifies]) {
        let median = median(&mut rates);
        let (lowest, highest) = (rates[0], rates[REPETITIONS - 1]);
        let range = format!("({lowest:.0} to {highest:.0})");
        let ratio = median / bare;
        println!("{name:<13} {median:>13.0} {range:<21} {ratio:>15.2}");
    }
}

/// Runs every row through the bare statement, a connection a lane: no more than one round trip and
/// one commit each, at the concurrency of the rotation.
async fn update(lanes: &[Client], developer: &str, ids: &[String]) {
    const SQL: &str = "
        update vault.credentials set wrapped_key = wrapped_key where developer_id = $1 and id = $2";
    let lane = async |(number, client): (usize, &Client)| {
        let statement = client.prepare(SQL).await.expect("the database answers");
        for id in ids.iter().skip(number).step_by(CONCURRENCY) {
            let updated = client.execute(&statement, &[&developer, id]).await;
            assert_eq!(updated.expect("the database answers"), 1);
        }
    };
    join_all(lanes.iter().enumerate().map(lane)).await;
}

/// Does what works on every credential, and insists that it did.
async fn complete(work: impl AsyncFnOnce(&Watch<'_>) -> Result<(), RotationFault>) {
    let report = |broken: &Broken| panic!("{broken}");
    let watch = Watch::new(&report);
    work(&watch).await.expect("nothing is in its way");
    let Counts { looked, done, .. } = watch.counts();
    assert_eq!((looked, done), (CREDENTIALS.into(), CREDENTIALS.into()));
}

/// Credentials a second.
async fn rate(work: impl Future<Output = ()>) -> f64 {
    let start = Instant::now();
    work.await;
    f64::from(CREDENTIALS) / start.elapsed().as_secs_f64()
}

/// Removes what the measurement before left behind, which would otherwise be charged to the next.
async fn vacuum(sql: &Client) {
    let vacuumed = sql.batch_execute("vacuum analyze vault.credentials").await;
    vacuumed.expect("the database answers");
}

/// As the command line makes it.
fn rotation(url: &str, keyring: &Arc<LocalKeyring>) -> Rotation {
    let store = Store::open(
        &url.parse().expect("a URL"),
        CONCURRENCY,
        Durability::Required,
    )
    .expect("no TLS");
    let keys = MasterKeys::new(Arc::<LocalKeyring>::clone(keyring), Vec::new());
    let pace = Pace::new(CONCURRENCY, None);
    Rotation::new(store, Arc::new(keys), Duration::from_secs(3), pace)
}
